"""Files in, reports out: campaigns as people keep them in spreadsheets, and what became of their calls."""
