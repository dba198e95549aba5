"""The runs of schedules, as they are stored and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.recurrence import Recurrence
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import RecordSet, json_records, newest_first
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.model.text.wording import in_words, rfc3339
from voiceflow_worker.model.times import require_zone

RUNS = "schedule-run"
"""Namespace of runs, by `<queue>/<schedule>` and time, the newest first."""
_LAST_MEMBER = "~"
_STARTING = timedelta(seconds=30)
"""A run that nobody has begun for so long after its time is overdue."""
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class RunState(StrEnum):
    """What became of a run."""

    SEEN = "seen"
    """No run: at this time, the schedule was seen for the first time. Its runs begin after that."""
    STARTING = "starting"
    """A process began it. If the process dies, another one completes it."""
    HELD = "held"
    """It could not be started; it is tried again until it is too late to start it."""
    STARTED = "started"
    """Its calls are in the queue, as one batch."""
    MISSED = "missed"
    """It was too late, and nothing was started."""
    REPEATED = "repeated"
    """It would have called people again whom a run of the same day had called, and nothing was started."""
    CUT = "cut"
    """It was too late to store its last calls, so the others stay held, until a person decides."""


_OPEN = frozenset({RunState.STARTING, RunState.HELD})
_UNDONE = frozenset({RunState.HELD, RunState.MISSED, RunState.CUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """One run of a schedule, and what became of it.

    `at` is its time, in the zone `time_zone`. The next one is due at `next_at`. `counts` are those of the rows of its
    file, and `left_out` says what was wrong with the first of the rows that were left out.
    `repeats` is the batch of the same day whose people it would call again.
    """

    schedule: str
    queue: str
    at: datetime
    cron: str
    time_zone: str
    batch_id: str
    """The batch of its calls."""
    state: RunState
    message: str = ""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    left_out: tuple[str, ...] = ()
    repeats: str | None = None
    next_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The group of its record, which is that of its schedule, and its member in it: the newest run comes first."""
        return f"{self.queue}/{self.schedule}", newest_first(_FIRST if self.state is RunState.SEEN else self.at)

    def overdue_since(self, now: datetime) -> datetime | None:
        """When the next run was due, if nobody has begun it; None if it was not."""
        return self.next_at if self.next_at is not None and self.next_at + _STARTING < now else None

    def following(self, now: datetime) -> datetime | None:
        """The next run after a time."""
        if self.next_at is not None and self.next_at > now:
            return self.next_at
        return next(Recurrence(cron=self.cron, zone=self.zone).after(now), None)

    @property
    def is_open(self) -> bool:
        """Whether it may still be started."""
        return self.state in _OPEN

    @property
    def is_undone(self) -> bool:
        """Whether its people, or some of them, are not called as they should be."""
        return self.state in _UNDONE

    @property
    def zone(self) -> ZoneInfo:
        """The zone of its times."""
        return require_zone(self.time_zone)

    @property
    def day(self) -> date:
        """The local day."""
        return self._local.date()

    @property
    def is_last_of_day(self) -> bool:
        """Whether the next one, at the times that it had, is on another local day."""
        following = next(Recurrence(cron=self.cron, zone=self.zone).after(self.at), None)
        return following is None or following.astimezone(self.zone).date() != self.day

    @property
    def _local(self) -> datetime:
        return self.at.astimezone(self.zone)

    def in_words(self) -> str:
        """The run in one line."""
        said = f": {self.message}" if self.message else ""
        return f"{self.schedule}, {in_words(self.at, self.zone)}: {self.state}{said}"

    def as_json(self) -> dict[str, object]:
        """The run as JSON, for scripts."""
        return {
            "schedule": self.schedule,
            "at": rfc3339(self.at),
            "local": self._local.isoformat(timespec="minutes"),
            "time_zone": self.time_zone,
            "state": self.state.value,
            "batch_id": self.batch_id,
            "message": self.message,
            **({"counts": dict(self.counts)} if self.counts else {}),
            **({"left_out": list(self.left_out)} if self.left_out else {}),
            "next_at": rfc3339(self.next_at),
        }

    def later_in_words(self, now: datetime) -> str:
        """What is next, in words: a run that is overdue, and the one that comes."""
        late, following = self.overdue_since(now), self.following(now)
        said = [] if late is None else [
            f"its run of {in_words(late, self.zone)} is overdue: no `voiceflow schedule` with its file runs"
        ]  # fmt: skip
        return "; ".join(said if following is None else [*said, f"the next run is at {in_words(following, self.zone)}"])


async def last_runs(store: Store, queue: str | None = None) -> list[ScheduledRun]:
    """The last run of each schedule of a queue, or of all queues: a trip for each. Raises StoreError."""
    last: list[ScheduledRun] = []
    after, records = ("" if queue is None else f"{queue}/", ""), run_records(store)
    while page := (await store.records({RUNS: Page(after=after, limit=1)}, now=store.clock.now()))[RUNS]:
        group = page[0].group
        if queue is not None and not group.startswith(f"{queue}/"):
            break
        last += [run for run in records.read({group: page[0].value}).values() if run is not None]
        after = (group, _LAST_MEMBER)
    return sorted(last, key=lambda run: (run.queue, run.schedule))


def run_records(store: Store) -> RecordSet[ScheduledRun]:
    """The runs of a store; those of a schedule are within its group, the newest first."""
    return json_records(store, RUNS, ScheduledRun)
