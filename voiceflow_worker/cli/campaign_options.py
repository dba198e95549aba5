"""Options of `check` and `enqueue`: the rows of a file, and the assumptions of a preview."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from anyio.to_thread import run_sync
from cyclopts import Parameter
from cyclopts.validators import Number

from voiceflow_worker.campaigns.files.input_file import InputFile, standard_input
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.cli.options import DurationOption, rate_given
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.redial import redial_policy
from voiceflow_worker.model.jobs.stop_rules import StopRules, read_answer_rate, read_cost

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.campaigns.preview.preview import PreviewOptions
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings


Text = Annotated[str | None, Parameter(metavar="TEXT")]
MenuNameOption = Annotated[str | None, Parameter(metavar="MODULE:MENU")]
Name = Annotated[str | None, Parameter(metavar="NAME")]
FILE_KINDS = "CSV, Excel (.xlsx), Parquet, JSON lines (of rows or bodies), or a JSON body; also .gz; - for stdin"


def _no_option(_type: Any, path: Path) -> None:
    if str(path).startswith("-") and str(path) != "-":
        raise ValueError(
            f"{path} is neither an option of this command nor a file: write ./{path} for a file of this name"
        )


FileArgument = Annotated[Path, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""A file; `-` is standard input."""
Format = Literal["csv", "jsonl", "json", "xlsx", "parquet"]
Code = Annotated[str | None, Parameter(metavar="CC")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """The defaults for the rows of a file. A column of a row overrides an option.

    Attributes:
        template: A call flow (JSON) with {{column}} in its texts.
        say: Say this text, with {{column}} in it, instead of a --template.
        ivr: Begin each call with the question of this menu, such as restaurant:main for `main` in restaurant.py.
        menu: The name of the IVR menu that handles the first key press, if a --template asks the question.
        voice_profile: The voice, if neither row nor call flow names one. [VOICEFLOW_VOICE_PROFILE]
        number_column: The column of the numbers to call. [destination]
        source: The number to call from, if neither row nor call flow names one. [VOICEFLOW_SOURCE]
        country: The country of national numbers, such as SG; or international: digits begin with their country code.
        batch: The id of the batch. [the file's name without its extension]
        valid_for: Phones may ring for this long, such as 2h, counted from now or from a later --not-before.
        valid_until: No phone rings after this time, written like --not-before.
        not_before: No phone rings before this time: 2026-11-20T09:00:00+08:00, or, in the time zone of --time-zone,
            "2026-11-20 09:00" or "tomorrow 09:00".
        time_zone: The time zone of local times in the file, such as Asia/Singapore.
        date_order: The order of day, month and year in dates of the file such as 31/1/2030: dmy, mdy or ymd.
        priority: The priority, -1000000 to 1000000. Calls with a higher priority are sent first.
        window: Phones ring only at these hours, such as 09:00-20:00, in the time zone of the row, else of --time-zone,
            else of the number.
        days: Phones ring only on these days, such as mon-sat or mon,wed.
        holidays: No phone rings on public holidays of this country, such as SG or DE-BY.
        redial_on: Redial after busy, no_answer, canceled, unreached (all three), failed, error. [VOICEFLOW_REDIAL_ON]
        redial_max: Redial a call at most this many times. [VOICEFLOW_REDIAL_MAX, else 1]
        redial_after: The wait before a redial, such as 30m. [VOICEFLOW_REDIAL_AFTER, else 30m]
        sheet: The sheet of a workbook, if several have rows.
        format: The format: csv, jsonl, json, xlsx or parquet. [by the file's name, else by its content]
        stop_after_refused: Hold the batch after N consecutive refusals because of its voice or source; 0: never. [10]
        stop_after_cost: Hold the batch once its calls have cost this much in one currency, such as 50.
        stop_if_answer_rate_below: Hold the batch if its answer rate is too low: 5%/200 means below 5 % after 200 calls.
    """

    template: Annotated[Path | None, Parameter(metavar="FILE")] = None
    say: Text = None
    ivr: MenuNameOption = None
    menu: Name = None
    voice_profile: Name = None
    number_column: Name = None
    source: Annotated[str | None, Parameter(metavar="NUMBER")] = None
    country: Code = None
    batch: Annotated[str | None, Parameter(metavar="ID")] = None
    valid_for: DurationOption = None
    valid_until: Annotated[str | None, Parameter(metavar="TIME")] = None
    not_before: Annotated[str | None, Parameter(metavar="TIME")] = None
    time_zone: Annotated[str | None, Parameter(metavar="ZONE")] = None
    date_order: Annotated[Literal["dmy", "mdy", "ymd"] | None, Parameter(metavar="ORDER")] = None
    priority: Annotated[int, Parameter(metavar="N")] = 0
    window: Annotated[str | None, Parameter(metavar="HOURS")] = None
    days: Annotated[str | None, Parameter(metavar="DAYS")] = None
    holidays: Code = None
    redial_on: Annotated[str | None, Parameter(metavar="OUTCOMES")] = None
    redial_max: Annotated[int | None, Parameter(metavar="N")] = None
    redial_after: DurationOption = None
    sheet: Name = None
    format: Annotated[Format | None, Parameter(metavar="FORMAT")] = None
    stop_after_refused: Annotated[int | None, Parameter(metavar="N", validator=Number(gte=0))] = None
    stop_after_cost: Annotated[str | None, Parameter(metavar="AMOUNT")] = None
    stop_if_answer_rate_below: Annotated[str | None, Parameter(metavar="P%/N")] = None


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The assumptions of a preview.

    Attributes:
        prices: Prices for the preview: a CSV file with country or prefix, currency, and per_minute or per_call.
            [enqueue: the prices of earlier calls]
        assume_seconds: The length of each call in the preview, in seconds. [the time that its texts take]
        rate: The rate of the preview, in calls per second, or unlimited. [the queue's rate, else VOICEFLOW_RATE]
    """

    prices: Annotated[Path | None, Parameter(metavar="FILE")] = None
    assume_seconds: Annotated[float | None, Parameter(metavar="N", validator=Number(gt=0, lte=36_000))] = None
    rate: Annotated[str | None, Parameter(metavar="N|unlimited")] = None


def preview_options(
    given: Assumptions | None, settings: Settings, *, limits: Limits | None = None, time_zone: str | None
) -> PreviewOptions:
    """The options of a preview. `limits` are the present limits of the queue, if any. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.preview.preview import PreviewOptions
    from voiceflow_worker.campaigns.preview.prices import PriceTable

    given = given or Assumptions()
    rate = rate_given(given.rate) if given.rate is not None else (limits or settings).rate
    return PreviewOptions(
        rate=rate,
        max_active=limits.max_active if limits is not None else settings.max_active,
        seconds=given.assume_seconds,
        prices=None if given.prices is None else PriceTable.load(given.prices),
        time_zone=time_zone,
    )


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


def campaign_options(given: RowOptions | None, settings: Settings) -> CampaignOptions:
    """The options of a campaign, with defaults from the settings. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.campaigns.calls.template import FlowTemplate
    from voiceflow_worker.campaigns.calls.times import DateOrder

    rows = given or RowOptions()
    if rows.template is not None and rows.say is not None:
        raise InvalidInputError("--template and --say exclude each other: give one of them")
    template = None if rows.template is None else FlowTemplate.load(rows.template)
    if rows.say is not None:
        template = FlowTemplate.speaking(rows.say)
    if rows.ivr is not None and rows.menu is not None:
        raise InvalidInputError("--ivr and --menu exclude each other: name the menu once")
    menu: str | Menu | None = rows.menu
    if rows.ivr is not None:
        from voiceflow_worker.cli.ivr import load_menus

        menu = load_menus([rows.ivr])[0]
    return CampaignOptions(
        template=template,
        menu=menu,
        voice_profile=rows.voice_profile or settings.voice_profile,
        source=rows.source or settings.source,
        country=rows.country,
        batch_id=rows.batch,
        valid_for=rows.valid_for,
        valid_until=_time(rows, "valid_until"),
        not_before=_time(rows, "not_before"),
        time_zone=rows.time_zone,
        priority=rows.priority,
        window=_window(rows),
        redial=_redial(rows, settings),
        stop_after_refused=rows.stop_after_refused,
        stops=_stops(rows),
        file_kind=None if rows.format is None else FileKind(rows.format),
        sheet=rows.sheet,
        number_column=rows.number_column,
        date_order=None if rows.date_order is None else DateOrder(rows.date_order),
    )


def _time(rows: RowOptions, name: str) -> datetime | None:
    from voiceflow_worker.campaigns.calls.times import read_time, read_zone

    text: str | None = getattr(rows, name)
    if text is None:
        return None
    option = f"--{name.replace('_', '-')}"
    try:
        zone = read_zone(rows.time_zone) if rows.time_zone is not None else None
        return read_time(text, zone=zone, now=datetime.now(UTC))
    except ValueError as error:
        raise InvalidInputError(f"{option}: {error}") from None


def _stops(rows: RowOptions) -> StopRules:

    cost, rate = rows.stop_after_cost, rows.stop_if_answer_rate_below
    try:
        return StopRules(
            after_cost=None if cost is None else read_cost(cost),
            answer_rate_below=None if rate is None else read_answer_rate(rate),
        )
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


def _window(rows: RowOptions) -> CallWindow | None:
    if rows.window is None and rows.days is None and rows.holidays is None:
        return None
    return CallWindow.parse(rows.window, days=rows.days, holidays=rows.holidays)


def _redial(rows: RowOptions, settings: Settings) -> RedialPolicy | None:
    """The redial policy of these rows; None stands for the policy of the queue."""
    if rows.redial_on is None and rows.redial_max is None and rows.redial_after is None:
        return None
    return redial_policy(
        settings.redial_on if rows.redial_on is None else rows.redial_on,
        limit=settings.redial_max if rows.redial_max is None else rows.redial_max,
        after=settings.redial_after if rows.redial_after is None else rows.redial_after,
    )
