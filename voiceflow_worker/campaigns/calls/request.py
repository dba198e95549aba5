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
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate, filled_in
from voiceflow_worker.campaigns.calls.values import FIRST_CALL, RowValues, complete, row_key, write_numbers_out
from voiceflow_worker.campaigns.files.rows import DESTINATION, RESERVED, RawRow, row_name
from voiceflow_worker.core.admission import CheckedCall, call_digest, further_numbers
from voiceflow_worker.core.ports.store import Put
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.errors import CallFlowError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.ivr.speech_filters import ZONE, at_the_person
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import copy_of
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED, destinations, read_valid_until
from voiceflow_worker.model.flows.values import is_missing, language_in, unspeakable
from voiceflow_worker.model.jobs.admission import LONGEST_KEY, PRIORITIES, priority_problem
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.phone import usual_form, with_plus
from voiceflow_worker.model.numbers.reading import number_in, read_country, read_sources
from voiceflow_worker.model.text.arguments import time_problem
from voiceflow_worker.model.text.names_of_the_world import at_odds
from voiceflow_worker.model.text.wording import did_you_mean, in_words, name_among
from voiceflow_worker.model.times import (
    DoubtfulYear,
    PersonZone,
    begins_with_ordered_date,
    doubtful_date,
    doubtful_year,
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
    """The times of one row. Its findings have a column, but no row number yet."""

    time_zone: str | None = None
    not_before: datetime | None = None
    valid_until: datetime | None = None
    findings: list[Finding] = field(default_factory=list[Finding])


def read_schedule(
    reserved: Mapping[str, str],
    body: Mapping[str, object],
    options: CampaignOptions,
    *,
    now: datetime,
    checks: bool,
) -> Schedule:
    """The times of a row.

    The column `valid_until` overrides the `validUntil` of the body. The options `valid_for` and `valid_until` give a
    validity to a row without one, and shorten a longer one. They replace a `validUntil` of the body that has passed, as
    in the examples that 8x8 prints (with a warning); one that comes from a column never. The column `not_before`
    overrides the option. The column `time_zone` is the zone of the person; the option is that of local times, in rows
    without the column.
    """
    schedule = Schedule(not_before=options.not_before)
    zone = _zone(reserved, options.time_zone, schedule)
    if (text := reserved.get("not_before")) is not None:
        schedule.not_before = _time(text, "not_before", zone, schedule)
    column: str | None = "valid_until"
    if (text := reserved.get("valid_until")) is not None:
        own = _time(text, "valid_until", zone, schedule)
    else:
        own = read_valid_until(body.get("validUntil"))  # a malformed time is reported with the body
        column = None
        if own is None and options.valid_for is None and options.valid_until is None:
            return schedule
    path = "$.validUntil" if column is None else None
    found = partial(Finding, column=column, path=path, code=VALIDITY_EXPIRED)
    problem = time_problem("the validity's end", own)
    if problem is not None:
        schedule.findings.append(found(message=problem))
    else:
        schedule.findings += _settle_validity(schedule, own, found, options, reserved=reserved, now=now, checks=checks)
    return schedule


def fit_window(
    schedule: Schedule, windows: CountryWindows, *, numbers: Sequence[str], now: datetime
) -> CallWindow | None:
    """The window of a person with these numbers. Adds a finding if it does not open while the row is valid.

    The schedule gets the time zone of the row, else of the telephone numbers. A schedule with errors is not changed,
    nor is one whose validity has passed; there is no window then.
    """
    has_passed = schedule.valid_until is not None and schedule.valid_until <= now
    if not numbers or has_passed or any(found.is_error for found in schedule.findings):
        return None
    try:
        window = windows.to(numbers)
    except InvalidInputError as error:
        schedule.findings.append(Finding(column=DESTINATION, message=str(error)))
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
        schedule.findings.append(Finding(column="time_zone", message=str(error)))
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
        message = str(error)
        if zone is None and any(found.column == "time_zone" for found in schedule.findings):
            # The unknown zone was reported already. With any zone, the rest of the time is checked.
            try:
                read_time(text, zone=ZoneInfo("UTC"))
            except ValueError as own:
                message = str(own)
            else:
                return None
        schedule.findings.append(Finding(column=column, message=message))
    return None


def _settle_validity(
    schedule: Schedule,
    own: datetime | None,
    found: Callable[..., Finding],
    options: CampaignOptions,
    *,
    reserved: Mapping[str, str],
    now: datetime,
    checks: bool,
) -> Iterator[Finding]:
    offered = options.valid_until
    if options.valid_for is not None:
        offered = max(now, schedule.not_before or now) + options.valid_for
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
            remedy = "correct it, or leave the row out" if is_of_row else Remedy.GIVE_VALIDITY
            expired = f"the validity period expired at {in_words(own)}; {remedy}"
            yield found(severity=severity, message=expired)
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
        self._warned: set[tuple[str, str | None]] = set()
        """The warnings that are given once: what each is about, and its column or, of source numbers, the message."""

    def read(self, raw: RawRow, values: RowValues | None) -> ReadRow:
        """Read a row. The result has a call, or else the errors of the row. A bad row does not raise an exception."""
        if values is None:
            told = (
                Finding(file=self._file, row=raw.number, column=c, code=raw.code, message=m) for c, m in raw.problems
            )
            return ReadRow(raw, findings=tuple(told))
        for column, _, _ in values.problems:
            # A cell has one finding, and counts as missing from here on.
            for texts in (values.reserved, values.variables, values.data):
                texts.pop(row_name(column), None)
        problems = [Finding(column=c, code=k, message=m) for c, k, m in values.problems]
        work = _Work(values, self._options, problems, self._warned)
        work.template, menu = self._words(work)
        work.country = work.own_country()
        destination, further = work.numbers()
        work.person = work.zone_of([destination, *further])
        source = work.source(list(filter(None, (destination, *further))))
        made = work.body(self._bodies, destination, source)
        body = made.fields
        schedule, window = self._times(work, made, destination, further)
        batch_id = work.batch(body) or self._default_batch
        own_key = work.unique_key(body)
        priority = work.priority()
        spoken = menu.names if menu is not None else frozenset[str]()
        data = work.data(destination, source, spoken & _OWN)
        if self._menu is not None and self._options.visit_time_zone is not None:
            data = work.at_the_visit(data or {})
        if menu is not None:
            work.against_menu(menu, {**(data or {}), ZONE: work.person})
        names = spoken if work.template is None else spoken | work.template.variables
        if values.nested:
            work.refuse_nested(names if raw.cells else spoken)
        work.doubt_dates(names, made.heard, menu, data)
        work.doubt_instants(made.heard)
        if work.findings:
            work.explain_dates()
        found = [replace(found, file=self._file, row=raw.number) for found in work.findings if self._is_new(found)]
        findings = tuple(found)
        if work.is_bad:
            return ReadRow(raw, findings=findings)
        encoded = made.encoded()
        try:
            others = further_numbers(encoded, further)
        except CallFlowError as error:
            refused = [replace(found, file=self._file, row=raw.number) for found in error.findings]
            return ReadRow(raw, findings=(*findings, *refused))
        call = CheckedCall(
            source=encoded.source,
            destination=encoded.destination,
            body=encoded.stored,
            digest=call_digest(encoded.canonical, others),
            unique_key=own_key or row_key(batch_id, encoded.canonical, others),
            batch_id=batch_id,
            priority=priority,
            not_before=schedule.not_before,
            valid_until=schedule.valid_until,
            # Later texts of a menu must know the zone that the first one was spoken in.
            time_zone=schedule.time_zone or work.person.borrowed,
            redial=self._options.redial,
            window=window,
            data=data,
            menu=self._menu,
            further_numbers=others,
        )
        if self._windows is not None and (country := self._windows.lacks_calendar(call.destination)) is not None:
            self.on_holidays[country] += 1
        for calendar in () if window is None else window.holidays:
            starts = schedule.not_before or self._now
            first, last = self.calendars.get(calendar, (starts, starts))
            self.calendars[calendar] = (min(first, starts), max(last, starts))
        return ReadRow(raw, call, call.digest, own_key, not own_key, findings)

    def _times(
        self, work: _Work, made: CallBody, destination: str | None, further: Sequence[str]
    ) -> tuple[Schedule, CallWindow | None]:
        """The times of a row, and its window."""
        schedule = read_schedule(work.values.reserved, made.fields, self._options, now=self._now, checks=self._checks)
        window: CallWindow | None = None
        if self._windows is not None:
            first = [destination] if made.form is not None else destinations(made.fields)[:1]
            numbers = (*map(usual_form, filter(None, first)), *further)
            window = fit_window(schedule, self._windows, numbers=numbers, now=self._now)
        if schedule.findings:
            work.findings += [found for found in schedule.findings if not work.is_reported(found.column)]
        return schedule, window

    def _is_new(self, found: Finding) -> bool:
        """False if the finding is a warning about the source number, and an earlier row had the same warning."""
        if found.is_error or found.path is None or not found.path.endswith(".params.source"):
            return True
        return _is_first(("source", found.message), self._warned)

    def numbers(self, values: RowValues) -> list[str]:
        """The numbers of a row that nobody is called for, as far as they can be read."""
        work = _Work(values, self._options, [], self._warned)
        work.country = work.own_country()
        first, further = work.numbers()
        return [number for number in (first, *further) if number is not None]

    def texts(self, data: Mapping[str, object]) -> MenuTexts | None:
        """The texts of the menu for a call with this data; None without a menu."""
        language = language_in(data)
        return self.menu_texts if self.menu_texts is None or language is None else self.menu_texts.spoken_in(language)

    def _words(self, work: _Work) -> tuple[FlowTemplate | None, MenuTexts | None]:
        """What a row's person hears: the template of the call, and the texts of its menu."""
        texts, template = self.menu_texts, self._options.template
        if texts is None:
            return template, None
        language = language_in({**work.values.variables, **(self._options.data or {})})
        try:
            if language is not None:
                spoken = texts.spoken_in(language)
                return template and template.spoken_in(language), spoken
        except InvalidInputError as error:
            work.refuse_language(f"cannot be the language of this call: {error}")
        return template, texts


def _is_first(warning: tuple[str, str | None], given: set[tuple[str, str | None]]) -> bool:
    """Whether a warning is not among those `given`, to which it is added."""
    if warning in given:
        return False
    given.add(warning)
    return True


_ANYWHERE = PersonZone(None, ())


@dataclass(slots=True)
class _Work:
    """The reading of one row. It collects the findings of the row."""

    values: RowValues
    options: CampaignOptions
    findings: list[Finding]
    warned: set[tuple[str, str | None]]
    """The warnings that this row or an earlier one has, of those that are given once: see `RequestMaker`."""
    template: FlowTemplate | None = None
    country: str | None = None
    """The country of the row's national numbers."""
    no_source: str | None = None
    """Why there is no number to call this person from; empty if the number to call says it, being missing or wrong."""
    person: PersonZone = _ANYWHERE
    """The zone in which the person hears times that have a zone of their own."""

    @property
    def voice_profile(self) -> str | None:
        """The voice that the row names, else that of the options."""
        return self.values.reserved.get("voice_profile", self.options.voice_profile)

    def body(self, bodies: Bodies, destination: str | None, source: str | None) -> CallBody:
        """The row's body. Broken rules of the contract are added to the findings."""
        reserved = self.values.reserved
        template = self.template
        has_number = destination is not None or DESTINATION in self.values.reserved or bool(self.values.further)
        reported_paths: set[str | None] = {f"{FIRST_CALL}.destination"} if has_number else set()
        wins, voice = "source" in reserved, self.voice_profile
        if template is None:
            own = copy_of(self.values.body)
            if self.options.country is not None:
                write_numbers_out(own, country=self.options.country)
            if destination is None and source is None and not self.is_reported("source"):
                source = self.source(list(destinations(own))[:1])
            complete(own, destination=destination, source=source, voice_profile=voice, source_wins=wins)
            body = CallBody.of(own)
        else:
            given = {**self.given(destination or PLACEHOLDER, source), ZONE: self.person}
            filled, problems = filled_in(template, given)
            for problem in problems:
                reported_paths.add(problem.path)
                message = self._lacking(problem.message, is_source=problem.column == "source" and problem.is_missing)
                if message and not self.is_reported(problem.column):
                    self._error(message, column=problem.column, path=problem.path, code=-1009)
            body = bodies.made(
                template, filled, destination=destination, source=source, voice_profile=voice, source_wins=wins
            )
        if self.findings:
            reported_paths |= {found.path for found in self.findings if found.path is not None}
        self.doubt_voices(body.voices, language_in(self.values.variables))
        for each in body.problems:
            column = _column_of(each.path, template, reserved)
            if each.path not in reported_paths and not self.is_reported(column):
                name = (each.path or "").rpartition(".")[2]
                option = _OPTIONS.get(name) if each.message.startswith("is missing") else None
                message = each.message if option is None else f"{each.message}, or {option}"
                is_source = option is not None and each.path == f"{FIRST_CALL}.source"
                if message := self._lacking(message, is_source=is_source):
                    self.findings.append(replace(each, column=column, message=message))
        return body

    def numbers(self) -> tuple[str | None, list[str]]:
        """The number to call, and the further ones of the person, in E.164 form; None if there is none, or it is wrong.

        If the first cell is empty, the next number that there is takes its place.
        """
        first, further = self.values.reserved.get(DESTINATION), self.values.further
        passes_over = self.options.bad_numbers is BadNumbers.SKIP and bool(self.options.roles.numbers)
        if first is None and not passes_over and any(found.column == DESTINATION for found in self.findings):
            if any(self._number(name, text) is not None for name, text in further):
                self._judge_bad_numbers()
            return None, []
        written = [*([] if first is None else [(DESTINATION, first)]), *further]
        if not written and self.options.template is not None and not self.is_reported(DESTINATION):
            self._error("is missing but it is required; give the number to call", column=DESTINATION, code=-1009)
        found = [self._number(name, text) for name, text in written]
        good = list(filter(None, found))
        if good:
            self._judge_bad_numbers(passes_over=passes_over)
        if passes_over and good:
            return good[0], good[1:]
        return (found[0], list(filter(None, found[1:]))) if found else (None, [])

    def _judge_bad_numbers(self, *, passes_over: bool = False) -> None:
        """Make warnings of the errors about numbers, or offer that: the person has another one that can be called."""
        if not self.findings:
            return
        columns = {DESTINATION, *map(row_name, self.options.roles.numbers)}
        for place, found in enumerate(self.findings):
            if not found.is_error or found.column is None or row_name(found.column) not in columns:
                continue
            if passes_over:
                message = f"{found.message}. This number is skipped, and the person's others are called"
                self.findings[place] = replace(found, severity=Severity.WARNING, message=message)
            elif Remedy.NAME_COUNTRIES not in found.message:
                self.findings[place] = replace(found, message=f"{found.message}; or {Remedy.SKIP_NUMBERS}")

    def _number(self, name: str, written: str) -> str | None:
        text = self._written(written) or ""
        try:
            number = number_in(text, self.country)
        except PhoneNumberError as error:
            message = str(error)
            if Remedy.NAME_COUNTRY in message:
                if self.is_reported(self.options.roles.country):
                    return None  # the cell of the country is the one that is wrong
                message = self._without_country(message)
            self._error(message, column=name, code=error.code)
            return None
        for message in number.messages if number.warnings else ():
            self.findings.append(Finding(column=name, severity=Severity.WARNING, message=message))
        return number.e164

    def _without_country(self, message: str) -> str:
        """What to do about a number that does not say its country: a column may say it."""
        if self.options.template is None:
            return message
        if (column := self.options.roles.country) is None:
            return message.replace(Remedy.NAME_COUNTRY, Remedy.NAME_COUNTRIES)
        first = message.partition(":")[0]
        return f"{first}, nor does {column}: correct that cell, or write the number with + and digits alone"

    def zone_of(self, numbers: Sequence[str | None]) -> PersonZone:
        """The zone in which a person with these numbers hears times: that of the row, of the numbers, of the options.

        If the row's zone or one of its numbers is wrong, which is an error already, it is any zone.
        """
        own, known = self.values.reserved.get("time_zone"), list(filter(None, numbers))
        if (own is None and len(known) < len(numbers)) or (own is not None and zone_named(own) is None):
            own = "UTC"
        return PersonZone(own, known, self.options.time_zone, self.options.visit_time_zone)

    def own_country(self) -> str | None:
        """The country of this row's national numbers: that in its column, or that of the options."""
        column = self.options.roles.country
        text = None if column is None else self.values.variables.get(row_name(column))
        if column is None or is_missing(text):
            return self.options.country
        try:
            return read_country(str(text))
        except InvalidInputError as error:
            self._error(str(error), column=column)
            return None

    def source(self, numbers: Sequence[str]) -> str | None:
        """The number to call this person from, in E.164 form; None if there is none, or it is wrong."""
        own = self._written(self.values.reserved.get("source"))
        text = own or self.options.source
        if text is None:
            return None
        try:
            sources = read_sources(text, self.options.country)
        except InvalidInputError as error:
            self._error(str(error), column="source", code=-1009)
            return None
        if sources.only is not None:
            return sources.only
        self.no_source = ""
        try:
            found = [sources.to(number) for number in numbers]
        except PhoneNumberError as error:
            self.no_source = str(error)
            if own is not None:
                self._error(self.no_source, column="source", code=-1009)
            return None
        for number, other in zip(numbers, found, strict=True):
            if other != found[0]:
                self._error(
                    f"would be {found[0]} for {numbers[0]} and {other} for {number} of the same person; give the row "
                    "one source, or the numbers a row each",
                    column="source",
                )
        return found[0] if found else None

    def _lacking(self, message: str, *, is_source: bool) -> str:
        """The message that something is missing. Of the number to call from, it is why this person has none."""
        return message if self.no_source is None or not is_source else self.no_source

    def _written(self, number: str | None) -> str | None:
        # Request bodies, and 8x8's guides, write country codes without a +.
        is_body_number = number is not None and self.options.template is None and self.options.country is None
        return with_plus(number) if number is not None and is_body_number and "=" not in number else number

    def batch(self, body: Mapping[str, object]) -> str | None:
        """The batch id of the options, else that which the row names, else that of the body."""
        own = body.get("clientBatchId")
        batch_id = self.options.batch_id or self.values.reserved.get("batch_id")
        if batch_id is None:
            return own if isinstance(own, str) and own.strip() else None
        if len(batch_id) > MAX_ID_CHARACTERS:
            message = f"has {len(batch_id)} characters, but at most {MAX_ID_CHARACTERS} are allowed; shorten it"
            self._error(message, column="batch_id", code=-1009)
        elif problem := unspeakable(batch_id):
            self._error(f"has {problem}; remove it", column="batch_id", code=-1016)
        return batch_id

    def unique_key(self, body: Mapping[str, object]) -> str | None:
        """The unique key that the row names, else that of the body, in one spelling, whichever program wrote it."""
        own = body.get("clientRequestId")
        key = self.values.reserved.get("unique_key")
        if key is None:
            return usual_key(own) if isinstance(own, str) and own.strip() else None
        key = usual_key(key.partition(".")[0] if _WHOLE.fullmatch(key) else key)
        if len(key) > LONGEST_KEY:
            message = f"has {len(key)} characters, but at most {LONGEST_KEY} are allowed; shorten it"
            self._error(message, column="unique_key")
        return key

    def given(self, destination: str | None, source: str | None) -> Mapping[str, object]:
        """The dictionary of the row, for all texts: its columns, its call's numbers and voice, the options' `data`."""
        own = {"source": source, "destination": destination, "voice_profile": self.voice_profile}
        return {**self.values.variables, **own, **(self.options.data or {})}

    def against_menu(self, texts: MenuTexts, data: Mapping[str, object]) -> None:
        """Add the reasons why texts of the menu cannot be spoken with the data that is stored with the call."""
        for column, message, lacks in texts.problems(data):
            told = self._lacking(message, is_source=lacks and column == "source")
            if told and not self.is_reported(column):
                self._error(told, column=column, code=-1009)

    def refuse_nested(self, spoken: Collection[str]) -> None:
        """Add an error for each array or object among the values that are `spoken`."""
        for name in sorted(self.values.nested):
            if name_among(spoken, name) in spoken and not self.is_reported(name):
                self._error("holds an array or an object, which cannot be spoken; give its parts keys", column=name)

    def _doubtful_dates(self, heard: Iterable[str]) -> Mapping[str | None, str]:
        """The columns with a date whose day and month nobody can tell apart, and the dates. The call may speak them."""
        if self.options.template is None:
            day = next(filter(None, map(doubtful_date, heard)), None)
            return {} if day is None else {None: day}
        return {
            name: day
            for name, value in self.values.variables.items()
            if isinstance(value, str) and (day := doubtful_date(value)) is not None and name not in _NO_DATES
        }

    def _warn_once(self, what: str, column: str | None, message: str) -> None:
        """Add a warning about a column, unless an earlier row has one about the same matter."""
        if _is_first((what, column), self.warned):
            self.findings.append(Finding(column=column, severity=Severity.WARNING, message=message))

    def _doubt_days(self, days: Mapping[str | None, str], texts: Sequence[str]) -> None:
        """Add a warning for each column whose date is in these spoken texts: the voice may read it as another day."""
        for name, day in days.items():
            if any(day in text for text in texts):
                asks = self.options.date_order is None and name is not None
                message = spoken_date(day, where="this row as it is, and such dates in later ones")
                self._warn_once("date", name, f"{message}, and {Remedy.NAME_DATE_ORDER}" if asks else message)

    def _doubtful_years(self, names: Iterable[str]) -> Mapping[str, DoubtfulYear]:
        """The columns of these names with a date whose year people hardly mean."""
        found: dict[str, DoubtfulYear] = {}
        for name in names:
            text = self.values.variables.get(name_among(self.values.variables, name))
            if isinstance(text, str) and (year := doubtful_year(text)) is not None and row_name(name) not in _NO_DATES:
                found[row_name(name)] = year
        return found

    def doubt_dates(
        self, names: Iterable[str], heard: Sequence[str], menu: MenuTexts | None, data: Mapping[str, object] | None
    ) -> None:
        """Add what is to be said of dates in the texts that are `heard`, or later in the menu, for which data is kept.

        `names` are those of the columns that texts use.
        """
        days, years = self._doubtful_dates(heard), self._doubtful_years(names)
        if (days or years) and not self.is_bad:
            later = menu.later({**(data or {}), ZONE: self.person}) if menu is not None else ()
            texts = [*heard, *(text for _, text in later)]
            self._doubt_days(days, texts)
            self._doubt_years(years, texts)

    def _doubt_years(self, years: Mapping[str, DoubtfulYear], texts: Sequence[str]) -> None:
        """Add an error for each column whose year is in these spoken texts, or a warning if it may be meant.

        A voice of Thai may say a year of the Buddhist calendar as it is written.
        """
        for name, found in years.items():
            is_thai = found.is_buddhist and (self.voice_profile or "").startswith("th")
            heard = [text for text in texts if str(found.year) in text and not (is_thai and found.written in text)]
            if found.may_be_meant and heard:
                self._warn_once("year", name, f"{found.why}. Such dates in later rows are not reported")
            elif heard and not found.may_be_meant:
                self._error(found.why, column=name)

    def doubt_voices(self, voices: Iterable[str], language: str | None) -> None:
        """Add an error for each voice that the account has not, and a warning for one of another language."""
        for voice in voices:
            if self.options.voices is not None and voice not in self.options.voices:
                meant = did_you_mean(voice, self.options.voices)
                message = f"the account has no voice {voice}, so 8x8 would refuse the call{meant}"
                self._error(f"{message} `voiceflow account profiles` lists them", column="voice_profile", code=-1002)
            elif why := at_odds(voice, language):
                self._warn_once(f"voice {voice} {language}", "voice_profile", why)

    def doubt_instants(self, texts: Sequence[str]) -> None:
        """Add a warning for each column whose time is spoken with its own zone."""
        moments = list(filter(None, map(own_zone, texts)))
        if not moments and not self.person.moved:
            return
        raw = {moment: spoken_instant(moment) for moment in moments}
        for moment, message in (raw | {each: f"{each!r} {why}" for each, why in self.person.moved.items()}).items():
            name = next((name for name, value in self.values.variables.items() if moment in str(value)), None)
            self._warn_once("time", name, message)

    def refuse_language(self, why: str) -> None:
        """Add an error about the column `language`."""
        self._error(why, column="language")

    @property
    def is_bad(self) -> bool:
        """Whether the row has an error."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    def is_reported(self, column: str | None) -> bool:
        """True if the row has an error about the cell in this column, in any spelling of the name."""
        if column is None or not self.findings:
            return False
        names = (found.column for found in self.findings if found.is_error)
        return row_name(column) in {row_name(name) for name in names if name}

    def data(
        self, destination: str | None, source: str | None, reserved: Collection[str]
    ) -> Mapping[str, object] | None:
        """The data to store with the job: the row's dictionary, without the columns that the job has itself.

        Of these, only the ones in `reserved` are stored, because a menu speaks them. Data that is too large is stored
        without its empty values: programs export columns that no row fills.
        """
        given = self.given(destination, source) if reserved else dict[str, object]()
        spoken = {name: given[name] for name in reserved if given.get(name) is not None}
        data = {**self.values.data, **spoken, **(self.options.data or {})}
        try:
            return checked_data(data)
        except InvalidInputError:
            data = {name: value for name, value in data.items() if not is_missing(value)}
        try:
            return checked_data(data)
        except InvalidInputError as error:
            self._error(str(error), column=None)
            return None

    def at_the_visit(self, data: Mapping[str, object]) -> Mapping[str, object]:
        """The data for a menu, whose texts are spoken later: its times with an offset as the clocks show them."""
        shown = dict(data)
        for name, value in data.items():
            with suppress(ValueError):
                shown[name] = at_the_person(value, self.person) if isinstance(value, str) else value
        return shown

    def priority(self) -> int:
        """The row's priority, else that of the options."""
        text = self.values.reserved.get("priority")
        if text is None:
            return self.options.priority
        try:
            found = float(text)
        except ValueError:
            found = 0.5
        if not (found.is_integer() and int(found) in PRIORITIES):
            self._error(priority_problem(text) or "", column="priority")
            return 0
        return int(found)

    def explain_dates(self) -> None:
        """Add a remedy to the errors of cells with a date such as 31/1/2030, if nobody gave the order of its parts."""
        for place, found in enumerate(self.findings):
            value = self.values.variables.get(found.column or "")
            if found.is_error and self.options.date_order is None and begins_with_ordered_date(str(value or "")):
                message = f"{found.message}; or {Remedy.NAME_DATE_ORDER}"
                self.findings[place] = replace(found, message=message)

    def _error(self, message: str, *, column: str | None, path: str | None = None, code: int | None = None) -> None:
        self.findings.append(Finding(message=message, column=column, path=path, code=code))


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
