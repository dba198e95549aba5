"""Rows as they are in a file, before their values are read, the columns of tables, and the rows put aside."""

from __future__ import annotations

import csv
import os
import pickle
import re
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, Self, cast

import orjson

from voiceflow_worker.campaigns.files.damage import error_in, number_in_name
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Remedy, Severity, columns_text, tell
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.model.text.wording import count_of, did_you_mean, folded, quoted

MOST = {Severity.ERROR: 100_000, Severity.WARNING: 10_000}
"""The largest number of listed findings of each severity. At about 500 bytes each, they take 55 MB at most."""


_ONCE = {
    "differs_over": ("state", "differs"),
    "on_its_way": ("state",),
    "of_other_batch": ("other", "done"),
    "other_batch": (),
    "repeated_number": (),
    "unknown_range": ("country",),
}
"""The kinds of findings that many rows have alike, with the values by which they are told apart."""


class Findings:
    """A list of findings, with a limit for each severity. Findings beyond the limit are only counted.

    Those that many rows have alike are listed once, with their count.
    """

    def __init__(self) -> None:
        self._listed: list[Finding] = []
        self._counts: Counter[Severity] = Counter()
        self._alike: dict[tuple[object, ...], tuple[int, int]] = {}
        """The places in the list of findings that many rows have, with their counts."""

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings. They are listed in the order in which they are added."""
        for found in findings:
            told = found.told
            alike = (told.kind, *map(told.values.get, _ONCE[told.kind])) if told.kind in _ONCE else None
            if alike in self._alike:
                place, count = self._alike[alike]
                self._alike[alike] = place, count + 1
                continue
            self._counts[found.severity] += 1
            if self._counts[found.severity] <= MOST[found.severity]:
                self._alike |= {} if alike is None else {alike: (len(self._listed), 1)}
                self._listed.append(found)

    def all(self, *, file: str | None) -> tuple[Finding, ...]:
        """The listed findings. If some are not listed, one more finding says how many."""
        for place, count in self._alike.values():
            if count > 1:
                found = self._listed[place]
                more = f". {count_of(count - 1, 'more row')} like it."
                self._listed[place] = replace(found, message=found.told.plus(more))
        self._alike.clear()
        left_out = self._counts.total() - len(self._listed)
        if not left_out:
            return tuple(self._listed)
        more = f"{count_of(left_out, 'more finding')} {'is' if left_out == 1 else 'are'} not listed"
        last = Finding(file=file, severity=Severity.WARNING, message=more)
        return (*self._listed, last)


DESTINATION = "destination"
REASON = "reason"
"""The first column of a rejects file, in this spelling. It is not read, so that a corrected file can be read again."""
NOT_READ = "rejects_reason"
"""The canonical name of that column, and of others that are not read. A column of this name elsewhere is data."""

MEANINGS = {
    "source": "the number to call from", "unique_key": "the key of the call", "batch_id": "the batch of the call",
    "voice_profile": "the voice", "language": "the language of the menu", "time_zone": "the time zone of the person",
    "not_before": "the time before which nobody is called", "valid_until": "the time after which nobody is called",
    "window": "the hours in which phones may ring", "priority": "the order of the calls",
}  # fmt: skip
"""What the reserved columns mean."""
RESERVED = tuple(MEANINGS)
_KNOWN = frozenset({DESTINATION, *RESERVED})

# Other names that people give to the column destination.
_NUMBER_COLUMNS = (
    "phone", "phone_number", "phonenumber", "phone_no", "number", "mobile", "mobile_number", "mobile_no", "msisdn",
    "tel", "telephone", "cell", "cellphone", "handphone", "contact", "contact_number", "to", "recipient", "callee",
    "nummer", "rufnummer", "telefonnummer", "handynummer", "numero", "nomor", "no_hp",
)  # fmt: skip

_NUMBER_WORDS = re.compile(r"phone|mobil|telefon|msisdn|cellular|(?:^|_)(?:cell|tel|handy|whatsapp|fax)(?:_|\d|$)")
_NO_OTHER_WORD = re.compile(
    r"(?:(?:t[eé]l[eé])?(?:phone|foo?n[eo]?)|mobile?|msisdn|cell(?:ular)?|tel|handy?|whatsapp|number|nummer|n[or]|_|\d)+"
)
_OF_MOBILES = re.compile(r"(?:mobile?|cell|hand|handy)_?(?:phone|telefon|number|nummer|no|nr)?")


def canonical_name(name: str) -> str:
    """The destination for a header cell that says so in any spelling, else the trimmed text of the cell."""
    return DESTINATION if folded(name) == DESTINATION else name.strip()


def is_other_spelling(name: str) -> bool:
    """Whether a column has a reserved name in another spelling, such as `Priority`: it does not affect calls."""
    return folded(name) in MEANINGS and name.strip() not in MEANINGS


def row_name(name: str) -> str:
    """The name of a column in the dictionary of a row: folded, `first_name` for `First Name`."""
    return folded(name) or name.strip()


class Role(StrEnum):
    """What a column is."""

    NUMBER = "number"
    RESERVED = "reserved"
    DATA = "data"
    BODY = "body"
    """A part of a request body."""
    IGNORED = "ignored"


class Column(NamedTuple):
    """A column of a table, or a name in an object: as it is `written`, and what it is.

    `name` is its reserved name, or the one it is given by options, else as it is written. `key` is its name in the
    dictionary of a row, and in texts; empty in a request body. A column of numbers is there under its `alias` too. What
    `is_kept` is stored with the call.
    """

    written: str
    name: str
    key: str
    role: Role
    alias: str = ""
    is_kept: bool = False


NO_DATA = frozenset({DESTINATION, *RESERVED}) - {"language"}
"""The columns that the job has itself, so they are not stored as its data."""


def column_of(written: str, name: str, *, numbers: str | None = None) -> Column:
    """The column of a table or an object with this reserved or own `name`; `numbers` is the key of that of numbers."""
    key, role = row_name(name), Role.RESERVED if name in _KNOWN else Role.DATA
    if name == DESTINATION:
        alias = numbers if numbers is not None and numbers not in _KNOWN else ""
        return Column(written, name, key, Role.NUMBER, alias, is_kept=bool(alias))
    return Column(written, name, key, role, is_kept=is_other_spelling(name) or key not in NO_DATA)


def parts_of(text: str) -> list[str]:
    """What stands between the commas of a text. Headers may have line breaks, which count as spaces."""
    return next(csv.reader([" ".join(text.splitlines())], skipinitialspace=True))


COUNTRY, IGNORE = "country", "ignore"
ROLES = (COUNTRY, "language")
"""The roles that one column may have: attributes of `ColumnRoles`."""
_COLUMN_PAIRS = "destination=Telefon,name=Nachname"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRoles:
    """Which column is what, by the names of columns as the user writes them.

    `numbers` are the columns of a person's numbers to call, in their order; none if it is `destination`. The rows count
    as if they had no columns that are `ignored`. `country` is the column of the country of a row's national numbers.
    The columns of `names` are read, and spoken of in texts, by the names before them.
    """

    numbers: tuple[str, ...] = ()
    country: str | None = None
    language: str | None = None
    ignored: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, columns: object) -> Self:
        """The roles in a mapping from them to a column or a list of columns, or in a text such as `name=Nachname`.

        Raises InvalidInputError.
        """
        found: dict[str, list[str]] = {}
        for name, column in _pairs_of(columns):
            found.setdefault(row_name(name), []).append(column)
        numbers, ignored = (found.pop(each, []) for each in (DESTINATION, IGNORE))
        read = [column for each in found.values() for column in each]
        is_twice = any(len({*map(row_name, each)}) < len(each) for each in (numbers, read))
        if is_twice or any(len(each) > 1 for each in found.values()):
            raise InvalidInputError(f"{quoted(columns, most=60)} names a column twice; give one for each")
        if wrong := next((name for name in numbers[1:] if canonical_name(name) in RESERVED), None):
            raise InvalidInputError(
                f"{wrong!r} is a reserved column, which cannot have further numbers of a person; rename it"
            )
        names = {name: column for name, (column,) in found.items()}
        one = {name: names.pop(name, None) for name in ROLES}
        return cls(numbers=(*numbers,), **one, ignored=(*ignored,), names=names)

    @property
    def named(self) -> tuple[str, ...]:
        """The columns of a role, but those of numbers and of names."""
        return (*filter(None, (getattr(self, name) for name in ROLES)),)

    @property
    def named_numbers(self) -> tuple[str, ...]:
        """The columns of a person's numbers, in their order."""
        return self.numbers or (DESTINATION,)

    def as_table(self) -> dict[str, str | list[str]]:
        """The roles as `of` reads them."""
        one = {**{name: getattr(self, name) for name in ROLES}, **self.names}
        numbers = self.numbers
        table: dict[str, str | list[str]] = {DESTINATION: numbers[0] if len(numbers) == 1 else [*numbers]}
        table |= {name: column for name, column in one.items() if column is not None} | {IGNORE: [*self.ignored]}
        return {name: column for name, column in table.items() if column}

    def as_text(self) -> str:
        """The roles as people type them: `destination=Mobile,name=Nachname`."""
        return columns_text(f"{name}={column}" for name, column in _pairs_of(self.as_table()))


