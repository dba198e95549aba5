"""Say which column of a list is what: by its name, by what options say of it, and against the header of a table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self, cast

from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import columns_text
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.model.text.wording import folded, quoted

DESTINATION = "destination"
REASON = "reason"
"""The first column of a rejects file. It is not read, so that a corrected file can be read again."""
NOT_READ = "rejects_reason"
"""The canonical name of that column."""
RESERVED = (
    "source", "unique_key", "batch_id", "voice_profile", "language", "time_zone", "not_before", "valid_until", "window",
    "priority",
)  # fmt: skip
_KNOWN = frozenset({DESTINATION, *RESERVED})
LIMITS = ("not_before", "valid_until")
"""The reserved columns that are refused in another spelling: whoever gives a limit wants nobody to ring beyond it."""
NO_DATA = _KNOWN - {"language"}
"""The columns that the job has itself, so they are not stored as its data."""


def canonical_name(name: str) -> str:
    """Return `destination` for a header cell that says so in any spelling, else the trimmed text of the cell."""
    return DESTINATION if folded(name) == DESTINATION else name.strip()


def row_name(name: str) -> str:
    """Return the name of a column in the dictionary of a row: folded, `first_name` for `First Name`."""
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


def column_of(written: str, name: str, *, numbers: str | None = None) -> Column:
    """Return the column with this reserved or own `name`; `numbers` is the key of the column of numbers."""
    key, role = row_name(name), Role.RESERVED if name in _KNOWN else Role.DATA
    if name == DESTINATION:
        alias = numbers if numbers is not None and numbers not in _KNOWN else ""
        return Column(written, name, key, Role.NUMBER, alias, is_kept=bool(alias))
    return Column(written, name, key, role, is_kept=role is Role.DATA or key not in NO_DATA)


def columns_in(text: str) -> list[str]:
    """Return what stands between the commas of a text. Headers may have line breaks, which count as spaces."""
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
        """Return the roles in a mapping from them to a column or a list, or in a text such as `name=Nachname`.

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
        """Return the roles as `of` reads them."""
        one = {**{name: getattr(self, name) for name in ROLES}, **self.names}
        numbers = self.numbers
        table: dict[str, str | list[str]] = {DESTINATION: numbers[0] if len(numbers) == 1 else [*numbers]}
        table |= {name: column for name, column in one.items() if column is not None} | {IGNORE: [*self.ignored]}
        return {name: column for name, column in table.items() if column}

    def as_text(self) -> str:
        """Return the roles as people type them: `destination=Mobile,name=Nachname`."""
        return columns_text(f"{name}={column}" for name, column in _pairs_of(self.as_table()))


NO_ROLES = ColumnRoles()


def _pairs_of(columns: object) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a role and a column, in a mapping, a text or a list of texts. Raises InvalidInputError."""
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


def pairs_in(text: str, *, example: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs in a text such as the `example`. Raises InvalidInputError for any other text.

    A pair that has a comma stands in quotes: `"Status=gone, sadly"`. A name may have `=` in brackets: `Call (1=yes)=0`.
    """
    pairs: list[tuple[str, str]] = []
    for pair in columns_in(text):
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

    @property
    def numbers(self) -> frozenset[str]:
        """The keys of the columns of telephone numbers."""
        return frozenset({DESTINATION, "source", *map(row_name, self.roles.named_numbers)})

    def names(self, header: Sequence[str], *, place: object) -> tuple[str, ...]:
        """Return the canonical names of the columns of a header.

        Raises CampaignFileError for a header that cannot be used. It names its `place`.
        """
        own, *further = self.roles.named_numbers
        wanted = row_name(own) if self.roles.numbers else None
        ignored = {*map(row_name, self.roles.ignored)}
        names = tuple(DESTINATION if row_name(name) == wanted else canonical_name(name) for name in header)
        if header and header[0].strip() == REASON != wanted:
            names = (NOT_READ, *names[1:])
        present = [name for name in names if name]
        refuse_numbers_in(header, place=place)
        seen = Counter(folded(name) for name in present if row_name(name) not in ignored)
        if twice := next((name for name in present if seen[folded(name)] > 1), None):
            both = [own.strip() for own, name in zip(header, names, strict=True) if folded(name) == folded(twice)]
            told = " and ".join(map(repr, both))
            raise CampaignFileError(f"{place} has the columns {told}, which are one name. Rename or remove one.")
        for name in (*(() if wanted is None else (own,)), *further):
            if row_name(name) not in map(row_name, header):
                raise lacks_column(name, header, place=place)
        if DESTINATION not in present:
            raise no_destination(place, near_destination(present), present)
        return names


CALLS = ColumnReader()


def no_destination(place: object, near: str | None, present: Sequence[str]) -> CampaignFileError:
    """Return the error for a table without the column of numbers to call, which is perhaps the one that is `near`."""
    value = f": {columns_text([f'{DESTINATION}={near}'])}" if near else ""
    return CampaignFileError(
        f"{place} has no column destination. Name the column of the numbers to call (`columns{value}`), or the row of "
        f"the header if titles stand above it (`header_row`). Columns found: {', '.join(present) or 'nothing'}.",
        columns=present,
    )


def lacks_column(name: str, header: Iterable[str], *, place: object) -> CampaignFileError:
    """Return the error for a table that has no column of this name."""
    found = [each.strip() for each in header if each.strip()]
    told = f"{place} has no column {name!r}; columns found: {', '.join(found) or 'nothing'}"
    return CampaignFileError(told, columns=found)


_NUMBER_IN_NAME = re.compile(r"\+?\d[\d ().-]{5,}\d")
_MOST_DIGITS_OF_A_DATE = 8


def number_in_name(names: Iterable[str]) -> str | None:
    """Return the telephone number in the name of a column: the header is a row then. None if there is none."""
    for text in (each for name in names for each in _NUMBER_IN_NAME.findall(name)):
        digits = sum(map(str.isdigit, text))
        if digits > _MOST_DIGITS_OF_A_DATE or (digits > 6 and text[:2] not in {"19", "20"} and text.count(".") < 2):
            return str(text)
    return None


def refuse_numbers_in(header: Iterable[str], *, place: object) -> None:
    """Raise CampaignFileError for a header that is a row, or has taken in one: a person would be lost in it."""
    if number := number_in_name(header):
        raise CampaignFileError(
            f"{place}: the header holds {number!r}, a telephone number. Write a line above it that names the columns."
        )


_NUMBER_NAME = re.compile(
    r"phone|mobil|portable|telefon|telefo|msisdn|cellular|whatsapp|rufnummer|(?:^|_)fax|(?:^|_)(?:cell|tel|handy|hp|to)(?:_|\d|$)|"
    r"^(?:number|nummer|numero|nomor|contact|recipient|callee)(?:_no|_number|_\d+|\d+)?$"
)
_MOBILE_NAME = re.compile(r"mobil|portable|cell|handy|handphone|whatsapp|hp")


def is_number_column(name: str) -> bool:
    """Return whether a column by its name holds telephone numbers: `Phone 2`, `Work Phone`, `mobile`."""
    short = folded(name)
    return short == DESTINATION or _NUMBER_NAME.search(short) is not None


def near_destination(names: Iterable[str]) -> str | None:
    """Return the one column that by its name holds the numbers to call, or the one of mobile phones; else None."""
    likely = [name for name in names if is_number_column(name)]
    mobile = [name for name in likely if _MOBILE_NAME.search(folded(name))]
    return next((each[0] for each in (likely, mobile) if len(each) == 1), None)
