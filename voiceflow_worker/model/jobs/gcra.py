"""Departure times at a steady rate: the generic cell rate algorithm (ITU-T I.371), as a pure function.

The state is one number, the theoretical arrival time (TAT), at which the next departure is exactly on schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOCKS_DIFFER = 10.0
"""The largest difference between the clocks of two workers, in seconds. A larger difference means that a clock was set
back."""


@dataclass(frozen=True, slots=True)
class DepartureTimes:
    """Departure times in epoch seconds, the TAT after them, and the time of the next possible departure."""

    times: tuple[float, ...]
    tat: float
    next_at: float


def departures(*, tat: float, wanted: int, rate: float, burst: int, now: float, horizon: float) -> DepartureTimes:
    """Up to `wanted` departure times, none later than `now + horizon`, at `rate` per second.

    `burst` is the number of calls that may leave at once after a pause; 1 gives even spacing. Unused time beyond the
    burst is lost, so any sliding second holds at most `rate + burst` departures. All times are in seconds on one clock.
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
        departure = max(now, tat - tolerance)
        if departure > now + horizon:
            break
        times.append(departure)
        tat = max(tat, departure) + interval
    return DepartureTimes(tuple(times), tat, max(now, tat - tolerance))
