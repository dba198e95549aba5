"""Pure data and rules: no clock, no I/O. Everything else builds on this package."""
