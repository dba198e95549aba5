"""The definition of a campaign: read in one place for commands, files, pages and programs, previewed, and started."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from voiceflow_worker.campaigns.calls.bad_row_limit import BadRowLimit
from voiceflow_worker.campaigns.calls.options import BadNumbers, CampaignOptions
from voiceflow_worker.campaigns.calls.request import texts_of
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import batch_of
from voiceflow_worker.campaigns.costs import PriceTable
from voiceflow_worker.campaigns.enqueue import EnqueueReport, OnProgress, enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.files.input_file import InputFile, read_text
from voiceflow_worker.campaigns.files.json_rows import LARGEST_DOCUMENT
from voiceflow_worker.campaigns.files.rows import FileKind, columns_text
from voiceflow_worker.campaigns.imports import Claim
from voiceflow_worker.campaigns.preview import PreviewOptions
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.ports.controls import Limits
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.core.ports.store import Same
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.country_windows import CountryWindows, read_holidays, read_weekdays
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.jobs.again import Again, read_again
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import (
    RedialWait,
    StopRules,
    read_answer_rate,
    read_cost,
    read_redial_after,
    read_redial_on,
    redial_policy,
)
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.numbers.sources import read_sources
from voiceflow_worker.model.recurrence import MISFIRE, Recurrence, read_cron
from voiceflow_worker.model.text.wording import in_words, read_duration, read_rate, table_text
from voiceflow_worker.model.times import DateOrder, read_time, read_zone
from voiceflow_worker.model.window import CallWindow, read_window_zone

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

T = TypeVar("T")

PEOPLE: Final = (
    "file", "rows", "sheet", "format", "number_column", "bad_numbers", "country", "country_column", "date_order",
    "source",
)  # fmt: skip
WORDS: Final = ("say", "template", "ivr", "menu", "voice_profile", "language_column", "data")
WHEN: Final = (
    "window", "days", "holidays", "window_time_zone", "time_zone", "not_before", "valid_for", "valid_until",
)  # fmt: skip
REDIALS: Final = ("redial_on", "redial_max", "redial_after")
GUARDS: Final = ("skip_bad", "again", "rejects", "stop_after_refused", "stop_after_cost", "stop_if_answer_rate_below")
FIELDS: Final = (
    "campaign", *PEOPLE, *WORDS, *WHEN, *REDIALS, *GUARDS, "batch", "priority", "prices", "assume_seconds", "rate",
)  # fmt: skip
"""The fields of a campaign: the options of `voiceflow enqueue`, with `_`."""
SCHEDULE: Final = ("cron", "misfire")
"""The fields that only a file of options has, and only `voiceflow schedule` obeys."""
_OF_RUNS: Final = ("skip_bad", "again")
"""The fields of one run that a file with `cron` may have, for each run of its schedule. A person gives them anew."""

_ONE_RUN = frozenset({"again", "campaign", "rejects", "rows", "skip_bad"})
"""The fields that concern one run. A file of options has none of them."""
_FILES = frozenset({"file", "prices", "template"})
_LISTS = frozenset({"data", "days", "holidays", "redial_after", "redial_on", "source", "window"})
"""The fields whose text may be a list, or a table of names."""
_EXCLUDE = (
    ("template", "say"), ("ivr", "menu"), ("valid_for", "valid_until"), ("file", "rows"), ("rejects", "rows"),
    ("country", "country_column"),
)  # fmt: skip
_REPLACE = (frozenset({"template", "say", "ivr"}), *map(frozenset, _EXCLUDE))
"""The fields that replace each other: one that is given goes before the others in the file of options."""

_PATHS: Final[Mapping[str, tuple[Any, str]]] = {
    "campaign": ((), "give its fields"),
    "file": (InputFile, "upload the file"),
    "prices": (InputFile, "upload the file, or leave it out"),
    "rejects": ((), "leave it out"),
    "template": ((FlowTemplate, dict), "give the call flow itself"),
}
"""The fields whose text is the path of a file: for each, what it may be from another computer, and what to do."""

_NOT_SCHEDULED = Finding(
    severity=Severity.WARNING,
    message=(
        f"{' and '.join(SCHEDULE)} count for `voiceflow schedule` alone, and so do {' and '.join(_OF_RUNS)} of the "
        "file: here the campaign starts once, and now"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign: who is called, with which words, and when. `Campaign.of` makes one.

    The people are in a `file` or in `rows`. `options` are the defaults of their rows; its `batch_id` is the name of the
    campaign, by default the file's name. With `skip_bad`, bad rows do not keep the others from being called, up to a
    limit if it is one; `rejects` gets them. With `again`, people who have this call already are called again, or, if it
    names states, the calls of its rows that ended in one of them are made again. A preview
    assumes `assumptions`, but the queue's own limits go before those of the settings.
    """

    options: CampaignOptions
    file: Path | InputFile | None = None
    rows: Iterable[Mapping[str, object]] | None = None
    skip_bad: bool | BadRowLimit = False
    again: Again = False
    rejects: Path | None = None
    assumptions: PreviewOptions = field(default_factory=PreviewOptions)
    assumes_rate: bool = False
    """Whether the rate of the preview was given, and does not come from the settings."""
    recurrence: Recurrence | None = None
    """When `voiceflow schedule` starts it, if its file of options says so."""

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
    ) -> Self:
        """The campaign with these fields. They have the names of the options of `voiceflow enqueue`, with `_`.

        A value is a text as it is typed, or what such a text means: a number, a time, a list of words. None counts as
        not given. `campaign` is a TOML file of further fields; given ones override it. What is given nowhere comes
        from the `settings`. `ivr` names one of `menus`, if they are given, else `module:menu`. `now` is the time that
        days such as `tomorrow` are counted from. Files of templates and prices are read, and modules of menus loaded.
        With `foreign`, the fields come from another computer: a text in them is never a path or a module. Their files
        are those that were uploaded (`InputFile`), and without `menus` there are none.

        Raises InvalidInputError, with a finding for each field that is unknown or wrong, and for those that exclude
        each other. It calls each field what `named` makes of its name. Raises CampaignFileError for a file that cannot
        be read.
        """
        menus = {} if foreign and menus is None else menus
        reader = _Reader(_merged(given, named, foreign=foreign), settings, named, now or datetime.now(UTC), foreign)
        options = reader.options(menus)
        assumptions = reader.assumptions(options.time_zone, priority=options.priority)
        campaign = cls(
            options=options,
            file=reader.read("file", lambda value: reader.file("file", value)),
            rows=reader.read("rows", _rows),
            skip_bad=reader.read("skip_bad", _bad_row_limit) or False,
            again=reader.read("again", read_again) or False,
            rejects=reader.read("rejects", lambda value: Path(_text(value))),
            assumptions=assumptions,
            assumes_rate=reader.has("rate"),
            recurrence=reader.recurrence(options.time_zone),
        )
        if campaign.rows is not None and options.batch_id is None:
            reader.problem("batch", "it is missing; rows have no name that could be that of their batch")
        reader.refuse()
        return campaign

    @property
    def batch_id(self) -> str:
        """The batch of rows that name no batch. Raises InvalidInputError if nothing gives its name."""
        if self.options.batch_id is not None:
            return self.options.batch_id
        return batch_of(InputFile(self.file) if isinstance(self.file, Path) else self.file)

    def without_handlers(self) -> Self:
        """This campaign for another process: of its menu it has the texts, which suffice to start it."""
        return replace(self, options=replace(self.options, menu=texts_of(self.options) or self.options.menu))

    async def preview(self, queue: CallQueue | None = None, *, progress: OnProgress | None = None) -> EnqueueReport:
        """What `start` would do: bad rows, duplicates, and a `preview` of texts, times, duration and cost.

        Nothing is stored. Without a queue, no store is read. Raises the errors of `start`.
        """
        return await self._run(queue, dry_run=True, assumptions=await self.assumed(queue), progress=progress)

    async def start(
        self,
        queue: CallQueue,
        *,
        by: str | Actor | None = None,
        now: datetime | None = None,
        claim: Claim | None = None,
        progress: OnProgress | None = None,
        warn: Callable[[Sequence[Finding]], None] | None = None,
        lease: Same | None = None,
        seen: str | None = None,
    ) -> EnqueueReport:
        """Enqueue all rows, or none if one is bad: see `enqueue_file`. To start the same campaign again adds nothing.

        Nobody rings before the last row is stored. `by` is the person who starts it; the audit log keeps this. `warn`
        gets what concerns all rows of a file before the first call is stored. Durations such as `valid_for` count
        from `now`, by default the time of the store's clock. With a `claim`, the first call is stored only if that
        holds, and with a `lease` each call. With `seen` of a preview, it does what that showed, or nothing. Raises
        CampaignFileError, InvalidInputError, ChangedSinceError, IntakeError, StoreError.
        """
        return await self._run(queue, by=by, now=now, claim=claim, lease=lease, seen=seen, progress=progress, warn=warn)

    async def assumed(self, queue: CallQueue | None) -> PreviewOptions:
        """The assumptions of a preview in this queue. Raises StoreError."""
        limits = None if queue is None else await limits_of(queue.store, queue.name)
        if limits is None or limits.are_unreadable:
            return self.assumptions
        rate = self.assumptions.rate if self.assumes_rate else limits.rate
        return replace(self.assumptions, rate=rate, max_active=_open_to(limits, self.options.priority))

    async def _run(
        self,
        queue: CallQueue | None,
        *,
        dry_run: bool = False,
        assumptions: PreviewOptions | None = None,
        by: str | Actor | None = None,
        now: datetime | None = None,
        claim: Claim | None = None,
        progress: OnProgress | None = None,
        warn: Callable[[Sequence[Finding]], None] | None = None,
        lease: Same | None = None,
        seen: str | None = None,
    ) -> EnqueueReport:
        how: dict[str, Any] = {
            "skip_bad": self.skip_bad, "again": self.again, "dry_run": dry_run, "assumptions": assumptions,
            "by": by, "now": now, "claim": claim, "lease": lease, "seen": seen,
        }  # fmt: skip
        if self.rows is not None:
            report = await enqueue_rows(queue, self.rows, self.options, **how)
        elif self.file is None:
            raise InvalidInputError("the campaign has no people: give a file or rows")
        else:
            how |= {"rejects": self.rejects, "progress": progress, "warn": warn}
            report = await enqueue_file(queue, self.file, self.options, **how)
        if self.recurrence is None or lease is not None:
            return report
        return replace(report, findings=(*report.findings, _NOT_SCHEDULED))


