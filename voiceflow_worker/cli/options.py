"""Options that commands share: of stores and queues, of the rows of a file, of a preview."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from anyio.to_thread import run_sync
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from voiceflow_worker.campaigns.files.input_file import InputFile, standard_input
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.output import Output
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.model.text.web_address import read_notify_url
from voiceflow_worker.model.text.wording import read_name, read_rate
from voiceflow_worker.model.times import read_since, read_time

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

    from voiceflow_worker.campaigns.campaign import Campaign
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.settings import Settings


STORE_GROUP = Group("Where the calls are", sort_key=90)


class _Rest:
    """The formatter of a panel that `--help` only counts, and `--help-all` prints."""

    def __init__(self) -> None:
        self.is_printed = False

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        from cyclopts.help.formatters import DefaultFormatter

        if self.is_printed:
            DefaultFormatter()(console, options, panel)
        else:
            console.print(f"{len(panel.entries)} more options: --help-all shows them", highlight=False)


REST = _Rest()
REST_GROUP = Group("More options", sort_key=80, help_formatter=REST)
"""The options that few campaigns need. They are printed by `--help-all`."""


def _duration(_type: Any, tokens: Sequence[Token]) -> timedelta:
    from voiceflow_worker.setting_kinds import parse_duration

    try:
        return parse_duration(tokens[0].value)
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _moment(_type: Any, tokens: Sequence[Token]) -> datetime:
    return read_time(tokens[0].value, asks_zone=False)


def _since(_type: Any, tokens: Sequence[Token]) -> timedelta | datetime:
    return read_since(tokens[0].value)


def _speed(_type: Any, value: float) -> None:
    if not 0 < value < inf:
        raise ValueError(f"{value:g} is not a speed: give a number above 0; at speed 60, a minute takes a second")


def _web_address(_type: Any, value: Any) -> None:

    if value is not None:
        read_notify_url(value)


def rate_given(text: str) -> float | None:
    """The rate in the text of an option or argument; None is unlimited. Raises InvalidInputError."""
    try:
        return read_rate(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a rate: {error}") from None


def _who(_type: Any, tokens: Sequence[Token]) -> str:
    return read_name(tokens[0].value)


Flag: Final = Parameter(negative=(), show_default=False)
"""The parameter of a switch that has no `--no-…` form."""
DurationOption = Annotated[timedelta | None, Parameter(converter=_duration, n_tokens=1, metavar="DURATION")]
MomentOption = Annotated[datetime | None, Parameter(converter=_moment, n_tokens=1, metavar="TIME")]
SinceOption = Annotated[
    timedelta | datetime | None,
    Parameter(
        converter=_since,
        n_tokens=1,
        metavar="TIME",
        help="Only calls that changed after this time, such as 2026-11-20T09:00:00+08:00, or 2h for two hours ago.",
    ),
]
PortOption = Annotated[int, Parameter(validator=Number(gte=0, lte=65535), metavar="PORT")]
MetricsPortOption = Annotated[int | None, Parameter(validator=Number(gte=0, lte=65535), metavar="PORT")]
LimitOption = Annotated[
    int, Parameter(validator=Number(gte=0), metavar="N", help="List at most this many; 0 lists all.")
]
SpeedOption = Annotated[float, Parameter(validator=_speed)]
WebAddressOption = Annotated[str | None, Parameter(validator=_web_address, metavar="URL")]
AsOption = Annotated[
    str | None,
    Parameter(
        name="--as", converter=_who, n_tokens=1, metavar="NAME", help="Your name, to be stored with this action."
    ),
]
NoteOption = Annotated[str | None, Parameter(metavar="TEXT", help="The reason, to be stored with this action.")]
BatchOption = Annotated[str | None, Parameter(metavar="ID", help="Only this batch.")]
JsonOption = Annotated[bool, Flag, Parameter(help="Print JSON for scripts on stdout, and text for people on stderr.")]
YesOption = Annotated[bool, Flag, Parameter(help="Do not ask for confirmation.")]
NotifyOption = Annotated[
    str | None,
    Parameter(
        name="--notify",
        metavar="URL",
        help="Send the outcomes of calls to this URL, as POSTs signed with VOICEFLOW_NOTIFY_SECRET. "
        "[VOICEFLOW_NOTIFY_URL]",
    ),
]
StoreOption = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        group=STORE_GROUP,
        help="The store's URL: sqlite:///relative.db, sqlite:////absolute.db, postgresql://user@host/database, "
        "redis://host:6379/0, or memory://. [VOICEFLOW_STORE, else sqlite:///voiceflow.db]",
    ),
]
WaitOption = Annotated[
    DurationOption,
    Parameter(
        group=STORE_GROUP,
        help="The longest wait for a store that is locked or does not exist yet; 0 for none. "
        "[VOICEFLOW_WAIT_FOR_STORE, else 30s]",
    ),
]
QueueOption = Annotated[
    str | None, Parameter(metavar="NAME", group=STORE_GROUP, help="The queue's name. [VOICEFLOW_QUEUE, else default]")
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class WholeStoreOptions:
    """The options of a command on all queues of a store: its store, and the form of its output."""

    json: JsonOption = False
    store: StoreOption = None
    wait_for_store: WaitOption = None

    def output(self) -> Output:
        """The output of the command."""
        return Output(as_json=self.json)

    def settings(self, **options: object) -> Settings:
        """The settings. Options given here override the environment and the settings file. Raises SettingsError."""
        return settings_from(**options, store=self.store, wait_for_store=self.wait_for_store)

    def opened(self, *, makes: bool = False) -> AbstractAsyncContextManager[CallQueue]:
        """Open the store and yield the queue; `makes` creates a missing store. Raises SettingsError, StoreError."""
        return opened_queue(self.settings(), makes=makes)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions(WholeStoreOptions):
    """The options of a command on one queue: its store, its queue, and the form of its output."""

    queue: QueueOption = None

    def settings(self, **options: object) -> Settings:
        """The settings, as for `WholeStoreOptions`, with the queue."""
        return WholeStoreOptions.settings(self, **options, queue=self.queue)


FILE_KINDS = "CSV, Excel (.xlsx), Parquet, JSON lines (of rows or bodies), or a JSON body; also .gz; - for stdin"


def _no_option(_type: Any, path: Path) -> None:
    if str(path).startswith("-") and str(path) != "-":
        raise ValueError(
            f"{path} is neither an option of this command nor a file: write ./{path} for a file of this name"
        )


FileArgument = Annotated[Path, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""A file; `-` is standard input."""


