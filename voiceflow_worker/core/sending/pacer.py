"""When a worker leases calls and asks for their journal entries, so that the send slots of these are near.

The store allots the slots, each with the journal entry of its call (`core.ports.store.Slot`).
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

import anyio
from msgspec import Struct

from voiceflow_worker.core.gates import SENT_WITHIN
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.store import Slot
from voiceflow_worker.model.jobs.gcra import SendSlot

HALF_LIFE = 15.0
"""The seconds in which the effect of one slow measurement on `PeakLatency.time` falls by half."""


class PeakLatency:
    """The longest recent duration of a step, such as a round trip to the store.

    A slow one counts fully at once, and then less and less. A mean would be too short for a disk that sometimes
    stalls. `expected` counts until the first measurement.
    """

    def __init__(self, clock: Clock, *, expected: timedelta = timedelta()) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._at = 0.0
        self.time: timedelta = expected
        """The time that the next one is expected to take at most."""

    def record(self, began: float) -> None:
        """Record one that began at `began`, on the monotonic clock, and has ended now."""
        now = self._clock.monotonic()
        took = max(now - began, 0.0)
        kept = max(self._seconds - took, 0.0) * 0.5 ** (max(now - self._at, 0.0) / HALF_LIFE)
        self._seconds, self._at = took + kept, now
        self.time = timedelta(seconds=self._seconds)


MIN_LEAD = timedelta(milliseconds=50)
"""A journal entry is asked for at least this long before its slot, which is enough for a write to the disk."""

TOGETHER = timedelta(milliseconds=100)
MOST_TOGETHER = 5
"""Entries whose slots are so near to each other are asked for together, but no more than so many: if their worker is
killed, all of them are in doubt."""

CONNECT_LEAD = timedelta(milliseconds=250)
"""A call is leased, and connects, this long before its journal entry is asked for, until connecting was measured."""

LEASE_SPAN = timedelta(milliseconds=400)
MOST_LEASED = 8
"""Calls whose slots are within this time share a lease, but no more than so many."""

LATEST = timedelta(milliseconds=500)
"""How much later than expected the slot of an entry may be, because other workers have taken those before it."""

ASKS_AGAIN = timedelta(seconds=1)
"""A call waits in this worker for a slot that is no further ahead than this."""

MARGIN = 1.1
"""The factor by which a journal entry may take longer than measured."""

MAX_LEAD = timedelta(seconds=SENT_WITHIN - 0.1) - LATEST
"""No entry is asked for earlier: a call is sent within `SENT_WITHIN` of the time at which its entry was asked for."""

SLOT_TOLERANCE = timedelta(milliseconds=20)
"""A call that misses its slot by more than this is requeued, so that delayed calls are not sent together."""

TOLERANCE_FRACTION = 0.5
"""At low rates, a call may miss its slot by this part of the time until the next one: no other call is sent then."""

CLOCK_SET_BACK = timedelta(seconds=10)
"""A clock that goes back by more than this counts as set back."""

_NOTHING = timedelta()


class _Turn(Struct, eq=False):
    """A call that waits until it may ask for its journal entry, and whether it may then."""

    has_come: anyio.Event
    may_ask: bool = False


class Pacer:
    """The timing of one worker's calls under the rate of its queue. With `rate` None, every call may be sent at once.

    A call is leased some time before the slot that it can expect, connects, and waits for its turn to ask for its
    journal entry, which `run` gives it. `missed` counts the slots that passed before their call was ready.
    """

    def __init__(self, clock: Clock, *, queue: str, rate: float | None) -> None:
        self._clock = clock
        self._queue = queue
        self.rate: float | None = rate
        self._next_at: datetime | None = None
        self._noted_at = clock.now()
        self._asked = 0
        self.tries: int = 1
        """How many calls are tried for one slot, because conditions have refused all of the last ones."""
        self.missed: int = 0
        self._connecting = PeakLatency(clock, expected=CONNECT_LEAD / 2)
        self._entry = PeakLatency(clock, expected=MIN_LEAD)
        self._write = PeakLatency(clock, expected=MIN_LEAD)
        self._line = deque[_Turn]()
        self._has_come = anyio.Event()
        self._nap: anyio.CancelScope | None = None
        self._is_stopped = False

    def _wake(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    def follow(self, rate: float | None) -> bool:
        """Use this rate from now on. Returns False if it is the same as before.

        A person may change the rate at any time.
        """
        if rate == self.rate:
            return False
        self.rate = rate
        self._next_at = None
        self._wake()
        return True

    def stop(self) -> None:
        """Let no call wait for its turn any more."""
        self._is_stopped = True
        self._give_turns(len(self._line), may_ask=False)

    @property
    def is_paced(self) -> bool:
        """Whether calls wait for send slots."""
        return self.rate is not None

    def connected(self, leased_at: float) -> None:
        """Note that a call that was leased then, on the monotonic clock, has its connection."""
        if self.rate is not None:
            self._connecting.record(leased_at)

    def capacity(self, leased: int) -> int | None:
        """The number of calls to lease now, with `leased` calls that have no journal entry yet. None: any number."""
        if self.rate is None:
            return None
        ahead = self._lease_lead - max(self._until_next(), _NOTHING)
        near = 0 if ahead < _NOTHING else self._slots_in(ahead) * self.tries
        return near - leased if near - leased >= self._per_lease else 0

    def next_capacity_at(self, leased: int) -> datetime | None:
        """The time at which `capacity` allows a call, if nothing else changes; None if it never does."""
        ahead, lead = leased + self._per_lease - 1, self._lease_lead
        if self._next_at is None or self.rate is None or ahead > lead.total_seconds() * self.rate:
            return None
        at = self._next_at - lead + timedelta(seconds=ahead / self.rate)
        return max(at, self._clock.now()) + timedelta(milliseconds=1)  # longer than the rounding errors of times

    async def turn(self, *, again: bool = False) -> bool:
        """Wait until a call may ask for its journal entry; returns False if it must not wait for that in this worker.

        It goes first `again` if it has asked already, and no slot was free in time.
        """
        if self.rate is None or self._is_stopped:
            return not self._is_stopped
        mine = _Turn(anyio.Event())
        (self._line.appendleft if again else self._line.append)(mine)
        self._has_come.set()
        await mine.has_come.wait()
        return mine.may_ask

    async def run(self) -> None:
        """Give calls their turns, until this is cancelled."""
        while True:
            if not self._line:
                self._has_come = anyio.Event()
                await self._has_come.wait()
            wait = self._until_entry()
            if wait > self._connect_lead + ASKS_AGAIN:
                self._give_turns(len(self._line), may_ask=False)
            elif wait > _NOTHING:
                with anyio.CancelScope() as self._nap:
                    await self._clock.sleep(wait.total_seconds())
            else:
                if self._next_at is None:  # the first one learns when the next slot is
                    self._next_at, self._noted_at = self._clock.now() + self._lead, self._clock.now()
                self._give_turns(self._most_together)

    def _give_turns(self, count: int, *, may_ask: bool = True) -> None:
        for _ in range(min(count, len(self._line))):
            turn = self._line.popleft()
            turn.may_ask = may_ask
            self._asked += may_ask
            turn.has_come.set()

    def slot(self) -> Slot | None:
        """What a journal entry that is asked for now says about its slot; None if the call may be sent at once."""
        if self.rate is None:
            return None
        now = self._clock.now()
        # With a fast store, the entry is back before the slot counts as missed.
        soonest = max(min(self._write.time * MARGIN, MAX_LEAD) - SLOT_TOLERANCE / 2, _NOTHING)
        return Slot(self._queue, now + soonest, now + self._lead + LATEST)

    def answered(self, asked_at: float, written_at: float, slot: SendSlot | None, *, is_begun: bool | None) -> None:
        """Note the answer to an entry: its slot, if it came so far, and whether it `is_begun`; None if nobody knows.

        It was asked for, and its write began, at these monotonic times. A call that was refused, such as one to a busy
        number, takes no slot. While there are only such, more are leased and tried for one slot: else the calls behind
        thousands of them would wait.
        """
        self._asked -= self._asked > 0
        if slot is not None:
            self._entry.record(asked_at)
            self._write.record(written_at)
            before, self._next_at, self._noted_at = self._next_at, slot.next_at, self._clock.now()
            is_sooner = before is not None and slot.next_at <= before
        else:
            is_sooner = not is_begun
        if slot is not None or is_begun:
            self.tries = 1
        elif is_begun is not None:
            self.tries += 1
        if is_sooner:
            self._wake()

    async def wait_for_slot(self, slot: SendSlot, *, within: float) -> bool:
        """Wait for a slot, at most so many seconds. Returns False if it has not come by then, or was missed."""
        if slot.at is None:
            return False
        wait = (slot.at - self._clock.now()).total_seconds()
        if wait > 0:
            # A slot that was allotted before a clock was set back may seem to be hours ahead.
            await self._clock.sleep(min(wait, within))
        late = self._clock.now() - slot.at
        in_time = -SLOT_TOLERANCE < late <= max(SLOT_TOLERANCE, (slot.next_at - slot.at) * TOLERANCE_FRACTION)
        self.missed += not in_time
        return in_time

    @property
    def _lead(self) -> timedelta:
        """How long before its slot an entry is asked for."""
        return max(MIN_LEAD, min(self._entry.time * MARGIN + SLOT_TOLERANCE, MAX_LEAD))

    @property
    def _connect_lead(self) -> timedelta:
        """How long before its entry is asked for a call is leased."""
        return max(MIN_LEAD, min(2 * self._connecting.time, MAX_LEAD))

    @property
    def _most_together(self) -> int:
        """The number of calls that may ask for their entries together."""
        return self.tries * (min(self._slots_in(TOGETHER), MOST_TOGETHER) if self.rate else 1)

    @property
    def _per_lease(self) -> int:
        """The number of calls that share a lease."""
        return max(min(int(LEASE_SPAN.total_seconds() * (self.rate or 0)), MOST_LEASED), 1)

    @property
    def _lease_lead(self) -> timedelta:
        """How long before the first slot of a lease its calls are leased."""
        return self._lead + self._connect_lead + timedelta(seconds=(self._per_lease - 1) / (self.rate or 1))

    def _slots_in(self, span: timedelta) -> int:
        """The number of slots from one that is due to the end of a span."""
        return 1 + int(span.total_seconds() * (self.rate or 0) + 0.001)  # times are rounded to microseconds

    def _until_entry(self) -> timedelta:
        """How long it takes until the next entry is asked for, if those that were asked for get their slots."""
        before = timedelta(seconds=self._asked // self.tries / self.rate) if self.rate else _NOTHING
        return self._until_next() + before - self._lead

    def _until_next(self) -> timedelta:
        """How long it takes until the next slot, as far as it is known."""
        now = self._clock.now()
        # The clock itself must have gone back: a far slot alone may also come from a slower rate that somebody set.
        if self._next_at is not None and now < self._noted_at - CLOCK_SET_BACK:
            self._next_at = None
        return _NOTHING if self._next_at is None else self._next_at - now
