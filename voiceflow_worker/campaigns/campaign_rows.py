"""The rows of an open campaign file, one by one, each with its call or its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import cast

from voiceflow_worker.campaigns.calls.options import CampaignOptions, zone_of
from voiceflow_worker.campaigns.calls.row_reader import ReadRow, RowReader
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER
from voiceflow_worker.campaigns.calls.values import RowValues
from voiceflow_worker.campaigns.column_values import ColumnValues, MixedDates
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.campaigns.lists.filters import RowFilter
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row
from voiceflow_worker.campaigns.lists.source import GivenRows, open_list
from voiceflow_worker.campaigns.people import ListedPeople
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.speech_filters import ZONE
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.jobs.job import person_in
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import PersonZone
from voiceflow_worker.model.window import unknown_holidays

_LOOKED_AHEAD = timedelta(days=7)
"""How long after the times from which calls may ring unknown holidays matter."""
_TIMES = ("not_before", "valid_until")
_AT_ONCE = 1000
"""The number of rows that are read together."""


class CampaignRows:
    """The rows of a campaign, each with its call or its errors. They can be iterated only once.

    The rows are `given` as a file, or as an iterable of mappings from columns to values, numbered from 1. Only digests
    of their keys and numbers stay in memory. Validities are compared with `now`; if the file is only read for `checks`,
    one of a single body that has passed is a warning. The constructor and the iteration
    raise CampaignFileError for a file that cannot be read as a campaign (encoding, header, template). The constructor
    raises InvalidInputError for a wrong option. Errors of single rows are in their findings.
    """

    def __init__(
        self,
        given: Path | InputFile | Iterable[Mapping[str, object]],
        options: CampaignOptions | None = None,
        *,
        now: datetime,
        checks: bool = False,
    ) -> None:
        options = _judged(options or CampaignOptions(), now)
        self.input: InputFile | None = (
            InputFile(given) if isinstance(given, Path) else given if isinstance(given, InputFile) else None
        )
        """The file of the rows; None for rows that are given as mappings."""
        self.file: str | None = str(self.input) if self.input is not None else None
        is_number = options.roles.is_number
        self.source: OpenList = (
            GivenRows(cast("Iterable[Mapping[str, object]]", given), is_number=is_number)
            if self.input is None
            else open_list(
                self.input,
                sheet=options.sheet,
                is_number=is_number,
                header_row=options.header_row,
                encoding=options.encoding,
            )
        )
        self.batch_id: str = options.batch_id or batch_of(self.input, checks=checks)
        """The batch of rows that do not name a batch."""
        self._options, self._now = options, now
        # The bodies that the guides print have a validity that has passed. A campaign is judged as it is enqueued.
        allows_past = checks and self.source.kind is FileKind.JSON
        self._reader = RowReader(options, default_batch=self.batch_id, now=now, allows_past=allows_past)
        self._is_table = self.source.kind.is_table
        self.left_out: RowFilter = RowFilter(options.leave_out, only=options.only)
        self._columns = CampaignColumns(
            self.source, options, file=self.file, left_out=self.left_out, menu_texts=self._reader.menu_texts
        )
        self.people: ListedPeople = ListedPeople()
        """The keys and numbers of the rows that were read."""
        self.findings: tuple[Finding, ...] = self._file_findings()
        """Warnings about the whole file: its columns, and the constant parts of its template."""
        self.values: ColumnValues = ColumnValues(self._columns, self.source.header)
        """The values of the columns that nothing reads, or filters alone."""
        menu, template = self._reader.menu_texts, options.template
        spoken = chain(template.variables if template else (), menu.names if menu else ())
        dated = {*_TIMES, *map(row_name, (*options.counted, *spoken))}
        self._mixed = MixedDates(dated, self.source.header, options.date_order)
        self.is_empty: bool = True
        """Whether no row has been read so far."""

    def later_texts(self, row: ReadRow) -> tuple[tuple[str, str], ...]:
        """Return what the row's person hears after the first question of a menu, each text with its menu and key."""
        if row.call is None or (texts := self._reader.texts(row.call.data or {})) is None:
            return ()
        person = PersonZone(row.call.time_zone, row.call.numbers, self._options.time_zone)
        return tuple(texts.later({**(row.call.data or {}), ZONE: person}))

    def __iter__(self) -> Iterator[ReadRow]:
        """Every row, in the order of the file. A row equal to an earlier row is a duplicate, and has no call."""
        for part in self.parts(_AT_ONCE):
            yield from self.read(part)

    def parts(self, size: int) -> Iterator[list[Row]]:
        """Yield the rows of the source in lists of 1 to `size`, for `read`.

        If the rest of the file cannot be read, the rows before it come first, and then the error is raised.
        """
        part: list[Row] = []
        failed: CampaignFileError | None = None
        try:
            for raw in self.source:
                self.is_empty = False
                part.append(raw)
                if len(part) == size:
                    yield part
                    part = []
        except CampaignFileError as error:
            failed, self.is_empty = error, False
        if part:
            yield part
        if failed is not None:
            raise failed

    def read(self, rows: Sequence[Row]) -> list[ReadRow]:
        """Return the rows of a part, read: see `__iter__`."""
        return [*map(self._read, rows)]

    def closing_findings(self) -> tuple[Finding, ...]:
        """Warnings about all rows together, such as hidden rows. Call this when all rows have been read."""
        alike = [*self._errors()]
        alike += map(self._warning, self.left_out.unused())
        return (
            *([self._warning("the list has no rows: nobody is called")] if self.is_empty else ()),
            *map(self._warning, self.source.notes),
            *alike,
            *self._holidays(),
        )

    @property
    def number_column(self) -> str:
        """Column of the numbers to call, as the header of a table spells it."""
        return self._columns.number_column

    def _holidays(self) -> Iterator[Finding]:
        """Warnings about holidays that are not known."""
        for calendar, (first, last) in self._reader.times.calendars.items():
            ends = last + _LOOKED_AHEAD
            if unknown := unknown_holidays([calendar], years=range(first.year, ends.year + 1)):
                yield self._warning(
                    f"no holidays known for {unknown}. Install a newer version of the library holidays, or look the "
                    f"days up, and give `holidays: {calendar[:2]}=none`."
                )

    def _warning(self, message: str, *, row: int | None = None, column: str | None = None) -> Finding:
        return Finding(file=self.file, row=row, column=column, severity=Severity.WARNING, message=message)

    def _read(self, row: Row) -> ReadRow:
        """Return the row, read and compared with the rows before it, unless it is left out."""
        if any(column is None for column, _ in row.problems):  # it is not known which cell is which
            findings = (Finding(column=column, code=row.code, message=message) for column, message in row.problems)
            return self._placed(ReadRow(row, findings=tuple(findings), batch_id=self.batch_id))
        values = self._columns.values_of(row)
        if values.has_dates:
            self._mixed.add(row)
        if (left_out := self._left_out(row, values)) is not None:
            return self._placed(left_out)
        read = self._reader.read(row, values)
        if read.is_left_out:
            return self._placed(read)
        self.values.add(row)
        if (call := read.call) is not None:
            if phone_identity(call.source) in map(phone_identity, call.numbers):
                message = f"is {call.source!r}, the number that the call comes from: leave the own number out"
                read = read.without_call(Finding(column=self.number_column, message=message))
            else:
                read = self._among_people(read, call)
        return self._placed(read) if read.findings else read

    def _left_out(self, row: Row, values: RowValues) -> ReadRow | None:
        """Return the row as one that the list or a filter leaves out; None for other rows."""
        if row.left_out is not None:
            column, why = None, f"this row is {row.left_out}"
        elif self.left_out and (found := self.left_out.reason(row)) is not None:
            column, why = found
        else:
            return None
        message = f"{why}: nobody is called for it"
        reason = Finding(kind="left_out", column=column, severity=Severity.WARNING, message=message)
        return self._reader.left_out(row, values, reason)

    def _placed(self, read: ReadRow) -> ReadRow:
        """Return the row, whose findings have its place and its person."""
        row = read.raw
        person = person_in(dict(zip(row.names or self.source.header, row.cells, strict=False)))
        placed = (replace(each, file=self.file, row=row.number, person=person) for each in read.findings)
        return read._replace(findings=tuple(placed))

    def _among_people(self, read: ReadRow, call: CheckedCall) -> ReadRow:
        """Return the row: a duplicate of an earlier row with its key and its call, bad if that is another call."""
        number, earlier = read.raw.number, self.people.call(read, call)
        if earlier is None:
            return read
        if earlier.is_same:
            message = f"row {number} requests the same call as row {earlier.row}; the call is made once"
            same = Finding(severity=Severity.WARNING, message=message)
            return read.without_call(same)._replace(duplicate_of=earlier.row)
        return read.without_call(self.clash(earlier.row, read))

    def clash(self, earlier: int, read: ReadRow) -> Finding:
        """Return the finding that a row and an earlier one are two different calls of one key."""
        if read.has_own_key:
            keys = self._options.roles.keys
            named = (
                f"has in {' and '.join(keys)} what row {earlier} has"
                if keys
                else f"{read.key!r} is the key of row {earlier} too"
            )
            message = f"{named}, which is a different call; give each its own key"
            return Finding(column=keys[0] if keys else "unique_key", message=message)
        message = (
            f"rows {min(earlier, read.raw.number)} and {max(earlier, read.raw.number)} are two different calls to "
            f"{read.call and read.call.destination}. Name the column that distinguishes them: `unique_key`."
        )
        return Finding(column=self.number_column, message=message)

    def _errors(self) -> Iterator[Finding]:
        """Yield the errors of the whole list: mixed dates, and columns that forbid calls and are not decided."""
        names = self._columns.names
        for row, name, message in self._mixed.errors():
            yield Finding(file=self.file, row=row, column=names.get(name, name), message=message)
        for column, message in (*self.values.undecided(), *self.left_out.missed()):
            yield Finding(file=self.file, column=column, kind="undecided", message=message)

    def _file_findings(self) -> tuple[Finding, ...]:
        if not self._is_table:
            template = self._options.template
            return template.findings if template is not None else ()
        return tuple(self._columns.findings())