NO_ROLES = ColumnRoles()


def _pairs_of(columns: object) -> Iterator[tuple[str, str]]:
    """The pairs of a role and a column, in a mapping, a text or a list of texts. Raises InvalidInputError."""
    if isinstance(columns, Mapping):
        for name, given in cast("Mapping[object, object]", columns).items():
            for column in given if is_list(given) else (given,):
                if not isinstance(column, str) or not column.strip():
                    raise InvalidInputError(f"{quoted(column)} is no column, which {name} would be; write its name")
                yield str(name), column.strip()
        return
    for text in columns if is_list(columns) else (columns,):
        if not isinstance(text, str):
            raise InvalidInputError(f"{quoted(text)} is no column with its value; write it as {_COLUMN_PAIRS}")
        yield from pairs_in(columns_text([text]) if is_list(columns) else text, example=_COLUMN_PAIRS)


_PAIR = re.compile(r"((?:\([^()]*\)|\((?![^()]*\))|[^=(])*)=(.*)", re.DOTALL)


def pairs_in(text: str, *, example: str = "Do Not Call=TRUE") -> tuple[tuple[str, str], ...]:
    """The pairs in a text such as the `example`. Raises InvalidInputError for any other text.

    A pair that has a comma stands in quotes: `"Status=gone, sadly"`. A name may have `=` in brackets: `Call (1=yes)=0`.
    """
    pairs: list[tuple[str, str]] = []
    for pair in parts_of(text):
        match = _PAIR.fullmatch(pair)
        name, value = map(str.strip, match.groups() if match else ("", ""))
        if not name or not value:
            raise InvalidInputError(f"{pair[:40]!r} is no column with its value; write it as {example}")
        pairs.append((name, value))
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """What gives the columns of a table of calls their canonical names; they have these `roles`."""

    roles: ColumnRoles = NO_ROLES
    fewest_cells: ClassVar[int] = 2
    """How many cells a line within a cell has at least that looks like a row."""

    @property
    def numbers(self) -> frozenset[str]:
        """The keys of the columns of telephone numbers."""
        return frozenset({DESTINATION, "source", *map(row_name, self.roles.named_numbers)})

    def names(self, header: Sequence[str], *, place: object) -> tuple[str, ...]:
        """The canonical names of the columns of a header.

        Raises CampaignFileError for a header that cannot be used. It names its `place`.
        """
        own, *further = self.roles.named_numbers
        wanted = row_name(own) if self.roles.numbers else None
        ignored = set(map(row_name, self.roles.ignored))
        names = tuple(DESTINATION if row_name(name) == wanted else canonical_name(name) for name in header)
        if header and header[0].strip() == REASON != wanted:
            names = (NOT_READ, *names[1:])
        present = [name for name in names if name]
        shown = ", ".join(filter(None, map(str.strip, header))) or "nothing"
        refuse_numbers_in(header, place=place)
        if wrong := next(filter(None, map(error_in, present)), None):
            raise CampaignFileError(f"{place}: the header {wrong}")
        seen = Counter(folded(name) for name in present if row_name(name) not in ignored)
        twice = [name for name, count in seen.items() if count > 1]
        if wanted not in {None, DESTINATION} and DESTINATION in twice and DESTINATION in map(row_name, header):
            raise CampaignFileError(f"{place} has a column destination beside {own!r}; rename one")
        if twice:
            written = {folded(name): own.strip() for name, own in zip(reversed(names), reversed(header), strict=True)}
            raise CampaignFileError(
                f"{place} has two columns of the same name: {', '.join(map(written.__getitem__, twice))}; rename or "
                f"remove one; columns found: {shown}"
            )
        asked = (*(() if wanted is None else (own,)), *further)
        if lacking := next((name for name in asked if row_name(name) not in map(row_name, header)), None):
            raise lacks_column(lacking, header, place=place)
        if DESTINATION not in present:
            raise no_destination(place, near_destination(present), present)
        return names


