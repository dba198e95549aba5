"""The values of a row: reserved columns, template variables, the request body completed with them, and its key."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from voiceflow_worker.campaigns.files.damage import shown
from voiceflow_worker.campaigns.files.rows import (
    DESTINATION,
    NOT_READ,
    REASON,
    RESERVED,
    RawRow,
    canonical_name,
    is_own_word,
    pairs_in,
    row_name,
)
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.meanings import meaning_of
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.values import UnspeakableError, describe, exact_number, is_list, is_missing, is_object
from voiceflow_worker.model.numbers.phone import is_e164, telephone_of
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of, folded
from voiceflow_worker.model.times import DateOrder, with_iso_date


def row_key(batch_id: str, canonical: str, further: Sequence[str] = ()) -> str:
    """The key made for a row without its own key: a digest of its batch, its canonical body and its further numbers.

    Because validUntil is left out, a file that is enqueued again adds nothing, even with another validity.
    """
    content = "\0".join((batch_id, canonical, *further)).encode("utf-8", "surrogatepass")
    return f"row-{hashlib.sha256(content).hexdigest()[:32]}"


_MANY, _MOST_NAMES = 3, 1000
"""How many rows with one number are many, and how many of their names are counted."""


class SeenKeys:
    """The keys of the rows that were read so far, each with the line of its row and a digest of its body.

    Digests are kept as integers: a row takes about 150 bytes.
    """

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}

    def first(self, key: str, *, row: int, digest: str) -> tuple[int, bool] | None:
        """The line of the earlier row with this key, and whether that row has an equal body.

        Returns None for a new key, and adds it.
        """
        body = int(digest, 16)
        line, known = self._rows.setdefault(_mark(key), (row, body))
        return None if line == row else (line, known == body)

    def __contains__(self, key: str) -> bool:
        """True if a row with this key was read."""
        return _mark(key) in self._rows

    def also_in(self, others: SeenKeys) -> list[tuple[int, int]]:
        """Of each key that the others have too, the line of its row here, and there."""
        return [(self._rows[key][0], others._rows[key][0]) for key in self._rows.keys() & others._rows.keys()]


class SharedNumbers(SeenKeys):
    """The numbers of the rows that were read so far, with the names of the people of those that several rows have."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[tuple[int, str], Counter[str]] = {}

    def add(self, number: str, *, batch: str | None, row: int, name: str) -> int | None:
        """Add a number of a row with this name; returns the first row with the number, None if this is it."""
        found = self.first(f"{batch}\0{number}", row=row, digest=f"0{name.encode(errors='replace').hex()}")
        if found is None:
            return None
        names = self._names.setdefault((found[0], number), Counter())
        names["" if found[1] or len(names) > _MOST_NAMES else name] += 1
        return found[0]

    def many(self) -> tuple[int, str] | None:
        """The first row with the number that most rows have, and what is told of it; None if no number has many."""
        found = [(names.total() + 1, *place, names) for place, names in self._names.items()]
        many = [each for each in found if each[0] >= _MANY]
        if not many:
            return None
        rows, row, number, names = max(many, key=lambda each: each[0])
        others = [name for name in names if name]
        such = f", such as {', '.join(others[:3])}" if others else ""
        more = f", and {count_of(len(many) - 1, 'other number')} likewise" if len(many) > 1 else ""
        told = f"{rows} rows call {number}, with {count_of(len(others) + 1, 'name')}{such}{more}"
        return row, f"{told}. Such a number often stands for people without one: correct it, or leave these rows out"


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())


_TIMES = frozenset({"not_before", "valid_until"})
_OWN = frozenset({DESTINATION, *RESERVED})
_NO_DATA = _OWN - {"language"}
"""The columns that the job has itself, so they are not stored as its data."""


