"""Rates as people write them: calls per second, or unlimited."""

from __future__ import annotations

import math
from typing import cast

SLOWEST = 1e-6
"""The lowest rate: a call in twelve days. With a much lower rate, the next departure could be beyond the calendar."""


def read_rate(value: object) -> float | None:
    """The calls per second that a value such as `10`, `0.5` or `"2"` means; None for `unlimited`. Raises ValueError."""
    if isinstance(value, str) and value.strip().lower() == "unlimited":
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(cast("float", value))
    except (TypeError, ValueError):
        found = math.nan
    if not is_rate(found):
        raise ValueError(f"give calls per second, at least {SLOWEST:f}, such as 10 or 0.5, or unlimited")
    return found


def is_rate(rate: float) -> bool:
    """Whether a queue can have this rate, in calls per second."""
    return SLOWEST <= rate < math.inf


def rate_in_words(rate: float | None) -> str:
    """A rate for people: `10 calls/s`, or `unlimited`."""
    return "unlimited" if rate is None else f"{rate:g} calls/s"
