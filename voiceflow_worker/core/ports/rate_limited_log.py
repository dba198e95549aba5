"""One line a second for what repeats: a log is for reading, and a flood of events must not become one of lines."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 1.0
_MOST = 1000
"""Kinds that are remembered: beyond, all are forgotten, and told again."""


class RateLimitedLog:
    """Says whether something is to be told now: each kind once in `every` seconds."""

    def __init__(self, *, every: float = EVERY, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._monotonic = monotonic
        self._told: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object) -> int | None:
        """How many of this kind were not told since the last that was; None when this one is not to be told either."""
        now = self._monotonic()
        at, left_out = self._told.get(kind, (float("-inf"), 0))
        if now - at < self._every:
            self._told[kind] = (at, left_out + 1)
            return None
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[kind] = (now, 0)
        return left_out