CALLS = ColumnReader()


def no_destination(place: object, near: str | None, present: Sequence[str]) -> CampaignFileError:
    """The error for a table without the column of numbers to call, which is perhaps the one that is `near`."""
    rename = f"rename {near!r} to destination" if near else "rename the column of phone numbers to destination"
    told = tell("no_destination", file=str(place), rename=rename, columns=", ".join(present) or "nothing")
    given = {Remedy.NAME_COLUMN: columns_text([f"{DESTINATION}={near}"])} if near else {}
    return CampaignFileError(told.giving(given), columns=present)


def lacks_column(name: str, header: Iterable[str], *, place: object) -> CampaignFileError:
    """The error for a table that has no column of this name."""
    found = [each.strip() for each in header if each.strip()]
    meant = did_you_mean(name, found) or ";"
    columns = ", ".join(found) or "nothing"
    return CampaignFileError(f"{place} has no column {name!r}{meant} columns found: {columns}", columns=found)


def refuse_numbers_in(header: Iterable[str], *, place: object) -> None:
    """Raise CampaignFileError for a header that has taken in a row: a person would be lost in it."""
    names = [name.strip() for name in header]
    if number := number_in_name(names):
        if any(number_in_name([name]) and not any(map(str.isalpha, name)) for name in names):
            raise CampaignFileError(
                f"{place} begins with a line that looks like data; add a header line above it that names the columns, "
                f"because the first line is a person; found: {', '.join(names)}"
            )
        raise CampaignFileError(
            f"{place}: the header holds {number!r}, a telephone number. If the first line is a person, add a line "
            "above it that names the columns; else a row has become a part of it, by a line break that is missing or "
            'a quote (") that was opened by mistake: correct the header'
        )


