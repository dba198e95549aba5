"""The rows of an open campaign file, one by one, each with its call or its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, starmap
from pathlib import Path
from typing import cast

from voiceflow_worker.campaigns.calls.options import CampaignOptions, zone_of
from voiceflow_worker.campaigns.calls.request import ReadRow, RequestMaker, texts_of
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.values import Draft, SeenKeys, key_in, write_dates_out
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.lists.columns import DESTINATION, ColumnReader, row_name
from voiceflow_worker.campaigns.lists.filters import RowFilter
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row
from voiceflow_worker.campaigns.lists.source import GivenRows, open_list
from voiceflow_worker.campaigns.lists.values import ColumnValues, MixedDates
from voiceflow_worker.campaigns.person_index import PersonIndex
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Message, Severity, tell
from voiceflow_worker.ivr.speech_filters import ZONE
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import (
    DATE_LIKE,
    PersonZone,
)
from voiceflow_worker.model.window import unknown_holidays

_LOOKED_AHEAD = timedelta(days=7)
"""How long after the times from which calls may ring unknown holidays matter."""
_TIMES = ("not_before", "valid_until")
_AT_ONCE = 100
"""The number of rows that pass each step together. A step that is repeated finds its code and data in the processor's
caches. When each row passed all steps before the next row, reading took a third longer."""


class CampaignRows:
    """The rows of a campaign, each with its call or its errors. They can be iterated only once.

    The rows are `given` as a file, or as an iterable of mappings from columns to values, numbered from 1. Only digests
    of their keys and numbers stay in memory. Validities are compared with `now`; if the file is only read for `checks`,
    one of a single body that has passed is a warning, and a table needs no template. The columns of a table are named
    by the `reader`. The constructor and the iteration raise CampaignFileError for a file that cannot be read as a
    campaign (encoding, header, template). The constructor raises InvalidInputError for a wrong option. Errors of single
    rows are in their findings.
    """

    def __init__(
        self,
        given: Path | InputFile | Iterable[Mapping[str, object]],
        options: CampaignOptions | None = None,
        *,
        now: datetime,
        checks: bool = False,
        reader: ColumnReader | None = None,
    ) -> None:
        options = _judged(options or CampaignOptions(), now)
        self.input: InputFile | None = (
            InputFile(given) if isinstance(given, Path) else given if isinstance(given, InputFile) else None
        )
        """The file of the rows; None for rows that are given as mappings."""
        self.file: str | None = str(self.input) if self.input is not None else None
        only_numbers, reader = reader is not None, reader or ColumnReader(options.roles)
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
        named = (options.template and options.template.variables, (menu := texts_of(options)) and menu.names)
        self.batch_id: str = options.batch_id or batch_of(self.input, checks=checks)
        """The batch of rows that do not name a batch."""
        # Without a template, only the numbers and reserved columns of a table can be checked.
        self.has_numbers_only: bool = checks and self.source.kind.is_table and options.template is None
        if self.has_numbers_only:
            options = replace(options, template=FlowTemplate.without_text(), source=options.source or PLACEHOLDER)
        self._options, self._now = options, now
        # The bodies that the guides print have a validity that has passed. A campaign is judged as it is enqueued.
        allows_past = checks and (only_numbers or self.source.kind is FileKind.JSON)
        self._maker = RequestMaker(
            options, file=self.file, default_batch=self.batch_id, now=now, allows_past=allows_past
        )
        self._is_table = self.source.kind.is_table
        self.left_out: RowFilter = RowFilter(options.leave_out, options.roles.names, only=options.only)
        self._columns = CampaignColumns(
            self.source, options, file=self.file, left_out=self.left_out, menu_texts=self._maker.menu_texts
        )
        self.keys: SeenKeys = SeenKeys()
        """The unique keys of the rows that were read."""
        self.persons: PersonIndex = PersonIndex()
        self.findings: tuple[Finding, ...] = self._file_findings()
        """Warnings about the whole file: its columns, and the constant parts of its template."""
        self.values: ColumnValues = ColumnValues(self._columns, self.source.header)
        """The values of the columns that nothing reads, or filters alone."""
        dated = {*_TIMES, *map(row_name, options.counted), *map(row_name, chain(*(names for names in named if names)))}
        self._mixed = MixedDates(dated, self.source.header, options.date_order)
        self.is_empty: bool = True
        """Whether no row has been read so far."""

    def later_texts(self, row: ReadRow) -> tuple[tuple[str, str], ...]:
        """What the row's person hears after the first question of a menu, each text with its menu and key."""
        if row.call is None or (texts := self._maker.texts(row.call.data or {})) is None:
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

    def read(self, raws: Sequence[Row]) -> list[ReadRow]:
        """The rows of a part, read: see `__iter__`."""
        rows: list[ReadRow] = []
        read_one = self._read if self.left_out or self.source.kind is FileKind.EXCEL else self._maker.read
        for first in range(0, len(raws), _AT_ONCE):
            drafts = list(map(self.drafted, raws[first : first + _AT_ONCE]))
            for read in map(self._finished, list(starmap(read_one, drafts))):
                if read.call is None and read.duplicate_of is None:
                    self.persons.silence(read, self.batch_in(read.raw), is_left_out=read.is_left_out)
                rows.append(read)
        return rows

    def closing_findings(self) -> tuple[Finding, ...]:
        """Warnings about all rows together, such as hidden rows. Call this when all rows have been read."""
        unseen = (self._warning(tell("no_row_has_column"), column=each) for each in self._columns.unseen.values())
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
        for calendar, (first, last) in self._maker.times.calendars.items():
            ends = last + _LOOKED_AHEAD
            if unknown := unknown_holidays([calendar], years=range(first.year, ends.year + 1)):
                yield self._warning(tell("no_holidays", calendars=unknown, country=calendar[:2]))

    def _warning(self, message: str, *, row: int | None = None, column: str | None = None) -> Finding:
        return Finding(file=self.file, row=row, column=column, severity=Severity.WARNING, message=message)

    def _read(self, raw: Row, draft: Draft | None) -> ReadRow:
        """The row, read, unless it is left out; nothing else is told of it then."""
        if raw.left_out is not None:
            column, why = None, f"this row is {raw.left_out}"
        elif draft is not None and (found := self.left_out.reason(raw)) is not None:
            column, why = found
        else:
            return self._maker.read(raw, draft)
        self.persons.refused.add(raw.number)
        told = Message(f"{why}: nobody is called for it", values={"ordered": True})
        warning = self._warning(told, row=raw.number, column=column)
        key, numbers = (None, ()) if draft is None else (key_in(draft), (*self._maker.numbers(draft),))
        return ReadRow(raw, own_key=key, findings=(warning,), is_left_out=True, numbers=numbers)

    def _finished(self, read: ReadRow) -> ReadRow:
        """The row with its findings as the file spells columns, compared with the rows before it."""
        raw = read.raw
        # The cells of the first were not read, and those of the second do not matter.
        if read.is_left_out or (raw.problems and any(column is None for column, _ in raw.problems)):
            return read._replace(findings=self._columns.in_file(raw, read.findings))
        self.values.add(raw)
        read = self._without_own_number(read)
        if read.findings or not self._is_table:
            findings = self._columns.in_file(raw, read.findings)
            read = read._replace(findings=findings)
        # Without a template, two calls to one number look alike.
        call = read.call
        if call is not None and call.unique_key is not None and not self.has_numbers_only:
            earlier = self.keys.first(call.unique_key, row=raw.number, digest=read.digest)
            if earlier is not None:
                read = self._as_known(read, call.unique_key, *earlier)
            else:
                read = self._among_people(read, call)
        return read

    def _without_own_number(self, read: ReadRow) -> ReadRow:
        """The row, bad if one of its numbers is the one that its call comes from."""
        call = read.call
        # Without a template, the number that calls come from is not known.
        if (
            call is None
            or self.has_numbers_only
            or phone_identity(call.source) not in map(phone_identity, call.numbers)
        ):
            return read
        message = tell("own_number", number=call.source)
        return read.without_call(Finding(file=self.file, row=read.raw.number, column=DESTINATION, message=message))

    def _as_known(self, read: ReadRow, key: str, row: int, is_same: bool) -> ReadRow:  # noqa: FBT001 - as `first` says
        """The row, whose key an earlier row has."""
        number = read.raw.number
        if is_same:
            same = self._warning(tell("same_call", row=number, earlier=row), row=number)
            return read.without_call(same)._replace(duplicate_of=row)
        message = tell("key_of_row", key=key, row=row)
        finding = Finding(file=self.file, row=number, column="unique_key", message=message)
        return read.without_call(finding)

    def _among_people(self, read: ReadRow, call: CheckedCall) -> ReadRow:
        """The row, bad if an earlier row has its person with other further numbers. A repeated number is noted."""
        number = read.raw.number
        if self._columns.further and read.has_made_key:
            before = self.persons.bodies.first(f"{call.batch_id}\0{call.body}", row=number, digest=read.digest)
            if before is not None:
                message = tell("person_in_two_rows", earlier=before[0])
                finding = Finding(file=self.file, row=number, column=self.number_column, message=message)
                return read.without_call(finding)
        if (repeated := self.persons.call(number, call)) and read.has_made_key:
            said = tell("repeated_number", row=number, earlier=min(repeated))
            read = read._replace(findings=(*read.findings, self._warning(said, row=number, column=self.number_column)))
        return read

    def _errors(self) -> Iterator[Finding]:
        """Yield the errors of the whole list: mixed dates, and columns that forbid calls and are not decided."""
        for row, name, message in self._mixed.errors():
            yield Finding(file=self.file, row=row, column=self._columns.names.get(name, name), message=message)
        for column, message in self.values.undecided():
            yield Finding(file=self.file, column=column, message=message)
        for column, message in self.left_out.missed():
            yield Finding(file=self.file, column=column, message=message)

    def drafted(self, raw: Row) -> tuple[Row, Draft | None]:
        """The row, and the values of its cells; None if they cannot be told apart."""
        columns = self._columns
        row = "\0".join(each for each in raw.cells if isinstance(each, str))
        draft = Draft(may_have_dates=columns.are_bodies or DATE_LIKE.search(row) is not None)
        if raw.problems:
            kept = tuple(each for each in raw.problems if row_name(each[0] or "") not in columns.ignored)
            raw = raw._replace(problems=kept)
            if any(column is None for column, _ in kept):
                return raw, None
            for column, message in kept:
                draft.error(message, column=columns.key_of(column), code=raw.code)
        columns.fill(raw, draft)
        if self._options.batch_id is not None:
            self._note_batch(draft)
        if draft.may_have_dates:
            self._mixed.add(raw)
        if self._options.date_order is not None:
            write_dates_out(draft, self._options.date_order)
        return raw, draft

    def _note_batch(self, draft: Draft) -> None:
        """Warn of a row that names another batch than was given."""
        given = self._options.batch_id
        if (own := draft.reserved.get("batch_id")) not in {None, given}:
            message = tell("other_batch", value=own, batch=given)
            draft.findings.append(Finding(column="batch_id", severity=Severity.WARNING, message=message))

    def _file_findings(self) -> tuple[Finding, ...]:
        if not self._is_table:
            template = self._options.template
            return template.findings if template is not None else ()
        if self.has_numbers_only:
            return (self._warning(tell("numbers_only"), row=self.source.header_row),)
        return tuple(self._columns.findings())


open_campaign = CampaignRows
"""The public name of `CampaignRows`."""


def batch_of(file: InputFile | None, *, checks: bool = False) -> str:
    """The batch id that a file gives to its rows: its name without extensions.

    Raises CampaignFileError, and InvalidInputError for rows that come from no file.
    """
    if file is None:
        raise InvalidInputError("rows have no name to use as a batch id: give the options a batch_id")
    stem = file.stem
    if stem is None and checks:
        return "-"
    if stem is None:
        raise CampaignFileError(tell("no_batch_name", file=str(file)))
    if len(stem) > MAX_ID_CHARACTERS:
        raise CampaignFileError(tell("long_batch_name", file=str(file), count=len(stem), most=MAX_ID_CHARACTERS))
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
