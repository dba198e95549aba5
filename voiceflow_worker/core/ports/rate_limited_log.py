"""A rate limit for log lines: one line of each kind a second."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 1.0
_MOST = 1000
"""The most kinds that are remembered. When there are that many, all are forgotten."""


class RateLimitedLog:
    """Admits one log line of each kind in a second."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object) -> int | None:
        """None if a line of this kind must be left out now; else the number of lines left out since the last one."""
        now = self._monotonic()
        at, left_out = self._logged.get(kind, (float("-inf"), 0))
        if now - at < EVERY:
            self._logged[kind] = (at, left_out + 1)
            return None
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[kind] = (now, 0)
        return left_out
