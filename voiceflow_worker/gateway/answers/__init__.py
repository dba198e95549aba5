"""Answers of 8x8: how they are read, and the verdicts that follow from them."""
