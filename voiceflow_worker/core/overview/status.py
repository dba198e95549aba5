"""The status of a queue: states, rate, workers, and why queued calls wait."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from voiceflow_worker.core.overview.ordered import Ordered, ordered_on
from voiceflow_worker.core.ports import Limits, Order, Query, Store
from voiceflow_worker.core.ports.parts import failing_here
from voiceflow_worker.core.ports.reading import calls_of_start, count_states, find_jobs, gates_of, limits_of
from voiceflow_worker.core.ports.record_set import json_records
from voiceflow_worker.errors import StoreVersionError, VoiceflowError
from voiceflow_worker.model.jobs.call_json import BUSY, CAPPED, OUTSIDE_WINDOW
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words, in_words, rfc3339
from voiceflow_worker.model.times import zone_named

FRESH = timedelta(seconds=30)
EVERY = timedelta(seconds=5)

WORKERS = "worker"
RECEIVERS = "receiver"
NO_RECEIVER = "no receiver is running, so outcomes of calls do not arrive"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat:
    """One heartbeat of a worker.

    `rate` and the rates of its `batches` are in calls per second, over the last 5 seconds; `in_flight` counts POSTs.
    `failing` are its background parts that fail, each with its last error.
    """

    worker_id: str
    queue: str
    rate: float
    in_flight: int
    batches: Mapping[str, float] = field(default_factory=dict[str, float])
    failing: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReceiverBeat:
    menus: tuple[str, ...] = ()
    failing: Mapping[str, str] = field(default_factory=dict[str, str])


class Heartbeats:
    """Writes and reads heartbeats in a store. If the process is a receiver, `menus` are the names of its menus.

    Unknown fields are ignored, and so are heartbeats of workers that cannot be read. A receiver whose heartbeat cannot
    be read counts as a receiver without menus.
    """

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._beat = _ReceiverBeat(menus=tuple(menus))
        self._workers = json_records(
            store, WORKERS, WorkerBeat, keep_for=FRESH, durable=False, unreadable=lambda _beat_key, _error: None
        )
        self._receivers = json_records(
            store,
            RECEIVERS,
            _ReceiverBeat,
            keep_for=FRESH,
            durable=False,
            unreadable=lambda _beat_key, _error: _ReceiverBeat(),
        )

    async def worker(self, beat: WorkerBeat) -> None:
        """Store the heartbeat of a worker."""
        await self._workers.within(beat.queue).put({beat.worker_id: beat})

    async def worker_left(self, beat: WorkerBeat) -> None:
        """Delete the heartbeat of a worker that has stopped."""
        await self._workers.within(beat.queue).remove([beat.worker_id])

    async def workers(self, queue: str) -> Sequence[WorkerBeat]:
        """The heartbeat of each live worker of a queue."""
        return await self._workers.within(queue).values()

    async def everywhere(self) -> Sequence[WorkerBeat]:
        """The heartbeat of each live worker of all queues."""
        return await self._workers.values()

    async def rates(self) -> Mapping[str, float]:
        """The rate of each queue with a live worker: the sum over the queue's workers."""
        rates: dict[str, float] = {}
        for beat in await self._workers.values():
            rates[beat.queue] = rates.get(beat.queue, 0.0) + beat.rate
        return rates

    async def batches(self, queue: str) -> Mapping[str, float]:
        """The rate of each batch of a queue: the sum over the queue's workers."""
        rates: Counter[str] = Counter()
        for beat in await self.workers(queue):
            rates.update(beat.batches)
        return rates

    async def receiver(self, name: str) -> None:
        """Store the heartbeat of a webhook receiver."""
        await self._receivers.put({name: replace(self._beat, failing=failing_here())})

    async def receiver_left(self, name: str) -> None:
        """Delete the heartbeat of a receiver that has stopped."""
        await self._receivers.remove([name])

    async def failing(self, queue: str) -> Mapping[str, str]:
        """The background parts of the queue's workers and of receivers that fail, each with its last error."""
        found = [beat.failing for beat in await self.workers(queue)]
        found += [beat.failing for beat in await self._receivers.values()]
        return {part: error for failing in found for part, error in failing.items()}

    async def has_receiver(self) -> bool:
        """Whether any receiver listens: whether one has a heartbeat younger than 30 s."""
        return bool(await self._receivers.page(limit=1))

    async def receivers(self) -> int:
        """The number of receivers that listen."""
        return len(await self._receivers.all())

    async def menus(self) -> Sequence[str]:
        """The menus of all receivers that listen, sorted."""
        return sorted({menu for beat in await self._receivers.values() for menu in beat.menus})


_log = structlog.get_logger("voiceflow.worker")

