"""Departures: when each call of this worker may leave, by the rate that all workers of the queue share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.batching import Batcher
from voiceflow_worker.core.ports import Clock, Control

HORIZON = timedelta(milliseconds=100)
"""How far ahead departure times are taken.

Permits that age come out in a bunch: taken first and used after a stall, they put 65 calls into a second meant for 50.
"""

STALE = timedelta(milliseconds=20)
"""A departure time that is missed by more than this is given up for a new one: a delay may cost time, never bunch."""

LEAD = timedelta(milliseconds=50)
"""How long before its departure a call is journalled: what is journalled and has not left when a worker is killed is a
doubt, so that should be little; but the journal must be on the disk in time."""

CLOCKS_DIFFER = timedelta(seconds=10)
"""A clock that goes back by more than this was set. A departure time from before that is not waited for longer than
this, the horizon and the interval of the rate."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A departure time; one that is not `taken` says when to ask again."""

    at: datetime
    taken: bool


class Departures:
    """Takes departure times from the store for one worker. With `rate` None every call may leave at once."""

    def __init__(self, control: Control, clock: Clock, *, queue: str, rate: float | None) -> None:
        self._control = control
        self._clock = clock
        self._queue = queue
        self._rate = rate
        self._longest = HORIZON + CLOCKS_DIFFER + timedelta(seconds=1 / rate if rate else 0)
        self._next_at: datetime | None = None
        self._told_at = clock.now()
        self._batcher: Batcher[None, _Slot] = Batcher(self._take)

    def room(self) -> int | None:
        """How many jobs it makes sense to lease now: those that can leave within the horizon. None: any number."""
        if self._rate is None:
            return None
        # Not by how far ahead it lies: another worker may have ordered a slower rate, and asking again would be a loop.
        if self._next_at is not None and self._clock.now() < self._told_at - CLOCKS_DIFFER:
            self._next_at = None
        ahead = HORIZON if self._next_at is None else self._clock.now() + HORIZON - self._next_at
        if ahead < timedelta():
            return 0
        return 1 + int(min(ahead, HORIZON) / timedelta(seconds=1) * self._rate)

    def room_at(self) -> datetime:
        """When there is room again, if there is none now."""
        now = self._clock.now()
        return now if self._next_at is None else max(now, self._next_at - HORIZON)

    async def take(self, count: int) -> list[Turn]:
        """Turns for at most `count` calls, none later than the horizon: other workers may have taken the rest."""
        if self._rate is None:
            return [Turn(self, None)] * count
        return [Turn(self, slot) for slot in await self._slots([None] * count) if slot.taken] if count else []

    async def near(self, slot: _Slot) -> _Slot:
        """Wait until a slot is near, taking one if need be."""
        while not slot.taken:
            await self._sleep_until(slot.at - HORIZON)
            slot = await self._batcher.submit(None)
        await self._sleep_until(slot.at - LEAD)
        return slot

    async def reach(self, slot: _Slot) -> None:
        """Wait for a slot; for another one, should this one be missed."""
        while True:
            await self._sleep_until(slot.at)
            if slot.taken and self._clock.now() - slot.at <= STALE:
                return
            slot = await self.near(await self._batcher.submit(None))

    async def _sleep_until(self, time: datetime) -> None:
        wait = time - self._clock.now()
        if wait > timedelta():
            # A time from before the clock was set back has come, on any clock, when the longest wait is over.
            await self._clock.sleep(min(wait, self._longest).total_seconds())

    async def _take(self, calls: Sequence[None]) -> list[_Slot | BaseException]:
        return [*await self._slots(calls)]

    async def _slots(self, calls: Sequence[None]) -> list[_Slot]:
        now = self._clock.now()
        slots = await self._control.take(self._queue, wanted=len(calls), horizon=HORIZON, now=now)
        self._next_at, self._told_at = slots.next_at, now
        taken = [_Slot(time, taken=True) for time in slots.times]
        # Those that found no place within the horizon ask again when the next one comes into it.
        return [*taken, *[_Slot(slots.next_at, taken=False)] * (len(calls) - len(taken))]


class Turn:
    """One call's turn to leave."""

    __slots__ = ("_departures", "_slot")

    def __init__(self, departures: Departures, slot: _Slot | None) -> None:
        self._departures = departures
        self._slot = slot

    async def near(self) -> None:
        """Wait until it is time to journal the call."""
        if self._slot is not None:
            self._slot = await self._departures.near(self._slot)

    async def depart(self) -> None:
        """Wait until the call may leave; then nothing may be awaited before it leaves that takes long."""
        if self._slot is not None:
            await self._departures.reach(self._slot)
