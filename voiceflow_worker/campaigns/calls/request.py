"""The reader of rows. Each row becomes a call to be enqueued, or findings with all its errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.bodies import Bodies, CallBody
from voiceflow_worker.campaigns.calls.options import BadNumbers, CampaignOptions
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.values import FIRST_CALL, Draft, complete, row_key, write_numbers_out
from voiceflow_worker.campaigns.files.rows import DESTINATION, RESERVED, RawRow, row_name
from voiceflow_worker.core.admission import CheckedCall, call_digest, further_numbers
from voiceflow_worker.core.ports.store import Put
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.errors import CallFlowError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, message_of, tell
from voiceflow_worker.ivr.speech_filters import ZONE, at_the_person
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import EncodedBody, copy_of
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED, destinations, read_valid_until
from voiceflow_worker.model.flows.values import is_missing, language_in, unspeakable
from voiceflow_worker.model.jobs.admission import LONGEST_KEY, PRIORITIES, priority_problem
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.parts import CodeError, joined_number
from voiceflow_worker.model.numbers.phone import usual_form, with_plus
from voiceflow_worker.model.numbers.reading import number_in, read_country, read_sources
from voiceflow_worker.model.numbers.regions import Region, region_in
from voiceflow_worker.model.text.arguments import time_problem
from voiceflow_worker.model.text.names_of_the_world import at_odds
from voiceflow_worker.model.text.wording import did_you_mean, in_words, name_among
from voiceflow_worker.model.times import (
    DATE_LIKE,
    DoubtfulYear,
    PersonZone,
    begins_with_ordered_date,
    doubtful_date,
    doubtful_year,
    one_of_zones,
    own_zone,
    read_time,
    read_zone,
    spoken_date,
    spoken_instant,
    zone_named,
)
from voiceflow_worker.model.window import CallWindow

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts


@dataclass(slots=True)
class Schedule:
    """The times of one row. Its findings have a column, but no row number yet.

    If `over` has a column and why, the time of the row is over, and nobody is called.
    """

    time_zone: str | None = None
    not_before: datetime | None = None
    valid_until: datetime | None = None
    over: tuple[str, str] | None = None
    findings: list[Finding] = field(default_factory=list[Finding])


def read_schedule(
    reserved: Mapping[str, str],
    cells: Mapping[str, object],
    body: Mapping[str, object],
    options: CampaignOptions,
    *,
    now: datetime,
    checks: bool,
) -> Schedule:
    """The times of a row with these `reserved` values and all its `cells`.

    The column `valid_until` overrides the `validUntil` of the body. The options `valid_for` and `valid_until` give a
    validity to a row without one, and shorten a longer one. They replace a `validUntil` of the body that has passed, as
    in the examples that 8x8 prints (with a warning); one that comes from a column never. The column `not_before`
    overrides the option. The column `time_zone` is the zone of the person; the option is that of local times, in rows
    without the column.
    """
    schedule = Schedule()
    zone = _zone(reserved, options.time_zone, schedule)
    starts, ends = options.not_before, options.valid_until
    last: datetime | None = None
    if (text := reserved.get("not_before")) is not None:
        schedule.not_before = _time(text, "not_before", zone, schedule)
    elif isinstance(starts, ColumnTime):
        moment, schedule.not_before = _counted(starts, "not_before", cells, zone, schedule)
        last = moment if starts.is_before else None  # what people are reminded of is over then
    else:
        schedule.not_before = starts
    if isinstance(ends, ColumnTime):
        last = ends = _counted(ends, "valid_until", cells, zone, schedule)[1]
    given = min(filter(None, (last, ends)), default=None)
    column: str | None = "valid_until"
    if (text := reserved.get("valid_until")) is not None:
        own = _time(text, "valid_until", zone, schedule)
    else:
        own = read_valid_until(body.get("validUntil"))  # a malformed time is reported with the body
        column = None
        if own is None and options.valid_for is None and given is None:
            return schedule
    path = "$.validUntil" if column is None else None
    found = partial(Finding, column=column, path=path, code=VALIDITY_EXPIRED)
    problem = time_problem("the validity's end", own)
    if problem is not None:
        schedule.findings.append(found(message=problem))
    elif (over := _why_over(schedule, options, own=own, last=last, now=now)) is not None:
        schedule.over = over
    else:
        schedule.findings += _settle_validity(
            schedule, own, given, found, options, reserved=reserved, now=now, checks=checks
        )
    return schedule


def _counted(
    given: ColumnTime, name: str, cells: Mapping[str, object], zone: ZoneInfo | None, schedule: Schedule
) -> tuple[datetime | None, datetime | None]:
    """The time in the column of a row, and the one that is counted from it; a finding if they are not certain."""
    column = row_name(given.column)
    if column not in cells or any(found.column in {"time_zone", given.column} for found in schedule.findings):
        return None, None  # each cell has one finding
    cell = cells[column]
    try:
        if is_missing(cell):
            raise ValueError(f"is empty, and {name} ({given}) counts from it: give the time, or leave the row out")
        found, doubtful = given.of(str(cell), zone), doubtful_year(str(cell))
        problem = time_problem(name, found[1]) if doubtful is None else doubtful.why
        if problem is None:
            return found
        schedule.findings.append(Finding(column=given.column, message=problem))
    except ValueError as error:
        schedule.findings.append(Finding(column=given.column, message=message_of(error)))
    return None, None


def _why_over(
    schedule: Schedule, options: CampaignOptions, *, own: datetime | None, last: datetime | None, now: datetime
) -> tuple[str, str] | None:
    """The column and the reason, if the time of a call that is counted from a column is over."""
    counted = next((each for each in (options.valid_until, options.not_before) if isinstance(each, ColumnTime)), None)
    begin, end = schedule.not_before, min(filter(None, (own, last)), default=None)
    if counted is None or any(found.is_error for found in schedule.findings):
        return None
    if last is not None and last <= now:
        return counted.column, f"is over: the call could ring until {in_words(last)}, and this is past"
    if begin is not None and end is not None and begin >= end:
        return counted.column, f"leaves no time for the call: not before {in_words(begin)}, and until {in_words(end)}"
    return None


def fit_window(
    schedule: Schedule, windows: CountryWindows, *, numbers: Sequence[str], region: Region | None, now: datetime
) -> CallWindow | None:
    """The window of a person with these numbers. Adds a finding if it does not open while the row is valid.

    The schedule gets the time zone of the row, else of its state, else of the telephone numbers. A schedule with errors
    is not changed, nor is one whose validity has passed; there is no window then.
    """
    has_passed = schedule.over is not None or (schedule.valid_until is not None and schedule.valid_until <= now)
    if not numbers or has_passed or any(found.is_error for found in schedule.findings):
        return None
    try:
        window = windows.to(numbers, region and region.code)
    except InvalidInputError as error:
        schedule.findings.append(Finding(column=DESTINATION, message=message_of(error)))
        return None
    if region is not None and schedule.time_zone is None:
        schedule.time_zone = one_of_zones(region.zones, at=max(now, schedule.not_before or now))
        if schedule.time_zone is None and window.time_zone is None:
            why = f"{region.code} has several clocks ({', '.join(region.zones)})"
            schedule.findings.append(Finding(column="time_zone", message=tell("no_window_zone", why=why)))
            return None
    opening = first_opening(
        window,
        numbers=numbers,
        time_zone=schedule.time_zone,
        at=max(now, schedule.not_before or now),
        valid_until=schedule.valid_until,
    )
    if opening.problem is not None:
        schedule.findings.append(opening.problem)
    schedule.time_zone = opening.time_zone
    return window


def _zone(reserved: Mapping[str, str], default: str | None, schedule: Schedule) -> ZoneInfo | None:
    """The zone of the row's local times. The schedule gets the one in the row's own column."""
    name = reserved.get("time_zone")
    if name is None:
        return None if default is None else read_zone(default)
    try:
        zone = read_zone(name)
    except ValueError as error:
        schedule.findings.append(Finding(column="time_zone", message=message_of(error)))
        return None
    schedule.time_zone = zone.key
    return zone


def _time(text: str, column: str, zone: ZoneInfo | None, schedule: Schedule) -> datetime | None:
    try:
        moment = read_time(text, zone=zone)
        problem = time_problem(column, moment) if column == "not_before" else None
        if problem is None and (doubtful := doubtful_year(text)) is not None:
            problem = doubtful.why
        if problem is None:
            return moment
        schedule.findings.append(Finding(column=column, message=problem))
    except ValueError as error:
        message = message_of(error)
        if zone is None and any(found.column == "time_zone" for found in schedule.findings):
            # The unknown zone was reported already. With any zone, the rest of the time is checked.
            try:
                read_time(text, zone=ZoneInfo("UTC"))
            except ValueError as own:
                message = message_of(own)
            else:
                return None
        schedule.findings.append(Finding(column=column, message=message))
    return None


def _settle_validity(
    schedule: Schedule,
    own: datetime | None,
    offered: datetime | None,
    found: Callable[..., Finding],
    options: CampaignOptions,
    *,
    reserved: Mapping[str, str],
    now: datetime,
    checks: bool,
) -> Iterator[Finding]:
    if options.valid_for is not None:
        counted = max(now, schedule.not_before or now) + options.valid_for
        offered = counted if offered is None else min(counted, offered)
    has_passed = own is not None and own <= now
    is_of_row = has_passed and ("valid_until" in reserved or _fills_in_validity(options))
    if offered is not None and not is_of_row:
        schedule.valid_until = offered if own is None or has_passed else min(own, offered)
        if has_passed:
            option = "valid_until" if options.valid_for is None else "valid_for"
            replaced = (
                f"the validity of this row has passed, and the campaign's {option} replaces it: this phone may ring; "
                "if it should not, leave the row out"
            )
            yield found(severity=Severity.WARNING, message=replaced)
    else:
        schedule.valid_until = own
        if own is not None and has_passed:
            severity = Severity.WARNING if checks else Severity.ERROR
            kind = "expired_in_row" if is_of_row else "expired"
            yield found(severity=severity, message=tell(kind, ended=in_words(own)))
            return
    begin, end = schedule.not_before, schedule.valid_until
    if begin and end and begin >= end:
        yield found(
            message=f"the validity ends at {in_words(end)}, but the call may not be sent before {in_words(begin)}; "
            "give a later valid_until or an earlier not_before"
        )


def _fills_in_validity(options: CampaignOptions) -> bool:
    """Whether the validity of a body comes from a column, by a name in the template."""
    template = options.template
    both = () if template is None else (template, *template.languages.values())
    return any(text.path == "$.validUntil" for each in both for text in each.texts)


_TIMES = frozenset({"time_zone", "not_before", "valid_until"})
_ANY_TIME = Schedule()
_WHOLE = re.compile(r"\d+\.0+")  # as a data frame writes whole numbers in a column with gaps
_NO_DATES = frozenset({DESTINATION, "source"})
_OWN = frozenset({DESTINATION, *RESERVED})
_OPTIONS = {"source": Remedy.GIVE_SOURCE, "voiceProfile": Remedy.GIVE_VOICE}


def texts_of(options: CampaignOptions) -> MenuTexts | None:
    """The texts of the options' menu; None if there is none, or only its name is known."""
    if options.menu is None or isinstance(options.menu, str):
        return None
    from voiceflow_worker.ivr.check import MenuTexts

    return options.menu if isinstance(options.menu, MenuTexts) else MenuTexts(options.menu)


