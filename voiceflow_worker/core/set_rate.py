"""The rate of a queue: as workers begin with it, and as a person sets it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.controls import LIMITS, limits_from, limits_put
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Order, Put, Record, Result, Same, Write
from voiceflow_worker.model.copying import replace

NAMESPACE = "set-rate"


UNREADABLE = (
    "the limits of the queue cannot be read, perhaps because a newer version of voiceflow-worker wrote them; no call "
    "leaves until `voiceflow rate N`, or a worker that starts, sets them"
)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Calls per second; None is unlimited."""

    rate: float | None = None
    token: str = ""
    """Of the order, so that the same rate set again is another order."""


CheckRate = Callable[[str], None]
"""A function that gets the current state (`SetRate.state`), and raises an error if it must stay."""


def _state_of(*records: Record | None) -> str:
    values = [None if each is None else each.value for each in records]
    return "" if not any(values) else hashlib.sha256(repr(values).encode()).hexdigest()[:16]


class SetRate:
    """The limits of one queue, and the rate that a person set, which stays until it is withdrawn.

    A person and a starting worker may write at the same time, so each write of limits is bound to what it was decided
    by: the worker's to the rate that a person set, the person's to the limits that keep their other parts.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._rates = json_records(store, NAMESPACE, _Rate)
        self._about = (f"rate {queue}",)

    async def state(self) -> str:
        """The state, as a short text that changes with each change of the rate; empty for nothing."""
        return _state_of(*await self._current())

    async def put(self, rate: float | None, *, check: CheckRate | None = None) -> Limits:
        """Set the rate for all workers, running ones included; returns the queue's limits.

        `check` gets the `state` before that, as a condition of the write. Raises its error, and StoreError.
        """
        ordered = Put(NAMESPACE, self._queue, self._rates.text(_Rate(rate, token=new_revision())), None)
        # First and by itself: whoever writes limits from here on applies it.
        order = Order(about=self._about, queue=self._queue, puts=(ordered,))
        await self._write_over(Write(puts=(ordered,), orders=(order,)), check)
        while True:
            standing, current = await self._current()
            kept = limits_from(current)
            # Of limits that cannot be read, nothing can be kept: the next worker that starts sets the others. If
            # somebody has set another rate since, that one holds.
            limits = self._with_ordered(
                Limits(rate=rate) if kept.are_unreadable else replace(kept, rate=rate), standing
            )
            write = self._limits_write(
                limits,
                current,
                Same(LIMITS, self._queue, None if current is None else current.value),
                Same(NAMESPACE, self._queue, None if standing is None else standing.value),
            )
            if await self._write(write):
                return limits

    async def lower_again(self, text: str) -> bool:
        """Set the rate of a lost order again, as its record had it, if it is below the one that stands.

        Returns False if it is above that.
        """
        ordered, (_, current) = self._rates.read({self._queue: text})[self._queue], await self._current()
        stands = limits_from(current).rate
        if ordered is None or ordered.rate is None:
            return ordered is not None and stands is None
        if stands is not None and ordered.rate > stands:
            return False
        await self.put(ordered.rate)
        return True

    async def begin(self, own: Limits) -> tuple[Limits | None, Limits]:
        """Set the limits of a worker that starts, with the rate that a person set, if there is one.

        Returns the limits before that, if any, and those after. Raises StoreError.
        """
        while True:
            ordered, current = await self._current()
            limits = self._with_ordered(own, ordered)
            condition = Same(NAMESPACE, self._queue, None if ordered is None else ordered.value)
            if await self._write(self._limits_write(limits, current, condition)):
                return None if current is None else limits_from(current), limits

    async def withdraw(self, *, check: CheckRate | None = None) -> bool:
        """Remove the rate that a person set, and return whether there was one.

        Workers that start later set the rate of their settings.
        """
        was_set = bool(await self._rates.get([self._queue]))
        order = Order(about=self._about, queue=self._queue, starts=True)
        await self._write_over(Write(drops=(Drop(NAMESPACE, self._queue, None),), orders=(order,)), check)
        return was_set

    async def _write_over(self, write: Write, check: CheckRate | None) -> None:
        """Write a write; with a check, only over what it has allowed."""
        while True:
            if check is not None:
                found = await self._current()
                check(_state_of(*found))
                conditions = tuple(
                    Same(namespace, self._queue, None if each is None else each.value)
                    for namespace, each in zip((NAMESPACE, LIMITS), found, strict=True)
                )
                write = replace(write, conditions=conditions)
            if await self._write(write):
                return

    async def over(self, limits: Limits) -> Limits:
        """The limits of a worker's settings, but with the rate that a person set, if there is one."""
        ordered, _ = await self._current()
        return self._with_ordered(limits, ordered)

    def _with_ordered(self, limits: Limits, ordered: Record | None) -> Limits:
        found = None if ordered is None else self._rates.read({ordered.group: ordered.value})[ordered.group]
        return limits if found is None else replace(limits, rate=found.rate)

    async def _current(self) -> tuple[Record | None, Record | None]:
        """The records of the rate that a person set and of the limits."""
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
        """Whether the write was written; False if what it was decided by has changed."""
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
        return answer.result is Result.DONE