def _open_to(limits: Limits, priority: int) -> int | None:
    """The most open calls of this priority."""
    kept = 0 if priority > 0 else limits.reserve
    return None if limits.max_active is None else limits.max_active - kept


@dataclass(frozen=True, slots=True)
class _Given:
    """A value, with the name of its field for people. Relative paths begin in `folder`."""

    value: object
    name: str
    folder: Path | None = None


def _merged(given: Mapping[str, object], named: Callable[[str], str], *, foreign: bool) -> dict[str, _Given]:
    """All given fields by name, those of the file of options included. Raises InvalidInputError for unknown ones."""
    merged = {name: _Given(value, named(name)) for name, value in given.items() if value is not None}
    _refuse(_unknown(merged, frozenset(FIELDS), named))
    if foreign:
        _refuse(_paths(merged))
    file = merged.pop("campaign", None)
    if file is not None:
        if not str(file.value).strip():
            raise InvalidInputError(f"{file.name}: it is empty: give a file of options, or leave it out")
        path = Path(_text(file.value))
        typed = frozenset(merged)
        merged |= {
            name: found
            for name, found in _options_in(path).items()
            if name not in _OF_RUNS
            and not any(name in each and each & typed for each in (frozenset({name}), *_REPLACE))
        }
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFields:
    """What a TOML file of options says to `voiceflow schedule`: the batch, when it is started, and how each time."""

    batch: str | None = None
    recurrence: Recurrence | None = None
    skip_bad: BadRowLimit | None = None
    """The bad rows that may be left out; None for none."""
    again: Again = False


