"""Schedules as the store has them: since when their times count, what became of their runs, and what comes next.

The records of a schedule are a group. One of them has its times, which those who read its file keep by compare-and-swap
(`RunState.SEEN`); the others are what happened, and what a person has ordered. The next run is always computed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.recurrence import MISFIRE, Recurrence
from voiceflow_worker.core.base.record_set import RecordSet, json_records, newest_first
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Page, Put, Record
from voiceflow_worker.model.text.wording import in_words, rfc3339
from voiceflow_worker.model.times import require_zone

RUNS = "schedule-run"
"""Namespace of schedules, by `<queue>/<schedule>` and the times of their runs, the newest first."""
LEASES = "schedule-claim"
"""Namespace of the leases of runs, by `<queue>/<schedule>/<time>`."""
KEPT = timedelta(days=10)
"""How long a record is kept after the next run. It is longer than rows are compared with other batches."""
_STARTING = timedelta(seconds=30)
"""A run that nobody has begun for so long after its time is overdue."""
_TIMES = newest_first(datetime(1970, 1, 1, tzinfo=UTC))
"""The member of the times of a schedule, the last of its group."""
_LAST_MEMBER = "~"


class RunState(StrEnum):
    """What became of a run."""

    SEEN = "seen"
    """No run: the times of the schedule, as somebody saw them first. Its runs begin after that."""
    STARTING = "starting"
    """A person has ordered it, or a process began it. If the process dies, another one completes it."""
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
    """One run of a schedule, and what became of it; or, as `SEEN`, the times of a schedule, which count since `at`.

    `at` is its time, in the zone `time_zone`. `counts` are those of the rows of its file, and `left_out` says what was
    wrong with the first of the rows that were left out. `repeats` is the batch of the same day whose people it would
    call again. `ordered_by` says who ordered it, beside those of the schedule; until a process `is_begun` with it, it
    waits. `misfire` is in seconds. The `token` of the times is another one after each order to run, and their `file` is
    the one that was seen first.
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
    ordered_by: str = ""
    is_begun: bool = False
    misfire: float = MISFIRE.total_seconds()
    token: str = ""
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
    def key(self) -> tuple[str, str]:
        """The group of its record, which is that of its schedule, and its member in it: the newest run comes first."""
        return f"{self.queue}/{self.schedule}", _TIMES if self.state is RunState.SEEN else newest_first(self.at)

    def kept_until(self, now: datetime) -> datetime:
        """When its record ends."""
        return max(now, next(self.recurrence.after(max(now, self.at)), now)) + KEPT

    @property
    def until(self) -> datetime:
        """When it is too late to begin it."""
        return self.at + timedelta(seconds=self.misfire)

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
    """A schedule as it is in the store `now`: its times, and its newest runs, the newest first.

    `stored` is the record of its times; None if a version before this has let it end, and they are those of a run.
    """

    times: ScheduledRun
    runs: Sequence[ScheduledRun]
    now: datetime
    stored: Record | None

    @classmethod
    def of(cls, records: Iterable[Record], *, store: Store) -> Schedule | None:
        """The schedule whose records these are; None without one that can be read."""
        now, found = store.clock.now(), {each.member: each for each in records}
        read = run_records(store).read({member: each.value for member, each in sorted(found.items())})
        runs = [each for each in read.values() if each is not None]
        if not runs:
            return None
        known = next((each for each in runs if not _is_to_come(each, now)), runs[-1])
        times = next((each for each in runs if each.state is RunState.SEEN), replace(known, state=RunState.SEEN))
        runs = [each for each in runs if each.state is not RunState.SEEN]
        return cls(times=times, runs=runs, now=now, stored=found.get(_TIMES))

    @property
    def last(self) -> ScheduledRun:
        """What happened last: a run that is not skipped in advance; its times, if there was none."""
        return next((each for each in self.runs if not _is_to_come(each, self.now)), self.times)

    @property
    def skip(self) -> ScheduledRun | None:
        """The run to come that is skipped."""
        return next((each for each in self.runs if _is_to_come(each, self.now)), None)

    def after(self, at: datetime) -> Iterator[datetime]:
        """The runs after a time of which nothing is known: neither begun, by a clock that is ahead, nor skipped."""
        known = {each.at for each in self.runs}
        return (each for each in self.times.recurrence.after(at) if each not in known)

    @property
    def since(self) -> datetime:
        """Since when its runs are not known: the last one that was due. What a person has ordered is none of these."""
        own = (each for each in self.runs if not each.ordered_by and each.state is not RunState.SKIPPED)
        return max([self.times.at, *(each.at for each in own if each.at <= self.now)])

    @property
    def next_at(self) -> datetime | None:
        """The run after the last one, which may be overdue."""
        return next(self.after(self.since), None)

    @property
    def following(self) -> datetime | None:
        """The run that comes."""
        return next(self.after(self.now), None)

    @property
    def overdue_since(self) -> datetime | None:
        """When a run was due, or ordered, that nobody has begun."""
        waits = self.last.state is RunState.STARTING and self.last.ordered_by and not self.last.is_begun
        due = self.last.at if waits else self.next_at
        return due if due is not None and due + _STARTING < self.now else None

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


