"""Schedules as the store has them: their times, since when these are known, and what became of their runs.

A run has a name that everybody can compute: that of its batch, which is its schedule and its due time. It exists, or
whoever comes first starts it, and whoever comes next from its beginning. So nothing of its progress is stored. A run
that was settled leaves a record, also if it calls nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.recurrence import MISFIRE, Recurrence
from voiceflow_worker.core.base.record_set import RecordSet, json_records, newest_first
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, cancelled_from
from voiceflow_worker.core.ports.store import Page, Put
from voiceflow_worker.model.text.wording import in_words, rfc3339
from voiceflow_worker.model.zones import require_zone

TIMES = "schedule"
"""Namespace of the times of schedules, by queue and name."""
RUNS = "schedule-run"
"""Namespace of the runs that were settled or ordered, by `<queue>/<schedule>` and their times, the newest first."""
LEASES = "schedule-lease"
"""Namespace of the leases of those who read the file of a schedule, by `<queue>/<schedule>`."""
KEPT = timedelta(days=10)
"""How long a record is kept after the next run. It is longer than rows are compared with other batches."""
MANY = 1000
"""The runs that are read to know the batches of a schedule."""
_STARTING = timedelta(seconds=30)
"""A run that nobody has begun for so long after its time is overdue."""
_SHOWN = 20
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_COMING = 6
_NAME = re.compile(r"(.+?)-(\d{4}-\d{2}-\d{2}-\d{4})(?:-2)?")


class RunState(StrEnum):
    """What became of a run."""

    SEEN = "seen"
    """No run: the times of the schedule, as somebody saw them first. Its runs begin after that."""
    STARTING = "starting"
    """A person has ordered it, and the next process with the file starts it."""
    HELD = "held"
    """It could not be started; it is tried again until it is too late to start it."""
    STARTED = "started"
    """Its calls are in the queue, as one batch; or its file was read, and nobody is to be called."""
    MISSED = "missed"
    """It was too late, and nothing was started."""
    SKIPPED = "skipped"
    """Its batch was cancelled before it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """One run of a schedule, and what became of it; or, as `SEEN`, the times of a schedule, which are known since `at`.

    `at` is its time, in the zone `time_zone`. `counts` are those of the rows of its file, and `left_out` says what was
    wrong with the first of the rows that were left out. `repeats` says that it would only call people whom a run of
    the same day has called. `ordered_by` says who ordered it, beside those of the schedule. `misfire` is in seconds.
    The `file` of the times is the one that was seen first.
    """

    schedule: str
    queue: str
    at: datetime
    cron: str
    time_zone: str
    batch_id: str = ""
    """The batch of its calls."""
    state: RunState = RunState.SEEN
    message: str = ""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    left_out: tuple[str, ...] = ()
    repeats: bool = False
    ordered_by: str = ""
    misfire: float = MISFIRE.total_seconds()
    file: str = ""

    @property
    def recurrence(self) -> Recurrence:
        """When the schedule runs, as of this run."""
        return Recurrence(self.cron, self.zone, timedelta(seconds=self.misfire))

    @property
    def next_at(self) -> datetime | None:
        """The run after this one, at the times that the schedule had."""
        return next(self.recurrence.after(self.at), None)

    @property
    def group(self) -> str:
        """The group of the records of its schedule."""
        return f"{self.queue}/{self.schedule}"

    def run(self, at: datetime, known: Collection[ScheduledRun] = ()) -> ScheduledRun:
        """The run of these times at a time, of which nothing is known. None of the `known` runs has its batch."""
        # After a change of the zone, another run may have had the same local time.
        batch = self.recurrence.batch_id(self.schedule, at)
        taken = {each.batch_id for each in known if each.at != at}
        batch = next(name for name in (batch, *(f"{batch}-{place}" for place in range(2, 99))) if name not in taken)
        return replace(self, at=at, state=RunState.STARTING, batch_id=batch, file="")

    def put(self, store: Store) -> Put:
        """What stores it: the times of a schedule, or what became of a run."""
        now = store.clock.now()
        kept = max(now, next(self.recurrence.after(max(now, self.at)), now)) + KEPT
        text = run_records(store).text(self)
        if self.state is RunState.SEEN:
            return Put(TIMES, self.queue, text, kept, member=self.schedule)
        return Put(RUNS, self.group, text, kept, member=newest_first(self.at.replace(second=0, microsecond=0)))

    @property
    def until(self) -> datetime:
        """When it is too late to begin it."""
        return self.at + timedelta(seconds=self.misfire)

    @property
    def is_open(self) -> bool:
        """Whether it may still be started."""
        return self.state in {RunState.STARTING, RunState.HELD}

    @property
    def is_undone(self) -> bool:
        """Whether its people, or some of them, are not called as they should be."""
        return self.state in {RunState.HELD, RunState.MISSED}

    @property
    def zone(self) -> ZoneInfo:
        """The zone of its times."""
        return require_zone(self.time_zone)

    def in_words(self) -> str:
        """The run in one line."""
        said = f": {self.message}" if self.message else ""
        ordered = f", {self.ordered_by}" if self.ordered_by else ""
        return f"{self.schedule}, {in_words(self.at, self.zone)}{ordered}: {self.state}{said}"

    def as_json(self) -> dict[str, object]:
        """The run as JSON, for scripts."""
        return {
            "schedule": self.schedule,
            "at": rfc3339(self.at),
            "local": self.at.astimezone(self.zone).isoformat(timespec="minutes"),
            "time_zone": self.time_zone,
            "state": self.state.value,
            "batch_id": self.batch_id,
            "message": self.message,
            **({"counts": dict(self.counts)} if self.counts else {}),
            **({"left_out": list(self.left_out)} if self.left_out else {}),
            **({"ordered_by": self.ordered_by} if self.ordered_by else {}),
            "next_at": rfc3339(self.next_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it is in the store `now`: its times, and its newest `runs`, the newest first.

    `skipped` are those of its next runs whose batches are cancelled. `is_read` says that a process reads its file now.
    """

    times: ScheduledRun
    runs: Sequence[ScheduledRun]
    skipped: Mapping[datetime, ScheduledRun]
    is_read: bool
    now: datetime

    @property
    def last(self) -> ScheduledRun:
        """What happened last; its times, if there was no run."""
        return self.runs[0] if self.runs else self.times

    @property
    def skip(self) -> ScheduledRun | None:
        """The first run to come that is skipped."""
        return next((each for at, each in sorted(self.skipped.items()) if at > self.now), None)

    def after(self, at: datetime) -> Iterator[datetime]:
        """The runs after a time of which nothing is known: neither settled, by a clock that is ahead, nor skipped."""
        known = {*self.skipped, *(each.at for each in self.runs)}
        return (each for each in self.times.recurrence.after(at) if each not in known)

    @property
    def settled_at(self) -> datetime:
        """The last run that was due, and of which something is known. What a person has ordered is none of these."""
        return next((each.at for each in self.runs if not each.ordered_by and each.at <= self.now), _NEVER)

    @property
    def since(self) -> datetime:
        """Since when its runs are not known."""
        return max(self.times.at, self.settled_at)

    @property
    def next_at(self) -> datetime | None:
        """The run after the last one, which may be overdue."""
        return next(self.after(self.since), None)

    @property
    def following(self) -> datetime | None:
        """The run that comes."""
        return next(self.after(self.now), None)

    @property
    def next_batch(self) -> str | None:
        """The batch of the run that comes."""
        at = self.following
        return None if at is None else self.times.run(at).batch_id

    @property
    def overdue_since(self) -> datetime | None:
        """When a run was due, or ordered, that nobody has begun."""
        due = self.last.at if self.last.state is RunState.STARTING else self.next_at
        return due if due is not None and due + _STARTING < self.now and not self.is_read else None

    def later_in_words(self) -> str:
        """What is next, in words: a run that is overdue, and the one that comes."""
        late, following, zone = self.overdue_since, self.following, self.times.zone
        said = [] if late is None else [
            f"its run of {in_words(late, zone)} is overdue: no `voiceflow schedule` with its file runs"
        ]  # fmt: skip
        said += [f"skipped: {self.skip.in_words()}"] if self.skip else []
        return "; ".join(said if following is None else [*said, f"the next run is at {in_words(following, zone)}"])

    def as_json(self) -> dict[str, object]:
        """Its last run as JSON, with what comes."""
        return {
            **self.last.as_json(),
            **({"skipped": self.skip.in_words()} if self.skip else {}),
            "next_at": rfc3339(self.following),
            "overdue_since": rfc3339(self.overdue_since),
        }


async def read_schedule(store: Store, queue: str, name: str, *, limit: int = _SHOWN) -> Schedule | None:
    """A schedule with its newest runs; None if it is not known. Raises StoreError."""
    times = (await _times(store).within(queue).get([name])).get(name)
    return None if times is None else await _read(store, times, limit)


async def read_schedules(store: Store, queue: str | None = None) -> list[Schedule]:
    """Each schedule of a queue, or of all queues, with its last runs: a trip for each. Raises StoreError."""
    found = await (_times(store) if queue is None else _times(store).within(queue)).values()
    return [await _read(store, each, 2) for each in sorted(found, key=lambda each: (each.queue, each.schedule))]


async def _read(store: Store, times: ScheduledRun, limit: int) -> Schedule:
    now, records = store.clock.now(), run_records(store)
    coming = [times.run(at) for at in islice(times.recurrence.after(now), _COMING)]
    found = await store.records(
        {
            RUNS: Page(group=times.group, limit=limit),
            CANCELLED: [(times.queue, each.batch_id) for each in coming],
            LEASES: [times.group],
        },
        now=now,
    )
    runs = records.read({each.member: each.value for each in found[RUNS]}).values()
    reasons = {each.member: cancelled_from(each).reason for each in found[CANCELLED]}
    skipped = [
        replace(each, state=RunState.SKIPPED, message=reasons[each.batch_id])
        for each in coming
        if each.batch_id in reasons
    ]
    return Schedule(
        times=times, runs=[each for each in runs if each is not None], skipped={each.at: each for each in skipped},
        is_read=bool(found[LEASES]), now=now,
    )  # fmt: skip


async def coming_run(store: Store, queue: str, batch_id: str) -> ScheduledRun | None:
    """The run that a schedule may still start as this batch; None if there is none. Raises StoreError."""
    named = _NAME.fullmatch(batch_id)
    times = None if named is None else (await _times(store).within(queue).get([named[1]])).get(named[1])
    if named is None or times is None:
        return None
    try:
        local = datetime.strptime(named[2], "%Y-%m-%d-%H%M").replace(tzinfo=times.zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    runs = map(times.run, times.recurrence.within(local - _DAY, local + _DAY))
    return next((each for each in runs if each.batch_id == batch_id and each.until > store.clock.now()), None)


_DAY = timedelta(days=1)


def run_records(store: Store) -> RecordSet[ScheduledRun]:
    """The records of runs; those of a schedule are within its group."""
    return json_records(store, RUNS, ScheduledRun)


def _times(store: Store) -> RecordSet[ScheduledRun]:
    """The times of schedules; those of a queue are within its group."""
    return json_records(store, TIMES, ScheduledRun)
