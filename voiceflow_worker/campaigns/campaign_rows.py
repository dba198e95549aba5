"""The rows of an open campaign file, one by one, each with its call or its errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow, RequestMaker
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.values import (
    CsvValues,
    LeftOut,
    RowValues,
    SeenKeys,
    SharedNumbers,
    is_used,
    json_values,
    missing_from,
    part_of,
    write_dates_out,
)
from voiceflow_worker.campaigns.files.cells import GivenRows
from voiceflow_worker.campaigns.files.damage import (
    DELIMITERS,
    error_in,
    footer_in,
    misread,
    shown,
    swallowed_rows,
)
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.json_rows import wrapped_in
from voiceflow_worker.campaigns.files.rows import (
    DESTINATION,
    MEANINGS,
    NOT_READ,
    REASON,
    RESERVED,
    FileKind,
    RawRow,
    RowSource,
    canonical_name,
    is_own_word,
    row_name,
)
from voiceflow_worker.campaigns.moments import SpokenMoments
from voiceflow_worker.campaigns.row_notes import RowNotes
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.ivr.speech_filters import ZONE, SpecimenText
from voiceflow_worker.model.country_windows import NONE, NUMBER
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.jobs.job import person_in
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.numbers.reading import read_number, read_sources
from voiceflow_worker.model.text.wording import count_of, did_you_mean, in_words
from voiceflow_worker.model.times import (
    DateOrder,
    PersonZone,
    begins_with_ordered_date,
    may_be_swapped,
    read_visit_zone,
    read_zone,
)
from voiceflow_worker.model.window import estimated_holidays, regional_holidays, unknown_holidays

if TYPE_CHECKING:
    from voiceflow_worker.core.idempotency import Orders
    from voiceflow_worker.ivr.check import MenuTexts

_TIMES = ("not_before", "valid_until")
_MOST_COUNTRIES = _MOST_NAMED = 8
_UNUSED = "neither reserved nor used by the template"
_LOOKED_AHEAD = timedelta(days=7)
"""How long after the times from which calls may ring holidays of parts of a country are looked for."""
_AT_ONCE = 100
"""The number of rows that pass each step together. A step that is repeated finds its code and data in the processor's
caches. When each row passed all steps before the next row, reading took a third longer."""


class CampaignRows:
    """The rows of a campaign, each with its call or its errors. They can be iterated only once.

    The rows are `given` as a file, or as an iterable of mappings from columns to values, numbered from 1. Only digests
    of their keys and numbers stay in memory. Validities are compared with `now`; if the file is only read for
    `checks`, one that has passed is a warning, and a table needs no template. `on_bytes` gets the number of bytes read
    so far. The constructor and the iteration raise CampaignFileError for a file that cannot be read as a campaign
    (encoding, header, template). The constructor raises InvalidInputError for a wrong option. Errors of single rows are
    in their findings.
    """

    def __init__(
        self,
        given: Path | InputFile | Iterable[Mapping[str, object]],
        options: CampaignOptions | None = None,
        *,
        now: datetime,
        checks: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        options = _judged(options or CampaignOptions(), now)
        self.input: InputFile | None = (
            InputFile(given) if isinstance(given, Path) else given if isinstance(given, InputFile) else None
        )
        """The file of the rows; None for rows that are given as mappings."""
        self.file: str | None = str(self.input) if self.input is not None else None
        self.source: RowSource = (
            GivenRows(cast("Iterable[Mapping[str, object]]", given), roles=options.roles)
            if self.input is None
            else open_source(
                self.input,
                kind=options.file_kind,
                sheet=options.sheet,
                roles=options.roles,
                header_row=options.header_row,
                on_bytes=on_bytes,
            )
        )
        self.batch_id: str = options.batch_id or batch_of(self.input, checks=checks)
        """The batch of rows that do not name a batch."""
        # Without a template, only the numbers and reserved columns of a table can be checked.
        self.has_numbers_only: bool = checks and self.source.kind.is_table and options.template is None
        if self.has_numbers_only:
            options = replace(options, template=FlowTemplate.without_text(), source=options.source or PLACEHOLDER)
        self._options = options
        self._maker = RequestMaker(options, file=self.file, default_batch=self.batch_id, now=now, checks=checks)
        self._is_table = self.source.kind.is_table
        roles = options.roles
        named = roles.named_numbers
        self._number_column: str | None = named[0] if roles.numbers else None
        self._numbers, *self._further = map(row_name, named)
        if self._further and not (self._is_table or options.template is not None):
            raise InvalidInputError(
                f"a request body calls one number, so columns of several numbers ({', '.join(named)}) need a text "
                f"to speak: {Remedy.GIVE_TEXT}"
            )
        self._parts = [] if self._is_table else [each for each in named if "." in each]
        """The columns of numbers that may be parts of objects, such as contact.phone."""
        self._ignored = {row_name(each): each for each in roles.ignored}
        self._unseen: dict[str, str] = (
            {} if self._is_table else {**{row_name(each): each for each in named[1:]}, **self._ignored}
        )
        self._names = {**_own_names(self.source.header), **roles.names}
        self._renamed: Mapping[str, str] = self._rename_columns()
        self._left_out = LeftOut(options.leave_out, options.leave_out_rows, roles.names, only=options.only)
        self._named = [each for each in (roles.country, roles.language, *self._left_out.columns) if each is not None]
        read = [NOT_READ if row_name(each) in self._ignored else each for each in self.source.columns]
        self._csv = CsvValues(read, self._number_column if self._is_table else None)
        self._seen_names = set[str]()
        self.keys: SeenKeys = SeenKeys()
        """The unique keys of the rows that were read."""
        self._ordered = None if options.orders is None else _OrderedRows(options.orders)
        self._telephones = SharedNumbers()
        self._all_numbers: frozenset[str] = frozenset({DESTINATION, self._numbers, *self._further})
        self._refuse_named()
        self.findings: tuple[Finding, ...] = self._file_findings()
        """Warnings about the whole file: its columns, and the constant parts of its template."""
        texts = [each for each in (options.template, self._maker.menu_texts) if each is not None]
        self._read_moments(texts)
        self.source.voice = options.voice_profile or ""
        names = (name for each in texts for name in (each.variables if isinstance(each, FlowTemplate) else each.names))
        self._notes = RowNotes(
            self.source,
            ignored=self._ignored,
            numbers=self._all_numbers,
            spoken=[row_name(name) for each in texts for name in each.spoken],
            warning=self._warning_about,
        )
        said = {row_name(name) for each in texts for name in each.spoken}
        self._moments = SpokenMoments(said, self.source.clocks, [text for each in texts for text in each.written], now)
        self._dates: dict[str, dict[bool, tuple[int, str]]] = {each: {} for each in (*_TIMES, *map(row_name, names))}
        """Of the columns that texts use, and of times, the first row whose day may be its month, and the first that
        has a date as 31/1/2030."""
        self.source.spare = frozenset({"", "language", *(each for each in self.source.columns if self._is_spare(each))})

    def _read_moments(self, texts: Iterable[FlowTemplate | MenuTexts]) -> None:
        """Have the cells read as days and times of day that these texts speak so."""
        clocks, days = ({row_name(name) for each in texts for name in each.read_by(what)} for what in ("time", "date"))
        self.source.clocks = frozenset({*_TIMES, *clocks})
        self.source.moments = self.source.clocks | days

    @property
    def call_back_after(self) -> timedelta | None:
        """When people who ask for it are called back; None if the menu of the calls does not offer it."""
        texts = self._maker.menu_texts
        return None if texts is None else texts.call_back_after

    def later_texts(self, row: ReadRow) -> tuple[tuple[str, str], ...]:
        """What the row's person hears after the first question of a menu, each text with its menu and key."""
        if row.call is None or (texts := self._maker.texts(row.call.data or {})) is None:
            return ()
        person = PersonZone(
            row.call.time_zone, row.call.numbers, self._options.time_zone, self._options.visit_time_zone
        )
        return tuple(texts.later({**(row.call.data or {}), ZONE: person}))

    def __iter__(self) -> Iterator[ReadRow]:
        """Every row, in the order of the file. A row equal to an earlier row is a duplicate, and has no call."""
        for part in self.parts(_AT_ONCE):
            yield from self.read(part)

    def parts(self, size: int) -> Iterator[list[RawRow]]:
        """The rows of the source in lists of 1 to `size`, for `read`.

        If the rest of the file cannot be read, the rows before it come first, and then the error is raised. Raises
        CampaignFileError for a file without rows. A program may give no rows: nobody is called then.
        """
        part: list[RawRow] = []
        failed: CampaignFileError | None = None
        is_empty = True
        try:
            for raw in self.source:
                is_empty = False
                part.append(raw)
                if len(part) == size:
                    yield part
                    part = []
        except CampaignFileError as error:
            failed = error
        if part:
            yield part
        if failed is not None:
            raise failed
        if (wrong := self._left_out.wrong()) is not None:
            found = Finding(file=self.file, column=wrong[0], message=wrong[1])
            raise CampaignFileError(f"{self.file or 'the rows'}: {wrong[1]}", [found])
        if self.input is not None and is_empty:
            raise CampaignFileError(f"{self.file} has a header and no rows; there is nothing to call")

    def read(self, raws: Sequence[RawRow]) -> list[ReadRow]:
        """The rows of a part, read: see `__iter__`."""
        rows: list[ReadRow] = []
        read_one = self._unless_left_out if self._left_out else self._maker.read
        for first in range(0, len(raws), _AT_ONCE):
            given = [self._values(raw) for raw in raws[first : first + _AT_ONCE]]
            read = [read_one(raw, values) for raw, values in given]
            rows += [self._finished(row) for row in read]
        return rows

    def closing_findings(self) -> tuple[Finding, ...]:
        """Warnings about all rows together, such as hidden rows. Call this when all rows have been read."""
        message = "no row has this column; check its name"
        unseen = (self._warning(message, column=each) for each in self._unseen.values())
        alike = self._notes.findings()
        alike += [
            self._warning(told, row=row, column=self._names.get(name, name))
            for row, name, told in self._moments.findings()
        ]
        if (many := self._telephones.many()) is not None:
            alike.append(self._warning(many[1], row=many[0], column=self.number_column))
        for row, told in self._left_out.told():
            alike.append(self._warning(told, row=row, column=None if row is None else self.number_column))
        return (*map(self._warning, self.source.notes), *unseen, *alike, *self._on_holidays(), *self._in_parts())

    def batch_in(self, raw: RawRow) -> str:
        """The batch of a row without a call."""
        named = zip(self.source.columns, raw.cells, strict=False) if raw.cells else raw.data.items()
        cells = (
            shown(str(cell))
            for name, cell in named
            if cell and row_name(name) not in self._ignored
            if self._renamed.get(row_name(name), canonical_name(name)) == "batch_id"
        )
        return self._options.batch_id or next(filter(None, cells), self.batch_id)

    @property
    def number_column(self) -> str:
        """The column of the numbers to call, as the header of a table spells it."""
        return self._names.get(self._numbers, self._number_column or DESTINATION)

    def _on_holidays(self) -> Iterator[Finding]:
        """A warning about calls to countries for which the options have no calendar of holidays."""
        found = self._maker.on_holidays
        if not found:
            return
        countries = ", ".join(f"{country} {count:,}" for country, count in found.most_common(_MOST_COUNTRIES))
        more = len(found) - _MOST_COUNTRIES
        message = (
            f"{count_of(found.total(), 'call')} may ring on a public holiday: there is no calendar for {countries}"
            f"{f' and {more} more countries' if more > 0 else ''}, because each calendar is for the numbers of its "
            f"country. Name one for each, or {NUMBER} for that of each number"
        )
        yield self._warning(message)

    def _in_parts(self) -> Iterator[Finding]:
        """Warnings about holidays that are not known, or a guess, or of parts of a country alone."""
        for calendar, (first, last) in self._maker.calendars.items():
            span = (first - timedelta(days=1)).date(), (last + _LOOKED_AHEAD).date()
            years = range(span[0].year, span[1].year + 1)
            if unknown := unknown_holidays([calendar], years=years):
                yield self._warning(
                    f"no holidays known for {unknown}: install a newer `holidays` library, or look the days up, and "
                    f"give {calendar[:2]}={NONE}"
                )
            guesses = (day for year in years for day in estimated_holidays(calendar, year=year))
            if guessed := [str(day) for day in guesses if span[0] <= day <= span[1]]:
                yield self._warning(
                    f"the holidays of {calendar} on {', '.join(guessed)} are estimated, and may be a day earlier or "
                    "later: look the days up before calls ring"
                )
            days = ((day, parts) for year in years for day, parts in regional_holidays(calendar, year=year).items())
            near = [(day, parts) for day, parts in days if span[0] <= day <= span[1]]
            if near:
                shown = "; ".join(f"{day} in {', '.join(parts)}" for day, parts in near[:_MOST_COUNTRIES])
                message = (
                    f"nobody is kept back on holidays of parts of {calendar}: {shown}. The calendar {calendar} has "
                    "only the days that all of it has. To keep people back, name a part, such as "
                    f"{calendar}={calendar}-{near[0][1][0]}"
                )
                yield self._warning(message)

    def _warning(self, message: str, *, row: int | None = None, column: str | None = None) -> Finding:
        return Finding(file=self.file, row=row, column=column, severity=Severity.WARNING, message=message)

    def _unless_left_out(self, raw: RawRow, values: RowValues | None) -> ReadRow:
        """The row, read. If its number or one of its columns says not to call, nothing else of it is told."""
        found = self._left_out.why(raw.number, values)
        if found is None:
            return self._maker.read(raw, values)
        column, why = found
        self._left_out.add(raw.number, () if values is None else self._maker.numbers(values))
        warning = self._warning(f"{why}: nobody is called for it", row=raw.number, column=column)
        return ReadRow(raw, findings=(warning,), is_left_out=True)

    def _finished(self, read: ReadRow) -> ReadRow:
        """The row with its findings as the file spells columns, compared with the rows before it."""
        raw = read.raw
        # The cells of the first were not read, and those of the second do not matter.
        if read.is_left_out or (raw.problems and any(column is None for column, _ in raw.problems)):
            return read._replace(findings=self._as_in_file(raw, read.findings))
        if read.call is not None:
            self._notes.add_call(raw, read.call)
            self._moments.add(raw.number, read.call)
            for what, message in () if self.has_numbers_only else self._notes.about_numbers(read.call, raw.number):
                self._notes.add(what, raw, self.number_column, message)
        if self._ordered is not None:
            read = self._ordered.checked(read, self.source.cells_of(raw), file=self.file)
        if read.is_bad:
            self._notes.add_bad(read, self._names_in(raw))
        if read.findings or not self._is_table:
            findings = self._as_in_file(raw, read.findings)
            read = read._replace(findings=(*self._new_keys(raw), *findings))
        # Without a template, two calls to one number look alike.
        call = read.call
        if call is not None and call.unique_key is not None and not self.has_numbers_only:
            keys = self.keys if self._ordered is None else self._ordered.own_keys
            earlier = keys.first(call.unique_key, row=raw.number, digest=read.digest)
            if earlier is not None:
                read = self._as_known(read, call.unique_key, *earlier)
            else:
                read = self._among_people(read, call)
        if read.call is not None and self._left_out:
            self._left_out.add(raw.number, read.call.numbers, is_called=True)
        return read if self._ordered is None else self._ordered.named(read, self.keys)

    def _as_known(self, read: ReadRow, key: str, row: int, is_same: bool) -> ReadRow:  # noqa: FBT001 - as `first` says
        """The row, whose key an earlier row has."""
        number = read.raw.number
        if is_same:
            message = f"row {number} requests the same call as row {row}; the call is made once"
            findings = (*read.findings, self._warning(message, row=number))
            return read._replace(call=None, duplicate_of=row, findings=findings)
        message = f"{key!r} is also the key of row {row}, which is a different call; give each call its own key"
        finding = Finding(file=self.file, row=number, column="unique_key", message=message)
        return read._replace(call=None, findings=(*read.findings, finding))

    def _among_people(self, read: ReadRow, call: CheckedCall) -> ReadRow:
        """The row, bad if an earlier row has its person with other further numbers. A repeated number is noted."""
        number = read.raw.number
        if self._further and read.has_made_key:
            before = self._telephones.first(f"{call.batch_id}\0{call.body}", row=number, digest=read.digest)
            if before is not None:
                message = f"is called in row {before[0]} too, with other further numbers; give a person one row"
                finding = Finding(file=self.file, row=number, column=self.number_column, message=message)
                return read._replace(call=None, findings=(*read.findings, finding))
        name = person_in(call.data or {})
        numbers = map(telephone_of, call.numbers)
        seen = [self._telephones.add(each, batch=call.batch_id, row=number, name=name) for each in numbers]
        if (repeated := [first for first in seen if first is not None]) and read.has_made_key:
            message = (
                "{rows} would call a number that an earlier row of the same batch calls with another body: for "
                f"example, row {number} has the number of row {min(repeated)}. Each of these rows is a call of its "
                "own. Remove the rows that are not intended"
            )
            self._notes.add("repeat", read.raw, self.number_column, message)
        return read

    def _warning_about(self, raw: RawRow, column: str | None, message: str) -> Finding:
        return self._as_in_file(raw, [self._warning(message, row=raw.number, column=column)])[0]

    def _names_in(self, raw: RawRow) -> Mapping[str, str]:
        """The names of the row's columns as they are written, by their names in rows."""
        return self._names if self._is_table else _own_names(raw.data)

    def _as_in_file(self, raw: RawRow, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """These findings, with the names of columns as the file spells them. Reserved names stay as they are."""
        names = self._names_in(raw)
        shown: list[Finding] = []
        for found in findings:
            name = found.column or ""
            if name == DESTINATION and self._number_column is not None:
                own = names.get(self._numbers, self._number_column)
            elif name == "language" and self._language is not None:
                own = names.get(row_name(self._language), self._language)
            else:
                own = name if name in {DESTINATION, *RESERVED} else names.get(row_name(name), name)
            shown.append(found if own == name else replace(found, column=own))
        return tuple(shown)

    def _without_rows_within(self, raw: RawRow, names: Sequence[str], cells: Sequence[str]) -> RawRow:
        """The row, whose only problem is a cell with lines that look like rows, if it has such a cell."""
        wanted = self._all_numbers
        needed = max((place for place, name in enumerate(names, 1) if name not in self.source.spare), default=1)
        found = swallowed_rows(
            cells,
            numbers=[place for place, name in enumerate(names) if row_name(name) in wanted],
            needed=max(needed if self._is_table else 1, min(2, len(names))),
            delimiters=self.source.delimiter or DELIMITERS,
        )
        if found is None:
            return raw
        is_ragged = any(column is None for column, _ in raw.problems) or found.place >= len(names)
        column = None if is_ragged else names[found.place] or None
        said = found.in_words(begins=raw.number if self.source.kind is FileKind.CSV else None)
        if column is None:
            said = f"the row {said}"
        elif row_name(column) in wanted:
            # The row as a whole is bad: a bad number alone may be passed over, but people are within this one.
            column, said = None, f"the cell of {column} {said}"
        return raw._replace(problems=((column, said),), code=None, counts=found.rows_of_record)

    def _values(self, raw: RawRow) -> tuple[RawRow, RowValues | None]:
        """The row, and the values of its cells; None if they cannot be told apart."""
        options = self._options
        is_body = not self._is_table and options.template is None
        names, cells = (self.source.columns, raw.cells) if self._is_table else (tuple(raw.data), raw.data.values())
        texts = [each if isinstance(each, str) else "" for each in cells]
        joined = "".join(texts)
        if not is_body and ("\n" in joined or "\r" in joined):
            raw = self._without_rows_within(raw, names, texts)
        if not is_body and (footer := footer_in(texts)) is not None:
            raw = raw._replace(problems=((None, footer),))
        if self._ignored and raw.problems:
            kept = (each for each in raw.problems if each[0] is None or row_name(each[0]) not in self._ignored)
            raw = raw._replace(problems=tuple(kept))
        if raw.problems and any(column is None for column, _ in raw.problems):
            return raw, None
        values: RowValues | str
        if self._is_table:
            values = self._csv(raw)
            values.nested = set(filter(values.variables.get, self.source.nested))
        else:
            values = self._json_values(raw, is_body=is_body)
            if isinstance(values, str):
                return raw._replace(problems=((None, f"the row {values}"),)), None
        if raw.problems:
            values.take_problems(raw, self._numbers)
        self._find_damage(raw, values)
        # The line of a request body counts as one text.
        self._notes.add_texts(raw, [("", raw.text)] if is_body else zip(names, texts, strict=False))
        if self._further:
            values.take_further_numbers(self._further)
        if self._unseen:
            seen = {*values.variables, *map(row_name, raw.data)}
            self._unseen = {name: each for name, each in self._unseen.items() if name not in seen}
        if self._named:
            self._take_named(raw, values)
        if options.date_order is not None:
            self._refuse_mixed_dates(raw, values)
            write_dates_out(values, options.date_order)
        return raw, values

    def _refuse_mixed_dates(self, raw: RawRow, values: RowValues) -> None:
        """Raise CampaignFileError for a column of dates of which a spreadsheet has read some, and not the others."""
        row = raw.number
        for name, seen in self._dates.items() if self._options.date_order is not DateOrder.YMD else ():
            value = values.variables.get(name)
            if isinstance(value, str) and ((is_text := begins_with_ordered_date(value)) or may_be_swapped(value)):
                seen.setdefault(is_text, (row, value))
            if len(seen) == 2:
                (place, date), (other, text) = seen[False], seen[True]
                message = (
                    f"has {date!r} in row {place} and {text!r} in row {other}: a program has perhaps taken days for "
                    f"months where it could, and {date[:10]} is {date[:5]}{date[8:10]}-{date[5:7]}. Export it again "
                    "with the column as text (Excel: Data, From Text/CSV), or write all its dates alike"
                )
                (found,) = self._as_in_file(raw, [Finding(file=self.file, row=row, column=name, message=message)])
                raise CampaignFileError(f"{self.file or 'the rows'}, row {row}: {found.column} {message}", [found])

    def _json_values(self, raw: RawRow, *, is_body: bool) -> RowValues | str:
        """The values of a JSON object; the reason why it is no row, if it has rows in it."""
        data = {
            self._renamed.get(row_name(name), name): value
            for name, value in raw.data.items()
            if row_name(name) not in self._ignored
        }
        parts = ((each, part_of(data, each)) for each in self._parts if each not in data)
        data |= {each: part for each, part in parts if part is not None}
        values = json_values(
            raw._replace(data=data),
            is_body=is_body,
            number_column=self._number_column,
            may_be_reject=self.input is not None,
        )
        kept = {row_name(name) for name in raw.data} - self._ignored.keys()
        for name, column in self._options.roles.names.items():
            if name in kept - self._renamed.keys() and row_name(column) in kept:
                values.problems.append(
                    (column, None, f"is to be {name}, which the row has too; {Remedy.IGNORE_COLUMN}")
                )
        has_call = DESTINATION in (values.reserved if is_body else values.variables) or "callflow" in values.body
        return values if has_call else wrapped_in(raw.data) or values

    def _find_damage(self, raw: RawRow, values: RowValues) -> None:
        """Make errors of a spreadsheet problems of the row, and note one that names another batch than was given."""
        given = self._options.batch_id
        if given is not None and (own := values.reserved.get("batch_id")) not in {None, given}:
            named = f"names another batch in {{rows}}, such as {own!r}"
            message = f"{named}, which is not read, because the batch {given} was given"
            self._notes.add("batch_id", raw, self._names.get("batch_id", "batch_id"), message)
        for name, value in values.variables.items():
            # No cell with an error counts as missing. That of the numbers is the destination's too: one problem.
            is_twice = name == self._numbers != DESTINATION and DESTINATION in values.variables
            if isinstance(value, str) and not is_twice and (problem := error_in(value)) is not None:
                values.problems.append((name, None, problem))
                values.reserved.pop(name, None)

    def _rename_columns(self) -> Mapping[str, str]:
        """Give columns the names that options have for them: these, by those in rows. Raises CampaignFileError."""
        options, roles, place = self._options, self._options.roles.names, str(self.file or "the rows")
        renamed = {row_name(column): name for name, column in roles.items()}
        if both := next((each for each in (self._numbers, *self._further) if each in renamed), None):
            column = roles[renamed[both]]
            raise CampaignFileError(f"{place}: {column!r} has numbers to call, and cannot be {renamed[both]} too")
        if renamed and not self._is_table and options.template is None:
            raise CampaignFileError(f"{place}: request bodies have no columns; leave out columns, or give a text")
        if not self._is_table:
            self._unseen |= {row_name(column): column for column in roles.values()}
            return renamed
        own = _own_names(self.source.columns)
        for name, column in roles.items():
            if row_name(column) not in own:
                raise CampaignFileError(self._lacks(column))
            if name in own.keys() - renamed.keys() - self._ignored.keys():
                raise CampaignFileError(
                    f"{place} has a column {own[name]!r} beside {column!r}, which is to be {name}; "
                    f"{Remedy.IGNORE_COLUMN}"
                )
        ignored = {name: f"{name} of the file" for name in roles if name in self._ignored.keys() - renamed.keys()}
        self._ignored |= {row_name(name): self._ignored.pop(each) for each, name in ignored.items()}
        renamed |= ignored
        self.source.columns = tuple(renamed.get(row_name(each), each) for each in self.source.columns)
        return renamed

    def _lacks(self, column: str) -> str:
        if row_name(column) == REASON and NOT_READ in self.source.columns:
            return f"{self.file} has in its first column, reason, why rows were rejected, and it is not read: rename it"
        present = list(filter(None, self.source.header or self.source.columns))
        hint = did_you_mean(column, present) or ";"
        return f"{self.file or 'the rows'} has no column {column!r}{hint} columns found: {', '.join(present)}"

    def _refuse_named(self) -> None:
        """Raise CampaignFileError if a column that options name is not there."""
        place = str(self.file or "the rows")
        ignored = self._ignored.keys() - self._options.roles.names.keys()
        read = (*self._named, *self._options.roles.names.values())
        if both := next((each for each in read if row_name(each) in ignored), None):
            raise CampaignFileError(
                f"{place}: the column {both!r} cannot be ignored, because another field, such as leave_out, reads it; "
                f"if it has a reserved name by chance, columns give it another, such as own={both}"
            )
        if self._named and not self._is_table and self._options.template is None:
            hint = "leave out the lines themselves" if self._left_out.columns else "write + before numbers"
            raise CampaignFileError(f"{place}: request bodies have no column {self._named[0]!r}; {hint}")
        if not self._is_table:
            return
        if self._ignored.keys() & self._all_numbers:
            raise CampaignFileError(f"{place}: the column of the numbers to call cannot be ignored")
        ignorable = self._ignored.keys() & set(map(row_name, self.source.header))
        named = (*self._named, *self._ignored.values())
        if lacking := [each for each in named if row_name(each) not in self._csv.variables | ignorable]:
            raise CampaignFileError(self._lacks(lacking[0]))
        if self._language is not None and "language" in self._csv.variables:
            raise CampaignFileError(f"{place} has a column language beside {self._language!r}; rename one")

    @property
    def _language(self) -> str | None:
        """The column of the languages, if it has another name than `language`."""
        named = self._options.roles.language
        return None if named is None or row_name(named) == "language" else named

    def _take_named(self, raw: RawRow, values: RowValues) -> None:
        """Take the language of a row from its column. A JSON row must have each column that was named."""
        found = {*values.variables, *(row_name(column) for column, _, _ in values.problems)}
        for name in self._named:
            if row_name(name) not in found:
                hint = did_you_mean(name, raw.data)
                values.problems.append((name, None, f"is not in this row: give it, or null{hint}"))
        if self._language is not None:
            if "language" in values.variables:
                values.problems.append(("language", None, f"is in this row beside {self._language!r}; rename one"))
            for texts in (values.variables, values.data):
                texts["language"] = values.variables.get(row_name(self._language))

    def _file_findings(self) -> tuple[Finding, ...]:
        template = self._options.template
        if not self.source.kind.is_table:
            return template.findings if template is not None else ()
        if template is None:
            raise CampaignFileError(f"{self.file} is a table, so its calls need a text to speak: {Remedy.GIVE_TEXT}")
        if self.has_numbers_only:
            message = f"only numbers and reserved columns are checked; to check the calls too, {Remedy.GIVE_TEXT}"
            return (self._warning(message, row=self.source.header_row),)
        variables = self._csv.variables | ({"language"} if self._language else set[str]())
        needed = header_findings(template, self._options, variables, self._maker.menu_texts)
        if needed:
            found = [replace(each, file=self.file, row=self.source.header_row) for each in needed]
            columns = ", ".join(filter(None, self.source.header or self.source.columns))
            found[-1] = replace(found[-1], message=f"{found[-1].message}; columns found: {columns}")
            lines = "; ".join(f"{each.column} {each.message}" for each in found)
            raise CampaignFileError(f"{self.file}: {lines}", found)
        told = self._told_of(filter(None, self.source.columns), self.source.header_row)
        return (*template.findings, *self._misread_names(), *told, *self._no_language(variables))

    def _no_language(self, variables: frozenset[str]) -> Iterator[Finding]:
        """A warning if nothing says which language of the menu a person speaks, or if no menu heeds what does."""
        texts, named = self._maker.menu_texts, self._options.roles.language
        if texts is None and named is not None and "voice_profile" not in variables:
            message = (
                "is named as the language of each row, but a text without questions is the same for everybody, in one "
                "voice. Give each row its voice in a column voice_profile, or ask questions, with their texts by "
                "language"
            )
            yield self._warning(message, row=self.source.header_row, column=named)
        if texts is None or len(texts.languages) < 2 or "language" in variables | set(self._options.data or {}):
            return
        message = (
            f"the menu {texts.name} speaks {', '.join(texts.languages)}, and no column says which: everybody hears it "
            f"in its first language. If people speak others, {Remedy.NAME_LANGUAGES}"
        )
        yield self._warning(message, row=self.source.header_row)

    def _told_of(self, names: Iterable[str], row: int | None) -> Iterator[Finding]:
        """What is to be said of columns by their names, whatever their cells hold. Unused ones are in one finding."""
        texts, unused = self._maker.menu_texts, list[str]()
        for name in names:
            written = self._names.get(row_name(name), name)
            if {row_name(name), name} & {*self._ignored, *self._renamed, *self._options.roles.names}:
                continue
            if (meaning := MEANINGS.get(canonical_name(name))) is not None and written != canonical_name(name):
                remedy = f"if it is not meant for that, {Remedy.IGNORE_COLUMN}"
                yield self._warning(f"is a reserved name, and read as {meaning}; {remedy}", row=row, column=written)
                continue
            if row_name(name) == "language" and texts is not None and texts.has_languages:
                continue
            if is_own_word(name):
                message = f"is kept as data and does not affect calls; the column that does is spelled {row_name(name)}"
            elif name == "priority":
                message = (
                    "sets the order of the calls: a higher number goes first; if you mean something else, rename it"
                )
            elif self._is_wanted(name):
                continue
            elif close := self._meant(name):
                message = f"is {_UNUSED}; it is only stored with the call; did you mean {close[0]}?"
            else:
                unused.append(name)
                continue
            yield self._warning(message, row=row, column=name)
        if len(unused) == 1:
            yield self._warning(f"is {_UNUSED}; it is only stored with the call", row=row, column=unused[0])
        elif unused:
            listed = ", ".join(unused[:_MOST_NAMED]) + (", …" if len(unused) > _MOST_NAMED else "")
            yield self._warning(
                f"{len(unused)} columns are {_UNUSED}; they are only stored with the call: {listed}", row=row
            )

    def _misread_names(self) -> Iterator[Finding]:
        for name in self.source.header:
            if problem := misread(name):
                message = f"the name of this column {problem}"
                yield self._warning(message, row=self.source.header_row, column=name.strip())

    def _is_spare(self, name: str) -> bool:
        """True for a column that neither a call nor its menu needs."""
        is_needless = row_name(name) in self._ignored or not self._is_wanted(name)
        return bool(name) and is_needless and self._options.menu is None

    def _is_wanted(self, name: str) -> bool:
        template = self._options.template
        known = {*self._all_numbers, *map(row_name, self._named), *(each.partition(".")[0] for each in self._parts)}
        if name in {NOT_READ, *RESERVED} or row_name(name) in known:
            return True
        if template is None or is_used(name, template.variables):
            return True
        # Later prompts and handlers of a menu may use any column; a misspelled reserved name is still reported.
        return self._options.menu is not None and not self._meant(name)

    def _meant(self, name: str) -> list[str]:
        """A list with the known name that is most similar to `name`; empty if no known name is similar."""
        template = self._options.template
        known = [DESTINATION, *RESERVED, *(template.variables if template is not None else ())]
        return get_close_matches(name.casefold(), known, n=1, cutoff=0.7)

    def _new_keys(self, raw: RawRow) -> tuple[Finding, ...]:
        """What is to be said of the keys of a JSON line that no earlier line had."""
        if self._is_table or self._options.template is None:
            return ()
        given = list(raw.data)
        new = [name for name in given[given[:1] == [REASON] :] if name not in self._seen_names]
        self._seen_names.update(new)
        return tuple(self._told_of(new, raw.number))


def _own_names(names: Iterable[str]) -> Mapping[str, str]:
    """The names of columns as they are written, by their names in rows."""
    return {row_name(name): name.strip() for name in names if name.strip()}


class _OrderedRows:
    """The rows of a campaign whose keys are made by `orders`: see `CampaignOptions`.

    `own_keys` are those that the rows have without them, by which rows are compared with each other.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._places: Counter[str] = Counter()
        self.own_keys: SeenKeys = SeenKeys()

    def checked(self, read: ReadRow, cells: Mapping[str, object], *, file: str | None) -> ReadRow:
        """The row, bad if the orders find anything wrong with a cell about which nothing is said yet."""
        known = {found.column for found in read.findings if found.is_error}
        bad = [
            Finding(file=file, row=read.raw.number, column=column, message=message)
            for column, message in self._orders.problems(cells)
            if column not in known
        ]
        return read._replace(call=None, findings=(*read.findings, *bad)) if bad else read

    def named(self, read: ReadRow, keys: SeenKeys) -> ReadRow:
        """The row with its key, which is added to `keys`."""
        if read.call is None:
            return read
        called = f"key {read.own_key}" if read.own_key else f"number {telephone_of(read.call.destination)}"
        key = self._orders.key(called, self._places[called])
        self._places[called] += 1
        keys.first(key, row=read.raw.number, digest=read.digest)
        return read._replace(call=read.call._replace(unique_key=key), has_made_key=True)


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
        raise CampaignFileError(f"{file} has no name to use as a batch id; {Remedy.NAME_BATCH}")
    if len(stem) > MAX_ID_CHARACTERS:
        raise CampaignFileError(
            f"{file}: its name has {len(stem)} characters, but a batch id has at most {MAX_ID_CHARACTERS}; "
            f"{Remedy.NAME_BATCH}"
        )
    return stem


def _judged(options: CampaignOptions, now: datetime) -> CampaignOptions:
    """These options. Raises InvalidInputError for one that would make every row bad."""
    if options.country is not None:
        read_number(PLACEHOLDER, options.country)
    if options.source is not None:
        read_sources(options.source, options.country)
    if options.batch_id is not None and not 0 < len(options.batch_id.strip()) <= MAX_ID_CHARACTERS:
        raise InvalidInputError(f"the batch id {options.batch_id!r} must have 1 to {MAX_ID_CHARACTERS} characters")
    for zone, read in ((options.time_zone, read_zone), (options.visit_time_zone, read_visit_zone)):
        try:
            _ = zone is not None and read(zone)
        except ValueError as error:
            raise InvalidInputError(f"the time zone {error}") from None
    if options.valid_until is not None:
        if options.valid_for is not None:
            raise InvalidInputError("valid_for and valid_until exclude each other: give one of them")
        if options.valid_until <= now:
            raise InvalidInputError(f"valid_until is {in_words(options.valid_until)}, which has passed")
    if problem := priority_problem(options.priority):
        raise InvalidInputError(f"the priority {problem}")
    return options


_OPTIONS = {"source": Remedy.GIVE_SOURCE, "voice_profile": Remedy.GIVE_VOICE}


def header_findings(
    template: FlowTemplate, options: CampaignOptions, variables: Iterable[str], menu_texts: MenuTexts | None = None
) -> list[Finding]:
    """The findings that make every row bad in a file with these variables.

    To find them, the template and the texts of the menu are filled in for a row with a value in every column. A value
    that is still missing is missing in every row.
    """
    present = set(variables)
    given = {"source": options.source, "voice_profile": options.voice_profile}
    specimen: dict[str, object] = dict.fromkeys(present, SpecimenText("1"))
    specimen |= {name: value for name, value in given.items() if value is not None and name not in present}
    specimen |= options.data or {}
    filled = template.fill(specimen)
    missing = {problem.column for problem in filled.problems if problem.is_missing and problem.column is not None}
    if menu_texts is not None:
        problems = menu_texts.problems(specimen)
        missing |= {name for name, _, is_missing in problems if is_missing and name is not None} - specimen.keys()
    missing |= missing_from(filled.body) - specimen.keys()
    foreign = (*template.foreign, *(menu_texts.foreign if menu_texts is not None else ()))
    wrong = {found.column: found.message for each in foreign if (found := each.among(specimen)) is not None}
    found = [_finding(name, present, options.roles.names) for name in sorted(missing)]
    return found + [Finding(column=column, message=message) for column, message in wrong.items()]


def _finding(name: str, present: Collection[str], renamed: Mapping[str, str]) -> Finding:
    if now := next((each for each, column in renamed.items() if row_name(column) == name), None):
        message = f"is read as {now}, as columns say: write {{{{{now}}}}} in the text"
        return Finding(column=name, code=-1009, message=message)
    option = _OPTIONS.get(name)
    remedy = f"{option}, or add a column {name}" if option else f"add a column {name}"
    if close := get_close_matches(name, present, n=1):
        # A name cannot begin with a digit; an underscore in front of it does not count.
        remedy += f", or did you mean {'_' if close[0][0].isdigit() else ''}{close[0]}?"
    return Finding(
        column=name,
        code=-1009,
        message=f"is needed by the call flow, but there is no such column; {remedy}",
    )
