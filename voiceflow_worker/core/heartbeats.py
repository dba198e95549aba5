"""Heartbeats of workers and receivers, and the rates that they report."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from voiceflow_worker.core.base.background import Task, failing_here
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import VoiceflowError

EVERY = timedelta(seconds=5)
HEARD = 2 * EVERY
"""Who has stored no heartbeat for longer is not heard."""
SENDS = EVERY + timedelta(seconds=1)
"""Who has stored no heartbeat for longer sends nothing that is known of."""
FRESH = timedelta(seconds=30)
"""How long one that is not heard is waited for, by those who do nothing without it."""
KEPT = timedelta(hours=1)
"""How long the last heartbeat of one that fell silent is kept: it was killed, or could not reach the store."""

WORKERS = "worker"
RECEIVERS = "receiver"
LIMITS_DIFFER = "workers of the queue have different limits per person"
REGISTER = "`voiceflow serve --register URL` registers this receiver"
NOTIFICATIONS = "outcomes are not sent on, because the receiver of notifications wants no more"
"""The task that fails when notifications have stopped."""
NO_RECEIVER = "no receiver is running, so outcomes of calls do not arrive"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    failing: Mapping[str, str] = field(default_factory=dict[str, str])
    at: datetime | None = None
    since: datetime | None = None
    """The first of those that follow each other without a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat(_Beat):
    """One heartbeat of a worker.

    `rate` and the rates of its `batches` are in calls per second, over the last 5 seconds; `in_flight` counts POSTs.
    `failing` are its background tasks that fail, each in words. With `batch_id`, it sends that batch only.
    `max_per_person` is the worker's own limit, such as `3/24h`.
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


def notifications_failing() -> dict[str, str]:
    """Return that notifications of this process have stopped, if they have."""
    return {task: fault for task, fault in failing_here().items() if task == NOTIFICATIONS}


_Kind = TypeVar("_Kind", bound=_Beat)


class Heartbeats:
    """Writes and reads heartbeats in a store. If the process is a receiver, `menus` are the names of its menus.

    Unknown fields are ignored, and so are heartbeats of workers that cannot be read. A receiver whose heartbeat cannot
    be read counts as a receiver without menus.
    """

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._beat = _ReceiverBeat(menus=tuple(menus))
        self._clock = store.clock
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
        """Return the heartbeat of each live worker of a queue: of each that has one which is no older than this."""
        return self._sending(await self._alive(self._workers.within(queue), within=within))

    async def everywhere(self) -> Sequence[WorkerBeat]:
        """Return the heartbeat of each live worker of all queues."""
        return self._sending(await self._alive(self._workers))

    def _sending(self, beats: Sequence[tuple[str, WorkerBeat]]) -> list[WorkerBeat]:
        """Return the heartbeats; one that is late shows no rate, because others send in its place."""
        since = self._clock.now() - SENDS
        return [beat if (beat.at or since) >= since else replace(beat, rate=0.0, batches={}) for _, beat in beats]

    async def _alive(self, beats: RecordSet[_Kind], *, within: timedelta = HEARD) -> list[tuple[str, _Kind]]:
        since = self._clock.now() - within
        return [(who, beat) for who, beat in await beats.all() if beat is not None and (beat.at or since) >= since]

    async def silent(self) -> Mapping[str, datetime]:
        """Return who fell silent within an hour, and when, if nobody was heard for `HEARD` since then."""
        now = self._clock.now()
        workers = [(f"worker {beat.worker_id}", beat) for beat in await self._workers.values()]
        receivers = [(f"receiver {name}", beat) for name, beat in await self._receivers.all() if beat is not None]
        beats: list[tuple[str, _Beat]] = [*workers, *receivers]
        spans = [(beat.since or now, beat.at or now) for _, beat in beats]
        found = {name: at for name, beat in beats if (at := beat.at or now) < now - HEARD}
        return {
            name: at for name, at in found.items() if not any(last - max(since, at) >= HEARD for since, last in spans)
        }

    async def rates(self) -> Mapping[str, float]:
        """Return the rate of each queue with a live worker: the sum over the queue's workers."""
        rates: Counter[str] = Counter()
        for beat in await self.everywhere():
            rates.update({beat.queue: beat.rate})
        return rates

    async def batches(self, queue: str) -> Mapping[str, float]:
        """Return the rate of each batch of a queue: the sum over the queue's workers."""
        rates: Counter[str] = Counter()
        for beat in await self.workers(queue):
            rates.update(beat.batches)
        return rates

    async def receiver(self, name: str) -> None:
        """Store the heartbeat of a webhook receiver, with what fails beside its background tasks."""
        await self._put(self._receivers, name, replace(self._beat, failing=dict(failing_here())))

    async def _put(self, beats: RecordSet[_Kind], name: str, beat: _Kind) -> None:
        now = self._clock.now()
        since = now if self._stored is None or self._stored[1] < now - HEARD else self._stored[0]
        # One that is stored shows that heartbeats do not fail.
        failing = {task: fault for task, fault in beat.failing.items() if task != Task.HEARTBEAT}
        await beats.put({name: replace(beat, failing=failing, at=now, since=since)})
        self._stored = (since, now)

    async def receiver_left(self, name: str) -> None:
        """Delete the heartbeat of a receiver that has stopped."""
        await self._receivers.remove([name])

    async def failing(self, queue: str) -> Mapping[str, str]:
        """Return what fails of the queue's workers and receivers: its beginning and last error, and who saw it."""
        found: dict[str, list[tuple[str, str]]] = {}
        beats: list[tuple[str, _Beat]] = [*await self._alive(self._workers.within(queue))]
        for who, beat in (*beats, *await self._alive(self._receivers)):
            for task, fault in beat.failing.items():
                found.setdefault(task, []).append((fault, who))
        return {task: f"{min(seen)[0]}; seen by {', '.join(who for _, who in seen)}" for task, seen in found.items()}

    async def has_receiver(self, *, within: timedelta = FRESH) -> bool:
        """Return whether any receiver listens: whether one has a heartbeat that is no older than this."""
        return bool(await self._alive(self._receivers, within=within))

    async def receivers(self) -> int:
        """Return the number of receivers that listen."""
        return len(await self._alive(self._receivers))

    async def menus(self) -> Sequence[str]:
        """Return the menus of all receivers that listen, sorted."""
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
        self._beat = WorkerBeat(
            worker_id=worker_id, queue=queue, rate=0.0, in_flight=0, batch_id=batch_id, max_per_person=max_per_person,
        )  # fmt: skip
        self._failing, self._in_flight = failing, in_flight
        self._clock = store.clock
        self._heartbeats = Heartbeats(store)
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
            await self._heartbeats.worker_left(self._beat)
        except VoiceflowError as error:
            _log.warning("the heartbeat of this worker was not deleted; it expires by itself", error=str(error))

    def _now(self) -> WorkerBeat:
        now = self._clock.monotonic()
        while self._answered and self._answered[0][0] < now - RATE_WINDOW:
            self._answered.popleft()
        batches = Counter(batch_id for _, batch_id in self._answered if batch_id is not None)
        return replace(
            self._beat,
            rate=len(self._answered) / RATE_WINDOW,
            in_flight=self._in_flight(),
            batches={name: count / RATE_WINDOW for name, count in batches.most_common(BATCHES_SHOWN)},
            failing=dict(self._failing()),
        )
