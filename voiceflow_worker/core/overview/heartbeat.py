"""Heartbeats: who works and who listens, as records that end by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from voiceflow_worker.core.ports import Store

FRESH = timedelta(seconds=30)
EVERY = timedelta(seconds=5)

WORKERS = "worker"
RECEIVERS = "receiver"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBeat:
    """What a worker tells of itself: `rate` in calls per second over the last seconds, `in_flight` POSTs."""

    worker_id: str
    queue: str
    rate: float
    in_flight: int


def _beat(text: str) -> WorkerBeat | None:
    """What was told. It is only shown: what another version tells besides is left out, and what is no beat, too."""
    try:
        told: dict[str, Any] = json.loads(text)
        return WorkerBeat(
            worker_id=told["worker_id"], queue=told["queue"], rate=float(told["rate"]), in_flight=int(told["in_flight"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def _menus(text: str) -> Sequence[str]:
    """The menus that a receiver told of; none for one of an older version."""
    try:
        told: dict[str, Any] = json.loads(text)
        return [str(name) for name in told.get("menus", ())]
    except (ValueError, AttributeError, TypeError):
        return []


class Heartbeats:
    """Writes and reads heartbeats in a store. `menus` are the names of those that this receiver answers calls by."""

    def __init__(self, store: Store, *, menus: Sequence[str] = ()) -> None:
        self._store = store
        self._told = json.dumps({"menus": list(menus)} if menus else {})

    async def worker(self, beat: WorkerBeat) -> None:
        """Tell that a worker is alive."""
        await self._put(WORKERS, f"{beat.queue}/{beat.worker_id}", json.dumps(asdict(beat)))

    async def worker_left(self, beat: WorkerBeat) -> None:
        """Tell that a worker stopped in order."""
        await self._store.records.delete(WORKERS, {f"{beat.queue}/{beat.worker_id}": None})

    async def workers(self, queue: str) -> Sequence[WorkerBeat]:
        """The workers of a queue that are alive."""
        now = self._store.clock.now()
        found = await self._store.records.scan(WORKERS, now=now, prefix=f"{queue}/")
        beats = [_beat(text) for _, text in found]
        return [beat for beat in beats if beat is not None]

    async def receiver(self, name: str) -> None:
        """Tell that a webhook receiver listens for this store."""
        await self._put(RECEIVERS, name, self._told)

    async def receiver_left(self, name: str) -> None:
        """Tell that a receiver stopped in order."""
        await self._store.records.delete(RECEIVERS, {name: None})

    async def has_receiver(self) -> bool:
        """Whether any receiver listens: its heartbeat is younger than 30 s."""
        return bool(await self._store.records.scan(RECEIVERS, now=self._store.clock.now(), limit=1))

    async def menus(self) -> Sequence[str]:
        """The menus that receivers which listen answer calls by, sorted."""
        found = await self._store.records.scan(RECEIVERS, now=self._store.clock.now())
        return sorted({menu for _, text in found for menu in _menus(text)})

    async def _put(self, namespace: str, key: str, value: str) -> None:
        now = self._store.clock.now()
        await self._store.records.put(namespace, {key: value}, expires_at=now + FRESH, now=now)
