"""What the readers of files hand on: rows as they stand in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class FileKind(StrEnum):
    """How a campaign file is written."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """One row before anybody looked at its meaning.

    `number` is the line of the file where it begins, counted from 1. `text` is what stands there. `cells` are those
    of a CSV; `data` is the object of a JSON line. `problems` are reasons why it cannot be read, as (column, sentence),
    with the 8x8 `code` that stands for them.
    """

    number: int
    text: str
    cells: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict[str, object])
    problems: tuple[tuple[str | None, str], ...] = ()
    code: int | None = None


class RowSource(Protocol):
    """A file, opened far enough to know how it is written."""

    @property
    def kind(self) -> FileKind:
        """How it is written."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The canonical names of a CSV's columns, an empty text for those without a name; none for JSON."""
        ...

    @property
    def header(self) -> tuple[str, ...]:
        """A CSV's header as it is written; empty for JSON."""
        ...

    @property
    def header_row(self) -> int:
        """The line of a CSV's header; 1 for JSON."""
        ...

    @property
    def delimiter(self) -> str:
        """What stands between the cells of a CSV; empty for JSON."""
        ...

    def __iter__(self) -> Iterator[RawRow]: ...
