"""Campaign files: the readers of their rows, and the writer of rejected rows."""
