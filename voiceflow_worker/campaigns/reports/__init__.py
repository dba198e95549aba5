"""Reports: the result of a batch or a queue as a table, CSV, JSON and HTML."""
