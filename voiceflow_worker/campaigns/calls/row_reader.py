"""The reader of rows. Each row becomes a call to be enqueued, or findings with all its errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from voiceflow_worker.campaigns.calls.body import FIRST_CALL, complete
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.calls.times import Times
from voiceflow_worker.campaigns.calls.values import RowValues, joined_key, number_key
from voiceflow_worker.campaigns.lists.columns import COUNTRY, DESTINATION, RESERVED, UNIQUE_KEY, row_name
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.core.admission import CheckedCall, call_digest, further_numbers
from voiceflow_worker.core.ports.store import Put
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.errors import CallFlowError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.speech_filters import ZONE
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS, heard_in
from voiceflow_worker.model.flows.bodies import destinations
from voiceflow_worker.model.flows.callflow import CallFlow, EncodedBody, copy_of
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import is_missing, language_in, unspeakable
from voiceflow_worker.model.jobs.admission import PRIORITIES, priority_problem
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.job import split_key, usual_key
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.numbers.reading import read_country, read_number, read_sources
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.times import PersonZone, begins_with_ordered_date
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts

_OWN = frozenset({DESTINATION, *RESERVED})
_NO_NAMES = frozenset[str]()
_NEEDED = {"source": "the number to call from", "voiceProfile": "the voice"}
_NAMES = {"voiceProfile": "voice_profile"}


def texts_of(options: CampaignOptions) -> MenuTexts | None:
    """Return the texts of the options' menu; None if there is none, or only its name is known."""
    if options.menu is None or isinstance(options.menu, str):
        return None
    from voiceflow_worker.ivr.check import MenuTexts

    return options.menu if isinstance(options.menu, MenuTexts) else MenuTexts(options.menu)


def menu_puts(options: CampaignOptions) -> tuple[Put, ...]:
    """Return what the store keeps of the options' menu for its calls: all of it, if it is written as data."""
    menu = options.menu
    if menu is None or isinstance(menu, str) or not menu.definition:
        return ()
    return (Put(MENUS, menu.name, menu.definition, None),)