TEXT, WHO, WHEN = Group("Text", sort_key=10), Group("Who", sort_key=11), Group("When", sort_key=12)
REDIAL, GUARDS, PREVIEW = Group("Redial", sort_key=13), Group("Guards", sort_key=14), Group("Preview", sort_key=15)


def _option(metavar: str, group: Group = REST_GROUP) -> Parameter:
    return Parameter(metavar=metavar, group=group)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """The defaults for the rows of a file. A column of a row overrides an option.

    Attributes:
        campaign: Take the options of the campaign from this TOML file. Command-line options override it.
        template: A call flow (JSON) with {{column}} in its texts.
        say: Say this text, with {{column}} in it, instead of a --template.
        ivr: Begin each call with the question of this menu, such as restaurant:main for `main` in restaurant.py.
        menu: The name of the IVR menu that handles the first key press, if a --template asks the question.
        voice_profile: The voice, if neither row nor call flow names one. [VOICEFLOW_VOICE_PROFILE]
        language_column: The column with the language of each row, for a menu that has several. [language]
        number_column: The column of the number to call, or those of several numbers of a person: mobile,phone.
            [destination]
        bad_numbers: If one of a person's several numbers cannot be read: refuse the row, or skip that number. [refuse]
        source: The number to call from, if neither row nor call flow names one, or one by country: SG=+6531234567,*=+12025550123. [VOICEFLOW_SOURCE]
        country: The country of national numbers, such as SG; or international: digits begin with their country code.
        country_column: The column with the country of each row's number, such as SG or Singapore, if they differ.
        batch: The id of the batch. [the file's name without its extension]
        valid_for: Phones may ring for this long, such as 2h, counted from now or from a later --not-before.
        valid_until: No phone rings after this time, written like --not-before.
        not_before: No phone rings before this time: 2026-11-20T09:00:00+08:00, or, together with --time-zone, "2026-11-20 09:00" or "tomorrow 09:00".
        time_zone: The time zone of local times in the file and in the options, such as Asia/Singapore. It moves no window.
        date_order: The order of day, month and year in dates of the file such as 31/1/2030.
        priority: The priority, -1000000 to 1000000. Calls with a higher priority are sent first. [0]
        window: Phones ring only at these hours, such as 09:00-20:00, in the time zone of the number; or by country: DE=09:00-18:00,*=10:00-20:00.
        days: Phones ring only on these days, such as mon-sat or mon,wed; or by country.
        holidays: No phone of a country rings on its public holidays, such as SG,DE-BY; number: of each number's country.
        window_time_zone: The hours and days count in this time zone, instead of that of the number.
        redial_on: Redial after busy, no_answer, canceled, unreached (all three), failed, error. [VOICEFLOW_REDIAL_ON]
        redial_max: Redial a call at most this many times. [VOICEFLOW_REDIAL_MAX, else 1]
        redial_after: The wait before a redial, such as 30m, or by outcome: busy=5m,no_answer=2h. [VOICEFLOW_REDIAL_AFTER, else 30m]
        sheet: The sheet of a workbook, if several have rows.
        format: The format. [by the file's name, else by its content]
        stop_after_refused: Hold the batch after N consecutive refusals because of its voice or source; 0: never. [10]
        stop_after_cost: Hold the batch once its calls have cost this much in one currency, such as 50.
        stop_if_answer_rate_below: Hold the batch if its answer rate is too low: 5%/200 means below 5 % after 200 calls.
    """  # noqa: E501 (the help breaks its lines where the source does)

    campaign: Annotated[Path | None, _option("FILE", TEXT)] = None
    template: Annotated[Path | None, _option("FILE", TEXT)] = None
    say: Annotated[str | None, _option("TEXT", TEXT)] = None
    ivr: Annotated[str | None, _option("MODULE:MENU", TEXT)] = None
    menu: Annotated[str | None, _option("NAME")] = None
    voice_profile: Annotated[str | None, _option("NAME", TEXT)] = None
    language_column: Annotated[str | None, _option("NAME", TEXT)] = None
    number_column: Annotated[str | None, _option("NAME", WHO)] = None
    bad_numbers: Annotated[str | None, _option("refuse|skip", WHO)] = None
    source: Annotated[str | None, _option("NUMBER", WHO)] = None
    country: Annotated[str | None, _option("CC", WHO)] = None
    country_column: Annotated[str | None, _option("NAME", WHO)] = None
    batch: Annotated[str | None, _option("ID", WHO)] = None
    valid_for: Annotated[str | None, _option("DURATION", WHEN)] = None
    valid_until: Annotated[str | None, _option("TIME")] = None
    not_before: Annotated[str | None, _option("TIME", WHEN)] = None
    time_zone: Annotated[str | None, _option("ZONE", WHEN)] = None
    date_order: Annotated[str | None, _option("dmy|mdy|ymd", WHO)] = None
    priority: Annotated[str | None, _option("N")] = None
    window: Annotated[str | None, _option("HOURS", WHEN)] = None
    days: Annotated[str | None, _option("DAYS")] = None
    holidays: Annotated[str | None, _option("CC")] = None
    window_time_zone: Annotated[str | None, _option("ZONE")] = None
    redial_on: Annotated[str | None, _option("OUTCOMES", REDIAL)] = None
    redial_max: Annotated[str | None, _option("N", REDIAL)] = None
    redial_after: Annotated[str | None, _option("WAIT", REDIAL)] = None
    sheet: Annotated[str | None, _option("NAME")] = None
    format: Annotated[str | None, _option("csv|jsonl|json|xlsx|parquet")] = None
    stop_after_refused: Annotated[str | None, _option("N")] = None
    stop_after_cost: Annotated[str | None, _option("AMOUNT")] = None
    stop_if_answer_rate_below: Annotated[str | None, _option("P%/N")] = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The assumptions of a preview.

    Attributes:
        prices: Prices for the preview: a CSV file with country or prefix, currency, and per_minute or per_call.
        assume_seconds: The length of each call in the preview, in seconds. [the time that its texts take]
        rate: The rate of the preview, in calls per second, or unlimited. [the queue's rate, else VOICEFLOW_RATE]
    """

    prices: Annotated[Path | None, _option("FILE", PREVIEW)] = None
    assume_seconds: Annotated[str | None, _option("N")] = None
    rate: Annotated[str | None, _option("N|unlimited")] = None


def campaign_of(*parts: object | None, settings: Settings, **more: object) -> Campaign:
    """The campaign of a command: the options in these parts, and `more` of them. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.campaign import Campaign

    given = {
        each.name: getattr(part, each.name) for part in parts if part is not None for each in fields(cast("Any", part))
    }
    return Campaign.of({**given, **more}, settings=settings, named=lambda name: f"--{name.replace('_', '-')}")


@asynccontextmanager
async def input_file(path: Path) -> AsyncGenerator[InputFile]:
    """Yield the file to read; `-` is standard input, which is read to its end first.

    Raises CampaignFileError if standard input cannot be stored, and InvalidInputError if it is a terminal.
    """
    if str(path) != "-":
        yield InputFile(path)
        return
    if sys.stdin.isatty():
        raise InvalidInputError("standard input is a terminal: pipe a file into this command, or name a file")
    with ExitStack() as stack:
        # Ctrl-C must not wait for the program that writes into the pipe.
        yield await run_sync(stack.enter_context, standard_input(sys.stdin.buffer), abandon_on_cancel=True)
