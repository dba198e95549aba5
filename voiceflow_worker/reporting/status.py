"""The status of a queue: states, rate, workers, and why queued calls wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from voiceflow_worker.core.audit import AuditEntry, entries_on
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.base.reading import (
    count_states,
    due_count,
    find_jobs,
    gates_at,
    gates_of,
    limits_of,
    totals_of,
)
from voiceflow_worker.core.base.record_set import noting_unreadable
from voiceflow_worker.core.drain import MOST_NEXT, held_count
from voiceflow_worker.core.heartbeats import HEARD, NOTIFICATIONS, RATE_WINDOW, Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.reads import Due, Waiting
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.gate import Gate, GateScope, HoldKind
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.totals import STATE
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339
from voiceflow_worker.model.zones import zone_named
from voiceflow_worker.reporting.gates import closed_in_words, gate_as_json

_STATE_NAMES = frozenset(state.value for state in JobState)
_WHY = {
    "number_busy": "for a busy number", "window": "for their calling window", "redial": "for a redial",
    "max_per_person": "for the limit per person", "rate": "for their turn", "hold": "behind a hold",
    "importing": "for the end of an import", "max_active": "for one of the open calls to end",
    "no_worker": "for a worker", "worker_may_not_send": "for a worker that may send",
    "receiver": "for a receiver of their outcome", "notifications": "stopped notification",
}  # fmt: skip
"""Why calls wait, in the fields of `WaitingCounts` and in words."""
_READ = {"number_busy", "window", "redial", "max_per_person"}
"""Those that are read off calls."""
MOST_READ = 500
"""The most queued calls that are read for their reasons, by due time. With more calls, the counts are lower bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCounts:
    """Counts of queued calls by reason; each call counts once.

    `hold` and `importing` count due calls behind a hold, and behind that of an import. Due calls without another reason
    count as `no_worker` while none is alive, as `worker_may_not_send` while all that are fail to lease or send, as
    `max_active` while so many calls are open, else as `rate` if the queue has one. The other counts cover only the
    first `MOST_READ` queued calls by due time. If `is_exact` is False, they are lower bounds, and those are upper ones.
    `receiver` counts sent calls whose outcome no receiver would take; `notifications` is 1 while those are stopped.
    """

    number_busy: int = 0
    window: int = 0
    redial: int = 0
    rate: int = 0
    hold: int = 0
    max_per_person: int = 0
    importing: int = 0
    max_active: int = 0
    receiver: int = 0
    notifications: int = 0
    no_worker: int = 0
    worker_may_not_send: int = 0
    is_exact: bool = True

    def as_json(self) -> dict[str, int]:
        """Return the counts as JSON, for scripts."""
        return {"import" if why == "importing" else why: getattr(self, why) for why in _WHY}

    def in_words(self) -> str:
        """Return the counts as a clause, such as `2 for a busy number, 10 for a redial`; empty when nothing waits."""
        least = "" if self.is_exact else "at least "
        counts = [(why, count) for why in _WHY if (count := getattr(self, why))]
        return ", ".join(f"{least if why in _READ else ''}{count} {_WHY[why]}" for why, count in counts)


@dataclass(frozen=True, slots=True)
class NextCall:
    """The time from which the next call may begin, and the time zone of this call if it is known."""

    at: datetime
    zone: ZoneInfo | None

    def in_words(self) -> str:
        """Return the time in the call's own time zone, else in UTC."""
        return in_words(self.at, self.zone)


async def _waiting(
    store: Store,
    jobs: Sequence[Job],
    *,
    at: datetime,
    due: int,
    holds: Sequence[Gate],
    otherwise: str | None,
    **counted: Any,
) -> WaitingCounts:
    """Count queued calls by the reason why they wait: `jobs` are the first ones of a queue, of which so many are `due`.

    `holds` are the closed gates. Due calls without another reason count as `otherwise`.
    """
    if not jobs:
        return WaitingCounts(**counted)
    held = await held_count(store, jobs[0].queue, holds, by=at)
    others = [gate for gate in holds if gate.holder is not HoldKind.IMPORT]
    hold = held if len(others) == len(holds) else await held_count(store, jobs[0].queue, others, by=at)
    seen: Counter[str] = Counter(hold=hold, importing=held - hold, **counted)
    explained, closed = 0, _by_calls(holds)
    for job in jobs:
        is_held = job.due_at <= at and _hold_of(job, closed) is not None
        why = None if is_held else why_it_waits(job, at=at)
        if why is not None:
            seen[why] += 1
            explained += job.due_at <= at
    if otherwise is not None:
        seen[otherwise] = max(due - held - explained, 0)
    return WaitingCounts(**seen, is_exact=len(jobs) < MOST_READ)


