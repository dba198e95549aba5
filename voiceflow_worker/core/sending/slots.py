"""The send slots of a worker: its share of the queue's rate, and the rate as it was set last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Clock, Limits, Store
from voiceflow_worker.core.ports.controls import LIMITS, limits_from, limits_put
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.record_set import json_records
from voiceflow_worker.core.ports.store import Drop, Put, Record, Result, Same, Step, Unit
from voiceflow_worker.core.ports.trips import Batcher

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
"""A function that gets what stands (`SetRate.state`), and raises an error if it must stay."""


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

    async def state(self) -> str:
        """What stands, as a short text that changes with each change of the rate; empty for nothing."""
        return _state_of(*await self._standing())

    async def put(self, rate: float | None, *, check: CheckRate | None = None) -> Limits:
        """Set the rate for all workers, running ones included; returns the queue's limits.

        `check` gets the `state` before that, as a condition of the write. Raises its error, and StoreError.
        """
        ordered = Put(NAMESPACE, self._queue, self._rates.text(_Rate(rate, token=new_revision())), None)
        # First and by itself: whoever writes limits from here on applies it.
        await self._write_over(Unit(puts=(ordered,)), check)
        while True:
            _, standing = await self._standing()
            kept = limits_from(standing)
            # Of limits that cannot be read, nothing can be kept: the next worker that starts sets the others.
            limits = Limits(rate=rate) if kept.are_unreadable else replace(kept, rate=rate)
            unit = self._unit(limits, standing, Same(LIMITS, self._queue, None if standing is None else standing.value))
            if await self._write(unit):
                return limits

    async def begin(self, own: Limits) -> tuple[Limits | None, Limits]:
        """Set the limits of a worker that starts, with the rate that a person set, if there is one.

        Returns the limits before that, if any, and those after. Raises StoreError.
        """
        while True:
            ordered, standing = await self._standing()
            limits = self._with_ordered(own, ordered)
            need = Same(NAMESPACE, self._queue, None if ordered is None else ordered.value)
            if await self._write(self._unit(limits, standing, need)):
                return None if standing is None else limits_from(standing), limits

    async def withdraw(self, *, check: CheckRate | None = None) -> bool:
        """Remove the rate that a person set, and return whether there was one.

        Workers that start later set the rate of their settings.
        """
        was_set = bool(await self._rates.get([self._queue]))
        await self._write_over(Unit(drops=(Drop(NAMESPACE, self._queue, None),)), check)
        return was_set

    async def _write_over(self, unit: Unit, check: CheckRate | None) -> None:
        """Write a unit; with a check, only over what it has allowed."""
        while True:
            if check is not None:
                found = await self._standing()
                check(_state_of(*found))
                needs = tuple(
                    Same(namespace, self._queue, None if each is None else each.value)
                    for namespace, each in zip((NAMESPACE, LIMITS), found, strict=True)
                )
                unit = replace(unit, needs=needs)
            if await self._write(unit):
                return

    async def over(self, limits: Limits) -> Limits:
        """The limits of a worker's settings, but with the rate that a person set, if there is one."""
        ordered, _ = await self._standing()
        return self._with_ordered(limits, ordered)

    def _with_ordered(self, limits: Limits, ordered: Record | None) -> Limits:
        found = None if ordered is None else self._rates.read({ordered.group: ordered.value})[ordered.group]
        return limits if found is None else replace(limits, rate=found.rate)

    async def _standing(self) -> tuple[Record | None, Record | None]:
        """The records of the rate that a person set and of the limits."""
        wanted = {NAMESPACE: [self._queue], LIMITS: [self._queue]}
        found = await self._store.records(wanted, now=self._store.clock.now())
        return next(iter(found[NAMESPACE]), None), next(iter(found[LIMITS]), None)

    def _unit(self, limits: Limits, standing: Record | None, need: Same) -> Unit:
        put = limits_put(self._queue, limits)
        # The same limits are not put again: the store would take the unit for one that was written before.
        puts = () if standing is not None and standing.value == put.value else (put,)
        return Unit(needs=(need,), puts=puts, wakes=self._queue)

    async def _write(self, unit: Unit) -> bool:
        """Whether the unit was written; False if what it was decided by has changed."""
        (answer,) = await self._store.write(Step(units=(unit,)), now=self._store.clock.now())
        return answer.result is Result.DONE


FORGET = 15.0
"""The seconds in which the effect of one slow trip on `PeakLatency.time` falls by half."""


class PeakLatency:
    """The longest recent duration of a step, such as a trip to the store.

    A slow trip counts fully at once, and then less and less. A mean would be too short for a disk that sometimes
    stalls.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._at = 0.0

    @property
    def time(self) -> timedelta:
        """The time that the next trip is expected to take at most; zero before the first measurement."""
        return timedelta(seconds=self._seconds)

    def began(self) -> float:
        """The monotonic time now, at which a trip begins; pass it to `ended`."""
        return self._clock.monotonic()

    def ended(self, began: float) -> None:
        """Record a trip that began at `began` and has ended now."""
        now = self._clock.monotonic()
        took = max(now - began, 0.0)
        kept = max(self._seconds - took, 0.0) * 0.5 ** (max(now - self._at, 0.0) / FORGET)
        self._seconds, self._at = took + kept, now


HORIZON = timedelta(milliseconds=100)
"""How long in advance a send slot is taken from the store, in addition to the time to prepare a call.

