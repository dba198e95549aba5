"""Say which column of a list is what: by its name, and by what options say of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self, cast

from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import columns_text
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.model.text.wording import folded, quoted

DESTINATION, COUNTRY, IGNORE, UNIQUE_KEY = "destination", "country", "ignore", "unique_key"
REASON, NOT_READ = "reason", "rejects_reason"
"""The first column of a rejects file, and its name if the rows have a column `reason` themselves. It is not read."""
RESERVED = (
    "source", UNIQUE_KEY, "batch_id", "voice_profile", "language", "time_zone", "not_before", "valid_until", "window",
    "priority",
)  # fmt: skip
_OWN = frozenset({DESTINATION, *RESERVED})
LIMITS = ("not_before", "valid_until")
"""The reserved columns that are refused in another spelling: they say when nobody is to ring."""


def row_name(name: str) -> str:
    """Return the name of a column in texts and findings: folded, `first_name` for `First Name`."""
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

    `key` is its name in texts: the reserved name, the name that options give it, or its own one, folded. A column of
    numbers is known by its own name too, its `alias`.
    """

    written: str
    key: str
    role: Role
    alias: str = ""

    @property
    def is_kept(self) -> bool:
        """True if the column is stored with the call: the job has the others itself."""
        return self.role is Role.DATA or bool(self.alias) or self.key == "language"


def columns_in(text: str) -> list[str]:
    """Return what is between the commas of a text. Headers may have line breaks, which count as spaces."""
    return next(csv.reader([" ".join(text.splitlines())], skipinitialspace=True))


_EXAMPLE = "destination=Telefon,name=Nachname"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRoles:
    """What options say of columns, by the names of columns as the user writes them.

    `numbers` are the columns of a person's numbers to call, in their order; none if it is `destination`. The rows count
    as if they had no columns that are `ignored`. The columns of `names` are read under the names before them, such as
    `country`, a reserved name or a name in a text. The values of the columns `keys` are the key of a row together.
    """

    numbers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: object) -> Self:
        """Return the roles in a mapping from them to a column or a list, or in a text such as `name=Nachname`.

        Raises InvalidInputError.
        """
        found: dict[str, list[str]] = {}
        for name, column in _pairs_of(columns):
            found.setdefault(row_name(name), []).append(column)
        numbers, ignored = (found.pop(each, []) for each in (DESTINATION, IGNORE))
        own = [*map(row_name, numbers or [DESTINATION])]
        keys = found.get(UNIQUE_KEY, [])
        keys = found.pop(UNIQUE_KEY) if len(keys) > 1 or {*map(row_name, keys)} & {*own} else []
        read = [column for each in found.values() for column in each]
        is_twice = any(len({*map(row_name, each)}) < len(each) for each in (numbers, read, keys))
        if is_twice or any(len(each) > 1 for each in found.values()):
            raise InvalidInputError(f"{quoted(columns, most=60)} names a column twice; give one for each")
        if both := next((name for name, (column,) in found.items() if row_name(column) in own), None):
            raise InvalidInputError(f"{found[both][0]!r} has numbers to call, and cannot be {both} too")
        if wrong := next((name for name in numbers[1:] if row_name(name) in _OWN), None):
            raise InvalidInputError(
                f"{wrong!r} is a reserved column, which cannot have further numbers of a person; rename it"
            )
        names = {name: column for name, (column,) in found.items()}
        return cls(numbers=(*numbers,), ignored=(*ignored,), names=names, keys=(*keys,))

    @property
    def country(self) -> str | None:
        """Column of the country of a row's national numbers."""
        return self.names.get(COUNTRY)

    @property
    def called(self) -> tuple[str, ...]:
        """Columns of a person's numbers, in their order."""
        return self.numbers or (DESTINATION,)

    @property
    def renamed(self) -> Mapping[str, str]:
        """Names that options give to columns, by the keys of these."""
        return {row_name(column): name for name, column in self.names.items()}

    def as_table(self) -> dict[str, str | list[str]]:
        """Return the roles as `of` reads them."""
        several = {DESTINATION: self.numbers, UNIQUE_KEY: self.keys, IGNORE: self.ignored}
        return {
            **self.names,
            **{name: columns[0] if len(columns) == 1 else [*columns] for name, columns in several.items() if columns},
        }

    def is_number(self, name: str) -> bool:
        """Return whether a column has telephone numbers."""
        return row_name(name) in {DESTINATION, "source", *map(row_name, self.called)}


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
            raise InvalidInputError(f"{quoted(text)} is no column with its value; write it as {_EXAMPLE}")
        for pair in columns_in(columns_text([text]) if is_list(columns) else text):
            name, _, column = pair.partition("=")
            if not name.strip() or not column.strip():
                raise InvalidInputError(f"{pair[:40]!r} is no column with its value; write it as {_EXAMPLE}")
            yield name.strip(), column.strip()