_UNABLE = frozenset({Task.LEASE, Task.SEND, Task.PREPARE, Task.JOURNAL, Task.JOURNAL_FILE})
"""The tasks without which a worker sends nothing."""


def _otherwise(beats: Sequence[WorkerBeat], limits: Limits | None, *, open_calls: int) -> str | None:
    """Return why calls that are due wait though nothing of their own keeps them back; None if they leave now."""
    if not beats:
        return "no_worker"
    if all(beat.failing.keys() & _UNABLE for beat in beats):
        return "worker_may_not_send"
    if limits is not None and limits.max_active is not None and open_calls >= limits.max_active:
        return "max_active"
    return "rate" if limits is not None and (limits.rate or limits.max_active) else None


_Closed = Mapping[str | None, Gate]
"""Closed gates, by the batch of the calls behind them; that of the queue has none."""


def _by_calls(holds: Iterable[Gate]) -> _Closed:
    return {None if gate.scope is GateScope.QUEUE else gate.name: gate for gate in holds}


def _hold_of(job: Job, closed: _Closed) -> Gate | None:
    """Return the closed gate of the queue or batch of a queued call; None if none is closed."""
    return closed.get(None) or closed.get(job.batch_id)


def why_it_waits(job: Job, *, at: datetime) -> str | None:
    """Return the field of `WaitingCounts` for what keeps a call back: a busy number, limit, window or redial."""
    if job.reason_kind in {ReasonKind.NUMBER_BUSY, ReasonKind.MAX_PER_PERSON, ReasonKind.WINDOW}:
        return job.reason_kind
    if not job.may_ring(at=at):
        return ReasonKind.WINDOW
    return "redial" if job.redials and job.due_at > at else None


async def waits_in_words(store: Store, jobs: Iterable[Job], *, zone: ZoneInfo | None = None) -> dict[str, str]:
    """Return why each of these calls waits, by its id, with the times in `zone`, by default UTC. Raises StoreError.

    Calls that are not queued are left out.
    """
    now, found = store.clock.now(), dict[str, str]()
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    alive = await Heartbeats(store).rates() if queued else dict[str, float]()
    for queue in {job.queue for job in queued}:
        of_it = [job for job in queued if job.queue == queue]
        gates = list((await gates_at(store, queue, {None, *(job.batch_id for job in of_it)})).values())
        closed = _by_calls(gate for gate in gates if gate.is_closed(at=now))
        for job in of_it:
            hold, then = _hold_of(job, closed), _later_in_words(job, at=now, zone=zone)
            said = [*([] if hold is None else [closed_in_words(hold, zone)]), *([] if then is None else [then])]
            turn = "it waits for its turn" if queue in alive else f"no worker of queue {queue} runs"
            found[job.id] = "; ".join(said) or turn
    return found


async def calls_as_json(store: Store, jobs: Sequence[Job]) -> list[dict[str, object]]:
    """Return calls as JSON, each with why it `waits`; null if it is not queued. Raises StoreError."""
    waits = await waits_in_words(store, jobs)
    return [{**call_as_json(job), "waits": waits.get(job.id)} for job in jobs]


def _later_in_words(job: Job, *, at: datetime, zone: ZoneInfo | None) -> str | None:
    """Return until when a queued call waits, and for what; None if only a hold, or its turn, keeps it back."""
    why, opens = why_it_waits(job, at=at), job.opens(at=max(at, job.due_at))
    if opens is None:
        return f"its calling window ({job.window}) does not open"
    if opens == at:
        return None
    what: str = {
        ReasonKind.NUMBER_BUSY: f"{job.reason}; it is tried again",
        ReasonKind.MAX_PER_PERSON: f"{job.reason}; it is tried again",
        ReasonKind.WINDOW: f"its calling window ({job.window}) opens",
        "redial": "it is called again",
    }.get(why or "", "it is due")
    return f"{what} at {in_words(opens, zone)}"


