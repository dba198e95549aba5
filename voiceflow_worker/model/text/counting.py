"""Numbers with their nouns."""

from __future__ import annotations


def count_of(number: int, noun: str) -> str:
    """Such as `1 call` and `2 calls`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
