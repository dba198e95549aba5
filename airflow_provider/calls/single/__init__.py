"""Tasks that make one call."""
