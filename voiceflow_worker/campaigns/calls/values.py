"""The values of a row as they are read from its cells, and its key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from voiceflow_worker.campaigns.lists.columns import DESTINATION, RESERVED, Column, Role, row_name
from voiceflow_worker.campaigns.lists.rows import error_in
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import (
    UnspeakableError,
    describe,
    exact_number,
    is_list,
    is_missing,
    is_object,
)
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.times import DateOrder, with_iso_date


def number_key(batch_id: str, number: str) -> str:
    """Return the key of a row without its own: a digest of its batch and its first number. It reveals neither."""
    content = f"{batch_id}\0{phone_identity(number)}".encode("utf-8", "surrogatepass")
    return f"number-{hashlib.sha256(content).hexdigest()[:32]}"


_WHOLE = re.compile(r"\d+\.0+")  # as a data frame writes whole numbers in a column with gaps


def _id_text(text: str) -> str:
    """Return a unique key in one spelling, whichever program wrote it: 7.0 is 7."""
    return usual_key(text.partition(".")[0] if _WHOLE.fullmatch(text) else text)


_OWN = frozenset({DESTINATION, *RESERVED}) - {"not_before", "valid_until"}
"""The columns in which nothing is a date."""
_SIGNS = frozenset("#=E")
"""The first characters of errors and formulas of a spreadsheet."""


@dataclass(slots=True)
class RowValues:
    """The values of a row, and what is wrong with it so far.

    Texts are trimmed. Empty and null values are not `reserved`. `variables` are what texts may speak: every column that
    is read, under its key. `names` are the names of columns in findings, by their keys.
    """

    names: Mapping[str, str]
    reserved: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, object] = field(default_factory=dict[str, object])
    data: dict[str, object] = field(default_factory=dict[str, object])
    """The variables that are stored with the call: the columns that the job does not have itself."""
    body: dict[str, object] = field(default_factory=dict[str, object])
    nested: list[str] = field(default_factory=list[str])
    """The columns in `data` whose values are arrays or objects, written as JSON. No text can be made of them."""
    further: Sequence[tuple[str, str]] = ()
    """The further numbers of the person that have a value, each with its column, in their order."""
    has_dates: bool = True
    findings: list[Finding] = field(default_factory=list[Finding])
    wrong: set[str] = field(default_factory=set[str])
    """The keys of the columns that have an error."""

    def error(
        self,
        message: str,
        *,
        column: str | None,
        path: str | None = None,
        code: int | None = None,
        kind: str | None = None,
    ) -> None:
        """Add an error."""
        self.add(Finding(message=message, kind=kind, column=column, path=path, code=code))

    def add(self, found: Finding) -> None:
        """Add a finding, about a column by its key or its name."""
        if found.column is not None:
            key = row_name(found.column)
            if found.is_error:
                self.wrong.add(key)
            found = replace(found, column=self.names.get(key, found.column))
        self.findings.append(found)

    def is_reported(self, column: str | None) -> bool:
        """True if the row has an error about the cell in this column, in any spelling of the name."""
        return bool(self.wrong) and column is not None and row_name(column) in self.wrong

    @property
    def is_bad(self) -> bool:
        """Whether the row has an error."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    @property
    def unique_key(self) -> str | None:
        """The unique key that the row names; None without one."""
        return _id_text(key) if (key := self.reserved.get("unique_key")) else None

    def take(self, column: Column, cell: object) -> None:
        """Take the cell of a column."""
        key, role = column.key, column.role
        if role is Role.BODY:
            self.body[column.written] = cell
            return
        if isinstance(cell, str):
            value: object = cell.strip()
        else:
            try:
                value = _exact(cell)
            except UnspeakableError as error:
                self.error(str(error), column=column.written)
                return
        if isinstance(value, str) and value[:1] in _SIGNS and (problem := error_in(value)) is not None:
            self.error(problem, column=key or column.name)
            return
        if role is not Role.DATA and (text := self.checked_text(column.name, value, is_number=role is Role.NUMBER)):
            self.reserved[column.name] = text
        if not key:
            return
        if key in self.variables:
            self.error(f"is twice in the row, as {key}; rename or remove one", column=column.written)
        self.variables[key] = value
        if column.alias:
            self.variables[column.alias] = value
        if column.is_kept:
            # The job's data is flat: a nested value becomes a JSON text.
            name = column.alias or key
            if value is not None and not isinstance(value, str | int | float):
                value = json.dumps(value, ensure_ascii=False)
                self.nested.append(name)
            self.data[name] = value

    def checked_text(self, name: str, value: object, *, is_number: bool) -> str:
        """The text of a reserved value, or of a number to call; empty if it has none, or if that is now an error."""
        match value:
            case None:
                return ""
            case str():
                if not value or not is_missing(value):
                    return value
                problem = (
                    f"holds {value!r}, which programs write for a missing value; leave it empty, or write the value"
                )
                self.error(problem, column=name)
                return ""
            case float() if (is_number or name == "source") and not value.is_integer():
                code = -1017 if is_number else -1009
                problem = f"holds {value}, which is not a phone number; write the number as a text"
            case int() | float() if not isinstance(value, bool):
                return str(value)
            case _ if is_list(value) and is_number:
                code, problem = -1011, "holds several numbers; give each a call of its own"
            case _:
                code, problem = -1009, f"should be a text, not {describe(value)}"
        self.error(problem, column=name, code=code)
        return ""

    def take_further_numbers(self, columns: Iterable[str]) -> None:
        """Take the further numbers from these columns. They stay in the variables too."""
        texts = (
            (key, self.checked_text(key, self.variables.get(key), is_number=True))
            for key in columns
            if key not in self.wrong
        )
        self.further = [(key, text) for key, text in texts if text]

    def write_dates_out(self, order: DateOrder) -> None:
        """Write the dates in the times and in the own columns of the row as 2030-01-31."""
        wrong: dict[str, str] = {}
        for texts in (self.reserved, self.variables, self.data):
            for name, value in texts.items():
                if isinstance(value, str) and name not in _OWN:
                    try:
                        texts[name] = with_iso_date(value, order)
                    except ValueError as error:
                        wrong[name] = str(error)
        for name, message in wrong.items():
            self.error(message, column=name)

    def drop_wrong(self) -> None:
        """Leave out the values of columns with an error: they count as missing from here on."""
        for column in self.wrong:
            for texts in (self.reserved, self.variables, self.data):
                texts.pop(column, None)


def part_of(data: Mapping[str, object], path: str) -> object:
    """The part of a row that a path such as `contact.phone` names; None if there is none."""
    found: object = data
    for name in map(row_name, path.split(".")):
        found = next((each for key, each in found.items() if row_name(key) == name), None) if is_object(found) else None
    return found


def _exact(value: object) -> object:
    """A value of JSON with trimmed texts, exact numbers, and null for NaN. Raises UnspeakableError."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return None if is_missing(value) else exact_number(value)
    if is_object(value):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if is_list(value) else value
