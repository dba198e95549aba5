"""The runs of schedules, as they are stored and told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.recurrence import Recurrence
from voiceflow_worker.core.base.record_set import RecordSet, json_records, newest_first
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.model.text.wording import in_words, rfc3339
from voiceflow_worker.model.times import require_zone

RUNS = "schedule-run"
"""Namespace of runs, by `<queue>/<schedule>` and time, the newest first."""
CLAIMS = "schedule-claim"
"""Namespace of the claims to runs, by `<queue>/<schedule>/<time>`."""
ALIVE = "schedule-alive"
"""Namespace of the schedules that a process has at hand now, by `<queue>/<schedule>`."""
KEPT = timedelta(days=10)
"""How long a run is kept after the next one. It is longer than rows are compared with other batches."""
LOOK = 5.0
"""The seconds between two looks at a schedule, if no run is due in between."""
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
    SKIPPED = "skipped"
    """A person has ordered, before its time, that it does not start."""
    CUT = "cut"
    """It was too late to store its last calls, so the others stay held, until a person decides."""


_OPEN = frozenset({RunState.STARTING, RunState.HELD})
_UNDONE = frozenset({RunState.HELD, RunState.MISSED, RunState.CUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """One run of a schedule, and what became of it.

    `at` is its time, in the zone `time_zone`. The next one is due at `next_at`. `counts` are those of the rows of its
    file, and `left_out` says what was wrong with the first of the rows that were left out.
    `repeats` is the batch of the same day whose people it would call again. `ordered_by` says who ordered it, beside
    those of the schedule. Of the last run that was not skipped, `skipped` is the next one, in words, if that was
    skipped; `next_at` is then the one after it.
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
    ordered_by: str = ""
    skipped: str = ""

    def kept_until(self, now: datetime) -> datetime:
        """When its record ends."""
        return max(now, self.next_at or now) + KEPT

    @property
    def recurrence(self) -> Recurrence:
        """When the schedule ran, as of this run."""
        return Recurrence(cron=self.cron, zone=self.zone)

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
        return next(self.recurrence.after(now), None)

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
        following = next(self.recurrence.after(self.at), None)
        return following is None or following.astimezone(self.zone).date() != self.day

    @property
    def _local(self) -> datetime:
        return self.at.astimezone(self.zone)

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
            "local": self._local.isoformat(timespec="minutes"),
            "time_zone": self.time_zone,
            "state": self.state.value,
            "batch_id": self.batch_id,
            "message": self.message,
            **({"counts": dict(self.counts)} if self.counts else {}),
            **({"left_out": list(self.left_out)} if self.left_out else {}),
            **{name: said for name in ("ordered_by", "skipped") if (said := getattr(self, name))},
            "next_at": rfc3339(self.next_at),
        }

    def later_in_words(self, now: datetime) -> str:
        """What is next, in words: a run that is overdue, and the one that comes."""
        late, following = self.overdue_since(now), self.following(now)
        said = [] if late is None else [
            f"its run of {in_words(late, self.zone)} is overdue: no `voiceflow schedule` with its file runs"
        ]  # fmt: skip
        said += [f"skipped: {self.skipped}"] if self.skipped else []
        return "; ".join(said if following is None else [*said, f"the next run is at {in_words(following, self.zone)}"])


def run_at(
    at: datetime, recurrence: Recurrence, *, schedule: str, queue: str, known: Collection[ScheduledRun]
) -> ScheduledRun:
    """A run that begins, with the name of its batch: none of the `known` ones has it."""
    # After a change of the zone, another run may have had the same local time.
    batch, taken = recurrence.batch_id(schedule, at), {each.batch_id for each in known if each.at != at}
    batch = next(name for name in (batch, *(f"{batch}-{place}" for place in range(2, 99))) if name not in taken)
    return ScheduledRun(
        schedule=schedule, queue=queue, at=at, cron=recurrence.cron, time_zone=recurrence.zone.key, batch_id=batch,
        state=RunState.STARTING, next_at=next(recurrence.after(at), None),
    )  # fmt: skip


async def last_run(store: Store, queue: str, schedule: str) -> ScheduledRun | None:
    """The last run of a schedule that was not skipped; None if the schedule is not known. Raises StoreError."""
    page = await run_records(store).within(f"{queue}/{schedule}").page(limit=2)
    return _last_of([run for _, run in page if run is not None], now=store.clock.now())


def _last_of(newest: list[ScheduledRun], *, now: datetime) -> ScheduledRun | None:
    """The last run, of the two newest ones. One that was skipped counts from its time on."""
    if len(newest) == 2 and newest[0].state is RunState.SKIPPED and newest[0].at > now:
        return replace(newest[1], skipped=newest[0].in_words(), next_at=newest[0].next_at)
    return newest[0] if newest else None


def alive_records(store: Store) -> RecordSet[str]:
    """The schedules that a process has at hand now, each with an empty text."""
    return json_records(store, ALIVE, str, keep_for=timedelta(seconds=3 * LOOK), durable=False)


async def is_alive(store: Store, run: ScheduledRun) -> bool:
    """Whether a process is running that has the schedule of this run. Raises StoreError."""
    group, _ = run.key
    return group in await alive_records(store).get([group])


async def last_runs(store: Store, queue: str | None = None) -> list[ScheduledRun]:
    """The last run of each schedule of a queue, or of all queues: a trip for each. Raises StoreError."""
    last: list[ScheduledRun] = []
    after, records = ("" if queue is None else f"{queue}/", ""), run_records(store)
    while page := (await store.records({RUNS: Page(after=after, limit=1)}, now=store.clock.now()))[RUNS]:
        group = page[0].group
        if queue is not None and not group.startswith(f"{queue}/"):
            break
        for newest in records.read({group: page[0].value}).values():
            is_skipped = newest is not None and newest.state is RunState.SKIPPED
            run = await last_run(store, newest.queue, newest.schedule) if newest and is_skipped else newest
            last += [] if run is None else [run]
        after = (group, _LAST_MEMBER)
    return sorted(last, key=lambda run: (run.queue, run.schedule))


def run_records(store: Store) -> RecordSet[ScheduledRun]:
    """The runs of a store; those of a schedule are within its group, the newest first."""
    return json_records(store, RUNS, ScheduledRun)
