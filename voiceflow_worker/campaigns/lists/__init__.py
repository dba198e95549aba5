"""The lists of campaigns: files and rows, their columns, filters and values."""
