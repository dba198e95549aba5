"""Files of telephone numbers: tables with columns of numbers, or one number on each line; and what they hold."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from voiceflow_worker.campaigns.lists.columns import (
    DESTINATION,
    NO_ROLES,
    ColumnReader,
    ColumnRoles,
    canonical_name,
    is_number_column,
    lacks_column,
    refuse_numbers_in,
    row_name,
)
from voiceflow_worker.campaigns.lists.filters import Part, RowFilter
from voiceflow_worker.campaigns.lists.input_file import InputFile, encoding_of
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList
from voiceflow_worker.campaigns.lists.source import kind_of, open_list
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Severity, columns_text
from voiceflow_worker.model.flows.values import written
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS
from voiceflow_worker.model.numbers.reading import possible_numbers, read_country, read_number
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of

_SEVERAL_CELLS = ",;\t|"
_AREA_AND_NUMBER = re.compile(r"(\d{2,5})[,;\t|](\d{5,8})")
"""A line of a list that has area codes in a column of their own, and no header, as that of the United States."""
_DIGEST = 32
_CERTAIN = re.compile(r"\+[1-9][0-9]{0,2}[0-9 ().-]{6,20}")


@dataclass(slots=True, kw_only=True)
class NumberFile:
    """The numbers of a `file` in E.164 form, each with the first line that has it, and findings about bad lines.

    `warnings` are about texts that are not certain: all their readings are among the numbers. `is_list` says that it
    has one number on each line.
    """

    file: Path
    digest: str = ""
    """The digest of the file's content, which marks what it puts on the list."""
    country: str | None = None
    is_list: bool = False
    lines: set[int] = field(default_factory=set[int])
    """The lines or rows that were looked at."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[Finding] = field(default_factory=list[Finding])
    warnings: list[Finding] = field(default_factory=list[Finding])
    left_out: int = 0
    """How many rows are left out."""

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return as_stored(printable_line(self.file.name))

    @property
    def rows(self) -> int:
        """How many lines or rows were looked at."""
        return len(self.lines)

    @property
    def in_words(self) -> str:
        """What the file holds, as a clause."""
        left_out = f", {count_of(self.left_out, 'row')} left out" if self.left_out else ""
        return f"{count_of(len(self.numbers), 'number')}{left_out}"

    def as_json(self) -> dict[str, object]:
        """What the file holds, for scripts."""
        return {"rows": self.rows, "numbers": len(self.numbers), "left_out": self.left_out}

    @property
    def bad_in_words(self) -> str:
        """The number of bad lines as a clause, such as `1 of 2 lines is not a number`."""
        bad = len(self.findings)
        are = "is not a number" if bad == 1 else "are not numbers"
        return f"{bad} of {count_of(self.rows, 'line')} {are}"

    def read(self, row: int, text: str = "", *, home: str = "", line: str = "", problem: str | None = None) -> None:
        """Read a cell: its numbers, or a finding. `home` is the country in its row.

        With a `problem`, the row cannot be read. All numbers in the `line` of such a row are taken.
        """
        self.lines.add(row)
        try:
            if problem is not None:
                raise PhoneNumberError(problem)
            # A number with + is protected whatever its row says of the country.
            country = read_country(home) if home and not text.startswith("+") else self.country
            found, is_certain = possible_numbers(text, country), True
            try:
                read_number(text, country)
            except PhoneNumberError:
                is_certain = False
                if not found:
                    raise
        except InvalidInputError as error:
            self._save(row, line)
            code = error.code if isinstance(error, PhoneNumberError) and problem is None else None
            self.findings.append(Finding(file=str(self.file), row=row, message=str(error), code=code))
            return
        if len(found) > 1 or not is_certain:
            self.warn(row, f"{text[:40]!r} is not certain; on the list: {', '.join(found)}")
        for number in found:
            self.numbers.setdefault(number, row)

    def warn(self, row: int | None, message: str) -> None:
        """Warn of a row, or of all."""
        if row is not None:
            self.lines.add(row)
        self.warnings.append(Finding(file=str(self.file), row=row, severity=Severity.WARNING, message=message))

    def save_lines(self, lines: Iterable[tuple[int, str]], problem: str) -> None:
        """Take all numbers in the lines of a table that cannot be read to its end."""
        for row, line in lines:
            self._save(row, line)
        self.findings.append(Finding(file=str(self.file), message=problem))

    def _save(self, row: int, line: str) -> None:
        for number in possible_numbers(line, self.country):
            self.numbers.setdefault(number, row)


class ListColumns(ColumnReader):
    """The columns of a list of numbers, which need not be called `destination`, nor is one of that name read then."""

    def names(self, header: Sequence[str], *, place: object) -> tuple[str, ...]:
        """The canonical names. Raises CampaignFileError as `found` does, and for a header that cannot be used."""
        found = self.found(header, place=place)
        own = row_name(found.numbers[0])
        others = [f"the other {name}" if row_name(name) == DESTINATION != own else name for name in header]
        return ColumnReader(found).names(others, place=place)

    def found(self, header: Sequence[str], *, place: object) -> ColumnRoles:
        """The roles that count in a list: if no column of numbers is named, the one that is so by its name.

        Raises CampaignFileError if none is, or several are.
        """
        roles, ignored = self.roles, set(map(row_name, self.roles.ignored))
        read = [name for name in map(canonical_name, header) if name and row_name(name) not in ignored]
        numbers = list(roles.numbers) or list(filter(is_number_column, read))
        if not numbers:
            refuse_numbers_in(read, place=place)
            raise CampaignFileError(
                f"{place} has no column whose name suggests phone numbers. Name it (`columns: destination=NAME`). "
                f"Columns found: {', '.join(read) or 'nothing'}.",
                columns=read,
            )
        if len(numbers) > 1 and not roles.numbers:
            raise several_numbers(place, numbers)
        numbers.sort(key=lambda each: row_name(each) != DESTINATION)
        return replace(roles, numbers=(*numbers,), language=None, names={})


def several_numbers(place: object, names: Iterable[str]) -> CampaignFileError:
    """The error for a list that may have its numbers in any of these columns."""
    found = list(names)
    return CampaignFileError(
        f"{place}: several columns look like telephone numbers ({', '.join(found)}). Name one, or each of them "
        f"(`columns: {columns_text([f'{DESTINATION}={found[0]}'])}`).",
        columns=found,
    )


def read_number_file(
    path: Path,
    *,
    roles: ColumnRoles = NO_ROLES,
    country: str | None = None,
    leave_out: str | Sequence[Part] | None = None,
    only: str | Sequence[Part] | None = None,
    sheet: str | None = None,
    header_row: int | None = None,
    encoding: str | None = None,
) -> NumberFile:
    """Read the numbers of a file. Without a + they need a `country`, as of `read_number`.

    It has any format of campaigns, or one number on each line: then its first line is a number, or an area code and a
    number. Of the `roles` of its columns, those of numbers and of the country count; by default, the numbers are in the
    column named destination, phone, number, msisdn or the like, if there is only one. Of several columns, a row needs
    one number at least, and each is taken. Rows are left out as by the options `leave_out` and `only` of a campaign.

    Raises CampaignFileError for a file that cannot be read, or whose numbers may be in several columns, and
    InvalidInputError for an unknown country.
    """
    if country is not None and roles.country is not None:
        raise InvalidInputError("the country and the column of countries exclude each other: give one of them")
    if country is not None:
        country = read_country(country)
    file = InputFile(path)
    kind = kind_of(file)
    if kind is FileKind.JSON:
        raise _json_text(file)
    is_list = kind is FileKind.CSV and roles == NO_ROLES and not (leave_out or only) and _is_list(file, encoding)
    with file.opened() as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:_DIGEST]
    taken = NumberFile(file=path, digest=digest, country=country, is_list=is_list)
    if is_list:
        for number, text in _lines(file, encoding):
            taken.read(number, _AREA_AND_NUMBER.sub(r"\1 \2", text), line=text)
    else:
        columns = ListColumns(roles)
        source = open_list(file, kind=kind, sheet=sheet, columns=columns, header_row=header_row, encoding=encoding)
        header = source.header or next((raw.names for raw in source if raw.names), ())
        found = columns.found(header, place=path)
        if found.country is not None and row_name(found.country) not in map(row_name, header):
            raise lacks_column(found.country, header, place=path)
        columns = ListColumns(found)
        source = open_list(file, kind=kind, sheet=sheet, columns=columns, header_row=header_row, encoding=encoding)
        filters = RowFilter(leave_out, {}, only=only)
        try:
            _take_rows(source, filters, found, taken, is_named=bool(roles.numbers))
        except CampaignFileError as error:
            if kind is not FileKind.CSV or error.columns:
                raise
            taken.save_lines(_lines(file, encoding), str(error))
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
    """True if the first line of the file is a number instead of a header."""
    with closing(_lines(file, encoding)) as lines:
        text = next((text for _, text in lines), None)
    if text is not None:
        if text.startswith(("{", "[{", '["')) or text == "[":
            raise _json_text(file)
        digits = sum(map(str.isdigit, text))
        is_one = not any(mark in text for mark in _SEVERAL_CELLS) or _AREA_AND_NUMBER.fullmatch(text) is not None
        return digits >= FEWEST_DIGITS and is_one
    raise CampaignFileError(f"{file} is empty; write one number on each line, or a CSV file with a column of numbers")


def _json_text(path: object) -> CampaignFileError:
    return CampaignFileError(
        f"{path} is JSON text, and a list of numbers is read from a table, JSON lines or a text; write its numbers, "
        "one on each line (such as by jq -r '.[].phone')"
    )


def _take_rows(source: OpenList, filters: RowFilter, roles: ColumnRoles, taken: NumberFile, *, is_named: bool) -> None:
    """Take the numbers of all rows; `is_named` says that somebody named their columns. Raises CampaignFileError."""
    home, numbers = row_name(roles.country or ""), [*map(row_name, roles.numbers)]
    known, seen = {*numbers, home, *map(row_name, roles.ignored)}, set[tuple[str, ...]]()
    for row in source:
        names = [name.strip() for name in row.names or source.header]
        cells = {
            row_name(name): written(cell) for name, cell in zip(names, row.cells, strict=False) if cell is not None
        }
        line = row.text or ", ".join(map(str, row.cells))
        wrong = {DESTINATION if name is None else row_name(name): why for name, why in row.problems}
        wrong |= {numbers[0]: wrong.pop(DESTINATION)} if DESTINATION in wrong else {}
        if row.names not in seen:
            filters.read(row.names or source.header, key=row.names, place=str(taken.file))
            seen.add(row.names)
        if filters.reason(row) is not None:
            taken.left_out += 1
            continue
        # A number that somebody wrote with + is one, whatever the name of its column.
        certain = {
            name for name in names if row_name(name) not in known and _CERTAIN.fullmatch(cells.get(row_name(name), ""))
        }
        if certain and not is_named:
            both = [name for name in names if name in certain or row_name(name) in numbers]
            raise several_numbers(f"{taken.file}, line {row.number}", both)
        for problem in (why for name, why in wrong.items() if name in numbers):
            taken.read(row.number, line=line, problem=problem)
        found = [cells[name] for name in numbers if cells.get(name) and name not in wrong]
        for each in found or ([] if wrong.keys() & {*numbers} else [""]):
            taken.read(row.number, each, home=cells.get(home, ""), line=line)
    for message in filters.unused():
        taken.warn(None, message)
