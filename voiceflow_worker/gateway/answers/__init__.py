"""Answers of 8x8: read off the wire, and judged."""
