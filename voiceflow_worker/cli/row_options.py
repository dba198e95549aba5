"""What `check` and `enqueue` are told about the rows of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import DurationOption, MomentOption
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.options import CampaignOptions
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
    priority: Annotated[int, Parameter(metavar="N", help="Larger goes first.")] = 0


def campaign_options(given: RowOptions | None, settings: Settings) -> CampaignOptions:
    """The options of a campaign; what is not given comes from the settings. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.options import CampaignOptions
    from voiceflow_worker.campaigns.template import FlowTemplate

    rows = given or RowOptions()
    template = None
    if rows.template is not None and rows.say is not None:
        raise InvalidInputError("--template and --say both tell what is said: give one of them")
    if rows.template is not None:
        template = FlowTemplate.load(rows.template)
    elif rows.say is not None:
        template = FlowTemplate.speaking(rows.say)
    return CampaignOptions(
        template=template,
        voice_profile=rows.voice_profile or settings.voice_profile,
        source=rows.source or settings.source,
        country=rows.country,
        batch_id=rows.batch,
        valid_for=rows.valid_for,
        not_before=rows.not_before,
        time_zone=rows.time_zone,
        priority=rows.priority,
    )
