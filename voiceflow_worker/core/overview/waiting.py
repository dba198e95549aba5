"""Counts of queued calls by the reason why they wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from voiceflow_worker.core.ports import Order, Query, Store
from voiceflow_worker.core.ports.reading import count_states, find_jobs
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.time_zone import zone_named
from voiceflow_worker.model.records.waiting import BUSY, CAPPED, OUTSIDE_WINDOW
from voiceflow_worker.model.text.moment import in_words

_TURN = "for their turn"
MOST_READ = 2000
"""The most queued calls that are read for their reasons, by due time. With more calls, the counts are lower bounds."""

MOST_NEXT = 100
"""The most queued calls that are read for the time of the next call, by due time."""

_QUEUED = frozenset({JobState.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCounts:
    """Counts of queued calls by reason; each call counts once.

    `hold` counts due calls behind a hold. `rate` counts due calls without another reason, while a worker is alive and
    the queue has a rate or a limit of open calls. The other counts cover only the first `MOST_READ` queued calls by due
    time. If `is_exact` is False, they are lower bounds, and `rate` is an upper bound.
    """

    number_busy: int = 0
    window: int = 0
    redial: int = 0
    rate: int = 0
    hold: int = 0
    max_per_person: int = 0
    is_exact: bool = True

    def as_json(self) -> dict[str, int]:
        """The counts as JSON, for scripts."""
        return {name: count for name, count in asdict(self).items() if name != "is_exact"}

    def in_words(self) -> str:
        """The counts as a clause, such as `2 for a busy number, 10 for a redial`; empty when nothing waits."""
        counts = (
            (self.number_busy, "for a busy number"),
            (self.window, "for their calling window"),
            (self.redial, "for a redial"),
            (self.max_per_person, "for the limit per person"),
            (self.rate, _TURN),
            (self.hold, "behind a hold"),
        )
        least = "" if self.is_exact else "at least "
        return ", ".join(
            f"{count if why in {_TURN, 'behind a hold'} else f'{least}{count}'} {why}" for count, why in counts if count
        )


@dataclass(frozen=True, slots=True)
class NextCall:
    """The time from which the next call may begin, and the time zone of this call if it is known."""

    at: datetime
    zone: ZoneInfo | None

    def in_words(self) -> str:
        """The time in the call's own time zone, else in UTC."""
        return in_words(self.at, self.zone)


async def read_waiting(
    store: Store, queue: str, *, holds: tuple[Gate, ...], sending: bool, limited: bool
) -> WaitingCounts:
    """Count the queued calls of a queue by the reason why they wait.

    `holds` are the closed gates. `sending` means that a worker is alive, and `limited` that the queue has a rate or
    a limit of open calls.
    """
    now = store.clock.now()
    queued = (await count_states(store, queue))[JobState.QUEUED]
    if not queued:
        return WaitingCounts()
    due = await due_count(store, queue, by=now)
    hold = await held_count(store, queue, holds, by=now)
    jobs = await find_jobs(store, Query(queue=queue, states=_QUEUED, order=Order.DUE, limit=MOST_READ))
    seen: Counter[str] = Counter()
    explained = 0
    for job in jobs:
        why = None if job.due_at <= now and _is_held(job, holds) else why_it_waits(job, at=now)
        if why is not None:
            seen[why] += 1
            explained += job.due_at <= now
    rate = max(due - hold - explained, 0) if sending and limited else 0
    return WaitingCounts(
        number_busy=seen["number_busy"],
        window=seen["window"],
        redial=seen["redial"],
        rate=rate,
        hold=hold,
        max_per_person=seen["max_per_person"],
        is_exact=len(jobs) < MOST_READ,
    )


def why_it_waits(job: Job, *, at: datetime) -> str | None:
    """The field of `WaitingCounts` for a call that a busy number, limit, window or redial keeps back; else None."""
    if BUSY in (job.reason or ""):
        return "number_busy"
    if CAPPED in (job.reason or ""):
        return "max_per_person"
    if job.reason == OUTSIDE_WINDOW or not job.may_ring(at=at):
        return "window"
    return "redial" if job.redials and job.due_at > at else None


async def next_call(store: Store, queue: str, *, batch_id: str | None = None) -> NextCall | None:
    """When the next queued call of a queue, or of one batch of it, may begin; None if one may begin now or none waits.

    Of calls with windows in several time zones, the first `MOST_NEXT` by due time are looked at.
    """
    now = store.clock.now()
    query = Query(queue=queue, batch_id=batch_id, states=_QUEUED, order=Order.DUE, limit=MOST_NEXT)
    begins = [
        NextCall(at, zone_named(job.time_zone or ""))
        for job in await find_jobs(store, query)
        if (at := job.opens(at=max(now, job.due_at))) is not None
    ]
    first = min(begins, key=lambda each: each.at, default=None)
    return first if first is not None and first.at > now else None


async def due_count(store: Store, queue: str, *, by: datetime, batch_id: str | None = None) -> int:
    """The number of queued jobs of a queue, or of one batch of it, that are due by this time."""
    return (await count_states(store, queue, batch_id=batch_id, due_before=by))[JobState.QUEUED]


async def held_count(
    store: Store, queue: str, holds: Iterable[Gate], *, by: datetime, batch_id: str | None = None
) -> int:
    """The number of queued jobs that are due by this time and behind these closed gates."""
    gates = [gate for gate in holds if gate.scope is GateScope.QUEUE or batch_id in {None, gate.name}]
    if any(gate.scope is GateScope.QUEUE for gate in gates):
        return await due_count(store, queue, by=by, batch_id=batch_id)
    return sum([await due_count(store, queue, by=by, batch_id=gate.name) for gate in gates])


def _is_held(job: Job, holds: tuple[Gate, ...]) -> bool:
    return any(gate.scope is GateScope.QUEUE or gate.name == job.batch_id for gate in holds)
