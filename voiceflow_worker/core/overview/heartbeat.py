"""Heartbeats of workers and webhook receivers: records that end by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import RecordSet

FRESH = timedelta(seconds=30)
EVERY = timedelta(seconds=5)

WORKERS = "worker"
RECEIVERS = "receiver"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat:
    """One heartbeat of a worker: `rate` in calls per second over the last seconds, `in_flight` POSTs."""

    worker_id: str
    queue: str
    rate: float
    in_flight: int


class Heartbeats:
    """Writes and reads heartbeats in a store. `menus` are the names of the menus of this receiver.

    A heartbeat is only shown: fields of other versions, and heartbeats that cannot be read, are ignored.
    """

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._menus = list(menus)
        self._workers = RecordSet(
            store, WORKERS, write=_beat_text, read=_beat, keep_for=FRESH, unreadable=lambda _key, _error: None
        )
        self._receivers = RecordSet(
            store, RECEIVERS, write=_menus_text, read=_menus, keep_for=FRESH, unreadable=lambda _key, _error: []
        )

    async def worker(self, beat: WorkerBeat) -> None:
        """Store the heartbeat of a worker."""
        await self._workers.put({_key(beat): beat})

    async def worker_left(self, beat: WorkerBeat) -> None:
        """Delete the heartbeat of a worker that has stopped."""
        await self._workers.remove([_key(beat)])

    async def workers(self, queue: str) -> Sequence[WorkerBeat]:
        """The workers of a queue that are alive."""
        return await self._workers.values(prefix=f"{queue}/")

    async def receiver(self, name: str) -> None:
        """Store the heartbeat of a webhook receiver."""
        await self._receivers.put({name: self._menus})

    async def receiver_left(self, name: str) -> None:
        """Delete the heartbeat of a receiver that has stopped."""
        await self._receivers.remove([name])

    async def has_receiver(self) -> bool:
        """Whether any receiver listens: its heartbeat is younger than 30 s."""
        return bool(await self._receivers.page(limit=1))

    async def menus(self) -> Sequence[str]:
        """The menus of all receivers that listen, sorted."""
        return sorted({menu for menus in await self._receivers.values() for menu in menus})


def _key(beat: WorkerBeat) -> str:
    return f"{beat.queue}/{beat.worker_id}"


def _beat_text(beat: WorkerBeat) -> str:
    return json.dumps(asdict(beat))


def _beat(_: str, text: str) -> WorkerBeat:
    fields: dict[str, Any] = json.loads(text)
    return WorkerBeat(
        worker_id=fields["worker_id"],
        queue=fields["queue"],
        rate=float(fields["rate"]),
        in_flight=int(fields["in_flight"]),
    )


def _menus_text(menus: Sequence[str]) -> str:
    return json.dumps({"menus": menus} if menus else {})


def _menus(_: str, text: str) -> Sequence[str]:
    fields: dict[str, Any] = json.loads(text)
    return [str(name) for name in fields.get("menus", ())]
