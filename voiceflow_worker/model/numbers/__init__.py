"""Telephone numbers: E.164, numbering plans, time zones, spellings."""
