"""Read files of telephone numbers that are not to be called: tables, JSON lines, or one number on each line."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from voiceflow_worker.campaigns.lists.columns import (
    COUNTRY,
    DESTINATION,
    NO_ROLES,
    ColumnRoles,
    is_number_column,
    lacks_column,
    refuse_numbers_in,
    row_name,
)
from voiceflow_worker.campaigns.lists.filters import Part, RowFilter
from voiceflow_worker.campaigns.lists.input_file import InputFile, encoding_of
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row
from voiceflow_worker.campaigns.lists.source import kind_of, open_list
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Severity, columns_text
from voiceflow_worker.model.flows.values import written
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS
from voiceflow_worker.model.numbers.reading import possible_numbers, read_country, read_number
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of

_DIGEST = 32
_CERTAIN = re.compile(r"\+[1-9][0-9]{0,2}[0-9 ().-]{6,20}")


@dataclass(slots=True, kw_only=True)
class NumberFile:
    """The numbers of a `file` in E.164 form, each with the first line that has it, and findings about bad lines.

    `warnings` are about texts that are not certain: all their readings are among the numbers. The `digest` of the
    content marks what the file puts on the list.
    """

    file: Path
    digest: str = ""
    country: str | None = None
    lines: set[int] = field(default_factory=set[int])
    """The lines or rows that were looked at."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[Finding] = field(default_factory=list[Finding])
    warnings: list[Finding] = field(default_factory=list[Finding])
    left_out: int = 0
    """How many rows are left out."""

    @property
    def name(self) -> str:
        """File's name, without its folders."""
        return as_stored(printable_line(self.file.name))

    @property
    def rows(self) -> int:
        """Number of lines or rows that were looked at."""
        return len(self.lines)

    @property
    def in_words(self) -> str:
        """Content of the file, as a clause."""
        left_out = f", {count_of(self.left_out, 'row')} left out" if self.left_out else ""
        return f"{count_of(len(self.numbers), 'number')}{left_out}"

    def as_json(self) -> dict[str, object]:
        """Return what the file holds, for scripts."""
        return {"rows": self.rows, "numbers": len(self.numbers), "left_out": self.left_out}

    @property
    def bad_in_words(self) -> str:
        """Number of bad lines as a clause, such as `1 of 2 lines is not a number`."""
        bad = len(self.findings)
        return f"{bad} of {count_of(self.rows, 'line')} {'is not a number' if bad == 1 else 'are not numbers'}"

    def read(self, row: int, text: str, *, home: str = "", line: str) -> None:
        """Read a cell: its numbers, or a finding. `home` is the country in its row."""
        self.lines.add(row)
        is_certain = True
        try:
            # A number with + is protected whatever its row says of the country.
            country = read_country(home) if home and not text.startswith("+") else self.country
            found = possible_numbers(text, country)
            try:
                read_number(text, country)
            except PhoneNumberError:
                is_certain = False
                if not found:
                    raise
        except InvalidInputError as error:
            self.refuse(row, line, str(error), code=error.code if isinstance(error, PhoneNumberError) else None)
            return
        if len(found) > 1 or not is_certain:
            self.warn(f"{text[:40]!r} is not certain; on the list: {', '.join(found)}", row=row)
        self.save(row, found)

    def refuse(self, row: int, line: str, message: str, *, code: int | None = None) -> None:
        """Note that a line is not one number. All that its text may hold are taken."""
        self.lines.add(row)
        self.save(row, possible_numbers(line, self.country))
        self.findings.append(Finding(file=str(self.file), row=row, message=message, code=code))

    def warn(self, message: str, *, row: int | None = None) -> None:
        """Warn of a row, or of the whole file."""
        self.warnings.append(Finding(file=str(self.file), row=row, severity=Severity.WARNING, message=message))

    def save(self, row: int, numbers: Iterable[str]) -> None:
        """Take numbers of a row."""
        for number in numbers:
            self.numbers.setdefault(number, row)


def _roles_in(header: Sequence[str], roles: ColumnRoles, *, place: object) -> ColumnRoles:
    """Return the roles that count in a list: if no column of numbers is named, the one that is so by its name.

    Raises CampaignFileError if none is, or several are, and for a header that lacks a column.
    """
    ignored, own = {*map(row_name, roles.ignored)}, {*map(row_name, header)}
    read = [name.strip() for name in header if name.strip() and row_name(name) not in ignored]
    numbers = list(roles.numbers) or [*filter(is_number_column, read)]
    refuse_numbers_in(header, place=place)
    if not numbers:
        raise CampaignFileError(
            f"{place} has no column whose name suggests phone numbers. Name it (`columns: destination=NAME`). "
            f"Columns found: {', '.join(read) or 'nothing'}.",
            columns=read,
        )
    if len(numbers) > 1 and not roles.numbers:
        raise _several_numbers(place, numbers)
    names = {name: column for name, column in roles.names.items() if name == COUNTRY}
    for name in (*numbers, *names.values()):
        if row_name(name) not in own:
            raise lacks_column(name, header, place=place)
    return replace(roles, numbers=(*numbers,), names=names)