def is_number_column(name: str) -> bool:
    """True if by its name a column holds telephone numbers: `Phone 2`, `Work Phone`, `mobile`."""
    short = folded(name)
    return short == DESTINATION or short.rstrip("_0123456789") in _NUMBER_COLUMNS or bool(_NUMBER_WORDS.search(short))


def is_plain_number_column(name: str) -> bool:
    """True if the name says numbers and no more, such as whose: `Phone 2`, but not `Doctor phone` or `Fax`."""
    short = folded(name)
    return short.rstrip("_0123456789") in _NUMBER_COLUMNS or _NO_OTHER_WORD.fullmatch(short) is not None


def near_destination(names: Iterable[str]) -> str | None:
    """The column that most likely holds the numbers to call, one of mobile phones first; None if there is none."""
    by_folded = {folded(name): name for name in names}
    likely = [guess for guess in _NUMBER_COLUMNS if guess in by_folded]
    likely += [*get_close_matches(DESTINATION, by_folded, n=1, cutoff=0.7), *filter(is_number_column, by_folded)]
    likely.sort(key=lambda name: _OF_MOBILES.fullmatch(name) is None)
    return by_folded[likely[0]] if likely else None


def nameless_values(columns: Sequence[str], cells: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """The problems of a row with values in columns that have no name: they would be lost."""
    for place, (name, cell) in enumerate(zip_longest(columns, cells, fillvalue=""), 1):
        if not name and cell.strip():
            shown = f"the row has {cell.strip()[:40]!r} in its cell {place}, but that column has no name"
            yield None, f"{shown}: name it in the header, or clear the column"


REPORTED = (
    "destination", "result", "state", "outcome", "code", "message", "answer", "digits", "seconds", "started_at",
    "ended_at", "attempt", "called", "source", "unique_key", "batch_id", "created_at",
    "valid_until", "session_id", "job_id",
)  # fmt: skip
"""The columns of a report of calls, in front of those of their rows."""
OF_ROW = "data."
"""The prefix of the columns of a report that come from the campaign's own file."""


def roles_in_report(header: Sequence[str], roles: ColumnRoles, *, spoken: Collection[str]) -> ColumnRoles | None:
    """The roles of the columns of a report as the next list; None for other files, which lack one of its columns.

    What its calls had themselves is not read: it is not that of the next ones. A column of a row that is `spoken` has
    its own name again. What the roles say already stays.
    """
    names = [name.strip() for name in header]
    if not {*REPORTED} <= {*names}:
        return None
    said = {row_name(each) for each in (*roles.named, *roles.names.values(), *roles.numbers)}
    own = {name.removeprefix(OF_ROW): name for name in names if name.startswith(OF_ROW)}
    names_again = {row_name(name): column for name, column in own.items() if row_name(name) in {*spoken} - {*RESERVED}}
    names_again = {name: column for name, column in names_again.items() if name not in map(row_name, names)}
    ignored = tuple(each for each in names if each in RESERVED and each not in said)
    return replace(roles, ignored=(*roles.ignored, *ignored), names={**names_again, **roles.names})


class FileKind(StrEnum):
    """The formats of campaign files."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    JSON = "json"
    EXCEL = "xlsx"

    @property
    def is_table(self) -> bool:
        """True if the rows of this format are cells in named columns."""
        return self in {FileKind.CSV, FileKind.EXCEL}


class Mark(StrEnum):
    """How a workbook shows a row that may be left out."""

    HIDDEN = "hidden"
    STRUCK = "struck through"
    PARTLY_STRUCK = "struck through in part"


MOST_ABOVE = 20
"""The most rows above a header that are kept, to choose another header from."""


class RawRow(NamedTuple):
    """One row as it is in the file. It is a tuple to save memory, because files may have millions of rows.

    `number`, counted from 1, is the line where the row begins, or the number of the row in a sheet.
    `text` is the text of a line. `cells` are texts; those of an object are its values, which have `names` of their own.
    `problems` are the reasons why the row cannot be read, each a column and a clause. `code` is the 8x8 code of these
    problems. `counts` is more than 1 if a cell has taken in other rows, which are then as bad as this one. `mark` is
    how a workbook shows the row.
    """

    number: int
    text: str
    cells: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    problems: tuple[tuple[str | None, str], ...] = ()
    code: int | None = None
    counts: int = 1
    mark: Mark | None = None

    @property
    def data(self) -> Mapping[str, object]:
        """The object that the row is; empty for a row of a table."""
        return dict(zip(self.names, self.cells, strict=False))


class RowSource(ABC):
    """An open file of a known format. The defaults of the attributes are for formats without columns."""

    kind: FileKind
    columns: tuple[str, ...] = ()
    """The canonical names of a table's columns; empty for a column without a name."""
    header: tuple[str, ...] = ()
    """The header of a table as written in the file."""
    header_row: int | None = 1
    """The line or row of a table's header; None if the header is not a row."""
    above: Sequence[tuple[int, Sequence[str]]] = ()
    """The nearest rows above a table's header, such as titles: the number and the cells of each."""
    sheets: tuple[str, ...] = ()
    """The sheets of a workbook that are shown and have rows."""
    delimiter: str = ""
    """The delimiter of a CSV file."""
    numbers: frozenset[str] = frozenset()
    """The canonical names of a table's columns that hold telephone numbers."""
    spare: frozenset[str] = frozenset()
    """The columns of a CSV file that nothing needs. Their cells may be missing at the end of a row."""
    clocks: frozenset[str] = frozenset()
    """The names in rows of the columns that are read or spoken as times of day, so that midnight is one of them."""
    counted: frozenset[str] = frozenset()
    """The names in rows of the columns from whose times others are counted."""
    moments: frozenset[str] = frozenset()
    """The names in rows of the columns that are read or spoken as dates or times."""
    voice: str = ""
    """The voice in whose language a workbook names days and months, if the formats of its cells name no language."""
    notes: tuple[str, ...] = ()
    """Warnings about the whole file. They are complete when all rows have been read."""

    @abstractmethod
    def __iter__(self) -> Iterator[RawRow]:
        """The rows, in the order of the file."""

    def cells_of(self, raw: RawRow) -> Mapping[str, object]:
        """The cells of a row, by the names of their columns as they are written."""
        return dict(zip(raw.names or self.header, raw.cells, strict=False))

    def _pass_over(self, number: int, cells: Sequence[str]) -> None:
        """Note a row above the header, and of many the last ones."""
        self.above = (*self.above[1 - MOST_ABOVE :], (number, cells))


class SpooledRows:
    """Chunks of rows in a temporary `file`. Rows are plain tuples: named tuples take twice the time and space."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._chunks = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add these rows as one chunk. Raises OSError, with the remedy, if the file cannot be written."""
        if not rows:
            return
        try:
            pickle.dump(rows, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            remedy = f"{error.strerror}; free space in the temporary folder, or set TMPDIR to another"
            raise OSError(error.errno, remedy, tempfile.gettempdir()) from error
        self._chunks += 1
        self._rows += len(rows)

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        """The chunks, in the order in which they were added."""
        self._file.seek(0)
        for _ in range(self._chunks):
            yield pickle.load(self._file)  # noqa: S301 (written above, by this process)


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a temporary path. At the end of the block the file is moved to `path`; after an error it is removed.

    A new file is readable by its user only. A `path` that is not a plain file (a pipe, `/dev/stdout`) is written
    directly. Raises OSError, which names `path`.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        unfinished.touch(mode=0o600)
        yield unfinished
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    except OSError as error:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def _table_written(
    kind: FileKind, path: Path, delimiter: str, header: Sequence[str]
) -> Generator[Callable[[Sequence[str]], object]]:
    """Yield a function that writes one row of a table of texts, which is complete at the end of the block."""
    if kind is FileKind.EXCEL:
        from voiceflow_worker.campaigns.files.workbook_writer import written_workbook

        with written_workbook(path) as book:
            yield book.sheet("Rows", header, widths=[18]).append
    else:
        # Excel knows the encoding of a CSV file by its byte order mark.
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            write = csv.writer(file, delimiter=delimiter or ",", lineterminator="\n").writerow
            write(header)
            yield write


_ENDINGS = {FileKind.EXCEL: ".xlsx"}
_OTHER_FORMATS = frozenset({".xlsx", ".xlsm", ".xls", ".parquet", ".gz"})
_TEXTS = frozenset({".csv", ".tsv", ".txt"})


Reject = Callable[[RawRow, Sequence[Finding]], None]
"""What adds a row that is not called. Its reasons are the errors among its findings, else the last one."""


@contextmanager
def rejects_file(path: Path, source: RowSource, *, read: InputFile) -> Generator[Reject]:
    """A file of the rows of a source that are not called, of the kind that was `read`: a table, or JSON lines.

    If it has the ending of a text file, such as `.csv`, the rows of a workbook become a CSV file. The reason is the
    first cell of a row, so that the reasons are in one column even if some rows have too many cells.

    The complete file appears at the end of the block, if there was no error and at least one row. Otherwise an earlier
    file with this name stays unchanged. One run can therefore read corrected rejects and write new ones to the same
    file. It must not replace another file that is read, nor have the extension of another format. Raises
    CampaignFileError for such a name, and if the file cannot be written.
    """
    suffix, own = path.suffix.lower(), _ENDINGS.get(source.kind)
    if suffix in _OTHER_FORMATS and suffix != own:
        extension = f"{own} or .csv" if own else ".csv" if source.kind.is_table else ".jsonl"
        raise CampaignFileError(
            f"{path}: rejects are written in the format of the file; give them the extension {extension}"
        )
    if read.path is not None and path.resolve() == read.path.resolve() and NOT_READ not in source.columns:
        raise CampaignFileError(f"{path} is the input file: the rejects would replace its good rows; name another file")
    put: Callable[[RawRow, str], object] | None = None

    def add(raw: RawRow, findings: Sequence[Finding]) -> None:
        nonlocal put
        if put is None:
            put = _rejects_writer(opened.enter_context(whole_file(path)), source, opened, is_text=suffix in _TEXTS)
        put(raw, reason_of(findings))

    try:
        with ExitStack() as opened:
            yield add
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CampaignFileError(f"{path} cannot be written: {error.strerror or error}") from error


def _rejects_writer(
    path: Path, source: RowSource, opened: ExitStack, *, is_text: bool
) -> Callable[[RawRow, str], object]:
    """A function that writes a row and its reason to this path."""
    if not source.kind.is_table:
        file = opened.enter_context(path.open("w", encoding="utf-8", newline=""))
        return lambda raw, reason: file.write(_line(raw, reason))
    kind = FileKind.CSV if is_text else source.kind
    # In a file of rejects, the first cell of a row is the old reason, except in a row of a single cell.
    had_reasons = source.columns[0] == NOT_READ

    def with_reason(reason: str, cells: Sequence[str]) -> list[str]:
        return [reason, *(cells[1:] if had_reasons and len(cells) > 1 else cells)]

    header = with_reason(REASON, source.header)
    write = opened.enter_context(_table_written(kind, path, source.delimiter, header))
    return lambda raw, reason: write(with_reason(reason, raw.cells))


def _line(raw: RawRow, reason: str) -> str:
    """A row of JSON lines with its reason."""
    own = {
        name: value
        for place, (name, value) in enumerate(zip(raw.names, raw.cells, strict=True))
        if place or name != REASON
    }
    if own and REASON not in own:
        return orjson.dumps({REASON: reason, **own}).decode() + "\n"
    # If there is no JSON object, or it has a reason of its own, the reason becomes a comment above the line.
    text = orjson.dumps(own).decode() if own else raw.text.rstrip()
    # A line that had NUL characters has lost them. As a JSON string, it cannot be called uncorrected.
    is_changed = not own and bool(raw.problems) and raw.code is None
    return f"// {REASON}: {reason}\n{orjson.dumps(text).decode() if is_changed else text}\n"


def reason_of(findings: Sequence[Finding]) -> str:
    """Why a row is not called, for people: the errors among its findings, else the last one."""
    reasons = [found for found in findings if found.is_error] or findings[-1:]
    places = dict.fromkeys((found.column or found.path, found.message) for found in reasons)
    return "; ".join(f"{place}: {message}" if place else message for place, message in places)
