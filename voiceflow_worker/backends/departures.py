"""The pace of a queue, and the departure times that follow from it, as pure functions for the backends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from voiceflow_worker.core.ports import Limits, Slots
from voiceflow_worker.model.jobs.gcra import departures


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of a queue: the theoretical arrival time of the GCRA and the last departure, in epoch seconds."""

    tat: float = 0.0
    last: float = 0.0


def taken(limits: Limits | None, pace: Pace, *, wanted: int, horizon: timedelta, now: datetime) -> tuple[Slots, Pace]:
    """Up to `wanted` departure times within `horizon` from `now`, and the pace to store afterwards."""
    if limits is None or limits.rate is None:
        return Slots((now,) * max(wanted, 0), now), pace
    granted = departures(
        tat=pace.tat,
        wanted=wanted,
        rate=limits.rate,
        burst=limits.burst,
        now=now.timestamp(),
        horizon=horizon.total_seconds(),
    )
    times = tuple(_date(seconds) for seconds in granted.times)
    last = granted.times[-1] if granted.times else pace.last
    return Slots(times, _date(granted.next_at)), replace(pace, tat=granted.tat, last=last)


def repaced(pace: Pace, limits: Limits) -> Pace:
    """The pace under new limits. The next departure is at most one interval of the new rate after the last departure.

    Without this, a queue whose rate changes from one call an hour to ten a second would wait for the rest of the hour.
    If the limits are the same as before, the pace does not change.
    """
    if limits.rate is None:
        return pace
    return replace(pace, tat=min(pace.tat, pace.last + limits.burst / limits.rate))


def _date(seconds: float) -> datetime:
    # Epoch seconds in a float are exact to 0.25 µs, so a time in whole microseconds is restored exactly.
    return datetime.fromtimestamp(seconds, UTC)