async def next_call(store: Store, queue: str, *, batch_id: str | None = None) -> NextCall | None:
    """Return when the next queued call of a queue or batch may begin; None if one may begin now or none waits.

    Of calls with windows in several time zones, the first `MOST_NEXT` by due time are looked at.
    """
    now = store.clock.now()
    waiting: Due | Waiting = Due(queue=queue, state=JobState.QUEUED)
    if batch_id is not None:
        waiting = Waiting(queue=queue, batch=batch_id)
    jobs = await find_jobs(store, replace(waiting, limit=1))
    if jobs and jobs[0].opens(at=(begins := max(now, jobs[0].due_at))) != begins:  # a later one may begin before it
        jobs = await find_jobs(store, replace(waiting, limit=MOST_NEXT))
    return _first_of(jobs, at=now)


def _first_of(jobs: Sequence[Job], *, at: datetime) -> NextCall | None:
    """Return when the first of these calls may begin; None if one may begin now or there is none."""
    begins = [
        NextCall(opens, zone_named(job.time_zone or ""))
        for job in jobs
        if (opens := job.opens(at=max(at, job.due_at))) is not None
    ]
    first = min(begins, key=lambda each: each.at, default=None)
    return first if first is not None and first.at > at else None


MOST_CHECKED = 100
"""The most calls of a state that are read to count the unreadable ones, by due time."""
_NOT_OVER = [state for state in JobState if not state.is_final]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableCalls:
    """Calls that have not ended and whose records cannot be read, so that nothing happens to them.

    Of each state, the first `MOST_CHECKED` by due time are read. If `is_exact` is False, there may be more.
    """

    count: int = 0
    is_exact: bool = True
    example: str = ""
    """What is wrong with one of them."""

    def in_words(self) -> str:
        """Return the count as a clause, such as `at least 2 calls cannot be read`."""
        return f"{'' if self.is_exact else 'at least '}{count_of(self.count, 'call')} cannot be read"