class ReadRow(NamedTuple):
    """One row after reading: its findings and its call. A row that is bad, a duplicate or left out has no call.

    `key` is the unique key in the row, else that of its batch and number, also of a row without a call, as far as it
    can be read; so are its `batch_id` and `numbers`. `has_own_key` is True if the key is in the row. `duplicate_of` is
    the line of an equal row earlier in the file. `is_left_out` is True if the list or a column says not to call.
    """

    raw: Row
    call: CheckedCall | None = None
    key: str | None = None
    has_own_key: bool = False
    findings: tuple[Finding, ...] = ()
    duplicate_of: int | None = None
    is_left_out: bool = False
    numbers: tuple[str, ...] = ()
    batch_id: str = ""

    @property
    def is_bad(self) -> bool:
        """True if the row has an error, and cannot be called."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    def without_call(self, *why: Finding) -> ReadRow:
        """Return the row without its call, and why."""
        numbers = self.numbers if self.call is None else self.call.numbers
        return self._replace(call=None, findings=(*self.findings, *why), numbers=numbers)


class RowReader:
    """Read the rows of a list, with these options. A row that names no batch gets `default_batch`."""

    def __init__(self, options: CampaignOptions, *, default_batch: str, now: datetime, allows_past: bool) -> None:
        self._options, self._default_batch, self._now = options, default_batch, now
        menu = options.menu
        self._menu = menu if menu is None or isinstance(menu, str) else menu.name
        self.menu_texts: MenuTexts | None = texts_of(options)
        self.times: Times = Times(options, now=now, allows_past=allows_past)
        source = None if options.source is None else read_sources(options.source, options.country)
        self._only_source = None if source is None else source.only
        self._voices = set[str]()
        """The voices that are right."""
        self._warned = set[str]()
        """The warnings about numbers to call from that earlier rows had."""

    def read(self, row: Row, values: RowValues) -> ReadRow:
        """Read a row. The result has a call, or else the errors of the row. A bad row does not raise an exception."""
        if values.wrong:
            values.drop_wrong()
        options = self._options
        template, texts = options.template, self.menu_texts
        if texts is not None:
            template, texts = self._spoken(values, texts)
        destination, further = self._numbers(values)
        person = None
        if self._menu is not None or (template is not None and template.is_computed):
            person = self._zone_of(values, [destination, *further])
        body, filled = self._body(values, template, destination, further, person)
        first = destination or (next(iter(destinations(body)), None) if template is None else None)
        times = self.times.read(values, body, (*filter(None, (first, *further)),))
        numbers = (*filter(None, (destination, *further)),)
        if times.over is not None:
            column, why = times.over
            message = f"{why}: nobody is called for it"
            over = Finding(
                severity=Severity.WARNING, message=message, column=values.names.get(row_name(column), column)
            )
            return self._silent(row, values, numbers, over)._replace(is_left_out=True)
        batch_id = self._batch(values, body) or self._default_batch
        own_key = self._unique_key(values, body, destination)
        priority = self._priority(values)
        spoken = _NO_NAMES if texts is None else texts.names
        data = self._data(values, {**filled, "destination": destination}, spoken & _OWN if spoken else spoken)
        if texts is not None:
            self._judge_menu(values, texts, {**(data or {}), ZONE: person})
        if values.wrong and options.date_order is None and values.has_dates:
            _offer_date_order(values)
        if values.is_bad:
            return self._silent(row, values, numbers, *values.findings)
        encoded = EncodedBody.of(CallFlow(body))
        try:
            others = further_numbers(encoded, further) if further else ()
        except CallFlowError as error:
            return self._silent(row, values, numbers, *values.findings, *error.findings)
        digest = call_digest(encoded.canonical, others)
        key = own_key or number_key(batch_id, encoded.destination)
        call = CheckedCall(
            encoded.source,
            encoded.destination,
            encoded.stored,
            digest,
            key,
            batch_id,
            priority,
            times.not_before,
            times.valid_until,
            # Later texts of a menu must know the zone that the first one was spoken in.
            times.time_zone or (None if person is None else person.fallback_zone),
            options.redial,
            times.window,
            data,
            self._menu,
            others,
            times.validity,
        )
        if call.window is not None:
            self.times.count(call)
        return ReadRow(row, call, key, own_key is not None, tuple(values.findings), batch_id=batch_id)

    def left_out(self, row: Row, values: RowValues, why: Finding) -> ReadRow:
        """Return the row as one that is left out, with its key and numbers as far as they can be read."""
        first, further = self._numbers(values)
        return self._silent(row, values, (*filter(None, (first, *further)),), why)._replace(is_left_out=True)

    def _silent(self, row: Row, values: RowValues, numbers: tuple[str, ...], *findings: Finding) -> ReadRow:
        """Return a row that calls nobody."""
        first, batch_id = numbers[0] if numbers else None, self._options.batch_id or values.reserved.get("batch_id")
        batch_id, own = batch_id or self._default_batch, self._own_key(values, first)
        key = own or (None if first is None else number_key(batch_id, first))
        return ReadRow(row, None, key, own is not None, findings, numbers=numbers, batch_id=as_stored(batch_id))

    def texts(self, data: Mapping[str, object]) -> MenuTexts | None:
        """Return the texts of the menu for a call with this data; None without a menu."""
        language = language_in(data)
        return self.menu_texts if self.menu_texts is None or language is None else self.menu_texts.spoken_in(language)

    def _spoken(self, values: RowValues, texts: MenuTexts) -> tuple[FlowTemplate | None, MenuTexts]:
        """Return what a row's person hears: the template of the call, and the texts of its menu."""
        template = self._options.template
        language = language_in({**values.variables, **(self._options.data or {})})
        if language is None:
            return template, texts
        try:
            texts = texts.spoken_in(language)
            return template and template.spoken_in(language), texts
        except InvalidInputError as error:
            values.error(f"cannot be the language of this call: {error}", column="language")
            return template, texts

    # -- who is called, and from which number -------------------------------------------------------------------------

    def _numbers(self, values: RowValues) -> tuple[str | None, list[str]]:
        """Return the number to call, and the further ones of the person, in E.164 form; None for a wrong one.

        If the first cell is empty, the next number that there is takes its place.
        """
        country = self._country(values)
        first, further = values.reserved.get(DESTINATION), values.further
        if first is None and values.is_reported(DESTINATION):
            return None, []
        written = [*([] if first is None else [(DESTINATION, first)]), *further]
        if not written and self._options.template is not None:
            values.error("is missing but it is required; give the number to call", column=DESTINATION, code=-1009)
        found = [self._number(values, name, text, country) for name, text in written]
        return (found[0], list(filter(None, found[1:]))) if found else (None, [])

    def _number(self, values: RowValues, name: str, written: str, country: str | None) -> str | None:
        try:
            return read_number(written, country)
        except PhoneNumberError as error:
            column, message = self._options.roles.country, str(error)
            if error.kind == "no_country" and column is not None:
                if values.is_reported(COUNTRY):
                    return None  # the cell of the country is the one that is wrong
                message = (
                    f"{written[:40]!r} has no country code, nor does {column}. Correct that cell, or write it with +."
                )
            values.error(message, column=name, code=error.code, kind=error.kind)
            return None

    def _country(self, values: RowValues) -> str | None:
        """Return the country of this row's national numbers: that in its column, or that of the options."""
        text = None if self._options.roles.country is None else values.variables.get(COUNTRY)
        if is_missing(text):
            return self._options.country
        try:
            return read_country(str(text))
        except InvalidInputError as error:
            values.error(str(error), column=COUNTRY)
            return None

    def _zone_of(self, values: RowValues, numbers: Sequence[str | None]) -> PersonZone:
        """Return the zone in which a person with these numbers hears times: of the row, the numbers, the options.

        If the row's zone or one of its numbers is wrong, which is an error already, it is any zone.
        """
        own, known = values.reserved.get("time_zone"), list(filter(None, numbers))
        if own is None and len(known) < len(numbers):
            own = "UTC"
        elif own is not None:
            try:
                own = read_zone(own).key
            except ValueError:
                own = "UTC"
        return PersonZone(own, known, self._options.time_zone)

    def _source(self, values: RowValues, numbers: Sequence[str]) -> tuple[str | None, str | None]:
        """Return the number to call this person from, in E.164 form; else None, and why there is none.

        The reason is empty if something that is reported already is wrong.
        """
        own = values.reserved.get("source")
        if own is None and self._only_source is not None:
            return self._only_source, None
        if values.is_reported("source"):
            return None, ""
        text = own or self._options.source
        if text is None:
            return None, None
        try:
            sources = read_sources(text, self._options.country)
            if sources.only is not None:
                return sources.only, None
            found = [sources.to(number) for number in numbers]
        except InvalidInputError as error:
            if own is not None:
                values.error(str(error), column="source", code=-1009)
                return None, ""
            return None, str(error)
        if not found:
            return None, ""
        for number, other in zip(numbers, found, strict=True):
            if other != found[0]:
                values.error(
                    f"would be {found[0]} for {numbers[0]} and {other} for {number} of the same person; give the row "
                    "one source, or the numbers a row each",
                    column="source",
                )
        return found[0], None

    # -- what they hear -----------------------------------------------------------------------------------------------

    def _body(
        self,
        values: RowValues,
        template: FlowTemplate | None,
        destination: str | None,
        further: Sequence[str],
        person: PersonZone | None,
    ) -> tuple[dict[str, Any], Mapping[str, object]]:
        """Return the row's body, and what texts may speak. Broken rules of the contract are added to the findings."""
        body = copy_of(values.body)
        numbers = [*filter(None, (destination, *further))] or list(destinations(body))[:1]
        source, no_source = self._source(values, numbers)
        voice = values.reserved.get("voice_profile", self._options.voice_profile)
        given: dict[str, object] = {**values.variables, "source": source, "destination": destination or PLACEHOLDER}
        given |= {"voice_profile": voice, **(self._options.data or {}), ZONE: person}
        reported = set[str | None]()
        if template is not None:
            filled, problems = template.fill(given)
            for problem in problems:
                reported.add(problem.path)
                why = problem.message
                if problem.column == "source" and problem.is_missing and no_source is not None:
                    why = no_source
                if why and not values.is_reported(problem.column):
                    values.error(why, column=problem.column, path=problem.path, code=-1009)
            body, destination = template.body_of(filled), destination or PLACEHOLDER
        wins = "source" in values.reserved
        complete(body, destination=destination, source=source, voice_profile=voice, source_wins=wins)
        self._check_voices(values, body)
        reported |= {found.path for found in values.findings if found.path is not None}
        for found in find_problems(body):
            if found.path not in reported:
                self._take_problem(values, found, template, no_source)
        del given[ZONE]
        return body, given

    def _take_problem(
        self, values: RowValues, found: Finding, template: FlowTemplate | None, no_source: str | None
    ) -> None:
        """Add a broken rule of the contract, as a finding about the column that causes it."""
        name, message = (found.path or "").rpartition(".")[2], found.message
        column = _column_of(found.path, template, values.reserved)
        if values.is_reported(column):
            return
        if name in _NEEDED and message.startswith("is missing"):
            if name == "source" and no_source is not None and found.path == f"{FIRST_CALL}.source":
                message = no_source
            else:
                message = f"{message}. Give {_NEEDED[name]} for all rows: `{_NAMES.get(name, name)}`."
        if name == "source" and not found.is_error:
            if message in self._warned:
                return
            self._warned.add(message)
        if message:
            values.add(replace(found, column=column, message=message))

    def _check_voices(self, values: RowValues, body: Mapping[str, object]) -> None:
        """Add an error for each voice of a body that no account has, or that the account has not."""
        for voice in {each.voice for each in heard_in(body)} - self._voices - {None}:
            if voice is None:
                continue
            if not voice[:1].isalpha() or "{" in voice:
                message = f"{voice[:40]!r} is no name of a voice. Write it as en-US-JennyNeural."
                values.error(message, column="voice_profile")
            elif self._options.voices is not None and voice not in self._options.voices:
                message = f"the account has no voice {voice!r}. `voiceflow account` lists them."
                values.error(message, column="voice_profile", code=-1002)
            else:
                self._voices.add(voice)

    def _judge_menu(self, values: RowValues, texts: MenuTexts, data: Mapping[str, object]) -> None:
        """Add the reasons why texts of the menu cannot be spoken with the data that is stored with the call."""
        for column, message, is_missing_value in texts.problems(data):
            is_known = is_missing_value and column == "source" and values.is_reported(DESTINATION)
            if not is_known and not values.is_reported(column):
                values.error(message, column=column, code=-1009)

    # -- what else a call has -----------------------------------------------------------------------------------------

    def _batch(self, values: RowValues, body: Mapping[str, object]) -> str | None:
        """Return the batch id of the options, else that which the row names, else that of the body."""
        own, named = body.get("clientBatchId"), values.reserved.get("batch_id")
        given = self._options.batch_id
        if given is not None:
            return given
        if named is None:
            return own if isinstance(own, str) and own.strip() else None
        if len(named) > MAX_ID_CHARACTERS:
            message = f"has {len(named)} characters, but at most {MAX_ID_CHARACTERS} are allowed; shorten it"
            values.error(message, column="batch_id", code=-1009)
        elif problem := unspeakable(named):
            values.error(f"has {problem}; remove it", column="batch_id", code=-1016)
        return named

    def _unique_key(self, values: RowValues, body: Mapping[str, object], number: str | None) -> str | None:
        """Return the unique key that the row names, else that of the body, in one spelling."""
        for name in self._options.roles.keys:
            if not self._part_of_key(values, name, number) and not values.is_reported(name):
                values.error("is empty, and is a part of the unique_key. Fill it in.", column=name)
        if (key := self._own_key(values, number)) is None:
            own = body.get("clientRequestId")
            return usual_key(own) if isinstance(own, str) and own.strip() else None
        if len(key) > LONGEST_KEY:
            message = f"has {len(key)} characters, but at most {LONGEST_KEY} are allowed; shorten it"
            values.error(message, column=UNIQUE_KEY)
        elif split_key(key)[1] > 1:
            values.error(f"{key[-40:]!r} ends as only keys of calls do that are made again", column=UNIQUE_KEY)
        return key

    def _own_key(self, values: RowValues, number: str | None) -> str | None:
        """Return the key of a row with this number to call, of one column or of several; None if it has none."""
        if not self._options.roles.keys:
            return values.unique_key
        parts = [self._part_of_key(values, name, number) for name in self._options.roles.keys]
        return joined_key(parts) if all(parts) else None

    def _part_of_key(self, values: RowValues, name: str, number: str | None) -> str:
        roles, key = self._options.roles, row_name(name)
        if key == row_name(roles.called[0]):
            return phone_identity(number or "")
        return str(values.variables.get(roles.renamed.get(key, key)) or "").strip()

    def _data(
        self, values: RowValues, given: Mapping[str, object], reserved: Collection[str]
    ) -> Mapping[str, object] | None:
        """Return the data to store with the job: the row's variables, without the columns that the job has itself.

        Of these, only the ones in `reserved` are stored, because a menu speaks them. Data that is too large is stored
        without its empty values: programs export columns that no row fills.
        """
        spoken = {name: given[name] for name in reserved if given.get(name) is not None}
        data = {**values.data, **spoken, **(self._options.data or {})}
        try:
            return checked_data(data)
        except InvalidInputError:
            data = {name: value for name, value in data.items() if not is_missing(value)}
        try:
            return checked_data(data)
        except InvalidInputError as error:
            values.error(str(error), column=None)
            return None

    def _priority(self, values: RowValues) -> int:
        """Return the row's priority, else that of the options."""
        text = values.reserved.get("priority")
        if text is None:
            return self._options.priority
        try:
            found = float(text)
        except ValueError:
            found = 0.5
        if not (found.is_integer() and int(found) in PRIORITIES):
            values.error(priority_problem(text) or "", column="priority")
            return 0
        return int(found)


def _offer_date_order(values: RowValues) -> None:
    """Add a remedy to the errors of cells with a date such as 31/1/2030, of whose parts nobody gave the order."""
    for place, found in enumerate(values.findings):
        keys = [key for key, name in values.names.items() if name == found.column]
        texts = (str(values.variables.get(key) or "") for key in keys)
        if found.is_error and any(map(begins_with_ordered_date, texts)):
            message = f"{found.message.rstrip('.')}. Give the order of its dates: `date_order: dmy`, mdy or ymd."
            values.findings[place] = replace(found, message=message)


def _column_of(path: str | None, template: FlowTemplate | None, reserved: Mapping[str, str]) -> str | None:
    """Return the column that causes a finding at this path of the body; None if no column does, or several do."""
    if path is None:
        return None
    if template is not None and (varying := template.column_of(path)) is not None:
        return varying
    last = path.rpartition(".")[2]
    if path in {f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}:
        return last if template is not None or last in reserved else None
    return "voice_profile" if last == "voiceProfile" and template is not None else None
