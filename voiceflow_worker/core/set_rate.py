"""The rate of a queue: as workers begin with it, and as a person sets it."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.controls import LIMITS, limits_from, limits_put
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Put, Record, Result, Same, Write
from voiceflow_worker.model.copying import replace

NAMESPACE = "set-rate"


UNREADABLE = (
    "the limits of the queue cannot be read, perhaps because a newer version of voiceflow-worker wrote them; no call "
    "leaves until `voiceflow rate N`, or a worker that starts, sets them"
)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Calls per second; None is unlimited. `own` is the rate of the workers' settings, if it is known (`has_own`)."""

    rate: float | None = None
    token: str = ""
    """Of the order, so that the same rate set again is another order."""
    own: float | None = None
    has_own: bool = False


class SetRate:
    """The limits of one queue, and the rate that a person set, which stays until it is withdrawn.

    A person sets both in one write. A person and a starting worker may write at the same time, so each write is bound
    to what it was decided by: the worker's to the rate that a person set, the person's also to the limits that keep
    their other parts.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._rates = json_records(store, NAMESPACE, _Rate)

    async def put(self, rate: float | None) -> Limits:
        """Set the rate for all workers, running ones included; returns the queue's limits. Raises StoreError."""
        while True:
            found = await self._current()
            kept, before = limits_from(found[1]), self._read(found[0])
            if before is None:
                before = _Rate(own=kept.rate, has_own=found[1] is not None and not kept.are_unreadable)
            ordered = self._put(replace(before, rate=rate, token=new_revision()))
            # Of limits that cannot be read, nothing can be kept: the next worker that starts sets the others.
            limits = Limits(rate=rate) if kept.are_unreadable else replace(kept, rate=rate)
            write = self._limits_write(limits, found[1], *self._as_found(*found))
            if await self._write(replace(write, puts=(ordered, *write.puts))):
                return limits

    async def begin(self, own: Limits) -> tuple[Limits | None, Limits]:
        """Set the limits of a worker that starts, with the rate that a person set, if there is one.

        Returns the limits before that, if any, and those after. Raises StoreError.
        """
        while True:
            ordered, current = await self._current()
            before = self._read(ordered)
            limits = own if before is None else replace(own, rate=before.rate)
            condition, _ = self._as_found(ordered, current)
            write = self._limits_write(limits, current, condition)
            if before is not None and (kept := replace(before, own=own.rate, has_own=True)) != before:
                write = replace(write, puts=(self._put(kept), *write.puts))
            if await self._write(write):
                return None if current is None else limits_from(current), limits

    async def withdraw(self) -> bool:
        """Remove the rate that a person set, and return whether there was one.

        Running workers take the rate of the settings of the worker that started last.
        """
        while True:
            found = await self._current()
            limits, before = limits_from(found[1]), self._read(found[0])
            if before is not None and before.has_own and not limits.are_unreadable:
                limits = replace(limits, rate=before.own)
            write = self._limits_write(limits, found[1], *self._as_found(*found)) if found[1] else Write()
            drops = (Drop(NAMESPACE, self._queue, None),)
            if await self._write(replace(write, conditions=self._as_found(*found), drops=drops)):
                return found[0] is not None

    def _as_found(self, ordered: Record | None, limits: Record | None) -> tuple[Same, Same]:
        """Return the conditions that these records are the current ones."""
        values = [None if each is None else each.value for each in (ordered, limits)]
        return Same(NAMESPACE, self._queue, values[0]), Same(LIMITS, self._queue, values[1])

    def _read(self, ordered: Record | None) -> _Rate | None:
        return None if ordered is None else self._rates.read({ordered.group: ordered.value})[ordered.group]

    def _put(self, rate: _Rate) -> Put:
        return Put(NAMESPACE, self._queue, self._rates.text(rate), None)

    async def _current(self) -> tuple[Record | None, Record | None]:
        """Return the records of the rate that a person set and of the limits."""
        wanted = {NAMESPACE: [self._queue], LIMITS: [self._queue]}
        found = await self._store.records(wanted, now=self._store.clock.now())
        return next(iter(found[NAMESPACE]), None), next(iter(found[LIMITS]), None)

    def _limits_write(self, limits: Limits, current: Record | None, *conditions: Same) -> Write:
        put = limits_put(self._queue, limits)
        # The same limits are not put again: the store would take the write for one that was written before.
        if current is not None and current.value == put.value:
            return Write(conditions=conditions, wakes=self._queue)
        return Write(conditions=conditions, puts=(put,), wakes=self._queue)

    async def _write(self, write: Write) -> bool:
        """Return whether the write was written; False if what it was decided by has changed."""
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
        return answer.result is Result.DONE
