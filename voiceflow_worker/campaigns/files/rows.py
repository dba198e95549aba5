"""Rows as they are in a file, before their values are read, and the columns of tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple

from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.text.names import folded

DESTINATION = "destination"
REASON = "reason"
"""The first column of a rejects file. It is never a template variable, so a corrected file can be read again."""

RESERVED = (
    "source", "unique_key", "batch_id", "voice_profile", "language", "time_zone", "not_before", "valid_until",
    "priority",
)  # fmt: skip
_KNOWN = frozenset({DESTINATION, REASON, *RESERVED})

# Other names that people give to the column destination.
_NUMBER_COLUMNS = (
    "phone", "phone_number", "phonenumber", "phone_no", "number", "mobile", "mobile_number", "mobile_no", "msisdn",
    "tel", "telephone", "cell", "cellphone", "handphone", "contact", "contact_number", "to", "recipient", "callee",
)  # fmt: skip


def canonical_name(name: str) -> str:
    """The reserved name that a header cell stands for, else the trimmed text of the cell."""
    short = folded(name)
    return short if short in _KNOWN else name.strip()


def row_name(name: str) -> str:
    """The name of a column in the dictionary of a row: folded, `first_name` for `First Name`."""
    return folded(name) or name.strip()


def read_columns(
    header: Sequence[str], number_column: str | None = None, *, place: object, hint: str = ""
) -> tuple[str, ...]:
    """The canonical names of the columns of a table of calls. `number_column` is the name of the numbers to call.

    Raises CampaignFileError for a header that cannot be used. It names the `place` of the header, and ends with `hint`.
    """
    wanted = row_name(number_column) if number_column is not None else None
    names = tuple(DESTINATION if row_name(name) == wanted else canonical_name(name) for name in header)
    present = [name for name in names if name]
    shown = ", ".join(filter(None, map(str.strip, header))) or "nothing"
    if DESTINATION not in present or (wanted is not None and wanted not in map(row_name, header)):
        if any(sum(map(str.isdigit, name)) >= 7 for name in present):
            raise CampaignFileError(
                f"{place} begins with a line that looks like data; add a header line above it that names the columns, "
                f"including destination; found: {shown}{hint}"
            )
        if wanted is not None:
            raise CampaignFileError(f"{place} has no column {number_column!r}; columns found: {shown}{hint}")
        rename = f"rename {near!r} to destination" if (near := near_destination(present)) else None
        remedy = f"{rename or 'rename the column of phone numbers to destination'}, or {Remedy.NAME_COLUMN}"
        raise CampaignFileError(f"{place} has no column destination; {remedy}; columns found: {shown}{hint}").remedied(
            Remedy.NAME_COLUMN
        )
    # The reason of a rejects file may stand before the file's own column of that name. Both are left out.
    twice = [name for name, count in Counter(map(folded, present)).items() if count > 1 and name != REASON]
    if wanted not in {None, DESTINATION} and DESTINATION in twice and DESTINATION in map(row_name, header):
        raise CampaignFileError(f"{place} has a column destination beside {number_column!r}; rename one{hint}")
    if twice:
        raise CampaignFileError(
            f"{place} has two columns of the same name: {', '.join(twice)}; rename or remove one; columns found: "
            f"{shown}{hint}"
        )
    return names


def near_destination(names: Iterable[str]) -> str | None:
    """The column that most likely holds the numbers to call, if there is one."""
    by_folded = {folded(name): name for name in names}
    for guess in _NUMBER_COLUMNS:
        if guess in by_folded:
            return by_folded[guess]
    close = get_close_matches(DESTINATION, by_folded, n=1, cutoff=0.7)
    return by_folded[close[0]] if close else next((by_folded[n] for n in by_folded if "phone" in n), None)


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