def _several_numbers(place: object, names: Sequence[str]) -> CampaignFileError:
    """Return the error for a list that may have its numbers in any of these columns."""
    return CampaignFileError(
        f"{place}: several columns look like telephone numbers ({', '.join(names)}). Name one, or each of them "
        f"(`columns: {columns_text([f'{DESTINATION}={names[0]}'])}`).",
        columns=names,
    )


def read_number_file(
    path: Path,
    *,
    roles: ColumnRoles = NO_ROLES,
    country: str | None = None,
    leave_out: str | Sequence[Part] | None = None,
    only: str | Sequence[Part] | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
) -> NumberFile:
    """Read the numbers of a file. National ones are in the `country`, or in that of their row.

    A text without a header has one number on each line. Hidden rows count. All numbers that a bad line may hold are
    taken. Raises CampaignFileError for a file that cannot be read, or whose numbers may be in several columns, and
    InvalidInputError for an unknown country.
    """
    if country is not None and roles.country is not None:
        raise InvalidInputError("the country and the column of countries exclude each other: give one of them")
    file = InputFile(path)
    kind = kind_of(file)
    if kind is FileKind.JSON:
        raise _json_text(file)
    with file.opened() as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:_DIGEST]
    taken = NumberFile(file=path, digest=digest, country=country and read_country(country))
    if kind is FileKind.CSV and roles == NO_ROLES and not (leave_out or only) and _is_list(file, encoding):
        for number, text in _lines(file, encoding):
            taken.read(number, text, line=text)
        return taken
    is_number = roles.is_number if roles.numbers else is_number_column
    source = open_list(file, kind=kind, sheet=sheet, is_number=is_number, encoding=encoding)
    header = source.header or next((row.names for row in source if row.names), ())
    found = _roles_in(header, roles, place=path)
    try:
        _take_rows(source, RowFilter(leave_out, only=only), found, taken, is_named=bool(roles.numbers))
    except CampaignFileError as error:
        if kind is not FileKind.CSV or error.columns:
            raise
        for row, line in _lines(file, encoding):
            taken.save(row, possible_numbers(line, taken.country))
        taken.findings.append(Finding(file=str(path), message=str(error)))
    return taken


def _lines(file: InputFile, encoding: str | None) -> Generator[tuple[int, str]]:
    """Yield the number and the text of each line that is not empty. Raises CampaignFileError."""
    found = encoding_of(file, encoding)
    with file.opened() as reader:
        lines = io.TextIOWrapper(reader, encoding=found)
        for number, line in enumerate(lines, 1):
            if text := line.strip():
                yield number, text


def _is_list(file: InputFile, encoding: str | None) -> bool:
    """Return whether the first line of the file is a number instead of a header."""
    with closing(_lines(file, encoding)) as lines:
        text = next((text for _, text in lines), None)
    if text is None:
        raise CampaignFileError(
            f"{file} is empty; write one number on each line, or a CSV file with a column of numbers"
        )
    if text.startswith(("{", "[{", '["')) or text == "[":
        raise _json_text(file)
    return sum(map(str.isdigit, text)) >= FEWEST_DIGITS and not any(mark in text for mark in ",;\t|")


def _json_text(path: object) -> CampaignFileError:
    return CampaignFileError(
        f"{path} is JSON text, and a list of numbers is read from a table, JSON lines or a text; write its numbers, "
        "one on each line (such as by jq -r '.[].phone')"
    )


def _take_rows(source: OpenList, filters: RowFilter, roles: ColumnRoles, taken: NumberFile, *, is_named: bool) -> None:
    """Take the numbers of all rows; `is_named` says that somebody named their columns. Raises CampaignFileError."""
    seen = set[tuple[str, ...]]()
    for row in source:
        if row.names not in seen:
            filters.read(row.names or source.header, key=row.names, place=str(taken.file))
            seen.add(row.names)
        if filters.reason(row) is not None:
            taken.left_out += 1
        else:
            _take_row(row, source.cells_of(row), roles, taken, is_named=is_named)
    for message in filters.unused():
        taken.warn(message)


def _take_row(
    row: Row, written_as: Mapping[str, object], roles: ColumnRoles, taken: NumberFile, *, is_named: bool
) -> None:
    """Take the numbers of a row. Raises CampaignFileError."""
    cells = {row_name(name): written(cell) for name, cell in written_as.items() if cell is not None}
    numbers, home = [*map(row_name, roles.numbers)], row_name(roles.country or "")
    known = {*numbers, home, *map(row_name, roles.ignored)}
    # A number that somebody wrote with + is one, whatever the name of its column.
    certain = [
        name for name in written_as if row_name(name) not in known and _CERTAIN.fullmatch(cells.get(row_name(name), ""))
    ]
    if certain and not is_named:
        raise _several_numbers(f"{taken.file}, line {row.number}", [*roles.numbers, *certain])
    line = row.text or ", ".join(map(str, row.cells))
    wrong = {None if name is None else row_name(name): why for name, why in row.problems}
    problems = [why for name, why in wrong.items() if name is None or name in numbers]
    for problem in problems:
        taken.refuse(row.number, line, problem)
    found = [cells[name] for name in numbers if cells.get(name) and name not in wrong]
    for each in found or ([] if problems else [""]):
        taken.read(row.number, each, home=cells.get(home, ""), line=line)
