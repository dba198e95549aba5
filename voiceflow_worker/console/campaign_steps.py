"""The steps of the form of a campaign: what each shows, by the names of its own template, and what is wrong in it.

A fault stands beside the field that it is about, as soon as a person wants to go on from the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import anyio
import structlog
from babel.core import get_global
from phonenumbers import SUPPORTED_REGIONS

from voiceflow_worker.actions import Operator
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.file_preview import ROWS_A_PAGE, ListPreview, preview_list
from voiceflow_worker.campaigns.lists.column_detection import country_among
from voiceflow_worker.campaigns.lists.columns import DESTINATION, row_name
from voiceflow_worker.campaigns.lists.filters import Filter, text_of_parts
from voiceflow_worker.campaigns.lists.forbidden import forbids_calls
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.values import UnreadColumn
from voiceflow_worker.campaigns.reading import Group, row
from voiceflow_worker.console.form import (
    COUNTS,
    DAYS,
    FIELDS,
    FILTERS,
    LIST,
    NO_DAY,
    ONLY_NEW,
    ROLE_WORDS,
    STEP_OF,
    STEPS,
    TEXTS,
    TICKS,
    UPLOADS,
    YES,
    CampaignForm,
    role_in_words,
)  # fmt: skip
from voiceflow_worker.console.formats import ZONE, countries, label_of, span
from voiceflow_worker.console.questions import PREFIX, READY, menu_in, ready_in, shown_questions, taken
from voiceflow_worker.console.start_words import Choice, button_of, in_short, left_in_words
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, VoiceflowError
from voiceflow_worker.finding import Finding, Remedy, message_of, ranges_text, tell
from voiceflow_worker.gateway.client import TIMEOUT, VoiceClient
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.country_windows import AT_ANY_HOUR
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.reading import INTERNATIONAL
from voiceflow_worker.model.text.names_of_the_world import VOICES, at_odds
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

ACCOUNT_FOR = timedelta(minutes=10)
"""How long the voices and numbers of the account are kept, before 8x8 is asked again."""
_MOST_FINDINGS, _MOST_RANGES = 30, 12
_DIGITS = 9
"""The digits that the number of a row is shorter than."""
_WAITS = ("5m", "15m", "30m", "1h", "2h", "4h", "1d")
_DRAWN = {
    "batch", "columns", "country", "date_order", "encoding", "file", "header_row", "ivr", "menu", "redial_max",
    "say", "sheet", *TICKS,
}  # fmt: skip
"""The fields of which the templates draw all that they can say."""
_FURTHER = {
    step: [each for name, each in FIELDS.items() if STEP_OF[name] == step and name not in _DRAWN] for step in STEPS
}
"""The other fields of each step, which stand as texts under More."""
_GROUPS = {"people": {Group.WHO}, "hours": {Group.WHEN, Group.REDIAL, Group.GUARDS}}
"""The groups of fields that a step has; that of the words has all, because its texts are tried on the people."""
_PLACES = {".text": "say", ".voiceProfile": "voice_profile", ".source": "source"}
"""The fields by which the parts of a request are filled in."""
_DOCUMENTED = {"voices": [(code, f"{code}, {language}, {gender}") for code, _, language, gender in VOICES]}
_log = structlog.get_logger("voiceflow.console")

Names = dict[str, object]
Pairs = Sequence[tuple[str, str]]


class _Account:
    """The voices and the numbers of the account, as pairs of a value and its words, of which people may type others.

    Without an answer there are no numbers, and the voices that 8x8 documents.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_at: float | None = None
        self._lists: dict[str, list[tuple[str, str]]] = {}

    async def lists(self) -> Mapping[str, Pairs]:
        """The lists `voices` and `numbers`."""
        now = anyio.current_time()
        if self._asked_at is None or now - self._asked_at > ACCOUNT_FOR.total_seconds():
            self._asked_at = now
            self._lists = await self._read()
        return {"numbers": (), **self._lists}

    async def _read(self) -> dict[str, list[tuple[str, str]]]:
        if self._settings.missing_for_calls():
            return _DOCUMENTED
        try:
            async with VoiceClient.from_settings(self._settings, timeout=TIMEOUT) as voice:
                voices, numbers = await voice.speech_profiles(), await voice.numbers()
        except VoiceflowError as error:
            _log.warning("the voices of the account could not be listed", error=str(error))
            return _DOCUMENTED
        return {
            "voices": [(v.code, ", ".join(filter(None, [v.code, v.language or v.locale, v.gender]))) for v in voices],
            "numbers": [
                (e164, ", ".join(filter(None, [e164, n.country, n.status])))
                for n in numbers
                if (e164 := f"+{n.msisdn.lstrip('+')}")
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """A form with its file, as it is shown: the `faults` of its fields by their names, and what a button asked `more`.

    With the preview of the campaign, if it was made.
    """

    form: CampaignForm
    kept: InputFile
    more: str = ""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    report: EnqueueReport | None = None
    campaign: Campaign | None = None


_OF_PAGE = frozenset({"step", "version", "rows_from", "heard"})
"""What a form says of its page, and not of the campaign."""
_SHOWN_FOR, _MOST_PREVIEWS, _MOST_FINDINGS_KEPT = timedelta(minutes=1), 4, 1000


def texts_of(form: CampaignForm) -> dict[str, str]:
    """The texts of a form, as its fields show them."""
    return {name: (form.shown if name in FILTERS else form.get)(name) for name in TEXTS}


class CampaignSteps:
    """What the steps of a form show. Files are read in another `process`. Methods raise StoreError."""

    def __init__(
        self, operator: Operator, process: OtherProcess, *, menus: Mapping[str, Menu], settings: Settings
    ) -> None:
        self._operator, self._process, self._menus, self._settings = operator, process, menus, settings
        self._account = _Account(settings)
        self._previews: dict[bytes, tuple[datetime, EnqueueReport]] = {}
        """The newest previews, and when each was made, by what their forms say."""

    async def shown(self, step: str, given: StepInput) -> Names:
        """The names of the template of a step."""
        show = {"people": self._people, "words": self._words, "check": self._check, "ready": self._ready}
        return await show.get(step, self._hours)(given)

    async def faults(self, step: str, given: StepInput) -> dict[str, str]:
        """What is wrong in a step that keeps people from going on, by the names of its fields."""
        form, kept = given.form, given.kept
        try:
            if step == "words":
                campaign = self.campaign(form, kept)
                if not campaign.options.has_hours:  # which the next step asks for
                    campaign = replace(campaign, options=replace(campaign.options, window=AT_ANY_HOUR))
                report = await self.preview(campaign, form)
                return {} if report.valid or not report.rejected else _faults_in(form, report.findings)
            campaign = self.read(form, kept, groups=_GROUPS.get(step, set()))
            if step == "hours" and not campaign.options.has_hours:
                return {"window": tell("no_window")}
            shown = await self.found(form, kept, checks=True) if step == "people" else ListPreview()
            if shown.counts is not None and shown.counts["lacking"]:
                return {"country": "say whose numbers these are, or leave them out"}
            if _undecided(form, shown):
                return {"undecided": "leave out whom it forbids to call, or say below that it is not read"}
        except InvalidInputError as error:
            found, places = faults_of(error), list(STEPS)
            so_far = places[: places.index(step) + 1]  # what is wrong later is told later
            return {name: why for name, why in found.items() if STEP_OF.get(name, step) in so_far}
        return {}

    async def preview(
        self, campaign: Campaign, form: CampaignForm, queue: str | None = None, *, anew: bool = False
    ) -> EnqueueReport:
        """The preview of the campaign in a form.

        The list is not read again for the next step of the same form, soon after, unless it is to be read `anew`. A
        start reads it in any case, and refuses what its preview did not show.
        """
        queue, now = queue or self._settings.queue, self._operator.store.clock.now()
        said = sorted((name, value) for name, value in form.values.items() if name not in _OF_PAGE)
        options = campaign.options
        # After midnight, tomorrow is another day.
        times = (options.batch_id, options.not_before, options.valid_until, options.window)
        key = hashlib.blake2b(
            repr((queue, campaign.assumptions, times, said)).encode("utf-8", "surrogatepass")
        ).digest()
        made = {each: one for each, one in self._previews.items() if timedelta() <= now - one[0] <= _SHOWN_FOR}
        if anew or key not in made:
            report = await self._process.run_on(campaign.preview, queue, policy=self._operator.policy)
            made = {**made, key: (now, report)} if len(report.findings) <= _MOST_FINDINGS_KEPT else made
            self._previews = dict(list(made.items())[-_MOST_PREVIEWS:])
            return report
        return made[key][1]

    def campaign(self, form: CampaignForm, kept: InputFile) -> Campaign:
        """The campaign in a form. Raises InvalidInputError, with the labels of the form."""
        try:
            menu = menu_in(form.values)
        except InvalidInputError as error:
            raise _wrong("menu", message_of(error)) from None
        if not form.get("ivr") and not form.get("say") and menu is None:
            raise _wrong("say", "write the text to say, ask a question, or choose a menu")
        if menu is not None and form.get("menu"):
            raise _wrong("menu", "ask questions, or name a menu that another receiver answers with, not both")
        voices = (form.get("voice_profile"), self._settings.voice_profile, menu and menu.get("voice_profile"))
        if menu is not None and not any(voices):
            raise _wrong("voice_profile", "choose the voice that asks the question")
        campaign = self.read(form, kept, menu=menu)
        return replace(campaign.without_handlers(), only_new=form.get(LIST) == ONLY_NEW)

    def read(
        self,
        form: CampaignForm,
        kept: InputFile,
        *,
        menu: Mapping[str, object] | None = None,
        groups: Collection[Group] = frozenset(Group),
    ) -> Campaign:
        """The campaign with the fields of a form, or with those of some groups. Raises InvalidInputError."""
        names = [name for name, each in FIELDS.items() if each.group in groups and name not in UPLOADS]
        if Group.WHEN in groups and form.get("days") == NO_DAY:
            raise _wrong("days", "tick at least one day")
        if Group.WHEN in groups and bool(form.shown("not_before.date")) != bool(form.shown("not_before.time")):
            raise _wrong("not_before", "choose its day and its time")
        fields: dict[str, object] = {name: form.get(name) or None for name in names}
        if form.get(LIST) == COUNTS:
            fields |= {"replace": YES, "remove_missing": YES}
        fields |= {"file": kept, **({"menu": menu} if menu else {})}
        return Campaign.of(
            fields,
            settings=self._settings,
            menus=self._menus,
            now=self._operator.store.clock.now(),
            named=label_of,
            foreign=True,
            zone=ZONE.get(),
        )

    async def found(self, form: CampaignForm, kept: InputFile, *, checks: bool = False) -> ListPreview:
        """The columns of the file; with `checks`, with what is wrong with the rows that are shown."""
        try:
            header_row = row(form.get("header_row")) if form.get("header_row") else None
        except ValueError as error:
            raise _wrong("header_row", str(error)) from None
        place = form.get("rows_from")
        skipped = int(place) if place.isdecimal() and len(place) < _DIGITS else 0
        options: CampaignOptions | None = None
        with suppress(InvalidInputError):  # which the check tells
            options = self.read(form, kept, groups={Group.WHO}).options if checks else None
        encoding = form.get("encoding") or None
        look_at = (kept, form.get("sheet") or None, header_row)
        return await self._process.run(
            preview_list, *look_at, encoding=encoding, skipped=skipped, options=options, usual=self._usual(form)
        )

    def _usual(self, form: CampaignForm) -> Sequence[str]:
        """The countries whose numbers a list probably has: that of the source, and of the page's zone."""
        places: Mapping[str, str] = get_global("zone_territories")
        source = country_of(form.get("source") or self._settings.source or "")
        return [*filter(None, (source, places.get(ZONE.get().key)))]

    async def _found(self, given: StepInput, *, checks: bool = False) -> ListPreview:
        """The columns of the file; what is wrong with it is a fault."""
        try:
            return await self.found(given.form, given.kept, checks=checks)
        except InvalidInputError as error:
            given.faults.setdefault("", message_of(error))
        with suppress(InvalidInputError):  # to choose another sheet
            return ListPreview(sheets=(await self._process.run(preview_list, given.kept, None)).sheets)
        return ListPreview()

    async def _people(self, given: StepInput) -> Names:
        found, form = await self._found(given, checks=True), given.form
        names = [each.name for each in found.columns]
        own = next(iter(form.roles.numbers), None) or found.roles.get(DESTINATION)
        numbers = [each for each in names if row_name(each) == row_name(own or DESTINATION)]
        people = [each.name for each in found.columns if each.column_role == "name"]
        people = people if (chosen := form.roles.names.get("name")) is None else [chosen]
        places = {name: place for place, name in enumerate(names)}
        first = [places[each] for each in people if each in places]

        def name_in(cells: Sequence[str]) -> str:
            return " ".join(filter(None, (cells[each] for each in first)))

        return {
            "found": found,
            "name_column": " ".join(names[each] for each in first),
            "name_in": name_in,
            "number_places": [places[each] for each in numbers],
            "number_names": numbers,
            "others": [place for place, name in enumerate(names) if place not in first and name not in numbers],
            "names_of_countries": countries(),
            "undecided": _undecided(form, found),
            "leaving_out": _leaving_out,
            "countries": _countries(),
            "rows_a_page": ROWS_A_PAGE,
            "roles": ROLE_WORDS,
            "in_words": role_in_words,
            "further": _FURTHER["people"],
        }

    async def _words(self, given: StepInput) -> Names:
        form, preview, wrong = given.form, None, ""
        what, _, which = given.more.partition(" ")
        if what == "ask":
            form.values = taken(form.values, which)
        form.values["heard"] = which if what == "row" else form.get("heard")
        asked = {name: value for name, value in form.values.items() if name.startswith(PREFIX)}
        menu_form, ready = shown_questions(asked, given.more), ready_in(asked)
        if form.get("say") + form.get("ivr") or menu_form.is_given:
            try:
                campaign = self.campaign(form, given.kept)
                heard = int(form.get("heard")) if form.get("heard").isdecimal() else 0
                campaign = replace(campaign, assumptions=replace(campaign.assumptions, heard=heard))
                report = await self.preview(campaign, form)
                preview, wrong = report.preview, next((each.message for each in report.findings if each.is_error), "")
            except InvalidInputError as error:
                name, why = next(iter(faults_of(error).items()))
                wrong = why if name in {"", "say"} else f"{label_of(name)}: {why}"
        asked[f"{PREFIX}languages"] = ", ".join(filter(None, menu_form.languages))
        asked |= {name: form.shown(name) for name, *_ in (ready.shown if ready else ())}
        return {
            "form": texts_of(form) | asked,
            "columns": () if given.more == "hear" else (await self._found(given)).columns,
            "menu_form": menu_form,
            "menus": [(name, name) for name in self._menus],
            "kinds": READY,
            "ready": ready,
            "preview": preview,
            "wrong": wrong,
            "further": _FURTHER["words"],
            **await self._account.lists(),
        }

    async def _hours(self, given: StepInput) -> Names:
        return {
            "countries": _countries()[:-1],
            "waits": [(each, span(read_duration(each))) for each in _WAITS],
            "zone_of_times": given.form.get("time_zone") or ZONE.get().key,
            "days": [(name, name.title()) for name in DAYS],
            "queue": self._settings.queue,
            "further": _FURTHER["hours"],
        }

    async def _check(self, given: StepInput) -> Names:
        form, report = given.form, given.report
        if report is None:
            return {"report": None, "button": None}
        findings = _by_cause([each for each in report.findings if not each.told.values.get("ordered")])
        voices = (await self._account.lists())["voices"]
        found = await self._found(given)
        return {
            **await self._ready(given),
            "now": self._operator.store.clock.now(),
            "left_in_words": left_in_words(report, bad=False),
            "findings": findings[:_MOST_FINDINGS],
            "more": sum(len(each) for each, _ in findings[_MOST_FINDINGS:]),
            "repairs_of": partial(self._repairs_of, form, found),
            "repair": self._voice_of(form, found, voices),
        }

    async def _ready(self, given: StepInput) -> Names:
        form, report, now = given.form, given.report, self._operator.store.clock.now()
        choice = Choice.of(report) if report and not form.get("replace") else None
        return {
            "report": report,
            "choice": choice,
            "button": button_of(report, form) if report else None,
            "in_short": in_short(report, form, given.campaign, now=now) if report and given.campaign else "",
        }

    def _repairs_of(self, form: CampaignForm, found: ListPreview, alike: Sequence[Finding]) -> Pairs:
        """What one button does about findings of one cause: a field with its value, and the words of the button."""
        repairs: list[tuple[str, str]] = []
        if alike[0].is_error and alike[0].told.kind == "no_country":
            numbers = next((each.first for each in found.columns if each.name == alike[0].column), ())
            if numbers and (country := country_among(numbers, self._usual(form))):
                repairs.append((f"country {country}", f"They are numbers of {countries().get(country, country)}"))
        for left in dict.fromkeys(each.told.given.get(Remedy.LEAVE_OUT) for each in alike):
            if parts := [each for each in left or () if isinstance(each, Filter)]:
                words = f"{label_of('leave_out')}: {text_of_parts(parts, typed=True)}"
                repairs.append((f"leave_out {text_of_parts(parts)}", words))
        return repairs

    def _voice_of(self, form: CampaignForm, found: ListPreview, voices: Pairs) -> tuple[str, str] | None:
        """The voice that speaks the language of all rows, if that of the form does not: as a repair."""
        named = form.roles.language
        of_language = (each for each in found.columns if each.name == named or row_name(each.name) == "language")
        spoken = {value for each in of_language for value in each.first}
        voice = form.get("voice_profile") or self._settings.voice_profile or ""
        if not spoken or not all(at_odds(voice, each) for each in spoken) or form.get("ivr") or menu_in(form.values):
            return None
        fitting = (code for code, _ in voices if not any(at_odds(code, each) for each in spoken))
        return next(((f"voice_profile {code}", f"Speak with {code}") for code in fitting), None)


_FIELD_OF = {label_of(name): name for name in FIELDS}


def _undecided(form: CampaignForm, found: ListPreview) -> Sequence[UnreadColumn]:
    """The columns that say by their names who may be called, of which nobody has said what they mean."""
    return [each for each in found.unread if forbids_calls(each.column) and not form.decides(each.column)]


def _leaving_out(column: str, value: str) -> str:
    """What a button sends that leaves out a value."""
    return f"leave_out {text_of_parts([Filter(column, value)])}"


def _wrong(name: str, why: str) -> InvalidInputError:
    """The error of one field."""
    label = label_of(name)
    return InvalidInputError(f"{label}: {why}").found(Finding(column=label, message=why))


def faults_of(error: InvalidInputError) -> dict[str, str]:
    """What is wrong, by the names of the fields that are at fault; that of no field is without a name."""
    found: dict[str, str] = {}
    for each in error.findings:
        column, is_of_file = each.column or "", isinstance(error, CampaignFileError)
        if is_of_file and each.told.kind == "lacks_column_or_option":
            found[column] = "choose one: the list has no column for it"
        elif each.told.kind == "no_window":
            found["window"] = each.message
        elif column in _FIELD_OF:
            found[_FIELD_OF[column]] = each.message
        elif is_of_file and column:  # which a text speaks, and the file lacks
            found.setdefault("say", f"{column} {each.message}")
    return found or {"": message_of(error)}


def _faults_in(form: CampaignForm, findings: Sequence[Finding]) -> dict[str, str]:
    """The faults of the fields by which parts of every call are filled in, or of a column that a text cannot speak."""
    errors = [each for each in findings if each.is_error]
    named = ((_PLACES.get(f".{(each.path or '').rpartition('.')[2]}"), each) for each in errors)
    said = " ".join(text for name, text in form.values.items() if name == "say" or name.startswith(PREFIX))
    said = said.replace("{{ ", "{{")
    unspoken = [("say", each) for each in errors if f"{{{{{row_name(each.column or '?')}" in said]
    found = {name: each.message for name, each in named if name}
    return found or {name: each.message for name, each in unspoken[:1]}


def step_of(faults: Mapping[str, str], error: Exception) -> str | None:
    """The step of the form that has the first fault; None if no field has one."""
    named = next((STEP_OF[name] for name in FIELDS if name in faults), None)
    return named or ("people" if isinstance(error, CampaignFileError) else None)


def _countries() -> Pairs:
    """The countries that people may take: pairs of a value and its words."""
    names = countries()
    known = sorted(((code, names[code]) for code in SUPPORTED_REGIONS if code in names), key=itemgetter(1))
    return [*known, (INTERNATIONAL, "their digits begin with the country code")]


def _by_cause(findings: Sequence[Finding]) -> list[tuple[list[Finding], str]]:
    """Findings by their causes, errors first; and the rows of each cause."""
    found: dict[object, list[Finding]] = {}
    for each in sorted(findings, key=lambda each: not each.is_error):
        found.setdefault((each.severity, each.column, each.told.cause), []).append(each)
    rows: Iterator[list[int]] = ([each.row for each in alike if each.row is not None] for alike in found.values())
    return list(zip(found.values(), (ranges_text(sorted(set(each)), most=_MOST_RANGES) for each in rows), strict=True))