def menu_puts(options: CampaignOptions) -> tuple[Put, ...]:
    """What the store keeps of the options' menu for its calls: all of it, if it is written as data."""
    menu = options.menu
    if menu is None or isinstance(menu, str) or not menu.definition:
        return ()
    return (Put(MENUS, menu.name, menu.definition, None),)


class ReadRow(NamedTuple):
    """One row after reading: its findings and its call. A row that is bad, a duplicate or left out has no call.

    `digest` is the digest of the canonical body. `own_key` is the unique key in the row itself. `has_made_key` is True
    if the row has no key of its user, but one that was made for it, so that it is compared with earlier calls.
    `duplicate_of` is the line of an equal row earlier in the file. `is_left_out` is True if a column says not to call.
    """

    raw: RawRow
    call: CheckedCall | None = None
    digest: str = ""
    own_key: str | None = None
    has_made_key: bool = False
    findings: tuple[Finding, ...] = ()
    duplicate_of: int | None = None
    is_left_out: bool = False

    @property
    def is_bad(self) -> bool:
        """True if the row has an error, and cannot be called."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    @property
    def number(self) -> str | None:
        """The number to call, as the call stores it; None if the row has no call."""
        return self.call.destination if self.call is not None else None


class RequestMaker:
    """Makes the calls for the rows of a file, with these options. A row that names no batch gets `default_batch`."""

    def __init__(
        self, options: CampaignOptions, *, file: str | None, default_batch: str, now: datetime, checks: bool
    ) -> None:
        self._options = options
        self._file = file
        self._default_batch = default_batch
        self._now = now
        self._checks = checks
        menu = options.menu
        self._menu = menu if menu is None or isinstance(menu, str) else menu.name
        self.menu_texts: MenuTexts | None = texts_of(options)
        self._bodies = Bodies()
        self._windows = None if options.window is None else CountryWindows.of(options.window)
        self.on_holidays: Counter[str] = Counter()
        """The calls by countries without a calendar, although the options have calendars for others."""
        self.calendars: dict[str, tuple[datetime, datetime]] = {}
        """The calendars of the calls, each with the first and the last time from which one of its calls may ring."""
        self._has_times = any((options.not_before, options.valid_until, options.valid_for, options.window))
        source = None if options.source is None else read_sources(options.source, options.country)
        self._only_source = None if source is None else source.only
        self._fit = set[tuple[str, str | None]]()
        """The voices about which there is nothing to say, each with the language of its row."""
        self._warned: set[tuple[str, str | None]] = set()
        """The warnings that are given once: what each is about, and its column or, of source numbers, the message."""

    def read(self, raw: RawRow, draft: Draft | None) -> ReadRow:
        """Read a row. The result has a call, or else the errors of the row. A bad row does not raise an exception."""
        if draft is None:
            return ReadRow(raw, findings=tuple(self._unreadable(raw)))
        if draft.findings:
            draft.drop_wrong()
        options = self._options
        template, menu = self._words(draft)
        draft.country = self._country(draft) if options.roles.country is not None else options.country
        destination, further = self._numbers(draft)
        if self._menu is not None or not (template is None or template.is_joined):
            draft.person = self._zone_of(draft, [destination, *further])
        source = self._source(draft, list(filter(None, (destination, *further))))
        made = self._body(draft, template, destination, source)
        schedule, window = self._times(draft, made, destination, further)
        if schedule.over is not None:
            return self._over(raw, *schedule.over)
        batch_id = self._batch(draft, made.fields) or self._default_batch
        own_key = self._unique_key(draft, made.fields)
        priority = self._priority(draft)
        spoken = menu.names if menu is not None else frozenset[str]()
        data = self._data(draft, destination, source, spoken & _OWN)
        if self._menu is not None and options.visit_time_zone is not None:
            data = _at_the_visit(data or {}, draft.person)
        if menu is not None:
            self._judge_menu(draft, menu, {**(data or {}), ZONE: draft.person})
        names = spoken if template is None else spoken | template.variables
        if draft.nested:
            _refuse_nested(draft, spoken if raw.names else names)
        heard = made.heard(draft.texts)
        if draft.may_have_dates:
            self._doubt_dates(draft, names, heard, menu, data)
        self._doubt_instants(draft, heard)
        findings = tuple(self._findings(raw, draft)) if draft.findings else ()
        if draft.is_bad:
            return ReadRow(raw, findings=findings)
        sender, number, body, canonical = encoded = made.encoded(draft.texts, destination or "")
        try:
            others = further_numbers(EncodedBody._make(encoded), further) if further else ()
        except CallFlowError as error:
            refused = (replace(found, file=self._file, row=raw.number) for found in error.findings)
            return ReadRow(raw, findings=(*findings, *refused))
        # Later texts of a menu must know the zone that the first one was spoken in.
        zone = schedule.time_zone or (None if draft.person is None else draft.person.borrowed)
        digest = call_digest(canonical, others)
        call = CheckedCall(
            sender,
            number,
            body,
            digest,
            own_key or row_key(batch_id, canonical, others),
            batch_id,
            priority,
            schedule.not_before,
            schedule.valid_until,
            zone,
            options.redial,
            window,
            data,
            self._menu,
            others,
        )
        if self._windows is not None:
            self._count_holidays(self._windows, call)
        return ReadRow(raw, call, digest, own_key, not own_key, findings)

    def _findings(self, raw: RawRow, draft: Draft) -> Iterator[Finding]:
        """What is told of a row."""
        self._explain_dates(draft)
        for found in filter(self._is_new, draft.findings):
            yield replace(found, file=self._file, row=raw.number)

    def _over(self, raw: RawRow, column: str, why: str) -> ReadRow:
        """The row, for which nobody is called because its time is over."""
        told = Finding(severity=Severity.WARNING, message=f"{why}: nobody is called for it")
        return ReadRow(raw, findings=(replace(told, file=self._file, row=raw.number, column=column),), is_left_out=True)

    def _unreadable(self, raw: RawRow) -> Iterator[Finding]:
        for column, message in raw.problems:
            yield Finding(file=self._file, row=raw.number, column=column, code=raw.code, message=message)

    def _count_holidays(self, windows: CountryWindows, call: CheckedCall) -> None:
        if (country := windows.lacks_calendar(call.destination)) is not None:
            self.on_holidays[country] += 1
        for calendar in () if call.window is None else call.window.holidays:
            starts = call.not_before or self._now
            first, last = self.calendars.get(calendar, (starts, starts))
            self.calendars[calendar] = (min(first, starts), max(last, starts))

    def _times(
        self, draft: Draft, made: CallBody, destination: str | None, further: Sequence[str]
    ) -> tuple[Schedule, CallWindow | None]:
        """The times of a row, and its window."""
        if not self._has_times and _TIMES.isdisjoint(draft.reserved) and "validUntil" not in made.fields:
            return _ANY_TIME, None
        read, cells = draft.reserved, draft.variables
        schedule = read_schedule(read, cells, made.fields, self._options, now=self._now, checks=self._checks)
        window: CallWindow | None = None
        if self._windows is not None:
            first = [destination] if made.is_form else destinations(made.fields)[:1]
            numbers = (*map(usual_form, filter(None, first)), *further)
            region = self._region(draft, next(iter(numbers), None))
            window = fit_window(schedule, self._windows, numbers=numbers, region=region, now=self._now)
        if schedule.findings:
            draft.findings += [found for found in schedule.findings if not draft.is_reported(found.column)]
        return schedule, window

    def _is_new(self, found: Finding) -> bool:
        """False if the finding is a warning about the source number, and an earlier row had the same warning."""
        if found.is_error or found.path is None or not found.path.endswith(".params.source"):
            return True
        return _is_first(("source", found.message), self._warned)

    def numbers(self, draft: Draft) -> list[str]:
        """The numbers of a row that nobody is called for, as far as they can be read."""
        draft.country = self._country(draft)
        first, further = self._numbers(draft)
        return [number for number in (first, *further) if number is not None]

    def texts(self, data: Mapping[str, object]) -> MenuTexts | None:
        """The texts of the menu for a call with this data; None without a menu."""
        language = language_in(data)
        return self.menu_texts if self.menu_texts is None or language is None else self.menu_texts.spoken_in(language)

    def _words(self, draft: Draft) -> tuple[FlowTemplate | None, MenuTexts | None]:
        """What a row's person hears: the template of the call, and the texts of its menu."""
        texts, template = self.menu_texts, self._options.template
        if texts is None:
            return template, None
        language = language_in({**draft.variables, **(self._options.data or {})})
        try:
            if language is not None:
                spoken = texts.spoken_in(language)
                return template and template.spoken_in(language), spoken
        except InvalidInputError as error:
            draft.error(Message(f"cannot be the language of this call: {error}", error), column="language")
        return template, texts

    def _body(
        self, draft: Draft, template: FlowTemplate | None, destination: str | None, source: str | None
    ) -> CallBody:
        """The row's body. Broken rules of the contract are added to the findings."""
        reserved = draft.reserved
        has_number = destination is not None or DESTINATION in draft.reserved or bool(draft.further)
        reported_paths: set[str | None] = {f"{FIRST_CALL}.destination"} if has_number else set()
        wins, voice = "source" in reserved, self._voice(draft)
        if template is None:
            own = copy_of(draft.body)
            if self._options.country is not None:
                write_numbers_out(own, country=self._options.country)
            if destination is None and source is None and not draft.is_reported("source"):
                source = self._source(draft, list(destinations(own))[:1])
            complete(own, destination=destination, source=source, voice_profile=voice, source_wins=wins)
            body = CallBody(own)
        else:
            given = {**self._given(draft, destination or PLACEHOLDER, source), ZONE: draft.person}
            draft.texts, problems = template.fill(given)
            for problem in problems:
                reported_paths.add(problem.path)
                message = _lacking(draft, problem.message, is_source=problem.column == "source" and problem.is_missing)
                if message and not draft.is_reported(problem.column):
                    draft.error(message, column=problem.column, path=problem.path, code=-1009)
            body = self._bodies.made(
                template, draft.texts, destination=destination, source=source, voice_profile=voice, source_wins=wins
            )
        self._doubt_voices(draft, body.voices)
        if draft.findings and body.problems:
            reported_paths |= {found.path for found in draft.findings if found.path is not None}
        for each in body.problems:
            column = _column_of(each.path, template, reserved)
            if each.path not in reported_paths and not draft.is_reported(column):
                name = (each.path or "").rpartition(".")[2]
                message = each.told
                option = _OPTIONS.get(name) if message.kind == "missing" else None
                if option is not None:
                    message = message.plus(f", or {option}", option)
                is_source = option is not None and each.path == f"{FIRST_CALL}.source"
                if told := _lacking(draft, message, is_source=is_source):
                    draft.findings.append(replace(each, column=column, message=told))
        return body

    def _numbers(self, draft: Draft) -> tuple[str | None, list[str]]:
        """The number to call, and the further ones of the person, in E.164 form; None if there is none, or it is wrong.

        If the first cell is empty, the next number that there is takes its place.
        """
        first, further = draft.reserved.get(DESTINATION), draft.further
        if first is not None and not further and not draft.findings:
            return self._number(draft, DESTINATION, first), []
        passes_over = self._options.bad_numbers is BadNumbers.SKIP and bool(self._options.roles.numbers)
        if first is None and not passes_over and any(found.column == DESTINATION for found in draft.findings):
            if any(self._number(draft, name, text) is not None for name, text in further):
                self._judge_bad_numbers(draft)
            return None, []
        written = [*([] if first is None else [(DESTINATION, first)]), *further]
        if not written and self._options.template is not None and not draft.is_reported(DESTINATION):
            draft.error(tell("no_number"), column=DESTINATION, code=-1009)
        found = [self._number(draft, name, text) for name, text in written]
        good = list(filter(None, found))
        if good:
            self._judge_bad_numbers(draft, passes_over=passes_over)
        if passes_over and good:
            return good[0], good[1:]
        return (found[0], list(filter(None, found[1:]))) if found else (None, [])

    def _judge_bad_numbers(self, draft: Draft, *, passes_over: bool = False) -> None:
        """Make warnings of the errors about numbers, or offer that: the person has another one that can be called."""
        if not draft.findings:
            return
        columns = {DESTINATION, *map(row_name, self._options.roles.numbers)}
        for place, found in enumerate(draft.findings):
            if not found.is_error or found.column is None or row_name(found.column) not in columns:
                continue
            if passes_over:
                message = found.told.plus(". This number is skipped, and the person's others are called")
                draft.findings[place] = replace(found, severity=Severity.WARNING, message=message)
            elif Remedy.NAME_COUNTRIES not in (message := found.told).needs:
                draft.findings[place] = replace(
                    found, message=message.plus(f"; or {Remedy.SKIP_NUMBERS}", Remedy.SKIP_NUMBERS)
                )

    def _number(self, draft: Draft, name: str, written: str) -> str | None:
        text, roles = self._written(written), self._options.roles
        try:
            joined = bool(roles.calling_code or roles.area_code)
            number, _, warnings = self._joined(draft, text) if joined else number_in(text, draft.country)
        except CodeError as error:
            column = roles.area_code if error.is_area else roles.calling_code
            if not draft.is_reported(column):
                draft.error(message_of(error), column=column)
            return None
        except PhoneNumberError as error:
            message = message_of(error)
            if message.kind == "no_country":
                if draft.is_reported(self._options.roles.country):
                    return None  # the cell of the country is the one that is wrong
                message = self._without_country(message)
            draft.error(message, column=name, code=error.code)
            return None
        for warning in warnings:
            draft.findings.append(Finding(column=name, severity=Severity.WARNING, message=f"{number} {warning}"))
        return number

    def _joined(self, draft: Draft, text: str) -> tuple[str, str | None, tuple[str, ...]]:
        """The number behind the codes in columns of their own, as `number_in` has it."""
        roles = self._options.roles
        cells = (
            draft.variables.get(row_name(each)) if each else None for each in (roles.calling_code, roles.area_code)
        )
        code, area = ("" if is_missing(each) else str(each) for each in cells)
        found = joined_number(text, calling_code=code, area_code=area, country=draft.country)
        return found.e164, found.country_code, found.warnings

    def _without_country(self, message: Message) -> Message:
        """What to do about a number that does not say its country: a column may say it."""
        if self._options.template is None:
            return message
        if (column := self._options.roles.country) is None:
            return tell("no_country", remedy=Remedy.NAME_COUNTRIES, **message.values)
        return tell("country_cell_empty", column=column, **message.values)

    def _zone_of(self, draft: Draft, numbers: Sequence[str | None]) -> PersonZone:
        """The zone in which a person with these numbers hears times: of the row, its state, the numbers, the options.

        If the row's zone or one of its numbers is wrong, which is an error already, it is any zone.
        """
        own, known = draft.reserved.get("time_zone"), list(filter(None, numbers))
        if own is None and known and (region := self._region(draft, known[0])) is not None:
            own = one_of_zones(region.zones, at=self._now)
        if (own is None and len(known) < len(numbers)) or (own is not None and zone_named(own) is None):
            own = "UTC"
        return PersonZone(own, known, self._options.time_zone, self._options.visit_time_zone)

    def _country(self, draft: Draft) -> str | None:
        """The country of this row's national numbers: that in its column, or that of the options."""
        column = self._options.roles.country
        text = None if column is None else draft.variables.get(row_name(column))
        if column is None or is_missing(text):
            return self._options.country
        try:
            return read_country(str(text))
        except InvalidInputError as error:
            draft.error(message_of(error), column=column)
            return None

    def _region(self, draft: Draft, number: str | None) -> Region | None:
        """The state of the person; None if the cell is empty, or the number of a country whose states do not matter."""
        column = self._options.roles.region
        cell = None if column is None else draft.variables.get(row_name(column))
        try:
            return None if is_missing(cell) or not str(cell).strip() else region_in(str(cell), number)
        except InvalidInputError as error:
            if not draft.is_reported(column):
                draft.error(message_of(error), column=column)
            return None

    def _source(self, draft: Draft, numbers: Sequence[str]) -> str | None:
        """The number to call this person from, in E.164 form; None if there is none, or it is wrong."""
        own = draft.reserved.get("source")
        if own is None and self._only_source is not None:
            return self._only_source
        text = None if own is None else self._written(own)
        text = text or self._options.source
        if text is None:
            return None
        try:
            sources = read_sources(text, self._options.country)
        except InvalidInputError as error:
            draft.error(message_of(error), column="source", code=-1009)
            return None
        if sources.only is not None:
            return sources.only
        draft.no_source = ""
        try:
            found = [sources.to(number) for number in numbers]
        except PhoneNumberError as error:
            draft.no_source = message_of(error)
            if own is not None:
                draft.error(draft.no_source, column="source", code=-1009)
            return None
        for number, other in zip(numbers, found, strict=True):
            if other != found[0]:
                draft.error(
                    f"would be {found[0]} for {numbers[0]} and {other} for {number} of the same person; give the row "
                    "one source, or the numbers a row each",
                    column="source",
                )
        return found[0] if found else None

    def _written(self, number: str) -> str:
        # Request bodies, and 8x8's guides, write country codes without a +.
        is_of_body = self._options.template is None and self._options.country is None
        return with_plus(number) if is_of_body and "=" not in number else number

    def _voice(self, draft: Draft) -> str | None:
        """The voice that the row names, else that of the options."""
        return draft.reserved.get("voice_profile", self._options.voice_profile)

    def _batch(self, draft: Draft, body: Mapping[str, object]) -> str | None:
        """The batch id of the options, else that which the row names, else that of the body."""
        own = body.get("clientBatchId")
        batch_id = self._options.batch_id or draft.reserved.get("batch_id")
        if batch_id is None:
            return own if isinstance(own, str) and own.strip() else None
        if len(batch_id) > MAX_ID_CHARACTERS:
            message = f"has {len(batch_id)} characters, but at most {MAX_ID_CHARACTERS} are allowed; shorten it"
            draft.error(message, column="batch_id", code=-1009)
        elif problem := unspeakable(batch_id):
            draft.error(f"has {problem}; remove it", column="batch_id", code=-1016)
        return batch_id

    def _unique_key(self, draft: Draft, body: Mapping[str, object]) -> str | None:
        """The unique key that the row names, else that of the body, in one spelling, whichever program wrote it."""
        own = body.get("clientRequestId")
        key = draft.reserved.get("unique_key")
        if key is None:
            return usual_key(own) if isinstance(own, str) and own.strip() else None
        key = usual_key(key.partition(".")[0] if _WHOLE.fullmatch(key) else key)
        if len(key) > LONGEST_KEY:
            message = f"has {len(key)} characters, but at most {LONGEST_KEY} are allowed; shorten it"
            draft.error(message, column="unique_key")
        return key

    def _given(self, draft: Draft, destination: str | None, source: str | None) -> Mapping[str, object]:
        """The dictionary of the row, for all texts: its columns, its call's numbers and voice, the options' `data`."""
        own = {"source": source, "destination": destination, "voice_profile": self._voice(draft)}
        return {**draft.variables, **own, **(self._options.data or {})}

    def _judge_menu(self, draft: Draft, texts: MenuTexts, data: Mapping[str, object]) -> None:
        """Add the reasons why texts of the menu cannot be spoken with the data that is stored with the call."""
        for column, message, lacks in texts.problems(data):
            told = _lacking(draft, message, is_source=lacks and column == "source")
            if told and not draft.is_reported(column):
                draft.error(told, column=column, code=-1009)

    def _doubtful_dates(self, draft: Draft, heard: Iterable[str]) -> Mapping[str | None, str]:
        """The columns with a date whose day and month nobody can tell apart, and the dates. The call may speak them."""
        if self._options.template is None:
            day = next(filter(None, map(doubtful_date, heard)), None)
            return {} if day is None else {None: day}
        return {
            name: day
            for name, value in draft.variables.items()
            if isinstance(value, str) and (day := doubtful_date(value)) is not None and name not in _NO_DATES
        }

    def _warn_once(self, draft: Draft, what: str, column: str | None, message: str) -> None:
        """Add a warning about a column, unless an earlier row has one about the same matter."""
        if _is_first((what, column), self._warned):
            draft.findings.append(Finding(column=column, severity=Severity.WARNING, message=message))

    def _doubt_days(self, draft: Draft, days: Mapping[str | None, str], texts: Sequence[str]) -> None:
        """Add a warning for each column whose date is in these spoken texts: the voice may read it as another day."""
        for name, day in days.items():
            if any(day in text for text in texts):
                asks = self._options.date_order is None and name is not None
                message = Message(spoken_date(day, where="this row as it is, and such dates in later ones"))
                self._warn_once(
                    draft,
                    "date",
                    name,
                    message.plus(f", and {Remedy.NAME_DATE_ORDER}", Remedy.NAME_DATE_ORDER) if asks else message,
                )

    def _doubt_dates(
        self,
        draft: Draft,
        names: Iterable[str],
        heard: Sequence[str],
        menu: MenuTexts | None,
        data: Mapping[str, object] | None,
    ) -> None:
        """Add what is to be said of dates in the texts that are `heard`, or later in the menu, for which data is kept.

        `names` are those of the columns that texts use.
        """
        days, years = self._doubtful_dates(draft, heard), _doubtful_years(draft, names)
        if (days or years) and not draft.is_bad:
            later = menu.later({**(data or {}), ZONE: draft.person}) if menu is not None else ()
            texts = [*heard, *(text for _, text in later)]
            self._doubt_days(draft, days, texts)
            self._doubt_years(draft, years, texts)

    def _doubt_years(self, draft: Draft, years: Mapping[str, DoubtfulYear], texts: Sequence[str]) -> None:
        """Add an error for each column whose year is in these spoken texts, or a warning if it may be meant.

        A voice of Thai may say a year of the Buddhist calendar as it is written.
        """
        for name, found in years.items():
            is_thai = found.is_buddhist and (self._voice(draft) or "").startswith("th")
            heard = [text for text in texts if str(found.year) in text and not (is_thai and found.written in text)]
            if found.may_be_meant and heard:
                self._warn_once(draft, "year", name, f"{found.why}. Such dates in later rows are not reported")
            elif heard and not found.may_be_meant:
                draft.error(found.why, column=name)

    def _doubt_voices(self, draft: Draft, voices: Iterable[str]) -> None:
        """Add an error for each voice that the account has not, and a warning for one of another language."""
        language = language_in(draft.variables)
        for voice in voices:
            if (voice, language) in self._fit:
                continue
            if self._options.voices is not None and voice not in self._options.voices:
                meant = did_you_mean(voice, self._options.voices)
                message = f"the account has no voice {voice}, so 8x8 would refuse the call{meant}"
                draft.error(f"{message} `voiceflow account profiles` lists them", column="voice_profile", code=-1002)
            elif why := at_odds(voice, language):
                self._warn_once(draft, f"voice {voice} {language}", "voice_profile", why)
            else:
                self._fit.add((voice, language))

    def _doubt_instants(self, draft: Draft, texts: Sequence[str]) -> None:
        """Add a warning for each column whose time is spoken with its own zone."""
        moved, said = {} if draft.person is None else draft.person.moved, "\n".join(texts)
        if not moved and not (":" in said and DATE_LIKE.search(said)):
            return
        told = {moment: spoken_instant(moment) for moment in filter(None, map(own_zone, texts))}
        told |= moved
        for moment, message in told.items():
            name = next((name for name, value in draft.variables.items() if moment in str(value)), None)
            self._warn_once(draft, "time", name, message)

    def _data(
        self, draft: Draft, destination: str | None, source: str | None, reserved: Collection[str]
    ) -> Mapping[str, object] | None:
        """The data to store with the job: the row's dictionary, without the columns that the job has itself.

        Of these, only the ones in `reserved` are stored, because a menu speaks them. Data that is too large is stored
        without its empty values: programs export columns that no row fills.
        """
        given = self._given(draft, destination, source) if reserved else dict[str, object]()
        spoken = {name: given[name] for name in reserved if given.get(name) is not None}
        data = {**draft.data, **spoken, **(self._options.data or {})}
        try:
            return checked_data(data)
        except InvalidInputError:
            data = {name: value for name, value in data.items() if not is_missing(value)}
        try:
            return checked_data(data)
        except InvalidInputError as error:
            draft.error(message_of(error), column=None)
            return None

    def _priority(self, draft: Draft) -> int:
        """The row's priority, else that of the options."""
        text = draft.reserved.get("priority")
        if text is None:
            return self._options.priority
        try:
            found = float(text)
        except ValueError:
            found = 0.5
        if not (found.is_integer() and int(found) in PRIORITIES):
            draft.error(priority_problem(text) or "", column="priority")
            return 0
        return int(found)

    def _explain_dates(self, draft: Draft) -> None:
        """Add a remedy to the errors of cells with a date such as 31/1/2030, if nobody gave the order of its parts."""
        for place, found in enumerate(draft.findings):
            value = draft.variables.get(found.column or "")
            if found.is_error and self._options.date_order is None and begins_with_ordered_date(str(value or "")):
                offer = found.told.plus(f"; or {Remedy.NAME_DATE_ORDER}", Remedy.NAME_DATE_ORDER)
                draft.findings[place] = replace(found, message=offer)