def _is_to_come(run: ScheduledRun, now: datetime) -> bool:
    return run.state is RunState.SKIPPED and run.at > now


def run_at(
    at: datetime, recurrence: Recurrence, *, schedule: str, queue: str, known: Collection[ScheduledRun]
) -> ScheduledRun:
    """A run that begins, with the name of its batch: none of the `known` ones has it."""
    # After a change of the zone, another run may have had the same local time.
    batch, taken = recurrence.batch_id(schedule, at), {each.batch_id for each in known if each.at != at}
    batch = next(name for name in (batch, *(f"{batch}-{place}" for place in range(2, 99))) if name not in taken)
    return ScheduledRun(
        schedule=schedule, queue=queue, at=at, cron=recurrence.cron, time_zone=recurrence.zone.key, batch_id=batch,
        state=RunState.STARTING, misfire=recurrence.misfire.total_seconds(),
    )  # fmt: skip


async def read_schedule(store: Store, queue: str, name: str) -> Schedule | None:
    """A schedule with its newest runs; None if it is not known. Raises StoreError."""
    group, now = f"{queue}/{name}", store.clock.now()
    found = [(await store.records({RUNS: each}, now=now))[RUNS] for each in (Page(group=group), [(group, _TIMES)])]
    return Schedule.of([*found[0], *found[1]], store=store)


async def read_schedules(store: Store, queue: str | None = None) -> list[Schedule]:
    """Each schedule of a queue, or of all queues, with its last run: a trip for each. Raises StoreError."""
    groups: dict[str, list[Record]] = {}
    after, now = ("" if queue is None else f"{queue}/", ""), store.clock.now()
    while page := (await store.records({RUNS: Page(after=after, limit=2)}, now=now))[RUNS]:
        group = page[0].group
        if queue is not None and not group.startswith(f"{queue}/"):
            break
        groups[group] = [each for each in page if each.group == group]
        after = (group, _LAST_MEMBER)
    for each in (await store.records({RUNS: [(group, _TIMES) for group in groups]}, now=now))[RUNS]:
        groups[each.group].append(each)
    found = [Schedule.of(each, store=store) for each in groups.values()]
    known = (each for each in found if each is not None)
    return sorted(known, key=lambda each: (each.times.queue, each.times.schedule))


def run_put(store: Store, run: ScheduledRun, now: datetime) -> Put:
    """What stores a run."""
    group, member = run.key
    return Put(RUNS, group, run_records(store).text(run), run.kept_until(now), member=member)


def run_records(store: Store) -> RecordSet[ScheduledRun]:
    """The records of schedules; those of one are within its group, the newest run first."""
    return json_records(store, RUNS, ScheduledRun)
