"""Numbers with their nouns, such as `2 calls`."""

from __future__ import annotations


def count_of(number: int, noun: str) -> str:
    """The number with its noun, such as `1 call` or `2 calls`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
