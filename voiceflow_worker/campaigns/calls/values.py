"""The values of a row as they are read from its cells, and its key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from voiceflow_worker.campaigns.lists.columns import DESTINATION, RESERVED, UNIQUE_KEY, Column, Role, row_name
from voiceflow_worker.campaigns.lists.rows import error_in
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import UnspeakableError, describe, exact_number, is_missing
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.times import DateOrder, with_iso_date


def number_key(batch_id: str, number: str) -> str:
    """Return the key of a row without its own: a digest of its batch and its first number. It reveals neither."""
    return f"number-{_digest(batch_id, phone_identity(number))}"


def joined_key(values: Iterable[str]) -> str:
    """Return the key of a row that several columns distinguish: a digest of their values."""
    return f"row-{_digest(*values)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


_WHOLE = re.compile(r"\d+\.0+")  # as a data frame writes whole numbers in a column with gaps
_NO_DATES = frozenset({DESTINATION, *RESERVED}) - {"not_before", "valid_until"}
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
        """Return whether the row has an error about the cell in this column, in any spelling of the name."""
        return bool(self.wrong) and column is not None and row_name(column) in self.wrong

    @property
    def is_bad(self) -> bool:
        """True if the row has an error."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    @property
    def unique_key(self) -> str | None:
        """Unique key that the row names, in one spelling, whichever program wrote it; None without one."""
        text = self.reserved.get(UNIQUE_KEY)
        return None if text is None else usual_key(text.partition(".")[0] if _WHOLE.fullmatch(text) else text)

    def take(self, column: Column, cell: object) -> None:
        """Take the cell of a column."""
        key, role, value = column.key, column.role, cell
        if role is Role.BODY:
            self.body[column.written] = cell
            return
        if isinstance(cell, str):
            value = cell.strip()
            if value[:1] in _SIGNS and (problem := error_in(value)) is not None:
                self.error(problem, column=key)
                return
        elif isinstance(cell, float):
            try:
                value = None if is_missing(cell) else exact_number(cell)
            except UnspeakableError as error:
                self.error(str(error), column=key)
                return
        if role is not Role.DATA and (text := self.checked_text(key, value, is_number=role is Role.NUMBER)):
            self.reserved[key] = text
        elif not isinstance(value, str | int | float | None) and key not in self.wrong:
            self.error(f"holds {describe(value)}. Give its parts columns of their own, or ignore it.", column=key)
        self.variables[key] = value
        if column.alias:
            self.variables[column.alias] = value
        if column.is_kept:
            self.data[column.alias or key] = value

    def checked_text(self, name: str, value: object, *, is_number: bool) -> str:
        """Return the text of a reserved value, or of a number; empty if there is none, or if it is now an error."""
        match value:
            case None:
                return ""
            case str() if not value or not is_missing(value):
                return value
            case str():
                code = None
                problem = f"holds {value!r}, which programs write for a missing value. Leave it empty, or write it."
            case float() if (is_number or name == "source") and not value.is_integer():
                code = -1017 if is_number else -1009
                problem = f"holds {value}, which is not a phone number; write the number as a text"
            case int() | float() if not isinstance(value, bool):
                return str(value)
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
                if isinstance(value, str) and name not in _NO_DATES:
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
