"""Heartbeats of workers and receivers, the rates that they report, and the counts of a worker's work."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import structlog

from voiceflow_worker.core.base.background import Task, failing_here, fault_in_words
from voiceflow_worker.core.base.clock import ahead_of_8x8, off_in_words
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind
from voiceflow_worker.model.text.arguments import checked

EVERY = timedelta(seconds=5)
HEARD = 2 * EVERY
"""Who has stored no heartbeat for longer is not heard."""
FRESH = timedelta(seconds=30)
"""How long one that is not heard is waited for, by those who do nothing without it."""
SILENCE = ((timedelta(seconds=45), 50), (timedelta(seconds=90), 5))
"""After how long, and of how many calls, 8x8 should have sent some event: of many, somebody is busy or answers at once;
of a few, nobody rings for longer, and one person may talk for long."""
LATELY = timedelta(minutes=15)
"""How long after it has ended a silence of 8x8 is told. Then outcomes that lack are overdue."""
KEPT = timedelta(hours=1)
"""How long the last heartbeat of one that fell silent is kept: it was killed, or could not reach the store."""

WORKERS = "worker"
RECEIVERS = "receiver"
REFUSED = "events are refused"
"""What fails while a receiver refuses events, such as by their secret."""
FEW_REFUSED = "an event was refused"
"""What is told instead of fewer than three in a minute: they may be of anybody."""
GENERATION = 3
"""Counts the schemas of stores: it is raised with the schema number of any of them."""
LIMITS_DIFFER = "workers of the queue have different limits per person"
REGISTER = "`voiceflow serve --register URL` registers this receiver"
NO_RECEIVER = "no receiver is running, so outcomes of calls do not arrive"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    failing: Mapping[str, str] = field(default_factory=dict[str, str])
    generation: int = 0
    at: datetime | None = None
    since: datetime | None = None
    """The first of those that follow each other without a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat(_Beat):
    """One heartbeat of a worker.

    `rate` and the rates of its `batches` are in calls per second, over the last 5 seconds; `in_flight` counts POSTs.
    `failing` are its background tasks that fail, each in words. With `batch_id`, it sends that batch only.
    `generation` is that of the worker's version, and `max_per_person` its own limit, such as `3/24h`.
    """

    worker_id: str
    queue: str
    rate: float
    in_flight: int
    batch_id: str | None = None
    max_per_person: str | None = None
    batches: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReceiverBeat(_Beat):
    menus: tuple[str, ...] = ()
    missed_until: datetime | None = None
    """Until when summaries, which 8x8 sends once, may not have been stored: it refused them, or nobody listened."""
    event_at: datetime | None = None
    """When the last event arrived."""
    silent_since: datetime | None = None
    silent_until: datetime | None = None
    """The last time in which none arrived, of those in which some could be missed."""


class Silence(NamedTuple):
    """A time in which no event of 8x8 arrived, and the calls placed in it that have no outcome; it may go on."""

    since: datetime
    until: datetime
    calls: int
    goes_on: bool


_Kind = TypeVar("_Kind", bound=_Beat)


