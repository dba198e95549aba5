"""The reader of rows. Each row becomes a call to be enqueued, or findings with all its errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.campaigns.calls.bodies import Bodies, CallBody
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.times import Times
from voiceflow_worker.campaigns.calls.values import (
    FIRST_CALL,
    Draft,
    batch_key,
    complete,
    key_in,
    row_key,
    write_numbers_out,
)
from voiceflow_worker.campaigns.lists.columns import DESTINATION, RESERVED, row_name
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.core.admission import CheckedCall, call_digest, further_numbers
from voiceflow_worker.core.ports.store import Put
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.errors import CallFlowError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, columns_text, message_of, tell
from voiceflow_worker.ivr.speech_filters import WITH_ZONE, ZONE, zoned_moment
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import EncodedBody, copy_of
from voiceflow_worker.model.flows.rules import destinations
from voiceflow_worker.model.flows.values import is_missing, language_in, unspeakable
from voiceflow_worker.model.jobs.admission import PRIORITIES, priority_problem
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.phone import (
    country_of,
    is_valid,
    with_plus,
)
from voiceflow_worker.model.numbers.reading import read_country, read_number, read_sources
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.names_of_the_world import at_odds
from voiceflow_worker.model.text.wording import did_you_mean, name_among
from voiceflow_worker.model.times import (
    PersonZone,
    begins_with_ordered_date,
)
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts


_NO_NAMES = frozenset[str]()
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
    `numbers` are those of a row without a call, as far as they can be read.
    """

    raw: Row
    call: CheckedCall | None = None
    digest: str = ""
    own_key: str | None = None
    has_made_key: bool = False
    findings: tuple[Finding, ...] = ()
    duplicate_of: int | None = None
    is_left_out: bool = False
    numbers: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        """True if the row has an error, and cannot be called."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    def without_call(self, *why: Finding) -> ReadRow:
        """The row without its call, and why."""
        numbers = self.numbers if self.call is None else self.call.numbers
        return self._replace(call=None, findings=(*self.findings, *why), numbers=numbers)

    @property
    def number(self) -> str | None:
        """The number to call, as the call stores it; None if the row has no call."""
        return self.call.destination if self.call is not None else None


class RequestMaker:
    """Makes the calls for the rows of a file, with these options. A row that names no batch gets `default_batch`."""

    def __init__(
        self, options: CampaignOptions, *, file: str | None, default_batch: str, now: datetime, allows_past: bool
    ) -> None:
        self._options = options
        self._file = file
        self._default_batch = default_batch
        self._now = now
        menu = options.menu
        self._menu = menu if menu is None or isinstance(menu, str) else menu.name
        self.menu_texts: MenuTexts | None = texts_of(options)
        self._bodies = Bodies()
        self.times: Times = Times(options, now=now, allows_past=allows_past)
        source = None if options.source is None else read_sources(options.source, options.country)
        self._only_source = None if source is None else source.only
        # Request bodies, and 8x8's guides, write country codes without a +.
        self._written: Callable[[str], str] = str
        if options.template is None and options.country is None:
            self._written = lambda number: number if "=" in number else with_plus(number)
        own, *numbers = map(row_name, options.roles.named_numbers)
        of_country = row_name(options.roles.country or "")
        self._homes: Mapping[str, Sequence[str]] = {
            key: [each for role in ("country", "calling_code") for each in _homes_of(name, role) if each != of_country]
            for key, name in {DESTINATION: own, **{each: each for each in numbers}}.items()
        }
        """Of each number, the columns that by their names say its country and that nothing reads: they must not
        contradict what is read of the number."""
        self._fit = set[tuple[str, str | None]]()
        """The voices about which there is nothing to say, each with the language of its row."""
        self._warned = set[tuple[str, str | None]]()
        """The warnings that earlier rows had: the subject, and the column or, of source numbers, the message."""

    def read(self, raw: Row, draft: Draft | None) -> ReadRow:
        """Read a row. The result has a call, or else the errors of the row. A bad row does not raise an exception."""
        if draft is None:
            return ReadRow(raw, findings=tuple(self._unreadable(raw)))
        if draft.findings:
            draft.drop_wrong()
        options = self._options
        template, menu = (options.template, None) if self.menu_texts is None else self._words(draft, self.menu_texts)
        draft.country = self._country(draft)
        destination, further = self._numbers(draft)
        if self._menu is not None or (template is not None and template.is_computed):
            draft.person = self._zone_of(draft, [destination, *further])
        source = self._source(draft, list(filter(None, (destination, *further))))
        made = self._body(draft, template, destination, source)
        first = destination if made.is_form else next(iter(destinations(made.fields)), None)
        times = self.times.read(draft, made.fields, (first, further))
        numbers = (*filter(None, (destination, *further)),)
        if times.over is not None:
            return self._over(raw, *times.over)._replace(numbers=numbers, own_key=key_in(draft))
        batch_id = self._batch(draft, made.fields) or self._default_batch
        own_key = self._unique_key(draft, made.fields)
        priority = self._priority(draft)
        spoken = menu.names if menu is not None else _NO_NAMES
        data = self._data(draft, destination, source, spoken & _OWN if spoken else spoken)
        if menu is not None:
            self._judge_menu(draft, menu, {**(data or {}), ZONE: draft.person})
        if draft.nested:
            _refuse_nested(draft, spoken)
        if draft.may_have_dates or options.data:
            names = spoken if template is None else spoken | template.variables
            self._judge_moments(draft, names, made.heard(draft.texts), menu, data)
        findings = tuple(self._findings(raw, draft)) if draft.findings else ()
        if draft.is_bad:
            return ReadRow(raw, own_key=own_key, findings=findings, numbers=numbers)
        sender, number, body, canonical = encoded = made.encoded(draft.texts, destination or "")
        try:
            others = further_numbers(EncodedBody._make(encoded), further) if further else ()
        except CallFlowError as error:
            refused = (replace(found, file=self._file, row=raw.number) for found in error.findings)
            return ReadRow(raw, own_key=own_key, findings=(*findings, *refused), numbers=numbers)
        # Later texts of a menu must know the zone that the first one was spoken in.
        zone = times.time_zone or (None if draft.person is None else draft.person.fallback_zone)
        digest = call_digest(canonical, others)
        key = own_key or row_key(batch_id, canonical, others)
        if options.keys_in_batch:
            key = batch_key(batch_id, own_key, number)
        call = CheckedCall(
            sender,
            number,
            body,
            digest,
            key,
            batch_id,
            priority,
            times.not_before,
            times.valid_until,
            zone,
            options.redial,
            times.window,
            data,
            self._menu,
            others,
            times.validity,
        )
        if call.window is not None:
            self.times.count(call)
        return ReadRow(raw, call, digest, own_key, not (own_key or options.keys_in_batch), findings)

    def _findings(self, raw: Row, draft: Draft) -> Iterator[Finding]:
        """What is told of a row."""
        self._explain_dates(draft)
        for found in filter(self._is_new, draft.findings):
            yield replace(found, file=self._file, row=raw.number)

    def _over(self, raw: Row, column: str, why: str) -> ReadRow:
        """The row, for which nobody is called because its time is over."""
        told = Finding(severity=Severity.WARNING, message=f"{why}: nobody is called for it")
        return ReadRow(raw, findings=(replace(told, file=self._file, row=raw.number, column=column),), is_left_out=True)

    def _unreadable(self, raw: Row) -> Iterator[Finding]:
        for column, message in raw.problems:
            yield Finding(file=self._file, row=raw.number, column=column, code=raw.code, message=message)

    def _is_new(self, found: Finding) -> bool:
        """False if the finding is a warning about the source number, and an earlier row had the same warning."""
        is_of_source = not found.is_error and (found.path or "").endswith(".params.source")
        return not is_of_source or self._is_first("source", found.message)

    def _is_first(self, subject: str, column: str | None) -> bool:
        """Return whether no earlier row had this warning."""
        is_new = (subject, column) not in self._warned
        self._warned.add((subject, column))
        return is_new

    def numbers(self, draft: Draft) -> list[str]:
        """The numbers of a row that nobody is called for, as far as they can be read."""
        draft.country = self._country(draft)
        first, further = self._numbers(draft)
        return [number for number in (first, *further) if number is not None]

    def texts(self, data: Mapping[str, object]) -> MenuTexts | None:
        """The texts of the menu for a call with this data; None without a menu."""
        language = language_in(data)
        return self.menu_texts if self.menu_texts is None or language is None else self.menu_texts.spoken_in(language)

    def _words(self, draft: Draft, texts: MenuTexts) -> tuple[FlowTemplate | None, MenuTexts]:
        """What a row's person hears: the template of the call, and the texts of its menu."""
        template = self._options.template
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
        if first is None and any(found.column == DESTINATION for found in draft.findings):
            return None, []
        written = [*([] if first is None else [(DESTINATION, first)]), *further]
        if not written and self._options.template is not None and not draft.is_reported(DESTINATION):
            draft.error(tell("no_number"), column=DESTINATION, code=-1009)
        found = [self._number(draft, name, text) for name, text in written]
        return (found[0], list(filter(None, found[1:]))) if found else (None, [])

    def _number(self, draft: Draft, name: str, written: str) -> str | None:
        try:
            number = read_number(self._written(written), draft.country)
        except PhoneNumberError as error:
            message, column = message_of(error), self._options.roles.country
            if message.kind == "no_country":
                if draft.is_reported(column):
                    return None  # the cell of the country is the one that is wrong
                message = self._without_country(message, column)
            draft.error(message, column=name, code=error.code)
            return None
        if not written.startswith(("+", "00")):
            self._refuse_other_country(draft, name, number)
        if self._options.template is not None and not is_valid(number):
            told = tell("unknown_range", country=country_of(number) or "no country")
            draft.findings.append(Finding(column=name, severity=Severity.WARNING, message=told))
        return number

    def _refuse_other_country(self, draft: Draft, name: str, number: str) -> None:
        """Add an error if a column that by its name says the country of this number says another one."""
        for column in self._homes[name]:
            cell = draft.variables.get(column)
            code = None if is_missing(cell) else _calling_code_in(str(cell))
            if code is not None and not number.startswith(f"+{code}") and not draft.is_reported(column):
                take, ignore = Remedy.TAKE_COLUMN, Remedy.IGNORE_COLUMN
                why = (
                    f"says {str(cell)[:40]!r}, but the number was read as {number}: if it is the country of the "
                    f"number, {take}, or write the number with +; else {ignore}"
                )
                given = {
                    each: columns_text([f"{role}={draft.names.get(column, column)}"])
                    for each, role in ((take, "country"), (ignore, "ignore"))
                }
                draft.error(Message(why, take, ignore).giving(given), column=column)

    def _without_country(self, message: Message, column: str | None) -> Message:
        """What to do about a number that does not say its country: its column may say it."""
        if self._options.template is None:
            return message
        if column is None:
            return tell("no_country", remedy=Remedy.NAME_COUNTRIES, **message.values)
        return tell("country_cell_empty", column=column, **message.values)

    def _zone_of(self, draft: Draft, numbers: Sequence[str | None]) -> PersonZone:
        """The zone in which a person with these numbers hears times: of the row, the numbers, the options.

        If the row's zone or one of its numbers is wrong, which is an error already, it is any zone.
        """
        own, known = draft.reserved.get("time_zone"), list(filter(None, numbers))
        if own is None and len(known) < len(numbers):
            own = "UTC"
        elif own is not None:
            try:
                own = read_zone(own).key
            except ValueError:
                own = "UTC"
        return PersonZone(own, known, self._options.time_zone)

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
        if (key := key_in(draft)) is None:
            return usual_key(own) if isinstance(own, str) and own.strip() else None
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

    def _warn_once(self, draft: Draft, what: str, column: str | None, message: str) -> None:
        """Add a warning about a column, unless an earlier row has one about the same matter."""
        if self._is_first(what, column):
            draft.findings.append(Finding(column=column, severity=Severity.WARNING, message=message))

    def _judge_moments(
        self,
        draft: Draft,
        names: Iterable[str],
        heard: Sequence[str],
        menu: MenuTexts | None,
        data: Mapping[str, object] | None,
    ) -> None:
        """Add an error for each time with a zone of its own, in these columns, that texts speak as it is written.

        The texts are `heard`, or later in the menu, for which `data` is kept.
        """
        common = self._options.data or {}
        given = {**draft.variables, **common}
        found = {row_name(name): given.get(name_among(given, name)) for name in names}
        used = {name: text for name, text in found.items() if isinstance(text, str)}
        zoned = {name: text for name, text in used.items() if WITH_ZONE.search(text) is not None}
        if draft.is_bad or not zoned:
            return
        later = menu.later({**(data or {}), ZONE: draft.person}) if menu is not None else ()
        texts = [*heard, *(text for _, text in later)]
        raw = [name for name, text in zoned.items() if any(text in each for each in texts) and _is_moment(text)]
        for name in raw:
            draft.error(
                f"{zoned[name][:40]!r} would be spoken as it is written: write {{{{ {name}|date }}}}, or "
                f"{{{{ {name}|time }}}}, for what the clocks of the person show",
                column=name,
            )

    def _doubt_voices(self, draft: Draft, voices: Iterable[str]) -> None:
        """Add an error for each voice that the account has not, and a warning for one of another language."""
        texts = self.menu_texts  # without one by language, everybody hears the same
        language = language_in(draft.variables) if texts is not None and texts.has_languages else None
        for voice in voices:
            if (voice, language) in self._fit:
                continue
            if not voice[:1].isalpha() or "{" in voice:
                draft.error(
                    f"{voice[:40]!r} is no name of a voice: write it as en-US-JennyNeural", column="voice_profile"
                )
                continue
            if self._options.voices is not None and voice not in self._options.voices:
                meant = did_you_mean(voice, self._options.voices)
                message = f"the account has no voice {voice}, so 8x8 would refuse the call{meant}"
                draft.error(f"{message} `voiceflow account profiles` lists them", column="voice_profile", code=-1002)
            elif why := at_odds(voice, language):
                self._warn_once(draft, f"voice {voice} {language}", "voice_profile", why)
            else:
                self._fit.add((voice, language))

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
            value = draft.variables.get(row_name(found.column or ""))
            if found.is_error and self._options.date_order is None and begins_with_ordered_date(str(value or "")):
                offer = found.told.plus(f"; or {Remedy.NAME_DATE_ORDER}", Remedy.NAME_DATE_ORDER)
                draft.findings[place] = replace(found, message=offer)


