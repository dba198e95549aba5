"""Answers of 8x8: their reading and their verdicts."""
