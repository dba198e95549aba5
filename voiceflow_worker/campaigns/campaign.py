"""The definition of a campaign: read in one place for commands, files, pages and programs, previewed, and started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, Unpack, cast
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.options import CallAgain, CampaignOptions, dated
from voiceflow_worker.campaigns.calls.template import FlowTemplate, opening_template
from voiceflow_worker.campaigns.campaign_rows import batch_of
from voiceflow_worker.campaigns.enqueue import Enqueueing, EnqueueOptions, StartOptions
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.fields import EXCLUDING, HOURS, fields_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.options_file import (
    merged,
    unknown_options,
)
from voiceflow_worker.campaigns.preview import PreviewOptions
from voiceflow_worker.campaigns.reading import Given, Of, Reading, paths, text_of, unknown
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import USUAL_REDIALS, redial_policy
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.queue import CallQueue

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

_OF_START = ("skip_bad", "again", "replace", "remove_missing", "only_new", "rejects")
"""The attributes of a campaign that are options of its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign: who is called, with which words, and when. `Campaign.of` makes one.

    The people are in a `file` or in `rows`. `options` are the defaults of their rows; its `batch_id` is the name of the
    campaign, by default the file's name. From `skip_bad` to `rejects`, it has the options of its start
    (`EnqueueOptions`). A preview assumes `assumptions`, but the queue's own limits go before those of the settings.
    """

    options: CampaignOptions
    file: Path | InputFile | None = None
    rows: Iterable[Mapping[str, object]] | None = None
    skip_bad: bool = False
    again: CallAgain = frozenset()
    replace: bool = False
    remove_missing: bool = False
    only_new: bool = False
    rejects: Path | None = None
    assumptions: PreviewOptions = field(default_factory=PreviewOptions)
    account: Settings | None = field(default=None, repr=False)
    """The settings of the account whose voices are known, if they have its key; None: voices are not checked."""

    @classmethod
    def of(
        cls,
        given: Mapping[str, object],
        *,
        settings: Settings | None = None,
        menus: Mapping[str, Menu] | None = None,
        now: datetime | None = None,
        named: Callable[[str], str] = str,
        foreign: bool = False,
        zone: ZoneInfo | None = None,
    ) -> Self:
        """Return the campaign with these fields. They have the names of the options of `voiceflow enqueue`, with `_`.

        A value is a text as it is typed, or what such a text means: a number, a time, a list of words. None counts as
        not given. `campaign` is a TOML file of further fields; given ones override it. What is given nowhere comes
        from the `settings`. `ivr` names one of `menus`, if they are given, else `module:menu`. `now` is the time that
        days such as `tomorrow` are counted from; its day is the `{date}` of a batch. Times in the fields that name no
        zone are read in `zone`, if there is no `time_zone`. Files of templates are read, and modules of
        menus loaded. With `foreign`, the fields come from another computer: a text in them is never a path or a module.
        Their files are those that were uploaded (`InputFile`), and without `menus` there are none.

        Raises InvalidInputError, with a finding for each field that is unknown or wrong, and for those that exclude
        each other. It calls each field what `named` makes of its name. Raises CampaignFileError for a file that cannot
        be read.
        """
        reading = read_fields(Of.CAMPAIGN, given, settings=settings, menus=menus, now=now, named=named, foreign=foreign)
        reading.zone = zone
        options = options_of(reading)
        campaign = cls(
            options=options,
            file=reading.value("file"),
            rows=reading.value("rows"),
            **{name: value for name in _OF_START if (value := reading.value(name))},
            assumptions=_assumptions(reading, options),
            account=settings,
        )
        if campaign.rows is not None and options.batch_id is None:
            reading.problem("batch", "rows have no file to name the batch: give it")
        if options.roles.country is not None and reading.has("country"):
            both = f"{reading.shown('country')} and the column of the countries"
            reading.problem("country", f"{both} exclude each other: give one of them")
        try:
            options = dated(options, reading.now, zone=zone)
        except InvalidInputError as error:
            reading.problem("batch", str(error))
        reading.refuse(*EXCLUDING)
        return replace(campaign, options=options)

    @property
    def batch_id(self) -> str:
        """Batch of rows that name no batch. Raises InvalidInputError if nothing gives its name."""
        if self.options.batch_id is not None:
            return self.options.batch_id
        return batch_of(InputFile(self.file) if isinstance(self.file, Path) else self.file)

    async def preview(self, queue: CallQueue | None = None) -> EnqueueReport:
        """Return what `start` would do: bad rows, duplicates, and a `preview` of texts, times and duration.

        Nothing is stored. Without a queue, no store is read. Raises the errors of `start`.
        """
        return await self._run(queue, dry_run=True)

    async def start(self, queue: CallQueue, **how: Unpack[StartOptions]) -> EnqueueReport:
        """Enqueue all rows, or none if one is bad: see `enqueue_file`. To start the same campaign again adds nothing.

        Nobody rings before the last row is stored. Raises RowsRefusedError, a CampaignFileError whose `findings` name
        the rows because of which nothing was enqueued; CampaignFileError, InvalidInputError, ChangedSinceError,
        IntakeError, StoreError.
        """
        return await self._run(queue, **how)

    async def assumed(self, queue: CallQueue | None) -> PreviewOptions:
        """Return the assumptions of a preview in this queue. Raises StoreError."""
        limits = None if queue is None else await limits_of(queue.store, queue.name)
        if limits is None or limits.are_unreadable:
            return self.assumptions
        return replace(self.assumptions, rate=limits.rate, max_active=limits.max_active)

    async def _run(self, queue: CallQueue | None, **how: Unpack[EnqueueOptions]) -> EnqueueReport:
        people = self.file if self.rows is None else self.rows
        if people is None:
            raise InvalidInputError("the campaign has no people: give a file or rows")
        how["assumptions"] = await self.assumed(queue)
        how |= cast("EnqueueOptions", {name: getattr(self, name) for name in _OF_START})
        options = self.options
        if self.account is not None and not self.account.missing_for_calls():
            from voiceflow_worker.gateway.client import voices_of  # loaded where there is a key

            options = replace(options, voices=await voices_of(self.account))
        return await Enqueueing(queue, people, options, **how).run()


def read_fields(
    of: Of,
    given: Mapping[str, object],
    *,
    settings: Settings | None = None,
    menus: Mapping[str, Menu] | None = None,
    now: datetime | None = None,
    named: Callable[[str], str] = str,
    foreign: bool = False,
) -> Reading:
    """Return the reading of the given fields of a campaign, a call or an escalation: see `Campaign.of`.

    Unknown ones are noted as wrong, and so are paths from another computer. Raises InvalidInputError and
    CampaignFileError for a file of options.
    """
    fields = fields_of(of)
    said = {name: Given(value, named(name)) for name, value in given.items() if value is not None}
    known = unknown_options(said, named) if of is Of.CAMPAIGN else unknown(said, fields, named, of=_A_FIELD[of])
    wrong = [*known, *(paths(said, fields) if foreign else ())]
    readable = {name: each for name, each in said.items() if name in fields and each.name not in dict(wrong)}
    if (file := readable.pop("campaign", None)) is not None:
        if not str(file.value).strip():
            raise InvalidInputError(f"{file.name}: it is empty: give a file of options, or leave it out")
        readable = merged(readable, Path(text_of(file.value)))
    menus = {} if foreign and menus is None else menus
    return Reading(fields, readable, settings, now or datetime.now(UTC), named, foreign, menus, wrong)


_A_FIELD: Final = {Of.CALL: "a field of a call", Of.ESCALATION: "a field of an escalation"}


def options_of(reading: Reading) -> CampaignOptions:
    """Return the options of the rows: what the fields say, completed by the settings. What is wrong is noted."""
    said = {each.sets: reading.value(name) for name, each in reading.fields.items() if each.sets}
    menu = reading.value("ivr") or reading.value("menu")
    return CampaignOptions(
        template=_template_of(reading, menu),
        menu=menu,
        voice_profile=reading.value("voice_profile") or reading.default("voice_profile"),
        source=reading.value("source") or _usual_source(reading),
        window=window_of(reading),
        redial=_redial(reading),
        **{name: value for name, value in said.items() if value is not None},
    )


def _usual_source(reading: Reading) -> str | None:
    """Return the number to call from of the settings. What is wrong with it is noted, unless a field names another."""
    source: str | None = reading.default("source")
    if source is None or reading.has("source"):
        return source
    try:
        read_sources(source, reading.value("country"))
    except InvalidInputError as error:
        reading.problems.append(("", f"VOICEFLOW_SOURCE: {error}"))
    return source


def _template_of(reading: Reading, menu: Menu | str | None) -> FlowTemplate | None:
    """Return what a call begins with: of a menu, its first question, after the text to say. Errors are noted."""
    said: FlowTemplate | None = reading.value("say")
    template: FlowTemplate | None = said or reading.value("template")
    if menu is None or template is None or template.asks:
        return template
    name, words = ("ivr" if reading.has("ivr") else "menu"), reading.shown("say" if said else "template")
    if said is None or isinstance(menu, str):
        reading.problem(name, f"{words} asks no question, so nobody would hear the menu: ask it there, or leave it out")
        return template
    text = reading.given["say"].value
    if not isinstance(text, str):
        reading.problem(name, f"{words} is spoken before the question of a menu, so it must be a text")
        return template
    template = reading.read("say", lambda _: opening_template(menu, say=text))
    if template is not None and len(template.languages) > 1:
        spoken = ", ".join(sorted(template.languages))
        reading.problem("say", f"is one text, but the menu speaks {spoken}: put it into the menu's first question")
    return template


def _assumptions(reading: Reading, options: CampaignOptions) -> PreviewOptions:
    return PreviewOptions(
        rate=reading.default("rate"),
        max_active=reading.default("max_active"),
        time_zone=options.time_zone,
    )


def window_of(reading: Reading) -> CountryWindows | None:
    """Return the window of the fields that say in which hours phones ring. What is wrong is noted."""
    window, days, holidays, zone = (reading.value(name) for name in HOURS)
    if window is None and "columns" in reading.fields:  # of a campaign: only its calls wait for the usual hours
        window = _usual_window(reading)
    if window is None and days is None and holidays is None:
        if zone is not None and not reading.problems:
            what = f"{reading.shown('window')} or {reading.shown('days')}"
            reading.problem("window_time_zone", f"it is the zone of a window, and there is none: give {what}")
        return None
    whole = window or CountryWindows()
    return CountryWindows(
        hours=whole.hours,
        days=whole.days if days is None else days,
        holidays=whole.holidays if holidays is None else holidays,
        time_zone=zone or whole.time_zone,
    )


def _usual_window(reading: Reading) -> CountryWindows | None:
    """Read the window of the settings. What is wrong with it is noted."""
    text: str | None = reading.default("window")
    try:
        return None if text is None else CountryWindows.parse(text)
    except InvalidInputError as error:
        reading.problems.append(("", f"VOICEFLOW_WINDOW: {error}"))
        return None


def _redial(reading: Reading) -> RedialPolicy | None:
    """Return the policy of the fields, completed by the settings; None if neither asks for redials."""
    names = ("redial_on", "redial_max", "redial_after")
    on, limit, after = (reading.value(name) for name in names)
    said = [name for name in names if reading.has(name)]
    if (not said and not reading.default("redial_on")) or reading.problems:
        return None
    usual = reading.default("redial_on") or (USUAL_REDIALS if reading.has("redial_max") else ())

    def policy(_: object) -> RedialPolicy:
        return redial_policy(
            usual if on is None else (each.value for each in on),
            limit=reading.default("redial_max") if limit is None else limit,
            after=reading.default("redial_after") if after is None else after,
            spare=after is None,
        )

    return reading.read(said[0], policy) if said else policy(None)
