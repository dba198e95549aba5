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
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.values import RowValues, SeenKeys
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.lists.columns import ColumnReader, row_name
from voiceflow_worker.campaigns.lists.filters import RowFilter
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row
from voiceflow_worker.campaigns.lists.source import GivenRows, open_list
from voiceflow_worker.campaigns.lists.values import ColumnValues, MixedDates
from voiceflow_worker.campaigns.person_index import PersonIndex
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
    one of a single body that has passed is a warning, and a table needs no template. The constructor and the iteration
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
        reader = ColumnReader(options.roles)
        self.source: OpenList = (
            GivenRows(cast("Iterable[Mapping[str, object]]", given), reader=reader)
            if self.input is None
            else open_list(
                self.input,
                sheet=options.sheet,
                columns=reader,
                header_row=options.header_row,
                encoding=options.encoding,
            )
        )
        self.batch_id: str = options.batch_id or batch_of(self.input, checks=checks)
        """The batch of rows that do not name a batch."""
        # Without a template, only the numbers and reserved columns of a table can be checked.
        self.has_numbers_only: bool = checks and self.source.kind.is_table and options.template is None
        if self.has_numbers_only:
            options = replace(options, template=FlowTemplate.without_text(), source=options.source or PLACEHOLDER)
        self._options, self._now = options, now
        # The bodies that the guides print have a validity that has passed. A campaign is judged as it is enqueued.
        allows_past = checks and self.source.kind is FileKind.JSON
        self._reader = RowReader(options, default_batch=self.batch_id, now=now, allows_past=allows_past)
        self._is_table = self.source.kind.is_table
        self.left_out: RowFilter = RowFilter(options.leave_out, options.roles.names, only=options.only)
        self._columns = CampaignColumns(
            self.source, options, file=self.file, left_out=self.left_out, menu_texts=self._reader.menu_texts
        )
        self.keys: SeenKeys = SeenKeys()
        """The unique keys of the rows that were read."""
        self.persons: PersonIndex = PersonIndex()
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
        """What the row's person hears after the first question of a menu, each text with its menu and key."""
        if row.call is None or (texts := self._reader.texts(row.call.data or {})) is None:
            return ()
        person = PersonZone(row.call.time_zone, row.call.numbers, self._options.time_zone)
        return tuple(texts.later({**(row.call.data or {}), ZONE: person}))

    def __iter__(self) -> Iterator[ReadRow]:
        """Every row, in the order of the file. A row equal to an earlier row is a duplicate, and has no call."""
        for part in self.parts(_AT_ONCE):
            yield from self.read(part)

    def parts(self, size: int) -> Iterator[list[Row]]:
        """The rows of the source in lists of 1 to `size`, for `read`.

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
        """The rows of a part, read: see `__iter__`."""
        found: list[ReadRow] = []
        for read in map(self._read, rows):
            if read.call is None and read.duplicate_of is None:
                self.persons.silence(read, self.batch_in(read.raw), is_left_out=read.is_left_out)
            found.append(read)
        return found

    def closing_findings(self) -> tuple[Finding, ...]:
        """Warnings about all rows together, such as hidden rows. Call this when all rows have been read."""
        no_row = "no row has this column; check its name"
        unseen = (self._warning(no_row, column=each) for each in self._columns.unseen.values())
        alike = [*self._errors()]
        if (found := self.persons.left_out_and_called()) is not None:
            alike.append(self._warning(found[1], row=found[0], column=self.number_column))
        alike += map(self._warning, self.left_out.unused())
        return (
            *([self._warning("the list has no rows: nobody is called")] if self.is_empty else ()),
            *map(self._warning, self.source.notes),
            *unseen,
            *alike,
            *self._holidays(),
        )

    def batch_in(self, raw: Row) -> str:
        """The batch of a row without a call."""
        named = zip(raw.names or self.source.columns, raw.cells, strict=False)
        cells = (
            str(cell).strip()
            for name, cell in named
            if cell and row_name(name) not in self._columns.ignored and self._columns.reserved(name) == "batch_id"
        )
        return self._options.batch_id or next(filter(None, cells), self.batch_id)

    @property
    def number_column(self) -> str:
        """The column of the numbers to call, as the header of a table spells it."""
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
        """The row, read and compared with the rows before it, unless it is left out."""
        if any(column is None for column, _ in row.problems):  # its cells cannot be told apart
            findings = (Finding(column=column, code=row.code, message=message) for column, message in row.problems)
            return self._placed(ReadRow(row, findings=tuple(findings)))
        values = self._columns.values_of(row)
        if values.has_dates:
            self._mixed.add(row)
        if (left_out := self._left_out(row, values)) is not None:
            return self._placed(left_out)
        read = self._reader.read(row, values)
        if read.is_left_out:
            return self._placed(read)
        self.values.add(row)
        # Without a template, two calls to one number look alike, and the number that calls come from is not known.
        if (call := read.call) is not None and call.unique_key is not None and not self.has_numbers_only:
            if phone_identity(call.source) in map(phone_identity, call.numbers):
                message = f"is {call.source!r}, the number that the call comes from: leave the own number out"
                read = read.without_call(Finding(column=self.number_column, message=message))
            elif (earlier := self.keys.first(call.unique_key, row=row.number, digest=read.digest)) is not None:
                read = self._as_known(read, call.unique_key, *earlier)
            else:
                read = self._among_people(read, call)
        return self._placed(read) if read.findings else read

    def _left_out(self, row: Row, values: RowValues) -> ReadRow | None:
        """The row as one that the list or a filter leaves out; None for other rows."""
        if row.left_out is not None:
            column, why = None, f"this row is {row.left_out}"
        elif self.left_out and (found := self.left_out.reason(row)) is not None:
            column, why = found
        else:
            return None
        self.persons.refused.add(row.number)
        message = f"{why}: nobody is called for it"
        told = Finding(kind="left_out", column=column, severity=Severity.WARNING, message=message)
        key, numbers = values.unique_key, self._reader.numbers(values)
        return ReadRow(row, own_key=key, findings=(told,), is_left_out=True, numbers=numbers)

    def _placed(self, read: ReadRow) -> ReadRow:
        """The row, whose findings have its place and its person."""
        row = read.raw
        person = person_in(dict(zip(row.names or self.source.header, row.cells, strict=False)))
        placed = (replace(each, file=self.file, row=row.number, person=person) for each in read.findings)
        return read._replace(findings=tuple(placed))

    def _as_known(self, read: ReadRow, key: str, row: int, is_same: bool) -> ReadRow:  # noqa: FBT001 - as `first` says
        """The row, whose key an earlier row has."""
        if is_same:
            message = f"row {read.raw.number} requests the same call as row {row}; the call is made once"
            same = Finding(severity=Severity.WARNING, message=message)
            return read.without_call(same)._replace(duplicate_of=row)
        message = f"{key!r} is also the key of row {row}, which is a different call; give each call its own key"
        return read.without_call(Finding(column="unique_key", message=message))

    def _among_people(self, read: ReadRow, call: CheckedCall) -> ReadRow:
        """The row, bad if an earlier row has its person with other further numbers. A repeated number is noted."""
        number, column = read.raw.number, self.number_column
        if self._columns.further and read.has_made_key:
            before = self.persons.bodies.first(f"{call.batch_id}\0{call.body}", row=number, digest=read.digest)
            if before is not None:
                message = f"is called in row {before[0]} too, with other further numbers; give a person one row"
                return read.without_call(Finding(column=column, message=message))
        if (repeated := self.persons.call(number, call)) and read.has_made_key:
            message = (
                f"row {number} has the number of row {min(repeated)}, with another call. Remove it if it is not meant."
            )
            told = Finding(kind="repeated_number", column=column, severity=Severity.WARNING, message=message)
            read = read._replace(findings=(*read.findings, told))
        return read

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
        if self.has_numbers_only:
            message = "only numbers and reserved columns are checked. To check the calls too, give a text (`say`)."
            return (self._warning(message, row=self.source.header_row),)
        return tuple(self._columns.findings())


open_campaign = CampaignRows
"""The public name of `CampaignRows`."""


def batch_of(file: InputFile | None, *, checks: bool = False) -> str:
    """The batch id that a file gives to its rows: its name without extensions.

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
    """These options. Raises InvalidInputError for one that would make every row bad."""
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
