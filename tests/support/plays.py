"""Plays in a text file: paragraphs of a name, and below it the moves, with | between them."""

from __future__ import annotations

from pathlib import Path


def plays_of(path: Path) -> dict[str, str]:
    """The moves of each play, by its name."""
    paragraphs = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    return {name: " | ".join(moves) for name, *moves in map(str.splitlines, paragraphs)}
