"""Departure times at a steady rate: the generic cell rate algorithm (ITU-T I.371), as a pure function.

The state is one number, the theoretical arrival time (TAT): when the next departure would be exactly on schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOCKS_DIFFER = 10.0
"""Seconds by which the clocks of those who take may differ. Who is behind by more than that has no colleague who is
ahead: the clock was set back."""


@dataclass(frozen=True, slots=True)
class Departures:
    """Departure times in epoch seconds, the state after them, and when the next one would be free."""

    times: tuple[float, ...]
    tat: float
    next_at: float


def departures(*, tat: float, wanted: int, rate: float, burst: int, now: float, horizon: float) -> Departures:
    """Up to `wanted` departure times, none later than `now + horizon`, at `rate` per second.

    `burst` is how many may leave at once after a pause; 1 is smooth. An unused time is not saved up beyond that, so any
    sliding second holds at most `rate + burst` departures. All times are in seconds on one clock. Those who take may
    differ in `now + horizon` by less than `CLOCKS_DIFFER`, the differences of their clocks included.

    A TAT further ahead than takers could have brought it comes from before a clock was set back. It is brought down to
    the furthest that they could, or nothing would leave for as long as the jump was: keep the new one, also where no
    departure was given.
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
    return Departures(tuple(times), tat, max(now, tat - tolerance))
