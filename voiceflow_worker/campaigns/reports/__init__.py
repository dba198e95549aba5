"""Reports of a batch or a queue: figures, CSV and HTML."""