def schedule_in(path: Path) -> ScheduleFields:
    """What a TOML file of options says to `voiceflow schedule`; nothing else is read of it.

    Raises InvalidInputError, CampaignFileError.
    """
    wanted = {"batch", "time_zone", *SCHEDULE, *_OF_RUNS}
    given = {name: each for name, each in _options_in(path).items() if name in wanted}
    reader = _Reader(given, None, str, datetime.now(UTC), foreign=False)
    zone = reader.read("time_zone", lambda value: read_zone(_text(value)).key)
    skips = reader.read("skip_bad", _bad_row_limit) or None
    found = ScheduleFields(
        batch=reader.read("batch", _batch),
        recurrence=reader.recurrence(zone),
        skip_bad=BadRowLimit() if skips is True else skips,
        again=reader.read("again", read_again) or False,
    )
    reader.refuse()
    return found


def saved_options(given: Mapping[str, str]) -> str:
    """The fields as a TOML file of options. Those of one run, and the file of the people, are left out."""
    kept = {name: value for name, value in given.items() if value and name not in _ONE_RUN and name not in _FILES}
    # JSON spells a text as TOML does, but for one control character.
    texts = {name: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for name, value in kept.items()}
    return "".join(f"{name.replace('_', '-')} = {text}\n" for name, text in texts.items())