def _is_moment(text: str) -> bool:
    try:
        return zoned_moment(text) is not None
    except (ValueError, OverflowError):
        return False


def _lacking(draft: Draft, message: str, *, is_source: bool) -> str:
    """The message that something is missing. Of the number to call from, it is why this person has none."""
    return message if draft.no_source is None or not is_source else draft.no_source


def _refuse_nested(draft: Draft, spoken: Collection[str]) -> None:
    """Add an error for each array or object among the values that are `spoken`."""
    for name in sorted(draft.nested):
        if name_among(spoken, name) in spoken and not draft.is_reported(name):
            draft.error("holds an array or an object, which cannot be spoken; give its parts keys", column=name)


_CALLING_CODE = re.compile(r"\(?(?:\+|00)?([1-9]\d{0,2})(?:[ -]?\d{3,4})?\)?(?:\.0+)?", re.ASCII)


def _calling_code_in(text: str) -> str | None:
    """Return the digits of the calling code that a text is, or of the country that it names; None for other texts."""
    from phonenumbers import country_code_for_region

    if (match := _CALLING_CODE.fullmatch(text.strip())) is not None:
        return match[1]
    try:
        return str(country_code_for_region(read_country(text)) or "") or None
    except InvalidInputError:
        return None


def _homes_of(number: str, role: str) -> Iterable[str]:
    """The columns that by their names say the country of a column of numbers: of `phone_2`, `phone_country_2`."""
    words = number.split("_")
    stem = number.rstrip("_0123456789")
    beside = ("_".join((*words[:place], role, *words[place:])) for place in range(len(words) + 1))
    return dict.fromkeys((role, number.replace(stem, role) if stem else role, *beside))


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