@dataclass(slots=True)
class RowValues:
    """The values of one row. Texts are trimmed; empty and null values are not in `reserved`.

    `variables` is the dictionary of the row: every column but the reason of a reject, under its folded name.
    """

    reserved: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, object] = field(default_factory=dict[str, object])
    data: dict[str, object] = field(default_factory=dict[str, object])
    """The part of the dictionary that is stored with the call: the columns that the job does not have itself."""
    body: dict[str, object] = field(default_factory=dict[str, object])
    nested: set[str] = field(default_factory=set[str])
    """The columns in `data` whose values are arrays or objects, written as JSON. No text can be made of them."""
    problems: list[tuple[str, int | None, str]] = field(default_factory=list[tuple[str, int | None, str]])
    """A tuple (column, 8x8 code, message) for each value that cannot be used."""
    further: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The further numbers of the person that have a value, each with its column, in their order."""

    def take_problems(self, raw: RawRow, numbers: str) -> None:
        """Take what was wrong with cells of the row when they were read. `numbers` is the column of the destination."""
        for column, message in raw.problems:
            name = DESTINATION if row_name(column or "") == numbers else column or ""
            self.problems.append((name, raw.code, message))
            self.variables.pop(row_name(name), None)
            if name == DESTINATION:
                self.variables.pop(numbers, None)  # the same cell, under its own name

    def take_further_numbers(self, columns: Iterable[str]) -> None:
        """Take the further numbers from these columns. They stay in the dictionary too."""
        wrong = {row_name(column) for column, _, _ in self.problems}
        for name in columns:
            if name in wrong:
                continue  # the cell has a finding
            if text := _checked_text(self, name, self.variables.get(name), is_number=True):
                self.further.append((name, text))


TO_THE_END: Final = sys.maxsize
"""The last row of a range such as `5-`."""


def range_text(first: int, last: int) -> str:
    """A range of rows as people type it: `7`, `12-14` or `5-`."""
    return f"{first}" if first == last else f"{first}-{'' if last == TO_THE_END else last}"


class Filter(NamedTuple):
    """The rows in whose column the cell has a value; with `is_not`, those in which it has another, or none."""

    column: str
    value: str
    is_not: bool = False

    @property
    def asks_yes_or_no(self) -> bool:
        """Whether the value means yes or no. A single letter may be a code."""
        return len(self.value) > 1 and isinstance(meaning_of(self.value), bool)

    def __str__(self) -> str:
        """The filter as people type it."""
        return f"{self.column}{'!=' if self.is_not else '='}{self.value}"


_NO_FILTER = re.compile(r"!.*|.*[!<>~^*|]", re.DOTALL)
"""What no column is called: `!Status`, and what is left of `Status>=`. Folded names would lose these signs."""


def filters_in(text: str, *, only: bool = False) -> tuple[Filter, ...]:
    """The filters in a text such as `Status=Deceased, Booked!=yes`. Raises InvalidInputError for any other text.

    With `only`, they name the rows to call: of several `!=` for one column, all must hold.
    """
    found: list[Filter] = []
    for name, value in pairs_in(text, example="Do Not Call=TRUE, or as Status!=Booked"):
        each = Filter(name.removesuffix("!").rstrip(), value, name.endswith("!"))
        if not each.column or _NO_FILTER.fullmatch(each.column) or value[0] in "=!":
            raise InvalidInputError(
                f"{f'{name}={value}'[:60]!r} is no filter: write Status=Booked for the rows with this value, or "
                "Status!=Booked for those with another or none"
            )
        same = (known for known in found if row_name(known.column) == row_name(each.column) if not only)
        if both := next((known for known in same if _have_all_rows(known, each)), None):
            raise InvalidInputError(f"{both} and {each} together are all rows: give one of them, or name the values")
        found.append(each)
    return tuple(found)


def _have_all_rows(one: Filter, other: Filter) -> bool:
    """Whether each row is one of the one or of the other, which are of the same column."""
    is_same = meaning_of(one.value) == meaning_of(other.value)
    return not is_same if one.is_not and other.is_not else is_same and one.is_not is not other.is_not


_NOTHING_SAID = re.compile(r"\W|^n/?a$")
"""What nobody means by yes, no or another value: -, N/A."""


def _held(cell: object, wanted: str) -> tuple[str, object, bool]:
    """What a cell says, what it means, and whether that is the wanted value."""
    meant = "" if is_missing(cell) else meaning_of(cell)
    said = "" if isinstance(meant, str) and not _NOTHING_SAID.sub("", meant) else str(cell)
    are_letters = len(said) == len(wanted) == 1 and said.isalpha()
    is_held = said.casefold() == wanted.casefold() if are_letters else meant == meaning_of(wanted)
    return said, meant, is_held


class LeftOut:
    """The rows that nobody is called for, by the fields `leave_out` and `only`, or by their numbers within `ranges`.

    `columns` are those that are renamed: they may be named by either name. It is false if it leaves out no row at all.
    """

    _SIGNS = re.compile(r"""[*|;=^]|\w\?|^[<>~]|^/.+/|[^\d\s]%|^["'\u2018-\u201f«].*["'\u2018-\u201f»]$""")
    """What a pattern, a list or a quotation has, and a value that is compared whole has only if a cell has it too."""
    _MOST_FOUND = 8

    def __init__(
        self,
        leave_out: str | None,
        ranges: Sequence[tuple[int, int]],
        columns: Mapping[str, str],
        *,
        only: str | None = None,
    ) -> None:
        renamed = {row_name(column): name for name, column in columns.items() if row_name(column) not in columns}

        def named(found: Iterable[Filter]) -> list[Filter]:
            return [each._replace(column=renamed.get(row_name(each.column), each.column)) for each in found]

        self._filters = named(() if leave_out is None else filters_in(leave_out))
        wanted = named(() if only is None else filters_in(only, only=True))
        self._only = {row_name(each.column): [o for o in wanted if o.column == each.column] for each in wanted}
        """The filters of the rows to call, by column. Of the values of each, the cell has one, and none after !=."""
        self._unheld: dict[Filter, None] = dict.fromkeys(each for each in wanted if not each.is_not)
        """Those of them whose value no cell has held so far."""
        self._ranges = ranges
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(each.column for each in (*self._filters, *wanted)))
        self._idle: dict[tuple[int, int] | Filter, None] = dict.fromkeys(
            (*ranges, *(each for each in self._filters if each.is_not or not each.asks_yes_or_no))
        )
        """What has left out no row so far; of filters, those whose value no cell holds. That nobody has said no is
        nothing to tell."""
        self._found: dict[Filter, dict[str, None]] = {
            each: {} for each in self._filters if self._SIGNS.search(each.value)
        }
        """The first values of the columns, of filters that may be meant as patterns."""
        self._silent, self._called = SeenKeys(), SeenKeys()
        """The numbers of the rows that are left out, and of those that are called."""

    def __bool__(self) -> bool:
        return bool(self._filters or self._ranges or self._only)

    def why(self, row: int, values: RowValues | None) -> tuple[str | None, str] | None:
        """The column that leaves this row out, if it is one, and why; None for other rows."""
        found: tuple[str | None, str] | None = None
        for rows in self._ranges:
            if rows[0] <= row <= rows[1]:
                self._idle.pop(rows, None)
                found = None, "this row is left out, as leave_out_rows says"
        if values is None:
            return found
        for each in self._filters:
            column, is_not = each.column, each.is_not
            if row_name(column) not in values.variables:
                continue  # which is told
            said, meant, is_held = _held(values.variables[row_name(column)], each.value)
            if is_held:
                self._idle.pop(each, None)
            elif each in self._found and said and len(self._found[each]) < self._MOST_FOUND:
                self._found[each][said[:40]] = None
            if is_held is not is_not:
                told = f"holds {said[:40]!r}" if said else "is empty"
                found = found or (column, f"{told}, so this row is left out")
            elif said and not is_not and each.asks_yes_or_no and meant not in {False, True}:
                told = f"{said[:40]!r} is neither yes nor no, which leave_out asks for: write one, or leave it out too"
                if row_name(column) not in [row_name(each) for each, _, _ in values.problems]:
                    values.problems.append((column, None, told))
        return self._why_not_wanted(values) if found is None else found

    def _why_not_wanted(self, values: RowValues) -> tuple[str, str] | None:
        """The column whose cell is none of those to call, and why; None for rows to call."""
        for name, filters in self._only.items():
            if name not in values.variables:
                continue  # which is told
            said, held = "", set[Filter]()
            for each in filters:
                said, _, is_held = _held(values.variables[name], each.value)
                if is_held:
                    held.add(each)
                    self._unheld.pop(each, None)
            chosen = [each for each in filters if not each.is_not]
            if any(each.is_not for each in held) or (chosen and not held):
                asked = (" or " if chosen else " and ").join(map(str, filters))
                told = f"holds {said[:40]!r}" if said else "is empty"
                return filters[0].column, f"{told}, and only {asked} is called"
        return None

    def add(self, row: int, numbers: Iterable[str], *, is_called: bool = False) -> None:
        """Add the numbers of a row that is left out, or called."""
        for number in numbers:
            (self._called if is_called else self._silent).first(telephone_of(number), row=row, digest="0")

    def told(self) -> Iterator[tuple[int | None, str]]:
        """What is told when all rows are read: people who are called by another row, and what has left out nobody."""
        if both := self._called.also_in(self._silent):
            row, other = min(both)
            message = (
                f"{count_of(len(both), 'number')} would be called although another row with the number is left out, "
                f"such as that of row {row}, which row {other} leaves out. If they are the same people, "
                f"{Remedy.LEAVE_OUT_ROWS}"
            )
            yield row, message
        for wanted in self._unheld:
            why = f"no cell of {wanted.column} holds {wanted.value!r}"
            yield None, f"only {wanted} calls nobody: {why}; compare it with the list"
        for each in self._idle:
            if isinstance(each, Filter) and self._found.get(each):
                continue  # which is wrong
            what = str(each) if isinstance(each, Filter) else f"leave_out_rows {range_text(*each)}"
            rows = (
                "each row, since no cell is so" if isinstance(each, Filter) and each.is_not else "no row of this list"
            )
            yield None, f"{what} leaves out {rows}: compare it with the list"

    def wrong(self) -> tuple[str, str] | None:
        """A column with what is wrong with its filter, when all rows are read: a pattern whose value no cell holds."""
        each = next((each for each, found in self._found.items() if found and each in self._idle), None)
        if each is None:
            return None
        found = ", ".join(map(repr, self._found[each]))
        return each.column, (
            f"leave_out {each}: no cell of {each.column} holds {each.value!r}, and a value is compared whole, never as "
            f"a pattern. Write each value as it stands, such as {each._replace(value=next(iter(self._found[each])))}; "
            f"the column holds {found}"
        )