def loaded_options(text: str, *, name: str) -> dict[str, str]:
    """The fields of a TOML file of options as texts, for a form. No file is read. Raises InvalidInputError.

    A field that names a file is refused: it is a file of the computer that the options were written on. So is one that
    only `voiceflow schedule` obeys: a form starts its campaign once.
    """
    fields = _read_options(text, place=name)
    _refuse([*_unknown(fields, frozenset(FIELDS), str), *_paths(fields)])
    texts: dict[str, str] = {}
    for key, each in fields.items():
        try:
            read = _columns if key == "number_column" else _words if key in _LISTS else _text
            texts[key] = read(each.value)
        except (ValueError, InvalidInputError) as error:
            raise InvalidInputError(f"{each.name}: {error}") from None
    return texts


def _paths(given: Mapping[str, _Given]) -> Iterator[tuple[str, str]]:
    """The fields that name a file, each with why it is refused. Who named it cannot know which files are here."""
    for name, each in given.items():
        kinds, instead = _PATHS.get(name, (object, ""))
        if not isinstance(each.value, kinds):
            yield each.name, f"it names a file of another computer, which is not read here: {instead}"


def _options_in(path: Path) -> dict[str, _Given]:
    """The fields in a TOML file. Raises CampaignFileError, InvalidInputError."""
    remedy = "give the file of the options, not the file of the people"
    text = read_text(InputFile(path), most_bytes=LARGEST_DOCUMENT, what="a file of options", remedy=remedy)
    return _read_options(text, place=str(path), folder=path.parent)


def _read_options(text: str, *, place: str, folder: Path | None = None) -> dict[str, _Given]:
    """The fields in a TOML document, with `-` or `_` in their names. Raises InvalidInputError."""
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"{place} is not TOML: {error}") from None
    found: dict[str, _Given] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name in found:
            raise InvalidInputError(f"{place}: {key} and {found[name].name} are one option; keep one of them")
        found[name] = _Given(value, key, folder)
    known = frozenset({*FIELDS, *SCHEDULE}) - (_ONE_RUN - {*_OF_RUNS} if "cron" in found else _ONE_RUN)
    _refuse(_unknown(found, known, lambda name: name.replace("_", "-"), where=f"{place}: "))
    return {name: replace(each, name=f"{place}: {each.name}") for name, each in found.items()}


def _unknown(
    given: Mapping[str, _Given], known: frozenset[str], named: Callable[[str], str], *, where: str = ""
) -> Iterator[tuple[str, str]]:
    """The fields that are not among the known ones, each with why it is refused."""
    for name, each in given.items():
        if name in known:
            continue
        shown = each.name[:_LONGEST_NAMED]
        if name in SCHEDULE:
            why = "counts for `voiceflow schedule` alone; leave it out to start the campaign once"
        else:
            close = get_close_matches(name, known, n=1)
            hint = "it concerns one run" if name in FIELDS else f"did you mean {named(close[0])}?" if close else ""
            why = f"is not an option of a campaign{f'; {hint}' if hint else ''}"
        yield shown, f"{where}{shown} {why}"


