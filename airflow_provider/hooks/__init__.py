"""The connection to 8x8 and to the store of calls."""
