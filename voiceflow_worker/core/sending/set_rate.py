"""The rate that a person set for a queue, which overrides the rate in the settings of workers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.core.ports.record_set import json_records
from voiceflow_worker.core.ports.store import Step, Unit, limits_put

NAMESPACE = "set-rate"


@dataclass(frozen=True, slots=True)
class _Rate:
    """Calls per second; None is unlimited."""

    rate: float | None = None


async def set_limits(store: Store, queue: str, limits: Limits) -> None:
    """Set the limits of a queue for all workers. Raises StoreError."""
    unit = Unit(puts=(limits_put(queue, limits),), wakes=queue)
    await store.write(Step(units=(unit,)), now=store.clock.now())


class SetRate:
    """The rate that a person set for one queue. It stays until it is withdrawn, even when workers start again."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._rates = json_records(store, NAMESPACE, _Rate)

    async def put(self, rate: float | None) -> Limits:
        """Set the rate for all workers, running ones included; returns the queue's limits. Raises StoreError."""
        await self._rates.put({self._queue: _Rate(rate)})
        limits = replace(await limits_of(self._store, self._queue) or Limits(), rate=rate)
        await set_limits(self._store, self._queue, limits)
        return limits

    async def withdraw(self) -> bool:
        """Remove the rate that a person set, and return whether there was one.

        Workers that start later set the rate of their settings.
        """
        was_set = bool(await self._rates.get([self._queue]))
        await self._rates.remove([self._queue])
        return was_set

    async def over(self, limits: Limits) -> Limits:
        """The limits of a worker's settings, but with the rate that a person set, if there is one."""
        found = (await self._rates.get([self._queue])).get(self._queue)
        return limits if found is None else replace(limits, rate=found.rate)
