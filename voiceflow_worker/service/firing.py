"""The firings of schedules, as they are stored and told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.model.text.wording import in_words, rfc3339

FIRINGS = "firing"
"""Namespace of firings, by `<queue>/<schedule>` and batch."""


class FiringState(StrEnum):
    """What became of a firing."""

    STARTING = "starting"
    """A process began it. If the process dies, another one completes it."""
    HELD = "held"
    """It could not be started; it is tried again until it is too late."""
    STARTED = "started"
    """Its calls are in the queue, as one batch."""
    MISSED = "missed"
    """It was too late, and nothing was started."""
    CUT = "cut"
    """It was too late to store its last calls, so the others stay held, until a person decides."""


_OPEN = frozenset({FiringState.STARTING, FiringState.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One firing of a schedule, and what became of it.

    `at` is its time, in the zone `time_zone`. The next one is due at `next_at`, and too late at `late_at`.
    """

    schedule: str
    queue: str
    at: datetime
    cron: str
    time_zone: str
    state: FiringState
    said: str = ""
    next_at: datetime | None = None
    late_at: datetime | None = None

    @property
    def batch_id(self) -> str:
        """The batch of its calls. A local time of a zone fires once, so its name is that of one firing."""
        return f"{self.schedule}-{self._local:%Y-%m-%d-%H%M}"

    @property
    def is_open(self) -> bool:
        """Whether it may still be started."""
        return self.state in _OPEN

    @property
    def zone(self) -> ZoneInfo:
        """The zone of its times."""
        return ZoneInfo(self.time_zone)

    @property
    def _local(self) -> datetime:
        return self.at.astimezone(self.zone)

    def in_words(self) -> str:
        """The firing in one line."""
        said = f": {self.said}" if self.said else ""
        return f"{self.schedule}, {in_words(self.at, self.zone)}: {self.state}{said}"

    def as_json(self) -> dict[str, object]:
        """The firing as JSON, for scripts."""
        return {
            "schedule": self.schedule,
            "at": rfc3339(self.at),
            "local": self._local.isoformat(timespec="minutes"),
            "time_zone": self.time_zone,
            "state": self.state.value,
            "batch_id": self.batch_id,
            "said": self.said,
            "next_at": rfc3339(self.next_at),
        }


async def last_firings(store: Store, queue: str) -> list[Firing]:
    """The last firing of each schedule of a queue. Raises StoreError."""
    last: dict[str, Firing] = {}
    for each in await firing_records(store).values():
        if each.queue == queue and (each.schedule not in last or each.at > last[each.schedule].at):
            last[each.schedule] = each
    return [last[name] for name in sorted(last)]


def firing_records(store: Store) -> RecordSet[Firing]:
    """The firings of a store; those of a schedule are within `<queue>/<schedule>`, by their batch."""
    return json_records(store, FIRINGS, Firing)
