"""The HTTP endpoints of the sandbox."""
