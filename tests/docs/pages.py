"""Markdown pages, read far enough to be tested: their blocks of code, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code; `line` is that of its first line in the page."""

    language: str
    text: str
    line: int


def blocks(page: Path, *, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, or those of one language."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if language is None or block.language == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks, their lines left empty."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next one of its level or a higher one."""
    headings = list(_HEADING.finditer(text))
    for index, match in enumerate(headings):
        if match[2] == heading:
            level = len(match[1])
            after = (other.start() for other in headings[index + 1 :] if len(other[1]) <= level)
            return text[match.end() : next(after, len(text))]
    raise LookupError(heading)


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page make, as GitHub and Python-Markdown agree on them for plain headings."""
    return {_slug(match[2]) for match in _HEADING.finditer(prose(page))}


def links(page: Path) -> Iterator[str]:
    """The targets of the page's links and images, as they are written."""
    without_code = re.sub(r"`[^`\n]*`", "", prose(page))
    for match in re.finditer(r"\]\(([^)\s]+)\)", without_code):
        yield match[1]


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
