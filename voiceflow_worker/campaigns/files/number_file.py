"""Files of telephone numbers: a CSV file with a column of numbers, or one number on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import InputFile, read_lines
from voiceflow_worker.campaigns.files.rows import DESTINATION, canonical_name, near_destination
from voiceflow_worker.errors import CampaignFileError, PhoneNumberError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS, parse_number
from voiceflow_worker.model.text.wording import count_of, folded

_SEVERAL_CELLS = ",;\t|"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFile:
    """The numbers of a file in E.164 form, each with the first line that has it, and findings about bad lines.

    `warnings` are about numbers that no numbering plan knows, and numbers with two readings.
    """

    rows: int
    numbers: Mapping[str, int]
    findings: Sequence[Finding]
    warnings: Sequence[Finding] = ()

    @property
    def bad_in_words(self) -> str:
        """The number of bad lines as a clause, such as `1 of 2 lines is not a number`."""
        bad = len(self.findings)
        are = "is not a number" if bad == 1 else "are not numbers"
        return f"{bad} of {count_of(self.rows, 'line')} {are}"


def read_number_file(path: Path, *, column: str | None = None, country: str | None = None) -> NumberFile:
    """Read the numbers of a file, in any usual spelling. Without + or 00 they need a `country`, as of `parse_number`.

    A CSV has a header, and a `column` of numbers; the default is a column named destination, phone, number, msisdn or
    the like. A file whose first line is a number has one number on each line and no header. Raises CampaignFileError
    for a file that cannot be read, and InvalidInputError for an unknown country.
    """
    cells = _listed(path) if column is None and _is_list(path) else _column(path, column)
    rows = 0
    numbers: dict[str, int] = {}
    findings: list[Finding] = []
    warnings: list[Finding] = []
    for row, text, problem in cells:
        rows += 1
        try:
            if problem is not None:
                raise PhoneNumberError(problem)
            number = parse_number(text, country=country, guesses=False)
            numbers.setdefault(number.e164, row)
            warnings += [
                Finding(file=str(path), row=row, severity=Severity.WARNING, message=message)
                for message in number.messages
            ]
        except PhoneNumberError as error:
            code = None if problem is not None else error.code
            remedy = next(iter(error.remedies), None)
            findings.append(Finding(file=str(path), row=row, message=str(error), code=code, remedy=remedy))
    return NumberFile(rows=rows, numbers=numbers, findings=findings, warnings=warnings)


def _is_list(path: Path) -> bool:
    """True if the first line of the file is a number instead of a header."""
    for line in islice(read_lines(InputFile(path)), 50):
        if text := line.text.strip():
            digits = sum(map(str.isdigit, text))
            return digits >= FEWEST_DIGITS and not any(mark in text for mark in _SEVERAL_CELLS)
    raise CampaignFileError(f"{path} is empty; write one number on each line, or a CSV file with a column of numbers")


def _listed(path: Path) -> Iterator[tuple[int, str, str | None]]:
    for line in read_lines(InputFile(path)):
        if text := line.text.strip():
            yield line.number, text, line.problem


def _column(path: Path, wanted: str | None) -> Iterator[tuple[int, str, str | None]]:
    rows = CsvRows(InputFile(path), judge=lambda names: _header_problem(names, wanted))
    place = _place(rows.columns, wanted)
    for raw in rows:
        problem = next((message for _, message in raw.problems), None)
        text = raw.cells[place].strip() if place is not None and place < len(raw.cells) else ""
        yield raw.number, text, problem


def _header_problem(names: Sequence[str], wanted: str | None) -> str | None:
    shown = ", ".join(filter(None, names)) or "nothing"
    if _place(names, wanted) is not None:
        return None
    if wanted is not None:
        return f"has no column {wanted!r}; columns found: {shown}"
    return f"has no column whose name suggests phone numbers; name the column of numbers; columns found: {shown}"


def _place(names: Sequence[str], wanted: str | None) -> int | None:
    if wanted is not None:
        asked = folded(canonical_name(wanted))
        return next((place for place, name in enumerate(names) if folded(name) == asked), None)
    if DESTINATION in names:
        return names.index(DESTINATION)
    near = near_destination(name for name in names if name)
    return names.index(near) if near is not None else None
