"""What whoever sends a campaign says about all of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs.job import RedialPolicy


class Purpose(Enum):
    """What a file is read for."""

    CHECK = auto()
    """To be looked at: a validity that has passed is a warning, and a CSV needs no template."""
    ENQUEUE = auto()
    """To be called: a validity that has passed is an error, unless `valid_for` replaces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOptions:
    """What holds for every row that does not say otherwise: a column wins over an option, an option over the template.

    Two exceptions. `batch_id` also wins over a body's own clientBatchId; without any, the batch is the file's stem.
    `valid_for` counts from now, or from `not_before` where that is later: it gives a validity to rows that have none or
    one that has passed, and shortens longer ones; it never makes a row valid for longer than the row says.

    `template` is `FlowTemplate.load(path)` or `FlowTemplate.speaking(text)`; without one, each JSON line is a body.
    `source` may be written in any form; `country` (ISO 3166, such as SG) is where national numbers belong. `time_zone`
    names the zone of local times. `priority`: larger goes first. `window` is read by the clock of the row's zone, else
    of `time_zone`, else of its number's own zone. `redial` None leaves it to the queue.
    `menu` names the IVR menu that the calls begin with. `data` is kept with each call beside the columns of its row.
    `keys` are unique keys by row number, in place of the rows' own. `stop_after_refused`: the batch is held after so
    many refusals in a row that blame its voice or its source (None: 10; 0: never).
    """

    template: FlowTemplate | None = None
    voice_profile: str | None = None
    source: str | None = None
    country: str | None = None
    batch_id: str | None = None
    valid_for: timedelta | None = None
    not_before: datetime | None = None
    time_zone: str | None = None
    priority: int = 0
    redial: RedialPolicy | None = None
    menu: str | None = None
    window: CallWindow | None = None
    data: Mapping[str, object] | None = None
    keys: Mapping[int, str] | None = None
    stop_after_refused: int | None = None