RATE_WINDOW = 5.0
BATCHES_SHOWN = 50


class Pulse:
    """Counts the POSTs of one worker that 8x8 has answered, and stores the worker's heartbeats.

    `in_flight` returns the number of calls that the worker is sending, and `failing` its parts that fail.
    """

    def __init__(
        self,
        store: Store,
        *,
        queue: str,
        worker_id: str,
        in_flight: Callable[[], int],
        failing: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._failing = failing
        self._clock = store.clock
        self._heartbeats = Heartbeats(store)
        self._queue = queue
        self._worker_id = worker_id
        self._in_flight = in_flight
        self._answered: deque[tuple[float, str | None]] = deque()

    def count(self, batch_id: str | None) -> None:
        """Count a POST that 8x8 has answered, for a call of this batch."""
        self._answered.append((self._clock.monotonic(), batch_id))

    async def beat(self) -> None:
        """Store a heartbeat. Raises StoreError."""
        await self._heartbeats.worker(self._now())

    async def end(self) -> None:
        """Delete the heartbeat of a worker that stops. A failure is only logged."""
        try:
            await self._heartbeats.worker_left(self._now())
        except VoiceflowError as error:
            _log.warning("the heartbeat of this worker was not deleted; it expires by itself", error=str(error))

    def _now(self) -> WorkerBeat:
        now = self._clock.monotonic()
        while self._answered and self._answered[0][0] < now - RATE_WINDOW:
            self._answered.popleft()
        batches = Counter(batch_id for _, batch_id in self._answered if batch_id is not None)
        return WorkerBeat(
            worker_id=self._worker_id,
            queue=self._queue,
            rate=len(self._answered) / RATE_WINDOW,
            in_flight=self._in_flight(),
            batches={name: count / RATE_WINDOW for name, count in batches.most_common(BATCHES_SHOWN)},
            failing=dict(self._failing()),
        )


NAMESPACE = "rate-history"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SAMPLED_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteRates:
    """The mean rate of each queue in one minute, in calls per second."""

    rates: Mapping[str, float]


class RateHistory:
    """Samples the heartbeats of workers, and keeps the mean of each minute for an hour.

    All receivers see the same heartbeats, so only the first receiver that has the mean of a minute stores it.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._beats = Heartbeats(store)
        self._minutes = json_records(store, NAMESPACE, MinuteRates, keep_for=HOUR + MINUTE, durable=False)
        self._minute: datetime | None = None
        self._samples: list[Mapping[str, float]] = []

    async def sample(self) -> None:
        """Take a sample. When a new minute has begun, store the mean of the minute before. Raises StoreError."""
        minute = self._clock.now().replace(second=0, microsecond=0)
        if self._minute is not None and minute != self._minute and self._samples:
            await self._minutes.add({_key(self._minute): MinuteRates(rates=_mean(self._samples))})
        if minute != self._minute:
            self._minute, self._samples = minute, []
        self._samples.append(await self._beats.rates())

    async def last_hour(self) -> Sequence[tuple[datetime, Mapping[str, float]]]:
        """The mean rates of the queues in each recorded minute of the last hour, oldest first. Raises StoreError."""
        since = _key(self._clock.now() - HOUR)
        found = await self._minutes.page(after=since)
        return [(datetime.fromisoformat(key), value.rates) for key, value in found if value is not None]


def _key(minute: datetime) -> str:
    return minute.astimezone(UTC).isoformat(timespec="minutes")


def _mean(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for each in samples:
        total.update(each)
    return {queue: round(rate / len(samples), 3) for queue, rate in total.items()}


UNREADABLE = (
    "the limits of the queue cannot be read, perhaps because a newer version of voiceflow-worker wrote them; no call "
    "leaves until `voiceflow rate N`, or a worker that starts, sets them"
)
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
    closed = {gate.name for gate in gates if gate.start is None}
    counts = [await due_count(store, queue, by=by, batch_id=name) for name in closed]
    for gate in gates:
        if gate.start is not None and gate.name not in closed:
            async with aclosing(calls_of_start(store, gate)) as pages:
                counts += [sum(job.due_at <= by for job in page) async for page in pages]
    return sum(counts)


def _is_held(job: Job, holds: tuple[Gate, ...]) -> bool:
    return any(gate.holds(job.batch_id, job.worker_id) for gate in holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockBehind:
    """A clock that is `by` this much behind the newest entry of a queue; `calls` wait only because of it."""

    by: timedelta
    calls: int

    def in_words(self) -> str:
        """What is wrong, and the remedy, as a sentence without a full stop."""
        return (
            f"THE CLOCK IS BEHIND: the store has calls from {duration_in_words(self.by)} after the present time; "
            f"waiting for the clock: {count_of(self.calls, 'call')}. Set the clock (timedatectl set-ntp true)"
        )


async def clock_behind(store: Store, queue: str, *, allowed: timedelta) -> ClockBehind | None:
    """How far the store's clock is behind the newest call, and the first calls that wait; None if no more than allowed.

    A clock that was set back stands before the time at which calls were created and last changed. The times in 8x8's
    summaries are those of another clock. Also None if a newer version wrote one of these calls. Raises other
    StoreErrors.
    """
    now = store.clock.now()
    try:
        newest = await find_jobs(store, Query(queue=queue, order=Order.NEWEST, limit=1))
        waiting = await find_jobs(store, Query(queue=queue, states=_QUEUED, order=Order.DUE, limit=MOST_NEXT))
    except StoreVersionError:
        return None
    latest = max((job.noted_at for job in (*newest, *waiting)), default=now)
    if latest - now <= allowed:
        return None
    by = timedelta(seconds=round((latest - now).total_seconds()))
    return ClockBehind(by=by, calls=await due_count(store, queue, by=latest) - await due_count(store, queue, by=now))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The counts, doubts and holds of a queue. `rate_now` is the rate of the last 5 seconds, in calls per second.

    `oldest_due_seconds` is how long the oldest due call has been due. `next_call` is when the next call may begin, if
    none of the waiting calls may begin now. `failing` are the background parts of workers and receivers that fail, each
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
    ordered: tuple[Ordered, ...] = ()
    """The last acts of people on the queue and its batches, the newest first."""
    next_call: NextCall | None = None
    waiting: WaitingCounts = field(default_factory=WaitingCounts)
    has_receiver: bool = False
    failing: Mapping[str, str] = field(default_factory=dict[str, str])
    clock: ClockBehind | None = None

    @property
    def doubts(self) -> int:
        """The number of calls in doubt, which need a person or evidence."""
        return self.states[JobState.IN_DOUBT]

    @property
    def total(self) -> int:
        """The number of all jobs of the queue."""
        return sum(self.states.values())

    def as_json(self) -> dict[str, object]:
        """The status as JSON, for scripts. `failing` is there only while a part fails."""
        failing = [{"part": part, "error": error} for part, error in self.failing.items()]
        return {
            **({"failing": failing} if failing else {}),
            "queue": self.queue,
            "states": {state.value: self.states[state] for state in JobState},
            "due": self.due,
            "oldest_due_seconds": self.oldest_due_seconds,
            "next_at": rfc3339(None if self.next_call is None else self.next_call.at),
            "rate": {"limit": self.limits.rate if self.limits else None, "now": self.rate_now},
            "workers": self.workers,
            "holds": [
                {"scope": gate.scope.value, "name": gate.name, "until": rfc3339(gate.until), "reason": gate.reason}
                for gate in self.holds
            ],
            "ordered": [each.as_json() for each in self.ordered],
            "waiting": self.waiting.as_json(),
            "waiting_is_exact": self.waiting.is_exact,
            "receiver": self.has_receiver,
            **({} if self.clock is None else {"clock_behind_seconds": self.clock.by.total_seconds()}),
            "doubts": self.doubts,
            "total": self.total,
        }


async def read_status(store: Store, queue: str, *, clock_skew: timedelta) -> QueueStatus:
    """Read the status of one queue. `clock_skew` is the most by which clocks may differ."""
    now = store.clock.now()
    due = (await count_states(store, queue, due_before=now))[JobState.QUEUED]
    oldest = await find_jobs(
        store, Query(queue=queue, states=frozenset({JobState.QUEUED}), due_before=now, order=Order.DUE, limit=1)
    )
    heartbeats = Heartbeats(store)
    beats = await heartbeats.workers(queue)
    limits = await limits_of(store, queue)
    holds = tuple(gate for gate in await gates_of(store, queue) if gate.is_closed(at=now))
    return QueueStatus(
        queue=queue,
        states=await count_states(store, queue),
        due=due,
        oldest_due_seconds=round((now - oldest[0].due_at).total_seconds(), 3) if oldest else None,
        limits=limits,
        rate_now=round(sum(beat.rate for beat in beats), 3),
        workers=len(beats),
        holds=holds,
        ordered=tuple(await ordered_on(store, queue)),
        next_call=await next_call(store, queue),
        waiting=await read_waiting(
            store,
            queue,
            holds=holds,
            sending=bool(beats),
            limited=limits is not None and (limits.rate is not None or limits.max_active is not None),
        ),
        has_receiver=await heartbeats.has_receiver(),
        failing=await heartbeats.failing(queue),
        clock=await clock_behind(store, queue, allowed=clock_skew),
    )