open_campaign = CampaignRows
"""The public name of `CampaignRows`."""


def batch_of(file: InputFile | None, *, checks: bool = False) -> str:
    """Return the batch id that a file gives to its rows: its name without extensions.

    Raises CampaignFileError, and InvalidInputError for rows that come from no file.
    """
    if file is None:
        raise InvalidInputError("rows have no name to use as a batch id. Name the `batch`.")
    stem = file.stem
    if stem is None and checks:
        return "-"
    if stem is None:
        raise CampaignFileError(f"{file} has no name to use as a batch id. Name the `batch`.")
    if len(stem) > MAX_ID_CHARACTERS:
        raise CampaignFileError(
            f"{file}: its name has {len(stem)} characters, but a batch id has at most "
            f"{MAX_ID_CHARACTERS}. Name the `batch`."
        )
    return stem


def _judged(options: CampaignOptions, now: datetime) -> CampaignOptions:
    """Return these options. Raises InvalidInputError for one that would make every row bad."""
    if options.country is not None:
        read_number(PLACEHOLDER, options.country)
    if options.batch_id is not None and not 0 < len(options.batch_id.strip()) <= MAX_ID_CHARACTERS:
        raise InvalidInputError(f"the batch id {options.batch_id!r} must have 1 to {MAX_ID_CHARACTERS} characters")
    zone_of(options)
    if options.valid_until is not None:
        if options.valid_for is not None:
            raise InvalidInputError("valid_for and valid_until exclude each other: give one of them")
        if not isinstance(options.valid_until, ColumnTime) and options.valid_until <= now:
            raise InvalidInputError(f"valid_until is {in_words(options.valid_until)}, which has passed")
    if problem := priority_problem(options.priority):
        raise InvalidInputError(f"the priority {problem}")
    return options