@checked
class Heartbeats:
    """Writes and reads heartbeats in a store. If the process is a receiver, `menus` are the names of its menus.

    Unknown fields are ignored, and so are heartbeats of workers that cannot be read. A receiver whose heartbeat cannot
    be read counts as a receiver without menus.
    """

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._beat = _ReceiverBeat(menus=tuple(menus), generation=GENERATION)
        self._clock = store.clock
        self._began = self._clock.now()
        self._stored: tuple[datetime, datetime] | None = None
        kept: dict[str, Any] = {"keep_for": KEPT, "durable": False}
        self._workers = json_records(store, WORKERS, WorkerBeat, **kept, unreadable=lambda _key, _error: None)
        self._receivers = json_records(
            store, RECEIVERS, _ReceiverBeat, **kept, unreadable=lambda _key, _error: _ReceiverBeat()
        )

    async def worker(self, beat: WorkerBeat) -> None:
        """Store the heartbeat of a worker."""
        await self._put(self._workers.within(beat.queue), beat.worker_id, beat)

    async def worker_left(self, beat: WorkerBeat) -> None:
        """Delete the heartbeat of a worker that has stopped."""
        await self._workers.within(beat.queue).remove([beat.worker_id])

    async def workers(self, queue: str, *, within: timedelta = HEARD) -> Sequence[WorkerBeat]:
        """The heartbeat of each live worker of a queue: of each that has one which is no older than this."""
        return [beat for _, beat in await self._alive(self._workers.within(queue), within=within)]

    async def everywhere(self) -> Sequence[WorkerBeat]:
        """The heartbeat of each live worker of all queues."""
        return [beat for _, beat in await self._alive(self._workers)]

    async def _alive(self, beats: RecordSet[_Kind], *, within: timedelta = HEARD) -> list[tuple[str, _Kind]]:
        since = self._clock.now() - within
        return [(who, beat) for who, beat in await beats.all() if beat is not None and (beat.at or since) >= since]

    async def silent_since(self) -> datetime | None:
        """When the last one fell silent, within an hour and not in order, if nobody else was heard all the while."""
        now = self._clock.now()
        beats: list[_Beat] = [*await self._workers.values(), *await self._receivers.values()]
        silent = [at for beat in beats if (at := beat.at or now) < now - HEARD]
        steady = [beat for beat in beats if (beat.at or now) >= now - HEARD and (beat.since or now) < now - HEARD]
        return None if steady else max(silent, default=None)

    async def rates(self) -> Mapping[str, float]:
        """The rate of each queue with a live worker: the sum over the queue's workers."""
        rates: Counter[str] = Counter()
        for beat in await self.everywhere():
            rates.update({beat.queue: beat.rate})
        return rates

    async def batches(self, queue: str) -> Mapping[str, float]:
        """The rate of each batch of a queue: the sum over the queue's workers."""
        rates: Counter[str] = Counter()
        for beat in await self.workers(queue):
            rates.update(beat.batches)
        return rates

    async def receiver(self, name: str, *, failing: Mapping[str, str] = MappingProxyType({})) -> None:
        """Store the heartbeat of a webhook receiver, with what fails beside its background tasks."""
        await self._put(self._receivers, name, replace(self._beat, failing={**failing_here(), **failing}))

    async def _put(self, beats: RecordSet[_Kind], name: str, beat: _Kind) -> None:
        now = self._clock.now()
        since = now if self._stored is None or self._stored[1] < now - HEARD else self._stored[0]
        # One that is stored shows that heartbeats do not fail.
        failing = {task: fault for task, fault in beat.failing.items() if task != Task.HEARTBEAT}
        await beats.put({name: replace(beat, failing=failing, at=now, since=since)})
        self._stored = (since, now)

    def event_arrived(self) -> None:
        """Note that an event of 8x8 has arrived. The next heartbeat says so."""
        now, last = self._clock.now(), self._beat.event_at or self._began
        self._beat = replace(self._beat, event_at=now)
        if now - last > SILENCE[0][0]:
            self._beat = replace(self._beat, silent_since=last, silent_until=now)

    async def silence(self, placed: Callable[[datetime], Awaitable[int]], *, ended: bool = False) -> Silence | None:
        """The last silence of 8x8 in which it should have sent events, of lately; if asked for, only one that `ended`.

        `placed` counts the calls that were placed by a time, and have no outcome.
        """
        now, found = self._clock.now(), list[tuple[datetime, datetime]]()
        beats = await self._receivers.values()
        last = [each for beat in beats if beat.at and beat.at >= now - HEARD and (each := beat.event_at or beat.since)]
        found = [(max(last), now)] if last and not ended else []
        found += [(each.silent_since, each.silent_until) for each in beats if each.silent_since and each.silent_until]
        for since, until in sorted(found, key=itemgetter(1), reverse=True):
            for within, fewest in SILENCE if until > now - LATELY else ():
                calls = await placed(until - within) - await placed(since) if until - since > within else 0
                if calls >= fewest:
                    return Silence(since, until, calls if until == now else await placed(until), until == now)
        return None

    def summary_refused(self) -> None:
        """Note that a summary cannot be stored now, or could not until now. The next heartbeat says so."""
        self._beat = replace(self._beat, missed_until=self._clock.now())

    async def missed_until(self) -> datetime | None:
        """Until when summaries may not have been stored; None if they all were.

        Receivers know it, but for one that began while the heartbeat of one that was killed could still be its last.
        """
        beats, now = await self._receivers.values(), self._clock.now()
        killed = [beat.at for beat in beats if beat.at is not None and beat.at < now - HEARD]
        began = [beat.since for beat in beats if beat.since is not None]
        until = [beat.missed_until for beat in beats if beat.missed_until is not None]
        until += [since for since in began if any(timedelta() < since - at <= HEARD for at in killed)]
        return max(until, default=None)

    async def receiver_left(self, name: str) -> None:
        """Delete the heartbeat of a receiver that has stopped."""
        await self._receivers.remove([name])

    async def failing(self, queue: str) -> Mapping[str, str]:
        """What fails of the queue's workers and of receivers: its beginning and last error, and who has seen it."""
        found: dict[str, list[tuple[str, str]]] = {}
        beats: list[tuple[str, _Beat]] = [*await self._alive(self._workers.within(queue))]
        for who, beat in (*beats, *await self._alive(self._receivers)):
            for task, fault in beat.failing.items():
                found.setdefault(task, []).append((fault, who))
        return {task: f"{min(seen)[0]}; seen by {', '.join(who for _, who in seen)}" for task, seen in found.items()}

    async def has_receiver(self, *, within: timedelta = FRESH) -> bool:
        """Whether any receiver listens: whether one has a heartbeat that is no older than this."""
        return bool(await self._alive(self._receivers, within=within))

    async def older(self) -> tuple[int, int]:
        """How many live workers, and how many receivers, are of a version before this one's schemas."""
        workers = [beat.generation < GENERATION for _, beat in await self._alive(self._workers, within=FRESH)]
        receivers = [beat.generation < GENERATION for _, beat in await self._alive(self._receivers, within=FRESH)]
        return sum(workers), sum(receivers)

    async def receivers(self) -> int:
        """The number of receivers that listen."""
        return len(await self._alive(self._receivers))

    async def menus(self) -> Sequence[str]:
        """The menus of all receivers that listen, sorted."""
        return sorted({menu for _, beat in await self._alive(self._receivers) for menu in beat.menus})


