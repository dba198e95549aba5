"""Pacing within one process; the store sets the pace of a queue over all its workers."""