def _is_first(warning: tuple[str, str | None], given: set[tuple[str, str | None]]) -> bool:
    """Whether a warning is not among those `given`, to which it is added."""
    if warning in given:
        return False
    given.add(warning)
    return True


def _lacking(draft: Draft, message: str, *, is_source: bool) -> str:
    """The message that something is missing. Of the number to call from, it is why this person has none."""
    return message if draft.no_source is None or not is_source else draft.no_source


def _refuse_nested(draft: Draft, spoken: Collection[str]) -> None:
    """Add an error for each array or object among the values that are `spoken`."""
    for name in sorted(draft.nested):
        if name_among(spoken, name) in spoken and not draft.is_reported(name):
            draft.error("holds an array or an object, which cannot be spoken; give its parts keys", column=name)


def _doubtful_years(draft: Draft, names: Iterable[str]) -> Mapping[str, DoubtfulYear]:
    """The columns of these names with a date whose year people hardly mean."""
    found: dict[str, DoubtfulYear] = {}
    for name in names:
        text = draft.variables.get(name_among(draft.variables, name))
        if isinstance(text, str) and (year := doubtful_year(text)) is not None and row_name(name) not in _NO_DATES:
            found[row_name(name)] = year
    return found


def _at_the_visit(data: Mapping[str, object], person: PersonZone | None) -> Mapping[str, object]:
    """The data for a menu, whose texts are spoken later: its times with an offset as the clocks show them."""
    shown = dict(data)
    for name, value in data.items():
        with suppress(ValueError):
            shown[name] = at_the_person(value, person) if isinstance(value, str) else value
    return shown


def _column_of(path: str | None, template: FlowTemplate | None, reserved: Mapping[str, str]) -> str | None:
    """The column that causes a finding at this path of the body; None if no column does, or several do."""
    if path is None:
        return None
    varying = template.column_of(path) if template is not None else None
    if varying is not None:
        return varying
    last = path.rpartition(".")[2]
    if path in {f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}:
        return last if template is not None or last in reserved else None
    return "voice_profile" if last == "voiceProfile" and template is not None else None
