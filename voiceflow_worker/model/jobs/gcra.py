"""Send slots at a rate (generic cell rate algorithm), and what a store keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

CLOCKS_DIFFER = 10.0
"""The largest difference between the clocks of two workers, in seconds. A larger difference means that a clock was set.
So long, at most, workers do not know it: they measure the clock of a server every five seconds."""


class SlotTime(NamedTuple):
    """A send slot in epoch seconds, None if none was free; the TAT after it, the next slot, and `unreached`."""

    at: float | None
    tat: float
    next_at: float
    unreached: float | None = None


def allot_slot(
    *,
    tat: float,
    rate: float,
    burst: int,
    after: float,
    until: float,
    last: float = 0.0,
    unreached: float | None = None,
) -> SlotTime:
    """Return the next send slot, not before `after` and not later than `until`, at `rate` per second.

    `burst` is the number of calls that may leave at once after a pause. No slot is before the `last` one. Unused time
    beyond the burst is lost, so any sliding second holds at most `rate + burst` slots. All times are in seconds on one
    clock. For any two workers, `until` must be less than `CLOCKS_DIFFER` apart, with their clocks.

    A TAT that no worker could have reached says that a clock was set, and that some workers do not know it yet. Nobody
    gets a slot until nobody has reached it for `CLOCKS_DIFFER` (`unreached` is when that began). If the clock was set
    back, the TAT is then reduced to the furthest one that a worker can reach. If it was set forward, earlier slots may
    still be ahead, so the first one after such a gap is the latest. Store the returned `tat` and `unreached` even if
    `at` is None.
    """
    interval = 1.0 / rate
    tolerance = (burst - 1) * interval
    furthest = until + burst * interval
    if tat > furthest + CLOCKS_DIFFER:
        since = until if unreached is None else min(unreached, until)
        if until < since + CLOCKS_DIFFER:
            return SlotTime(None, tat, since + CLOCKS_DIFFER, since)
        tat = furthest
    elif 0 < tat < after - CLOCKS_DIFFER:
        after = until
    slot = max(after, min(last, until), tat - tolerance)
    if slot > until:
        return SlotTime(None, tat, slot)
    tat = max(tat, slot) + interval
    return SlotTime(slot, tat, max(slot, tat - tolerance))


class SendSlot(NamedTuple):
    """The time of a send slot, None if none was free in time; and of the next one that may be free."""

    at: datetime | None
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """The send slots of a queue as a store keeps them: rate, TAT and the last slot, in epoch seconds.

    `unreached` is the time since which nobody has reached the TAT (`allot_slot`).
    """

    rate: float | None = None
    burst: int | None = None
    tat: float = 0.0
    last: float = 0.0
    unreached: float | None = None

    def allot(self, *, rate: float, burst: int, after: datetime, until: datetime) -> tuple[Pace, SendSlot]:
        """Return the pace after one more slot at this rate, and the slot."""
        tat = self.tat
        if (self.rate, self.burst) != (rate, burst):
            # A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
            tat = min(tat, self.last + burst / rate)
        found = allot_slot(
            tat=tat,
            rate=rate,
            burst=burst,
            after=after.timestamp(),
            until=until.timestamp(),
            last=self.last,
            unreached=self.unreached,
        )
        last = self.last if found.at is None else found.at
        return Pace(rate, burst, found.tat, last, found.unreached), slot_from(found.at, found.next_at)


def slot_from(at: float | None, next_at: float) -> SendSlot:
    """Return the send slot with these times in epoch seconds."""
    # Epoch seconds in a float are exact to 0.25 µs, so a time in whole microseconds is restored exactly.
    return SendSlot(None if at is None else datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(next_at, UTC))