It is short because send slots that pass while the store or the worker stalls are lost: fewer calls then leave than
the rate allows.
"""

STALE = timedelta(milliseconds=20)
"""A send slot that is missed by more than this is replaced by a new one, so that delayed calls do not leave
together."""

SPARE = 0.1
"""At low rates, a call may miss its send slot by this part of the interval between calls. No other call leaves at
that time, and the wait for a new send slot could take minutes."""

LEAD = timedelta(milliseconds=50)
"""A call's journal entry is begun at least this long before its slot. It is enough for a write to the disk. It is
short, because a journalled call is in doubt if its worker is killed before the call leaves."""

MARGIN = 1.1
"""The factor by which a journal entry may take longer than measured."""

LONGEST = timedelta(seconds=8)
"""Send slots are taken at most this early, however slow the store is. This is less than `CLOCKS_DIFFER`, so that
these times do not look as if a clock was set back."""

TIMEOUT = timedelta(seconds=5)
"""The time that a journalled call waits for another send slot after it missed its own. Then it is queued again,
because a waiting call is in doubt if its worker is killed."""

CLOCKS_DIFFER = timedelta(seconds=10)
"""A clock that goes back by more than this counts as set back.

A call may then have a send slot from before that. It waits for this time no longer than `CLOCKS_DIFFER`, the time
by which send slots are taken in advance, and one interval of the rate together.
"""

_AT_ONCE = timedelta()
_A_MOMENT = timedelta(milliseconds=1)
"""A margin for the comparison of times. It is longer than their rounding errors."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A send slot; a call may leave up to `stale` after it.

    If `taken` is False, no send slot was free, and `at` is the earliest time that may be free later.
    """

    at: datetime
    taken: bool
    stale: timedelta = STALE


class SendSlots:
    """Takes send slots from the store for one worker. With `rate` None every call may leave at once.

    `preparing` measures the time from the lease of a call until the call has a send slot. `connecting` and
    `journalling` measure the time to connect and to journal the call. A send slot is taken early enough for these
    steps and a trip to the store, but at most `longest` in advance. `missed` counts the send slots that passed
    before their call was ready.
    """

    def __init__(self, store: Store, *, queue: str, rate: float | None, longest: timedelta = LONGEST) -> None:
        self._store = store
        self._clock = clock = store.clock
        self._queue = queue
        self._rate: float | None = None
        self._most = max(min(longest, LONGEST), HORIZON)
        self._interval = timedelta()
        self._next_at: datetime | None = None
        self._next_read_at = clock.now()
        self._spare: list[_Slot] = []
        self._batcher: Batcher[datetime, _Slot] = Batcher(self._take_anew)
        self._asking = PeakLatency(clock)
        self.missed: int = 0
        self.preparing: PeakLatency = PeakLatency(clock)
        self.connecting: PeakLatency = PeakLatency(clock)
        self.journalling: PeakLatency = PeakLatency(clock)
        self.follow(rate)

    def follow(self, rate: float | None) -> bool:
        """Use this rate from now on. Returns False if it is the same as before.

        A person may change the rate at any time.
        """
        if rate == self._rate:
            return False
        self._rate = rate
        self._spare = []
        self._interval = timedelta(seconds=1 / rate if rate else 0)
        self._next_at = None
        return True

    @property
    def is_paced(self) -> bool:
        """Whether calls wait for their send slots."""
        return self._rate is not None

    def room(self) -> int | None:
        """The number of jobs to lease now: as many as can leave soon, by the rate. None means any number."""
        if self._rate is None:
            return None
        now = self._clock.now()
        # The clock itself must have gone back: a far send slot alone may also come from a slower rate that another
        # worker set.
        if self._next_at is not None and now < self._next_read_at - CLOCKS_DIFFER:
            self._next_at = None
        most = HORIZON + self._prepared_in
        ahead = most if self._next_at is None else min(now + self._reach + self._prepared_in - self._next_at, most)
        if ahead < _AT_ONCE:
            return 0
        return 1 + int(ahead / timedelta(seconds=1) * self._rate)

    def room_at(self) -> datetime:
        """The time at which `room` allows another job."""
        now = self._clock.now()
        return now if self._next_at is None else max(now, self._next_at - self._reach - self._prepared_in)

    async def take(self, count: int) -> list[SendSlot]:
        """Take slots for up to `count` calls; fewer if other workers have taken the next send slots."""
        if self._rate is None:
            return [SendSlot(self, None)] * count
        if not count:
            return []
        now = self._clock.now()
        soonest = now + self._ready_in
        spare = sorted((slot for slot in self._spare if slot.at >= soonest), key=lambda slot: slot.at)
        slots, self._spare = spare[:count], spare[count:]
        # So far ahead that calls which were prepared quickly also get the times for which they were leased.
        until = now + self._reach + self._prepared_in + _A_MOMENT
        if len(slots) < count:
            slots += await self._slots(count - len(slots), soonest=soonest, until=until)
        return [SendSlot(self, slot) for slot in slots]

    def give_back(self, slots: Iterable[SendSlot]) -> None:
        """Give back slots that no call uses: the next calls get those that are still ahead."""
        self._spare += [slot for each in slots if (slot := each.slot) is not None and slot.taken]

    async def near(self, slot: _Slot) -> None:
        """Wait until it is time to journal the call that has this send slot."""
        await self._sleep_until(slot.at - max(LEAD, self._journalled_in + STALE))

    def _ahead(self) -> _Slot | None:
        """The earliest spare send slot that is still ahead."""
        now = self._clock.now()
        ahead = sorted((slot for slot in self._spare if slot.at >= now), key=lambda slot: slot.at)
        first, self._spare = (ahead[0] if ahead else None), ahead[1:]
        return first

    async def reach(self, slot: _Slot, *, until: datetime) -> bool:
        """Wait for the send slot of a slot; if it is missed, for a new slot.

        Returns False if the new send slot is too far ahead or after `until`.
        """
        by = None
        while slot.at <= (by or until):
            await self._sleep_until(slot.at if slot.taken else slot.at - self._reach)
            now = self._clock.now()
            if slot.taken and now - slot.at <= slot.stale:
                return True
            self.missed += slot.taken
            by = by or min(until, now + TIMEOUT)
            slot = self._ahead() or await self._batcher.submit(by)
        return False

    @property
    def _journalled_in(self) -> timedelta:
        return min(self.journalling.time * MARGIN, self._most * 0.6)

    @property
    def _ready_in(self) -> timedelta:
        """The least time between the request for a send slot and the slot; zero with a fast store."""
        ready_in = self._asking.time + self.connecting.time + self._journalled_in
        return _beyond_stale(min(ready_in, self._most - HORIZON))

    @property
    def _prepared_in(self) -> timedelta:
        """The time from the lease of a call until it has its send slot."""
        return max(min(self.preparing.time, (self._most - HORIZON - self._ready_in) / 2), _AT_ONCE)

    @property
    def _reach(self) -> timedelta:
        """How far in advance send slots are taken."""
        return HORIZON + self._ready_in + self._prepared_in

    async def _sleep_until(self, time: datetime) -> None:
        wait = time - self._clock.now()
        if wait > _AT_ONCE:
            # A send slot that was taken before a clock was set back counts as reached after the longest possible
            # wait.
            longest = self._reach + self._prepared_in + CLOCKS_DIFFER + self._interval
            await self._clock.sleep(min(wait, longest).total_seconds())

    async def _take_anew(self, bys: Sequence[datetime]) -> list[_Slot | BaseException]:
        """New slots for journalled calls that missed their slots."""
        now = self._clock.now()
        soonest = now + _beyond_stale(self._asking.time)
        until = min(now + self._reach + self._prepared_in, max(bys))
        slots = await self._slots(len(bys), soonest=soonest, until=until) if soonest <= until else []
        # Calls without a slot ask again when the next slot is within reach.
        again = max(self._next_at or soonest, soonest, now + self._reach + _A_MOMENT)
        return [*slots, *[_Slot(again, taken=False)] * (len(bys) - len(slots))]

    async def _slots(self, wanted: int, *, soonest: datetime, until: datetime) -> list[_Slot]:
        began, now = self._asking.began(), self._clock.now()
        horizon = max(until - soonest, _AT_ONCE)
        slots = await self._store.take(self._queue, wanted=wanted, horizon=horizon, now=soonest)
        self._asking.ended(began)
        self._next_at, self._next_read_at = slots.next_at, now
        if not slots.times:
            # The next one is out of reach, if only by the rounding of a float: do not ask again at once.
            self._next_at = max(slots.next_at, until + _A_MOMENT)
        nexts = [*slots.times[1:], slots.next_at]
        return [
            _Slot(time, taken=True, stale=max(STALE, (after - time) * SPARE))
            for time, after in zip(slots.times, nexts, strict=False)
        ]


class SendSlot:
    """The slot of one call."""

    __slots__ = ("_slot", "_slots")

    def __init__(self, slots: SendSlots, slot: _Slot | None) -> None:
        self._slots = slots
        self._slot = slot

    @property
    def slot(self) -> _Slot | None:
        """The send slot; None if the call need not wait."""
        return self._slot

    @property
    def is_at_once(self) -> bool:
        """Whether the call need not wait."""
        return self._slot is None

    async def near(self) -> None:
        """Wait until it is time to journal the call."""
        if self._slot is not None:
            await self._slots.near(self._slot)

    async def wait(self, *, until: datetime) -> bool:
        """Wait until the call may leave; the caller then sends it at once.

        Returns False if the call missed its send slot, and the next send slot is too far ahead or after
        `until`.
        """
        return self._slot is None or await self._slots.reach(self._slot, until=until)


def _beyond_stale(time: timedelta) -> timedelta:
    """The part of a time that exceeds half of `STALE`; zero for a shorter time."""
    return max(time - STALE / 2, _AT_ONCE)