_LONGEST_NAMED = 100
"""The most characters of an unknown name that a message repeats."""


def _refuse(problems: Iterable[tuple[str, str]], *remedies: Remedy) -> None:
    """Raise InvalidInputError if there are problems: pairs of the name of a field and why it is refused."""
    told = list(problems)
    if told:
        said = "; ".join(why if f"{name} " in why else f"{name}: {why}" for name, why in told)
        found = [Finding(column=name, message=why) for name, why in told]
        raise InvalidInputError(said).remedied(*remedies).found(*found)


@dataclass(slots=True)
class _Reader:
    """The reader of the fields of one campaign. What is wrong is noted, and raised together at the end."""

    given: Mapping[str, _Given]
    settings: Settings | None
    named: Callable[[str], str]
    now: datetime
    foreign: bool
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    remedies: list[Remedy] = field(default_factory=list[Remedy])

    def has(self, name: str) -> bool:
        return name in self.given

    def problem(self, name: str, why: str) -> None:
        self.problems.append((self.shown(name), why))

    def shown(self, name: str) -> str:
        return self.given[name].name if name in self.given else self.named(name)

    def read(self, name: str, read: Callable[[Any], T]) -> T | None:
        """What `read` makes of a field; None if it is not given, or wrong. Raises CampaignFileError."""
        if name not in self.given:
            return None
        try:
            return read(self.given[name].value)
        except CampaignFileError as error:
            if not self.foreign:
                raise  # it names its file, and has findings
            found = error.findings or (Finding(message=str(error)),)
            error.found(*(replace(each, column=self.shown(name)) if each.row is None else each for each in found))
            raise
        except (ValueError, InvalidInputError) as error:
            self.problem(name, str(error))
            self.remedies += error.remedies if isinstance(error, InvalidInputError) else ()
            return None

    def file(self, name: str, value: object) -> Path | InputFile:
        return value if isinstance(value, InputFile) else self.path(name, value)

    def path(self, name: str, value: object) -> Path:
        folder = self.given[name].folder
        return Path(_text(value)) if folder is None else folder / _text(value)

    def default(self, name: str) -> Any:
        """The value of a setting, else its default."""
        if self.settings is not None:
            return getattr(self.settings, name)
        from voiceflow_worker.settings import Settings  # takes 60 ms to load

        return Settings.model_fields[name].default

    def refuse(self) -> None:
        """Raise InvalidInputError for what was wrong."""
        for one, other in _EXCLUDE:
            if self.has(one) and self.has(other):
                names = f"{self.given[one].name} and {self.given[other].name}"
                self.problem(one, f"{names} exclude each other: give one of them")
        _refuse(self.problems, *self.remedies)

    def options(self, menus: Mapping[str, Menu] | None) -> CampaignOptions:
        """The options of the rows."""
        country = self.read("country", _country)
        zone = self.read("time_zone", lambda value: read_zone(_text(value)))
        template = self.read("template", self._template)
        if (spoken := self.read("say", lambda value: FlowTemplate.speaking(_text(value)))) is not None:
            template = spoken
        menu = self.read("ivr", lambda value: self._menu(value, menus))
        return CampaignOptions(
            template=template,
            menu=menu or self.read("menu", _text),
            voice_profile=self.read("voice_profile", _text) or self.default("voice_profile"),
            source=self.read("source", lambda value: _source(value, country)) or self.default("source"),
            country=country,
            batch_id=self.read("batch", _batch),
            valid_for=self.read("valid_for", _duration),
            valid_until=self.read("valid_until", lambda value: self._later(self._time(value, zone))),
            not_before=self.read("not_before", lambda value: self._time(value, zone)),
            time_zone=zone.key if zone is not None else None,
            priority=self.read("priority", _priority) or 0,
            window=self._window(),
            redial=self._redial(),
            stops=self._stops(),
            data=self.read("data", _data),
            file_kind=self.read("format", lambda value: FileKind(_one_of(FileKind, value))),
            sheet=self.read("sheet", _text),
            number_column=self.read("number_column", _columns),
            bad_numbers=self.read("bad_numbers", lambda value: BadNumbers(_one_of(BadNumbers, value)))
            or BadNumbers.REFUSE,
            country_column=self.read("country_column", _text),
            language_column=self.read("language_column", _text),
            date_order=self.read("date_order", lambda value: DateOrder(_one_of(DateOrder, value))),
        )

    def recurrence(self, time_zone: str | None) -> Recurrence | None:
        """When the campaign recurs; None if it does not."""
        cron = self.read("cron", lambda value: read_cron(_text(value)))
        misfire = self.read("misfire", _length)
        if self.has("misfire") and not self.has("cron"):
            self.problem("misfire", "there is no cron, which says when the campaign starts")
        if self.has("cron") and not self.has("time_zone"):
            self.problem("cron", "there is no time_zone, such as Asia/Singapore, in which these are local times")
        return None if cron is None or time_zone is None else Recurrence(cron, read_zone(time_zone), misfire or MISFIRE)

    def assumptions(self, time_zone: str | None, *, priority: int) -> PreviewOptions:
        """The assumptions of a preview."""
        return PreviewOptions(
            rate=self.read("rate", lambda value: read_rate(_text(value))) if self.has("rate") else self.default("rate"),
            max_active=_open_to(
                Limits(max_active=self.default("max_active"), reserve=self.default("reserve")), priority
            ),
            seconds=self.read("assume_seconds", _seconds),
            prices=self.read("prices", lambda value: PriceTable.load(self.file("prices", value))),
            time_zone=time_zone,
        )

    def _template(self, value: object) -> FlowTemplate:
        if isinstance(value, FlowTemplate):
            return value
        if isinstance(value, Mapping):
            return FlowTemplate.parse(cast("object", value), name=self.given["template"].name)
        return FlowTemplate.load(self.path("template", value))

    def _menu(self, value: object, menus: Mapping[str, Menu] | None) -> Menu:
        from voiceflow_worker.ivr.loading import load_menus
        from voiceflow_worker.ivr.menu import Menu

        if isinstance(value, Menu):
            return value
        name = _text(value)
        if menus is None:
            voice = self.default("voice_profile")
            return load_menus([name], voice_profile=voice, folder=self.given["ivr"].folder)[0]
        if name not in menus:
            raise ValueError(f"{name[:40]!r} is not one of the menus: {', '.join(menus) or 'there are none'}")
        return menus[name]

    def _time(self, value: object, zone: ZoneInfo | None) -> datetime:
        try:
            return read_time(_text(value), zone=zone, now=self.now)
        except ValueError as error:
            hint = "" if self.has("time_zone") else f" ({self.named('time_zone')})"
            raise ValueError(f"{error}{hint}") from None

    def _later(self, at: datetime) -> datetime:
        if at <= self.now:
            raise ValueError(f"it is {in_words(at)}, which has passed")
        return at

    def _window(self) -> CountryWindows | None:
        window = self.read("window", _window)
        days = self.read("days", lambda value: read_weekdays(_words(value)))
        holidays = self.read("holidays", lambda value: read_holidays(_words(value)))
        zone = self.read("window_time_zone", lambda value: read_window_zone(_text(value)))
        if window is None and days is None and holidays is None:
            if zone is not None and not self.problems:
                self.problem("window_time_zone", "it is the zone of a window, and there is none: give window or days")
            return None
        whole = window or CountryWindows()
        return CountryWindows(
            hours=whole.hours,
            days=whole.days if days is None else days,
            holidays=whole.holidays if holidays is None else holidays,
            time_zone=zone or whole.time_zone,
        )

    def _redial(self) -> RedialPolicy | None:
        """The policy of the fields, completed by the settings; None if neither asks for redials."""
        on = self.read("redial_on", lambda value: read_redial_on(_words(value)))
        limit = self.read("redial_max", _whole)
        after = self.read("redial_after", _redial_after)
        said = [name for name in REDIALS if self.has(name)]
        if (not said and not self.default("redial_on")) or self.problems:
            return None

        def policy(_: object) -> RedialPolicy:
            return redial_policy(
                self.default("redial_on") if on is None else (each.value for each in on),
                limit=self.default("redial_max") if limit is None else limit,
                after=self.default("redial_after") if after is None else after,
                spare=after is None,
            )

        return self.read(said[0], policy) if said else policy(None)

    def _stops(self) -> StopRules:
        return StopRules(
            after_cost=self.read("stop_after_cost", lambda value: read_cost(_text(value))),
            answer_rate_below=self.read("stop_if_answer_rate_below", lambda value: read_answer_rate(_text(value))),
            after_refused=self.read("stop_after_refused", _whole),
        )


