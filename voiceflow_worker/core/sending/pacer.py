"""When a worker leases calls and asks for their journal entries, so that the send slots of these are near.

The store allots the slots, each with the journal entry of its call (`core.ports.store.Slot`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from voiceflow_worker.core.gates import SENT_WITHIN
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.store import Slot
from voiceflow_worker.model.jobs.gcra import SendSlot

# All times are in seconds.
HALF_LIFE = 15.0
"""The time in which the effect of one slow measurement falls by half."""
MARGIN = 1.1
"""The factor by which a step may take longer than measured."""
MIN_LEAD = 0.05
"""A journal entry is asked for at least this long before its slot, which is enough for a write to the disk."""
LATEST = 0.5
"""How much later than expected the slot of an entry may be, because other workers have taken those before it."""
MAX_LEAD = SENT_WITHIN - 0.1 - LATEST
"""No entry is asked for earlier: a call is sent within `SENT_WITHIN` of the time at which its entry was asked for."""
TOGETHER, MOST_TOGETHER = 0.2, 5
"""Entries whose slots are this near to each other are asked for together, but no more than so many: if their worker is
killed, all of them are in doubt. They are more only where a write takes longer."""
CONNECT_LEAD = 0.25
"""A call is leased, and connects, this long before its journal entry is asked for, until connecting was measured."""
LEASE_SPAN, MOST_LEASED = 0.4, 8
"""Calls whose slots are within this time share a lease, but no more than so many."""
ASKS_AGAIN = 1.0
"""A call waits in this worker for a slot that is no further ahead than this."""
SLOT_TOLERANCE = timedelta(milliseconds=20)
"""A call that misses its slot by more than this is requeued, so that delayed calls are not sent together."""
TOLERANCE_FRACTION = 0.5
"""At low rates, a call may miss its slot by this part of the time until the next one: no other call is sent then."""
CLOCK_SET_BACK = timedelta(seconds=10)
"""A clock that goes back by more than this counts as set back."""
_TOLERANCE = SLOT_TOLERANCE.total_seconds()


class PeakLatency:
    """The longest recent duration of a step, such as a round trip to the store.

    A slow one counts fully at once, and then less and less. A mean would be too short for a disk that sometimes
    stalls. `seconds` is what is expected until the first measurement.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self._at: float | None = None

    def record(self, took: float, *, at: float) -> None:
        """Record a duration that was measured at this monotonic time."""
        kept = 0.0 if self._at is None else max(self.seconds - took, 0.0) * 0.5 ** ((at - self._at) / HALF_LIFE)
        self.seconds, self._at = took + kept, at


class Pacer:
    """The timing of one worker's calls under the rate of its queue. With `rate` None, every call may be sent at once.

    A call is leased some time before the slot that it can expect, connects, and asks for its journal entry in its turn.
    `missed` counts the slots that passed before their call was ready. `tries` is the number of calls that are tried for
    one slot, because conditions have refused all of the last ones.
    """

    def __init__(self, clock: Clock, *, queue: str, rate: float | None) -> None:
        self._clock = clock
        self._queue = queue
        self.rate: float | None = rate
        self._next_at: datetime | None = None
        self._noted_at = clock.now()
        self.tries: int = 1
        self.missed: int = 0
        self.answers: int = 0
        """The number of answers to entries, each of which may have changed when calls are leased next."""
        self._connecting = PeakLatency(CONNECT_LEAD / 2)
        self._write = PeakLatency(MIN_LEAD)

    def follow(self, rate: float | None) -> bool:
        """Use this rate from now on. Returns False if it is the same as before."""
        if rate == self.rate:
            return False
        self.rate, self._next_at = rate, None
        return True

    def connected(self, leased_at: float) -> None:
        """Note that a call that was leased then, on the monotonic clock, has its connection."""
        if self.rate is not None:
            now = self._clock.monotonic()
            self._connecting.record(max(now - leased_at, 0.0), at=now)

    def next_lease(self, leased: int) -> tuple[int, float]:
        """Return how many calls to lease next, beside those `leased` that have no entry yet, and in how many seconds.

        Without a rate, it is any number, at once.
        """
        if self.rate is None:
            return 1_000_000, 0.0
        together = max(min(int(LEASE_SPAN * self.rate), MOST_LEASED), 1)
        lead = self._lead + self._beyond + self.connect_lead
        ahead = (lead - max(self._until_next(), 0.0)) * self.rate * self.tries - leased
        if ahead < 0:
            return together, 0.001 - ahead / self.rate  # longer than the rounding errors of times
        return together * self.tries + int(ahead), 0.0

    @property
    def connect_lead(self) -> float:
        """Seconds by which a call is leased before its entry is asked for."""
        return max(MIN_LEAD, min(2 * self._connecting.seconds, MAX_LEAD))

    def until_entry(self) -> float:
        """Return the seconds until the next entry is asked for."""
        return 0.0 if self.rate is None else self._until_next() - self._lead

    def entries_now(self) -> int:
        """Return how many entries to ask for together, if one is to be asked for now."""
        if self.rate is None:
            return 1_000_000
        if self._next_at is None:  # the first ones learn when the next slot is
            self._next_at, self._noted_at = self._clock.now() + timedelta(seconds=self._lead), self._clock.now()
        return (1 + int((self._beyond - self.until_entry()) * self.rate + 0.001)) * self.tries

    def slot(self) -> Slot | None:
        """Return what an entry that is asked for now says about its slot; None if the call may be sent at once."""
        if self.rate is None:
            return None
        now = self._clock.now()
        # With a fast store, the entry is back before the slot counts as missed.
        soonest = max(min(self._write.seconds * MARGIN, MAX_LEAD) - _TOLERANCE / 2, 0.0)
        latest = self._lead + max(LATEST, self._beyond)
        return Slot(self._queue, now + timedelta(seconds=soonest), now + timedelta(seconds=latest))

    def answered(self, asked_at: float, slot: SendSlot | None) -> None:
        """Note the slot that an entry got, or the next one that may be free. It was asked for at a monotonic time."""
        self.answers += 1
        if slot is not None:
            now = self._clock.monotonic()
            self._write.record(max(now - asked_at, 0.0), at=now)
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
    def _lead(self) -> float:
        """Seconds by which an entry is asked for before its slot."""
        return max(MIN_LEAD, min(self._write.seconds * MARGIN + _TOLERANCE, MAX_LEAD))

    @property
    def _beyond(self) -> float:
        """Seconds behind the first slot in which further ones are asked for together: those of the next write, too."""
        rate = self.rate or 1.0
        together = min(int(TOGETHER * rate), MOST_TOGETHER - 1) / rate
        return min(max(together, self._write.seconds * MARGIN), MAX_LEAD + LATEST - self._lead)

    def _until_next(self) -> float:
        """Return the seconds until the next slot, as far as it is known."""
        now = self._clock.now()
        # The clock itself must have gone back: a far slot alone may also come from a slower rate that somebody set.
        if self._next_at is not None and now < self._noted_at - CLOCK_SET_BACK:
            self._next_at = None
        return 0.0 if self._next_at is None else (self._next_at - now).total_seconds()
