"""Rows as they are in a file, before their values are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple


class FileKind(StrEnum):
    """The formats of campaign files."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    JSON = "json"
    EXCEL = "xlsx"
    PARQUET = "parquet"

    @property
    def is_table(self) -> bool:
        """True if the rows of this format are cells in named columns."""
        return self in {FileKind.CSV, FileKind.EXCEL, FileKind.PARQUET}


_NO_DATA: Mapping[str, object] = {}


class RawRow(NamedTuple):
    """One row as it is in the file. It is a tuple to save memory, because files may have millions of rows.

    `number`, counted from 1, is the line where the row begins, or the number of the row in a sheet or a Parquet file.
    `text` is the text of a line. `cells` are the cells of a table; `data` is the object of a JSON line. `problems` are
    the reasons why the row cannot be read, each a column and a clause. `code` is the 8x8 code of these problems.
    """

    number: int
    text: str
    cells: tuple[str, ...] = ()
    data: Mapping[str, object] = _NO_DATA
    problems: tuple[tuple[str | None, str], ...] = ()
    code: int | None = None


class RowSource(ABC):
    """An open file of a known format. The defaults of the attributes are for formats without columns."""

    kind: FileKind
    columns: tuple[str, ...] = ()
    """The canonical names of a table's columns; empty for a column without a name."""
    header: tuple[str, ...] = ()
    """The header of a table as written in the file."""
    header_row: int | None = 1
    """The line or row of a table's header; None if the header is not a row."""
    delimiter: str = ""
    """The delimiter of a CSV file."""

    @abstractmethod
    def __iter__(self) -> Iterator[RawRow]:
        """The rows, in the order of the file."""
