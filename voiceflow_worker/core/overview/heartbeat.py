"""Heartbeats of workers and webhook receivers, as records that expire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import json_records

FRESH = timedelta(seconds=30)
EVERY = timedelta(seconds=5)

WORKERS = "worker"
RECEIVERS = "receiver"
NO_RECEIVER = "no receiver is running, so outcomes of calls do not arrive"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat:
    """One heartbeat of a worker.

    `rate` and the rates of its `batches` are in calls per second, over the last 5 seconds; `in_flight` counts POSTs.
    """

    worker_id: str
    queue: str
    rate: float
    in_flight: int
    batches: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReceiverBeat:
    menus: tuple[str, ...] = ()


class Heartbeats:
    """Writes and reads heartbeats in a store. If the process is a receiver, `menus` are the names of its menus.

    Unknown fields are ignored, and so are heartbeats of workers that cannot be read. A receiver whose heartbeat cannot
    be read counts as a receiver without menus.
    """

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._beat = _ReceiverBeat(menus=tuple(menus))
        self._workers = json_records(
            store, WORKERS, WorkerBeat, keep_for=FRESH, durable=False, unreadable=lambda _key, _error: None
        )
        self._receivers = json_records(
            store,
            RECEIVERS,
            _ReceiverBeat,
            keep_for=FRESH,
            durable=False,
            unreadable=lambda _key, _error: _ReceiverBeat(),
        )

    async def worker(self, beat: WorkerBeat) -> None:
        """Store the heartbeat of a worker."""
        await self._workers.put({_key(beat): beat})

    async def worker_left(self, beat: WorkerBeat) -> None:
        """Delete the heartbeat of a worker that has stopped."""
        await self._workers.remove([_key(beat)])

    async def workers(self, queue: str) -> Sequence[WorkerBeat]:
        """The heartbeat of each live worker of a queue."""
        return await self._workers.values(prefix=f"{queue}/")

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
        await self._receivers.put({name: self._beat})

    async def receiver_left(self, name: str) -> None:
        """Delete the heartbeat of a receiver that has stopped."""
        await self._receivers.remove([name])

    async def has_receiver(self) -> bool:
        """Whether any receiver listens: whether one has a heartbeat younger than 30 s."""
        return bool(await self._receivers.page(limit=1))

    async def receivers(self) -> int:
        """The number of receivers that listen."""
        return len(await self._receivers.all())

    async def menus(self) -> Sequence[str]:
        """The menus of all receivers that listen, sorted."""
        return sorted({menu for beat in await self._receivers.values() for menu in beat.menus})


def _key(beat: WorkerBeat) -> str:
    return f"{beat.queue}/{beat.worker_id}"