async def unreadable_calls(store: Store, queue: str) -> UnreadableCalls:
    """Count the calls of a queue that have not ended and cannot be read, in one read for each state that has any."""
    totals = await totals_of(store, queue)
    states = totals.states
    # Of a state that this version lacks: no read finds them, and counters have them.
    unknown = sum(
        count
        for name, count in totals.live.items()
        if name.startswith(STATE) and name.removeprefix(STATE) not in _STATE_NAMES
    )
    with noting_unreadable() as found:
        for state in _NOT_OVER:
            if states[state]:
                await find_jobs(store, Due(queue=queue, state=state, limit=MOST_CHECKED))
    example = min(found, default="their state is that of a newer version" if unknown else "")
    is_exact = all(states[state] <= MOST_CHECKED for state in _NOT_OVER)
    return UnreadableCalls(count=len(found) + unknown, is_exact=is_exact, example=example)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The counts, doubts and holds of a queue. `rate_now` is the rate of the last 5 seconds, in calls per second.

    `oldest_due_seconds` is how long ago the oldest due call was first due. `overdue_outcomes` counts calls that 8x8
    accepted longer ago than a call takes, and that have no summary yet. `next_call` is when the next call may begin, if
    none of the waiting calls may begin now. `failing` are the background tasks of workers and receivers that fail, each
    with its last error.
    """

    queue: str
    states: Mapping[JobState, int]
    due: int
    oldest_due_seconds: float | None
    limits: Limits | None
    rate_now: float
    workers: int
    holds: tuple[Gate, ...]
    overdue_outcomes: int = 0
    ordered: tuple[AuditEntry, ...] = ()
    """The last acts of people on the queue and its batches, the newest first."""
    next_call: NextCall | None = None
    waiting: WaitingCounts = field(default_factory=WaitingCounts)
    has_receiver: bool = False
    failing: Mapping[str, str] = field(default_factory=dict[str, str])
    unreadable: UnreadableCalls = field(default_factory=UnreadableCalls)
    stopped_imports: tuple[Gate, ...] = ()
    """The imports that have not ended, and began more than ten minutes ago."""
    person_limits: tuple[str, ...] = ()
    """The limits per person of the workers that run, `none` for those without one."""
    menus: tuple[str, ...] = ()
    """The menus with which the next waiting calls begin."""

    @property
    def doubts(self) -> int:
        """Number of calls in doubt, which need a person or evidence."""
        return self.states[JobState.IN_DOUBT]

    @property
    def total(self) -> int:
        """Number of all jobs of the queue."""
        return sum(self.states.values())

    def as_json(self) -> dict[str, object]:
        """Return the status as JSON, for scripts. `failing` is there only while a task fails."""
        failing = [{"task": task, "error": error} for task, error in self.failing.items()]
        return {
            **({"failing": failing} if failing else {}),
            "queue": self.queue,
            "states": {state.value: self.states[state] for state in JobState},
            "due": self.due,
            "oldest_due_seconds": self.oldest_due_seconds,
            "next_at": rfc3339(None if self.next_call is None else self.next_call.at),
            "rate": {"limit": self.limits.rate if self.limits else None, "now": self.rate_now},
            "workers": self.workers,
            "holds": [gate_as_json(gate) for gate in self.holds],
            "ordered": [each.as_json() for each in self.ordered],
            "waiting": self.waiting.as_json(),
            "waiting_is_exact": self.waiting.is_exact,
            "receiver": self.has_receiver,
            "doubts": self.doubts,
            "overdue_outcomes": self.overdue_outcomes,
            "unreadable": self.unreadable.count,
            "unreadable_is_exact": self.unreadable.is_exact,
            "total": self.total,
        }


def _most_sent(limits: Limits | None) -> float:
    """Return the most calls per second that can have left: heartbeats of workers are of different times."""
    return float("inf") if limits is None or limits.rate is None else limits.rate + (limits.burst - 1) / RATE_WINDOW


OVERDUE_AFTER = timedelta(minutes=15)
"""How long after 8x8 accepted a call its summary is overdue; half of the summary deadline if that is shorter. A call
that has been answered may take longer: then it counts as overdue until it has ended."""


_LONG_IMPORT = timedelta(minutes=10)


async def read_status(store: Store, queue: str, *, summary_deadline: timedelta) -> QueueStatus:
    """Read the status of one queue."""
    now = store.clock.now()
    due = await due_count(store, queue, by=now)
    queued = await find_jobs(store, Due(queue=queue, state=JobState.QUEUED, limit=MOST_READ))
    is_due = bool(queued) and queued[0].due_at <= now
    # A call that comes back again and again is due later each time; calls never tried have the oldest due times.
    first_due = min((job.first_due for job in queued if job.due_at <= now), default=now)
    heartbeats = Heartbeats(store)
    beats = await heartbeats.workers(queue)
    limits, states = await limits_of(store, queue), await count_states(store, queue)
    has_receiver, failing = await heartbeats.has_receiver(within=HEARD), await heartbeats.failing(queue)

    async def unsettled(placed_by: datetime) -> int:  # a submitted call is due at its deadline
        return await store.count(Due(queue=queue, state=JobState.SUBMITTED, by=placed_by + summary_deadline))

    holds = tuple(gate for gate in await gates_of(store, queue) if gate.is_closed(at=now))
    return QueueStatus(
        queue=queue,
        states=states,
        due=due,
        oldest_due_seconds=round((now - first_due).total_seconds(), 3) if is_due else None,
        limits=limits,
        rate_now=round(min(sum(beat.rate for beat in beats), _most_sent(limits)), 3),
        workers=len(beats),
        person_limits=tuple(sorted({beat.max_per_person or "none" for beat in beats})),
        holds=holds,
        stopped_imports=tuple(
            gate for gate in holds if gate.holder is HoldKind.IMPORT and now - gate.since > _LONG_IMPORT
        ),
        overdue_outcomes=await unsettled(now - min(OVERDUE_AFTER, summary_deadline / 2)),
        ordered=tuple(await entries_on(store, queue)),
        next_call=_first_of(queued[:MOST_NEXT], at=now),
        waiting=await _waiting(
            store,
            queued,
            at=now,
            due=due,
            holds=holds,
            otherwise=_otherwise(beats, limits, open_calls=states[JobState.SENDING] + states[JobState.SUBMITTED]),
            receiver=0 if has_receiver else states[JobState.SUBMITTED],
            notifications=int(NOTIFICATIONS in failing),
        ),
        has_receiver=has_receiver,
        failing=failing,
        unreadable=await unreadable_calls(store, queue),
        menus=tuple(sorted({job.menu for job in queued if job.menu is not None})),
    )
