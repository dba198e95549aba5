"""Files of telephone numbers: tables with columns of numbers, or one number on each line; and what they hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from voiceflow_worker.campaigns.calls.filters import Part
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.columns import ListColumns, several_numbers
from voiceflow_worker.campaigns.files.damage import shown
from voiceflow_worker.campaigns.files.formats import kind_of, open_source
from voiceflow_worker.campaigns.files.input_file import InputFile, read_lines
from voiceflow_worker.campaigns.files.rows import DESTINATION, NO_ROLES, ColumnRoles, FileKind, row_name
from voiceflow_worker.campaigns.shape import proposed
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Remedy, Severity, message_of, tell
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
            why = message_of(error)
            if why.kind == "no_country" and not self.is_list:
                why = tell("no_country", remedy=Remedy.NAME_COUNTRIES, **why.values)
            self.findings.append(Finding(file=str(self.file), row=row, message=why, code=code))
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

    def _save(self, row: int, line: str) -> None:
        for number in possible_numbers(line, self.country):
            self.numbers.setdefault(number, row)


def read_number_file(
    path: Path,
    *,
    roles: ColumnRoles = NO_ROLES,
    country: str | None = None,
    leave_out: str | Sequence[Part] | None = None,
    only: str | Sequence[Part] | None = None,
    sheet: str | None = None,
    header_row: int | None = None,
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
        raise _json_text(path)
    is_list = kind is FileKind.CSV and roles == NO_ROLES and not (leave_out or only) and _is_list(path)
    with file.opened_raw() as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:_DIGEST]
    taken = NumberFile(file=path, digest=digest, country=country, is_list=is_list)
    if is_list:
        for number, line, problem in read_lines(file, is_table=True):
            if text := line.strip():
                taken.read(
                    number,
                    _AREA_AND_NUMBER.sub(r"\1 \2", text),
                    line=text,
                    problem=problem,
                )
    else:
        columns = ListColumns(roles)
        try:
            source = open_source(file, kind=kind, sheet=sheet, columns=columns, header_row=header_row)
        except CampaignFileError as error:
            raise proposed(error, file, sheet=sheet, header_row=header_row) from error.__cause__
        header = source.header or next((raw.names for raw in source if raw.names), ())
        found = columns.found(header, place=path)
        options = CampaignOptions(
            template=FlowTemplate.without_text(), source=PLACEHOLDER, batch_id="-", columns=found.as_table(),
            leave_out=leave_out, only=only, sheet=sheet, header_row=header_row,
        )  # fmt: skip
        rows = CampaignRows(file, options, now=datetime.now(UTC), checks=True, reader=ListColumns(found))
        _take_rows(rows, found, taken, is_named=bool(roles.numbers))
    return taken


def _is_list(path: Path) -> bool:
    """True if the first line of the file is a number instead of a header."""
    for _, line, _ in islice(read_lines(InputFile(path), is_table=True), 50):
        if text := line.strip():
            if text.startswith(("{", "[{", '["')) or text == "[":
                raise _json_text(path)
            digits = sum(map(str.isdigit, text))
            is_one = not any(mark in text for mark in _SEVERAL_CELLS) or _AREA_AND_NUMBER.fullmatch(text) is not None
            return digits >= FEWEST_DIGITS and is_one
    raise CampaignFileError(f"{path} is empty; write one number on each line, or a CSV file with a column of numbers")


def _json_text(path: Path) -> CampaignFileError:
    return CampaignFileError(
        f"{path} is JSON text, and a list of numbers is read from a table, JSON lines or a text; write its numbers, "
        "one on each line (such as by jq -r '.[].phone')"
    )


def _take_rows(rows: CampaignRows, roles: ColumnRoles, taken: NumberFile, *, is_named: bool) -> None:
    """Take the numbers of all rows; `is_named` says that somebody named their columns. Raises CampaignFileError."""
    home = row_name(roles.country or "")
    numbers = set(map(row_name, roles.numbers))
    known = {*numbers, home, *map(row_name, roles.ignored)}
    matters = {DESTINATION, *known, *map(row_name, rows.left_out.columns)}
    for raw, draft in map(rows.drafted, rows.source):
        text = raw.text or ", ".join(map(str, raw.cells))
        if draft is None:
            taken.read(raw.number, line=text, problem=next(why for name, why in raw.problems if name is None))
            continue
        if rows.left_out.why(raw, draft) is not None:
            taken.left_out += 1
            continue
        wrong = [found for found in draft.findings if row_name(found.column or "") in matters]
        for problem in wrong:
            taken.read(raw.number, line=text, problem=problem.message)
        names = [name.strip() for name in raw.names or rows.source.header]
        others = ((name, cell) for name, cell in zip(names, raw.cells, strict=False) if row_name(name) not in known)
        # A number that somebody wrote with + is one, whatever the name of its column.
        certain = {name for name, cell in others if _CERTAIN.fullmatch(shown(str(cell)))}
        if certain and not is_named:
            both = [name for name in names if name in certain or row_name(name) in numbers]
            raise several_numbers(f"{rows.file}, line {raw.number}", both)
        found = [*filter(None, [draft.reserved.get(DESTINATION)]), *(number for _, number in draft.further)]
        country = "" if (cell := draft.variables.get(home)) is None else str(cell)
        for each in found or ([] if wrong else [""]):
            taken.read(raw.number, each, home=country, line=text)
    if (why := rows.left_out.wrong()) is not None:
        raise CampaignFileError(f"{rows.file}: {why[1]}", [Finding(file=rows.file, message=why[1])])
    for told in rows.left_out.told():
        taken.warn(None, told)