_log = structlog.get_logger("voiceflow.heartbeats")

RATE_WINDOW = 5.0
BATCHES_SHOWN = 50


class Heartbeat:
    """Counts the POSTs of one worker that 8x8 has answered, and stores the worker's heartbeats.

    `in_flight` returns the number of calls that the worker is sending, and `failing` its tasks that fail. With
    `batch_id`, the worker sends that batch only.
    """

    def __init__(
        self,
        store: Store,
        *,
        queue: str,
        worker_id: str,
        in_flight: Callable[[], int],
        failing: Callable[[], Mapping[str, str]] = dict,
        batch_id: str | None = None,
        max_per_person: str | None = None,
    ) -> None:
        self._batch_id = batch_id
        self._max_per_person = max_per_person
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
            batch_id=self._batch_id,
            max_per_person=self._max_per_person,
            batches={name: count / RATE_WINDOW for name, count in batches.most_common(BATCHES_SHOWN)},
            failing=dict(self._failing()),
            generation=GENERATION,
        )


SLOW = 5.0
"""Seconds after which an answer of 8x8 is slow."""
CALM = 15.0
"""Seconds after which a trouble with 8x8 is over, once POSTs succeed that were sent later than what met it."""
FORGOTTEN = 60.0
"""Seconds after which a trouble with 8x8 is over if no POST meets it, because none is sent."""
HELD_FOR = 360.0
"""The same for a trouble that puts calls in doubt: the queue then holds itself, for up to five minutes."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    since: datetime
    sent_at: float
    noted_at: float
    error: str


class ServiceHealth:
    """How 8x8 has treated the POSTs of one worker lately. A POST counts by the time at which it was sent.

    The Date of a clear answer also shows whether the clock is off by more than `clock_skew`.
    """

    def __init__(self, clock: Clock, *, clock_skew: timedelta = timedelta(seconds=10)) -> None:
        self._clock = clock
        self._clock_skew = clock_skew
        self._troubles: dict[str, _Trouble] = {}
        self._good = float("-inf")

    def note(self, verdict: Verdict, sent_at: float) -> None:
        """Note the verdict on a POST that was sent at this monotonic time."""
        now = self._clock.monotonic()
        if verdict.is_clear and verdict.server_date is not None:
            self._look_at_clock(verdict.server_date, sent_at)
        if verdict.kind is VerdictKind.UNKNOWN:
            trouble = Task.SILENT if verdict.http_status is None else Task.ERRORS
        elif verdict.http_status is not None:
            if now - sent_at <= SLOW:
                self._good = max(self._good, sent_at)
                return
            trouble = Task.SLOW
        elif verdict.is_outage:
            trouble = Task.UNREACHABLE
        else:
            return
        error = f"its last answer took {now - sent_at:.0f} s" if trouble is Task.SLOW else verdict.message
        self._met(trouble, error, sent_at)

    def _look_at_clock(self, theirs: datetime, sent_at: float) -> None:
        now = self._clock.now()
        before = now - timedelta(seconds=self._clock.monotonic() - sent_at)
        ahead = ahead_of_8x8(theirs, before=before, after=now)
        if abs(ahead) > self._clock_skew:
            self._met(Task.CLOCK_OFF, f"it is {off_in_words(ahead, of='8x8')}", sent_at)
        else:
            self._troubles.pop(Task.CLOCK_OFF, None)

    def _met(self, trouble: str, error: str, sent_at: float) -> None:
        now, known = self._clock.monotonic(), self._now().get(trouble)
        since = self._clock.now() - timedelta(seconds=now - sent_at) if known is None else known.since
        self._troubles[trouble] = _Trouble(since, max(sent_at, known.sent_at if known else sent_at), now, error)

    @property
    def failing(self) -> dict[str, str]:
        """The troubles of now, each with its beginning and the last error."""
        return {name: fault_in_words(each.since, each.error) for name, each in self._now().items()}

    def _now(self) -> dict[str, _Trouble]:
        now = self._clock.monotonic()
        self._troubles = {
            name: each
            for name, each in self._troubles.items()
            if now - each.noted_at < (HELD_FOR if name in {Task.SILENT, Task.ERRORS} else FORGOTTEN)
            and not (self._good > each.sent_at and now - each.sent_at > CALM)
        }
        return self._troubles


BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds, in seconds, by which the durations of POSTs are counted."""


