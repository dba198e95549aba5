"""Campaign files: rows read as people write them, and the rows that are given back."""
