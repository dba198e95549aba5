"""When a worker leases calls and asks for their journal entries, so that the send slots of these are near.

The store allots the slots, each with the journal entry of its call (`core.ports.store.Slot`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

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
        self._seconds = expected.total_seconds()
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
"""A group is leased, and its journal entries are asked for, at least this long before its first slot. It is enough for
a write to the disk."""

HORIZON = timedelta(milliseconds=100)
"""How much further ahead a slot may be, because other workers have taken those before it; and the longest time between
the first and the last slot of a group, if a worker that is killed leaves all of the group in doubt."""

GROUP = timedelta(milliseconds=400)
"""The longest time from the first slot of a group to that of the next one, if a page of marks shows which calls have
left: if the worker is killed, those that have not go back by themselves."""

MOST_TOGETHER = 5
"""The most calls of a shorter group."""

SLOWLY = 12.0
"""The rate below which groups may be as long as `GROUP`. At 50 calls a second, calls of such groups miss slots."""

MARGIN = 1.1
"""The factor by which a journal entry may take longer than measured."""

MAX_LEAD = timedelta(seconds=SENT_WITHIN) - HORIZON
"""No slot is further ahead than this: a call is sent within `SENT_WITHIN` of the time at which its entry was asked
for."""

SLOT_TOLERANCE = timedelta(milliseconds=20)
"""A call that misses its slot by more than this is requeued, so that delayed calls are not sent together."""

TOLERANCE_FRACTION = 0.5
"""At low rates, a call may miss its slot by this part of the time until the next one: no other call is sent then."""

CLOCK_SET_BACK = timedelta(seconds=10)
"""A clock that goes back by more than this counts as set back."""

MOST_AT_ONCE = 512
"""The most calls that are tried together while conditions refuse all of them."""

_NOTHING = timedelta()
_TWO_SHORT = 2 * HORIZON


class Pacer:
    """The timing of one worker's calls under the rate of its queue. With `rate` None, every call may be sent at once.

    Calls go in groups: those of a group are leased together, get their journal entries in one write, and leave one by
    one in their slots. A group begins as long before its first slot as it takes: `connected` measures how long calls
    wait for their connections, `group_begun` and `entries_answered` the rest. With `keeps_marks`, it is known of each
    call whether it has left, whatever becomes of this process. `missed` counts the slots that passed before their call
    was ready.
    """

    def __init__(
        self, clock: Clock, *, queue: str, rate: float | None, keeps_marks: Callable[[], bool] = lambda: False
    ) -> None:
        self._clock = clock
        self._queue = queue
        self.rate: float | None = rate
        self._keeps_marks = keeps_marks
        self._next_at: datetime | None = None
        self._noted_at = clock.now()
        self.tries: int = 1
        """How many times as many calls are tried at a time, because conditions have refused all of the last ones."""
        self.missed: int = 0
        self._connecting = PeakLatency(clock)
        self._write_latency = PeakLatency(clock, expected=MIN_LEAD)
        self._group_latency = PeakLatency(clock)
        self._lead_time: timedelta = MIN_LEAD
        """How long before the next slot a group begins."""
        self._due_at = float("inf")
        self._began_at = self._asked_at = self._answered_at = float("-inf")

    def follow(self, rate: float | None) -> bool:
        """Use this rate from now on. Returns False if it is the same as before.

        A person may change the rate at any time.
        """
        if rate == self.rate:
            return False
        self.rate = rate
        self._next_at = None
        return True

    @property
    def is_paced(self) -> bool:
        """Whether calls wait for send slots."""
        return self.rate is not None

    @property
    def is_ahead(self) -> bool:
        """Whether calls of a group may have their journal entries long before their slots."""
        return self._together > HORIZON

    def connected(self, leased_at: float) -> None:
        """Note that a call that was leased then, on the monotonic clock, has its connection."""
        if self.rate is not None:
            self._connecting.record(leased_at)

    def capacity(self, leased: int) -> int | None:
        """The number of calls to lease now: those of the group that begins now. None means any number.

        The `leased` calls, which have no journal entry yet, get the first of its slots.
        """
        if self.rate is None:
            return None
        ahead = self._until_next(self._lease_lead)
        near = 0 if ahead < _NOTHING else self._slots_in(ahead) * self.tries
        capacity = near - leased
        return capacity if capacity >= self._per_lease else 0

    def next_capacity_at(self, leased: int) -> datetime | None:
        """The time at which `capacity` allows a call, if nothing else changes; None if it never does."""
        ahead = leased + self._per_lease - 1
        if self._next_at is None or self.rate is None or ahead > self._lease_lead.total_seconds() * self.rate:
            return None
        at = self._next_at - self._lease_lead + timedelta(seconds=ahead / self.rate)
        return max(at, self._clock.now()) + timedelta(milliseconds=1)  # longer than the rounding errors of times

    @property
    def is_far(self) -> bool:
        """Whether the next slot is so far ahead that calls must not wait for it in this worker."""
        return self._until_next(self._lease_lead + HORIZON) < _NOTHING

    @property
    def entries_at(self) -> datetime | None:
        """The time at which journal entries are asked for; None for at once."""
        early = self._lead_time + HORIZON / 2
        return None if self._until_next(early) >= _NOTHING or self._next_at is None else self._next_at - self._lead_time

    def entries_to_request(self) -> int | None:
        """The number of journal entries to ask for together now; None means any number."""
        if self.rate is None:
            return None
        ahead = max(self._until_next(self._lead_time), _NOTHING) + self._together
        return self._slots_in(ahead) * self.tries

    def slot(self) -> Slot | None:
        """What a journal entry that is asked for now says about its slot; None if the call may be sent at once."""
        if self.rate is None:
            return None
        now = self._clock.now()
        # With a fast store, the entry is back before the slot counts as missed.
        soonest = max(min(self._write_latency.time * MARGIN, MAX_LEAD - 2 * HORIZON) - SLOT_TOLERANCE / 2, _NOTHING)
        return Slot(self._queue, now + soonest, now + self._lead_time + HORIZON + self._together)

    def group_begun(self) -> None:
        """Note that a group begins now. It may have waited for the one before it."""
        now = self._clock.monotonic()
        late = max(self._until_next(self._lead_time).total_seconds(), 0.0)
        waited = min(late, now - self._began_at) if now - self._answered_at < SLOT_TOLERANCE.total_seconds() else 0.0
        self._due_at, self._began_at = now - waited, now

    def entries_requested(self) -> float:
        """Note that entries are asked for now; returns the time on the monotonic clock."""
        self._asked_at = self._clock.monotonic()
        return self._asked_at

    def entries_answered(self, *, is_whole: bool) -> None:
        """Note that the store has answered; with `is_whole`, to all of the entries."""
        self._answered_at = self._clock.monotonic()
        due_at, self._due_at = self._due_at, float("inf")
        if is_whole and self.rate is not None:
            self._write_latency.record(self._asked_at)
            self._group_latency.record(min(due_at, self._asked_at))
            self._lead_time = max(
                MIN_LEAD, min(self._group_latency.time * MARGIN + SLOT_TOLERANCE, MAX_LEAD - 2 * HORIZON)
            )

    def allotted(self, slots: Iterable[SendSlot], *, is_begun: bool) -> None:
        """Note what the store has answered to entries that were asked for together: their slots, if they got so far.

        `is_begun` says whether any of them was stored.

        Calls that were refused, such as those to a busy number, use no slot. While there are only such, more are leased
        and tried at a time. Otherwise the calls behind thousands of them would not be sent.
        """
        self.tries = 1 if is_begun else min(2 * self.tries, MOST_AT_ONCE)
        for slot in slots:
            self._next_at, self._noted_at, self.tries = slot.next_at, self._clock.now(), 1

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
    def _together(self) -> timedelta:
        """How much later than the first slot of a group its last one may be."""
        if not self.rate:
            return _NOTHING
        if self.rate < SLOWLY and self._lead_time <= GROUP and self._keeps_marks():
            return max(GROUP - timedelta(seconds=1 / self.rate), _NOTHING)
        return min(HORIZON, timedelta(seconds=(MOST_TOGETHER - 1) / self.rate))

    @property
    def _per_lease(self) -> int:
        """The number of calls that share a lease: those of a group, or of two short ones."""
        return self._slots_in(max(self._together, _TWO_SHORT))

    @property
    def _lease_lead(self) -> timedelta:
        """How long before the last slot of a lease its calls are leased."""
        whole = timedelta(seconds=(self._per_lease - 1) / self.rate) if self.rate else _NOTHING
        return self._lead_time + whole + min(2 * self._connecting.time, MAX_LEAD)

    def _slots_in(self, span: timedelta) -> int:
        """The number of slots from one that is due to the end of a span."""
        return 1 + int(span.total_seconds() * (self.rate or 0) + 0.001)  # times are rounded to microseconds

    def _until_next(self, early: timedelta) -> timedelta:
        """For how long something may be done already that is done so `early` before the next slot; at most `early`."""
        now = self._clock.now()
        # The clock itself must have gone back: a far slot alone may also come from a slower rate that somebody set.
        if self._next_at is not None and now < self._noted_at - CLOCK_SET_BACK:
            self._next_at = None
        return early if self._next_at is None else min(now + early - self._next_at, early)