class CsvValues:
    """The reader of the values of a table's rows. It parses the header once.

    A column of numbers that has another name than `destination` is kept under that name too.
    """

    def __init__(self, columns: Sequence[str], number_column: str | None = None) -> None:
        self._reserved = [(index, name) for index, name in enumerate(columns) if name in _OWN]
        self._variables = [(index, row_name(name)) for index, name in enumerate(columns) if name and name != NOT_READ]
        if number_column is not None and (own := row_name(number_column)) not in _OWN:
            self._variables.append((columns.index(DESTINATION), own))
        self._data = [
            (index, name) for index, name in self._variables if is_own_word(columns[index]) or name not in _NO_DATA
        ]
        self.variables: frozenset[str] = frozenset(variable for _, variable in self._variables)

    def __call__(self, raw: RawRow) -> RowValues:
        """The values of a row. The row must have as many cells as the header."""
        cells = list(map(shown, raw.cells))
        return RowValues(
            reserved={name: cells[index] for index, name in self._reserved if cells[index]},
            variables={name: cells[index] for index, name in self._variables},
            data={name: cells[index] for index, name in self._data},
            problems=[
                (name, None, _no_value(cells[index]))
                for index, name in self._reserved
                if cells[index] and is_missing(cells[index])
            ],
        )


