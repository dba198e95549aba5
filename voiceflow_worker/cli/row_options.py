"""Options of `check` and `enqueue` for the rows of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import DurationOption, MomentOption
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.model.hours.window import CallWindow
    from voiceflow_worker.model.jobs.job import RedialPolicy
    from voiceflow_worker.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """What holds for every row that does not say otherwise: a column wins over an option."""

    template: Annotated[
        Path | None, Parameter(metavar="FILE", help="A call flow (JSON) with {{column}} in its texts.")
    ] = None
    say: Annotated[
        str | None, Parameter(metavar="TEXT", help="Say this text, with {{column}} in it, instead of a --template.")
    ] = None
    ivr: Annotated[
        str | None,
        Parameter(
            metavar="MODULE:MENU", help="Begin with this menu's question: restaurant:main is `main` in restaurant.py."
        ),
    ] = None
    menu: Annotated[
        str | None,
        Parameter(metavar="NAME", help="The IVR menu that answers the first keys. [the name of the --ivr menu]"),
    ] = None
    voice_profile: Annotated[
        str | None,
        Parameter(metavar="NAME", help="The voice, where a row or flow names none. [VOICEFLOW_VOICE_PROFILE]"),
    ] = None
    source: Annotated[
        str | None,
        Parameter(metavar="NUMBER", help="The number that calls, where a row or flow names none. [VOICEFLOW_SOURCE]"),
    ] = None
    country: Annotated[str | None, Parameter(metavar="CC", help="Where national numbers belong, such as SG.")] = None
    batch: Annotated[
        str | None, Parameter(metavar="ID", help="The id of the batch. [the file's name without its ending]")
    ] = None
    valid_for: Annotated[
        DurationOption, Parameter(help="Nothing rings later than this from now (or --not-before), such as 2h.")
    ] = None
    not_before: Annotated[MomentOption, Parameter(help="Nothing rings earlier, such as 2026-11-20T09:00:00+08:00.")] = (
        None
    )
    time_zone: Annotated[
        str | None, Parameter(metavar="ZONE", help="The zone of local times in the file, such as Asia/Singapore.")
    ] = None
    priority: Annotated[int, Parameter(metavar="N", help="Larger goes first, -1000000 to 1000000.")] = 0
    window: Annotated[
        str | None,
        Parameter(
            metavar="HOURS",
            help="Phones ring at these hours only, such as 09:00-20:00 or 09:00-12:00,14:00-20:00: by the clock of the "
            "row's time_zone, else --time-zone, else of the number's own zone.",
        ),
    ] = None
    days: Annotated[str | None, Parameter(metavar="DAYS", help="On these days only, such as mon-sat or mon,wed.")] = (
        None
    )
    holidays: Annotated[
        str | None, Parameter(metavar="CC", help="Not on public holidays of this country, such as SG or DE-BY.")
    ] = None
    redial_on: Annotated[
        str | None,
        Parameter(
            metavar="OUTCOMES",
            help="Call again after these: busy, no_answer, canceled, unreached (all three), failed, error. "
            "[VOICEFLOW_REDIAL_ON, else none]",
        ),
    ] = None
    redial_max: Annotated[
        int | None, Parameter(metavar="N", help="So many times at most. [VOICEFLOW_REDIAL_MAX, else 1]")
    ] = None
    redial_after: Annotated[
        DurationOption, Parameter(help="So long after, such as 30m. [VOICEFLOW_REDIAL_AFTER, else 30m]")
    ] = None
    redial_factor: Annotated[
        float | None, Parameter(metavar="X", help="Each wait is so many times the one before. [1]")
    ] = None
    redial_jitter: Annotated[
        float | None, Parameter(metavar="X", help="Each wait is longer or shorter by up to this part, 0 to 1. [0]")
    ] = None
    stop_after_refused: Annotated[
        int | None,
        Parameter(
            metavar="N",
            help="Hold the batch after N refusals in a row that blame its voice or its source; 0: never. [10]",
        ),
    ] = None


def campaign_options(given: RowOptions | None, settings: Settings) -> CampaignOptions:
    """The options of a campaign; what is not given comes from the settings. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.campaigns.calls.template import FlowTemplate

    rows = given or RowOptions()
    template = None
    if rows.template is not None and rows.say is not None:
        raise InvalidInputError("--template and --say exclude each other: give one of them")
    if rows.template is not None:
        template = FlowTemplate.load(rows.template)
    elif rows.say is not None:
        template = FlowTemplate.speaking(rows.say)
    menu = rows.menu
    if rows.ivr is not None:
        from voiceflow_worker.campaigns.calls.menu_template import opening_template
        from voiceflow_worker.cli.menus import load_menu

        root = load_menu(rows.ivr)
        menu = menu or root.name
        template = template or opening_template(root)
    return CampaignOptions(
        template=template,
        menu=menu,
        voice_profile=rows.voice_profile or settings.voice_profile,
        source=rows.source or settings.source,
        country=rows.country,
        batch_id=rows.batch,
        valid_for=rows.valid_for,
        not_before=rows.not_before,
        time_zone=rows.time_zone,
        priority=rows.priority,
        window=_window(rows),
        redial=_redial(rows, settings),
        stop_after_refused=_count(rows.stop_after_refused),
    )


def _count(number: int | None) -> int | None:
    if number is not None and number < 0:
        raise InvalidInputError(f"--stop-after-refused {number}: give a number of calls, or 0 for never")
    return number


def _window(rows: RowOptions) -> CallWindow | None:
    from voiceflow_worker.model.hours.window import CallWindow

    if rows.window is None and rows.days is None and rows.holidays is None:
        return None
    return CallWindow.parse(rows.window, days=rows.days, holidays=rows.holidays)


def _redial(rows: RowOptions, settings: Settings) -> RedialPolicy | None:
    """The policy of these rows; None leaves it to the queue's."""
    from voiceflow_worker.model.jobs.redial import redial_policy

    given = (rows.redial_on, rows.redial_max, rows.redial_after, rows.redial_factor, rows.redial_jitter)
    if all(each is None for each in given):
        return None
    return redial_policy(
        settings.redial_on if rows.redial_on is None else rows.redial_on,
        limit=settings.redial_max if rows.redial_max is None else rows.redial_max,
        after=settings.redial_after if rows.redial_after is None else rows.redial_after,
        factor=rows.redial_factor,
        jitter=rows.redial_jitter,
    )
