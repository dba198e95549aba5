"""The making of calls from rows: templates, times, keys and requests."""
