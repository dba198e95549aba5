"""Send slots at a rate (generic cell rate algorithm), and what a store keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

CLOCKS_DIFFER = 10.0
"""The largest difference between the clocks of two workers, in seconds. A larger difference means that a clock was set
back."""


@dataclass(frozen=True, slots=True)
class SlotTimes:
    """Send slots in epoch seconds, the TAT after them, and the time of the next possible slot."""

    times: tuple[float, ...]
    tat: float
    next_at: float


def take_slots(*, tat: float, wanted: int, rate: float, burst: int, now: float, horizon: float) -> SlotTimes:
    """Up to `wanted` send slots, none later than `now + horizon`, at `rate` per second.

    `burst` is the number of calls that may leave at once after a pause; 1 gives even spacing. Unused time beyond the
    burst is lost, so any sliding second holds at most `rate + burst` slots. All times are in seconds on one clock.
    `now + horizon` must be less than `CLOCKS_DIFFER` apart for any two workers, the difference of clocks included.

    A TAT that no worker could have reached was stored before a clock was set back. It is reduced to the furthest TAT
    that a worker can reach. Otherwise nothing would leave until the clock reached its earlier time again. Store the
    returned `tat` even if `times` is empty.
    """
    interval = 1.0 / rate
    tolerance = (burst - 1) * interval
    furthest = now + horizon + burst * interval
    if tat > furthest + CLOCKS_DIFFER:
        tat = furthest
    times: list[float] = []
    while len(times) < wanted:
        slot = max(now, tat - tolerance)
        if slot > now + horizon:
            break
        times.append(slot)
        tat = max(tat, slot) + interval
    return SlotTimes(tuple(times), tat, max(now, tat - tolerance))


@dataclass(frozen=True, slots=True)
class Slots:
    """Send slots taken at the queue's rate, in order; `next_at` is the next free time."""

    times: tuple[datetime, ...]
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """What a store keeps of the slots of a queue: how they were taken, the TAT, and the last of them.

    Times are in epoch seconds.
    """

    rate: float | None = None
    burst: int | None = None
    tat: float = 0.0
    last: float = 0.0

    def take(self, *, rate: float, burst: int, wanted: int, horizon: timedelta, now: datetime) -> tuple[Pace, Slots]:
        """The pace after up to `wanted` slots at this rate, and their times."""
        tat = self.tat
        if (self.rate, self.burst) != (rate, burst):
            # A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
            tat = min(tat, self.last + burst / rate)
        granted = take_slots(
            tat=tat, wanted=wanted, rate=rate, burst=burst, now=now.timestamp(), horizon=horizon.total_seconds()
        )
        last = granted.times[-1] if granted.times else self.last
        slots = Slots(tuple(map(_date, granted.times)), _date(granted.next_at))
        return Pace(rate, burst, granted.tat, last), slots


def _date(seconds: float) -> datetime:
    # Epoch seconds in a float are exact to 0.25 µs, so a time in whole microseconds is restored exactly.
    return datetime.fromtimestamp(seconds, UTC)