@dataclass(slots=True)
class WorkCounts:
    """What a worker has done since it began, for its metrics.

    `verdicts` counts calls with a journal entry, by the kind of the verdict, a blank and a detail: the HTTP status of
    the answer, or why nothing was sent. `posts` counts the POSTs that left by their duration, up to each of `BOUNDS`
    and above; `post_seconds` is the sum. `in_flight` and `verdicts_waiting` are numbers of now; `failing` counts the
    workers for which each background task, or 8x8, fails now.
    """

    verdicts: Counter[str] = field(default_factory=Counter[str])
    posts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    post_seconds: float = 0.0
    slots_missed: int = 0
    in_flight: int = 0
    verdicts_waiting: int = 0
    task_failures: Counter[str] = field(default_factory=Counter[str])
    failing: Counter[str] = field(default_factory=Counter[str])

    def count_verdict(self, verdict: Verdict) -> None:
        """Count a verdict that has just come."""
        detail = verdict.http_status or verdict.cause or (NotSentCause.UNREACHABLE if verdict.is_outage else "")
        self.verdicts[f"{verdict.kind} {detail}"] += 1

    def took(self, verdict: Verdict, seconds: float) -> None:
        """Count the duration of a POST, if it left."""
        if verdict.kind is not VerdictKind.NOT_SENT:
            self.posts[bisect_left(BOUNDS, seconds)] += 1
            self.post_seconds += seconds