def json_values(
    raw: RawRow, *, is_body: bool, number_column: str | None = None, may_be_reject: bool = True
) -> RowValues:
    """The values of a JSON object: a row, or, if `is_body`, a request body that may have reserved columns."""
    values = RowValues()
    numbers = row_name(number_column) if number_column is not None else None
    for place, (key, given) in enumerate(raw.data.items()):
        if key == REASON and (is_body or (may_be_reject and not place)):
            continue  # why the row was rejected
        try:
            value = given if is_body and key not in _OWN else _exact(given)
        except UnspeakableError as error:
            values.problems.append((key, None, str(error)))
            continue
        is_number = not is_body and row_name(key) == numbers
        name = key if is_body else DESTINATION if is_number else canonical_name(key)
        if name in _OWN:
            _take_reserved(values, name, value)
        elif is_body:
            values.body[key] = value
        if is_body:
            continue
        name = row_name(name)
        if name in values.variables:
            values.problems.append((key, None, f"is twice in the row, as {name}; rename or remove one"))
        values.variables[name] = value
        if is_number:
            name = row_name(key)  # kept under its own name too
            values.variables[name] = value
        if is_own_word(key) or name not in _NO_DATA:
            # The job's data is flat: a nested value becomes a JSON text.
            is_flat = value is None or isinstance(value, str | int | float)
            if not is_flat:
                values.nested.add(name)
            values.data[name] = value if is_flat else json.dumps(value, ensure_ascii=False)
    return values


def part_of(data: Mapping[str, object], path: str) -> object:
    """The part of a row that a path such as `contact.phone` names; None if there is none."""
    found: object = data
    for name in map(row_name, path.split(".")):
        found = next((each for key, each in found.items() if row_name(key) == name), None) if is_object(found) else None
    return found