class Shape(NamedTuple):
    """The columns of a row, in the order of its cells; their names in findings, by their keys; what is wrong with them.

    `wrong` are pairs of a column and a message.
    """

    columns: Sequence[Column]
    names: Mapping[str, str]
    wrong: Sequence[tuple[str, str]] = ()


def shape_of(names: Sequence[str], roles: ColumnRoles, *, are_bodies: bool = False, is_file: bool = True) -> Shape:
    """Return what these columns are, by their names and by what options say of them."""
    numbers, renamed = [*map(row_name, roles.called)], roles.renamed
    ignored, decided = {*map(row_name, roles.ignored)}, {*renamed, *numbers, *map(row_name, roles.keys)}
    columns, wrong, known = list[Column](), list[tuple[str, str]](), dict[str, str]()
    shown = {row_name(name): name.strip() for name in names if name.strip()}
    is_first = is_file
    for name in map(str.strip, names):
        own = row_name(name)
        is_reason = name == NOT_READ or (name == REASON and (is_first or are_bodies) and own not in decided)
        if not name or own in ignored or is_reason:
            columns.append(Column(name, own, Role.IGNORED))
            is_first = is_first and own in ignored
            continue
        is_first = False
        if own == numbers[0]:
            column = Column(name, DESTINATION, Role.NUMBER, "" if own in _OWN else own)
        else:
            key = renamed.get(own, DESTINATION if own == DESTINATION and are_bodies else name if name in _OWN else own)
            is_reserved = key in RESERVED and (own in renamed or name == key)
            column = Column(name, key, Role.RESERVED if is_reserved else Role.BODY if are_bodies else Role.DATA)
        if own in LIMITS and name != own and own not in decided:
            take, ignore = (columns_text([f"{role}={name}"]) for role in (own, IGNORE))
            message = f"is not read. Take it for {own} (`columns: {take}`), or ignore it (`columns: {ignore}`)."
            wrong.append((name, message))
        if (other := known.get(column.key)) is not None and column.role is not Role.BODY:
            ignore = columns_text([f"{IGNORE}={name if own == column.key else other}"])
            message = f"is one name with the column {other!r}. Rename one, or ignore it (`columns: {ignore}`)."
            wrong.append((name, message))
        columns.append(column)
        known.setdefault(column.key, name)
        shown |= {column.key: name} | ({column.alias: name} if column.alias else {})
    return Shape(columns, {**roles.names, **shown}, wrong)


def refuse_header(
    header: Sequence[str], shape: Shape, roles: ColumnRoles, *, place: object, asked: Iterable[str]
) -> None:
    """Raise CampaignFileError for the header of a table that cannot be used, or that lacks a column that is `asked`."""
    refuse_numbers_in(header, place=place)
    for column, message in shape.wrong:
        raise CampaignFileError(f"{place}: the column {column!r} {message}")
    own = {*map(row_name, header)}
    for name in (*roles.numbers, *roles.names.values(), *roles.ignored, *roles.keys, *asked):
        if row_name(name) not in own:
            raise lacks_column(name, header, place=place)
    if not any(each.role is Role.NUMBER for each in shape.columns):
        present = [each.written for each in shape.columns if each.role is not Role.IGNORED]
        raise no_destination(place, near_destination(present), present)


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
    message = f"{place} has no column {name!r}; columns found: {', '.join(found) or 'nothing'}"
    return CampaignFileError(message, columns=found)


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


def near_destination(names: Collection[str]) -> str | None:
    """Return the one column that by its name holds the numbers to call, or the one of mobile phones; else None."""
    likely = [name for name in names if is_number_column(name)]
    mobile = [name for name in likely if _MOBILE_NAME.search(folded(name))]
    return next((each[0] for each in (likely, mobile) if len(each) == 1), None)