def _text(value: object) -> str:
    """A value as a text; a number or a time as it would be typed. Raises ValueError, InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | date | time | Path):
        raise InvalidInputError(f"{str(value)[:40]!r} is {type(value).__name__}, not a text; write it as a text")
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty: give a value, or leave it out")
    return text


def _words(value: object) -> str:
    """A text with commas, which may be a list, or a table of names: `busy=5m,no_answer=2h`."""
    value = table_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(_text, cast("Iterable[object]", value)))
    return _text(value)


def _window(value: object) -> CountryWindows:
    if isinstance(value, CallWindow | CountryWindows):
        return CountryWindows.of(value)
    return CountryWindows.parse(_words(value))


def _columns(value: object) -> str:
    """The names of columns as one text; they may be a list."""
    if isinstance(value, list | tuple):
        return columns_text(map(_text, cast("Iterable[object]", value)))
    return _text(value)


def _duration(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else _as_duration(read_duration, _text(value))


def _length(value: object) -> timedelta:
    found = _duration(value)
    if not found:
        raise ValueError(f"{value!s} is no time at all: give a duration above 0, such as 15m")
    return found


def _redial_after(value: object) -> RedialWait:
    if isinstance(value, timedelta | Mapping):
        return read_redial_after(value)  # pyright: ignore[reportUnknownArgumentType]
    return _as_duration(read_redial_after, _words(value))


def _as_duration(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a duration: {error}") from None


def _whole(value: object) -> int:
    text = _text(value)
    try:
        found = int(text)
    except ValueError:
        found = -1
    if found < 0:
        raise ValueError(f"{text[:40]!r} is not a whole number from 0 on")
    return found


def _priority(value: object) -> int:
    text = _text(value)
    try:
        found: object = int(text)
    except ValueError:
        found = text
    if problem := priority_problem(found):
        raise ValueError(problem)
    return cast("int", found)


def _seconds(value: object) -> float:
    text = _text(value)
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 36_000:
        raise ValueError(f"{text[:40]!r} is not a length of a call: give seconds, from above 0 to 36000")
    return found


def _yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = _text(value).strip().lower()
    if text not in {"yes", "true", "no", "false"}:
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return text in {"yes", "true"}


def _bad_row_limit(value: object) -> bool | BadRowLimit:
    text = value if isinstance(value, bool) else _text(value)
    if isinstance(text, bool) or text.strip().lower() in {"yes", "true", "no", "false"}:
        return _yes_or_no(text)
    return BadRowLimit.read(text)


def _one_of(kind: Iterable[str], value: object) -> str:
    text = _text(value).strip().lower()
    known = [str(each) for each in kind]
    if text not in known:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(known)}")
    return text


def _country(value: object) -> str:
    text = _text(value)
    read_number(PLACEHOLDER, text)
    return text


def _source(value: object, country: str | None) -> str:
    text = _words(value)
    read_sources(text, country)
    return text


def _batch(value: object) -> str:
    text = _text(value)
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"{text[:40]!r} is no batch id: it must have 1 to {MAX_ID_CHARACTERS} characters")
    return text


def _rows(value: object) -> Iterable[Mapping[str, object]]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        kind = type(value).__name__  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidInputError(f"they are {kind}; give mappings, one for each row")
    rows = cast("Iterable[Mapping[str, object]]", value)
    if isinstance(rows, Iterator):
        raise InvalidInputError("they can be read only once, by the preview or by the start; give a list of them")
    return rows


def _data(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"it is {type(value).__name__}; give names with their values")
    return cast("Mapping[str, object]", value)
