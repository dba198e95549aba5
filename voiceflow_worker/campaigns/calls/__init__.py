"""The calls of rows: templates, times, keys and requests."""
