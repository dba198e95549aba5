"""Rates as people write them: calls per second, or unlimited."""

from __future__ import annotations

import math
from typing import cast


def read_rate(value: object) -> float | None:
    """The calls per second that a value such as `10`, `0.5` or `"2"` means; None for `unlimited`. Raises ValueError."""
    if isinstance(value, str) and value.strip().lower() == "unlimited":
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(cast("float", value))
    except (TypeError, ValueError):
        found = math.nan
    if not (found > 0 and math.isfinite(found)):
        raise ValueError("give calls per second, more than 0, such as 10 or 0.5, or unlimited")
    return found