def _exact(value: object) -> object:
    """A value of JSON with texts as they are shown, exact numbers, and null for NaN. Raises UnspeakableError."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, float):
        return None if is_missing(value) else exact_number(value)
    if is_object(value):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if is_list(value) else value


def _no_value(text: str) -> str:
    return f"holds {text!r}, which programs write for a missing value; leave it empty, or write the value"


def write_dates_out(values: RowValues, order: DateOrder) -> None:
    """Write the dates in the times and in the own columns of a row as 2030-01-31, in place."""
    wrong: dict[str, str] = {}
    for texts in (values.reserved, values.variables, values.data):
        for name, value in texts.items():
            if isinstance(value, str) and (name not in _OWN or name in _TIMES):
                try:
                    texts[name] = with_iso_date(value, order)
                except ValueError as error:
                    wrong[name] = str(error)
    values.problems += [(name, None, message) for name, message in wrong.items()]


def _take_reserved(values: RowValues, name: str, value: object) -> None:
    if text := _checked_text(values, name, value, is_number=name == DESTINATION):
        values.reserved[name] = text


def _checked_text(values: RowValues, name: str, value: object, *, is_number: bool) -> str:
    """The text of a reserved value, or of a number to call; empty if it has none, or if it is now a problem."""
    match value:
        case None:
            return ""
        case str():
            if not value or not is_missing(value):
                return value
            problem: tuple[int | None, str] = None, _no_value(value)
        case float() if (is_number or name == "source") and not value.is_integer():
            wrong = f"holds {value}, which is not a phone number; write the number as a text"
            problem = -1017 if is_number else -1009, wrong
        case int() | float() if not isinstance(value, bool):
            return str(value)
        case _ if is_list(value) and is_number:
            problem = -1011, "holds several numbers; give each a call of its own"
        case _:
            problem = -1009, f"should be a text, not {describe(value)}"
    values.problems.append((name, problem[0], problem[1]))
    return ""


def is_used(name: str, variables: Mapping[str, object] | frozenset[str]) -> bool:
    """True if a template with these variables uses a column of this name."""
    return row_name(name) in set(map(folded, variables))


FIRST_CALL = "$.callflow[0].params"

_CALLING = frozenset({Action.MAKE_CALL.value})
_SPEAKING = frozenset({Action.SAY.value, Action.SAY_AND_CAPTURE.value})


def complete(
    body: dict[str, Any],
    *,
    destination: str | None,
    source: str | None,
    voice_profile: str | None,
    source_wins: bool = False,
) -> None:
    """Fill in a body in place. An argument of None changes nothing. Malformed parts of the body stay as they are.

    The first call always goes to `destination`: if it went to a number in the template, every row would call that
    number. `source` is used if that call has none; with `source_wins`, it also replaces the call's own source.
    `voice_profile` is used for each text without a voice.
    """
    entries = _own_entries(body)
    if entries and (call := _params(entries[0], _CALLING)) is not None:
        made = dict(call)
        if destination is not None:
            made["destination"] = destination
        if source is not None and (source_wins or _is_empty(made.get("source"))):
            made["source"] = source
        entries[0] = {**entries[0], "params": made}
    if voice_profile is not None:
        for index, spoken in _without_voice(entries):
            entries[index] = {**entries[index], "params": {**spoken, "voiceProfile": voice_profile}}


def write_numbers_out(body: dict[str, Any], *, country: str) -> None:
    """Write the national numbers of a body in E.164 form, in place.

    Malformed numbers stay unchanged, because the later check of the body reports them.
    """
    entries = _own_entries(body)
    for index, entry in enumerate(entries):
        call = _params(entry, _CALLING)
        if call is not None:
            params = {key: _written_out(key, value, country) for key, value in call.items()}
            entries[index] = {**entry, "params": params}


def _own_entries(body: dict[str, Any]) -> list[Any]:
    """The entries of a body's flow, in a new list that replaces the flow; empty for a malformed flow."""
    flow = body.get("callflow")
    if not is_list(flow):
        return []
    entries: list[Any] = list(flow)
    body["callflow"] = entries
    return entries


def _written_out(key: str, value: object, country: str) -> object:
    if key not in {"source", "destination"} or not isinstance(value, str) or is_e164(value):
        return value
    try:
        return read_number(value, country).e164
    except PhoneNumberError:
        return value


def missing_from(body: Mapping[str, object]) -> set[str]:
    """The names of the values that a body needs but lacks: `source`, `voice_profile`, both or none."""
    flow = body.get("callflow")
    if not is_list(flow) or not flow:
        return set()
    call = _params(flow[0], _CALLING)
    missing = {"source"} if call is not None and _is_empty(call.get("source")) else set[str]()
    return missing | {"voice_profile" for _ in _without_voice(list(flow))}


def _without_voice(entries: list[Any]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, entry in enumerate(entries):
        spoken = _params(entry, _SPEAKING)
        if spoken is not None and _is_empty(spoken.get("voiceProfile")):
            yield index, spoken


def _params(entry: object, actions: frozenset[str]) -> Mapping[str, object] | None:
    """The params of an entry whose action is in `actions`; None for other entries and malformed params."""
    if not is_object(entry) or entry.get("action") not in actions:
        return None
    params = entry.get("params")
    if params is None:
        return {}
    return params if is_object(params) else None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
