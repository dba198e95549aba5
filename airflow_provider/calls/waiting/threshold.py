"""The number of calls that must be over before a wait ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionThreshold:
    """A number of calls (`at_least`), or a share (`ratio`, 0 to 1) of all; with neither, all of them."""

    at_least: int | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and self.ratio is not None:
            raise ValueError("give at_least or ratio, one of them")
        if self.at_least is not None and self.at_least < 1:
            raise ValueError(f"at_least={self.at_least}: wait for one call at least")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"ratio={self.ratio}: give a share above 0, and 1 at most")

    @classmethod
    def of(cls, saved: Mapping[str, Any] | None) -> CompletionThreshold:
        """The threshold from the argument of a trigger."""
        return cls(**(saved or {}))

    def as_json(self) -> dict[str, Any] | None:
        """The threshold as the argument of a trigger; None for all."""
        values = {"at_least": self.at_least, "ratio": self.ratio}
        return {name: value for name, value in values.items() if value is not None} or None

    def is_reached(self, ended: int, total: int) -> bool:
        """Whether `ended` of `total` calls are enough."""
        if self.at_least is not None:
            return ended >= min(self.at_least, total)
        if self.ratio is not None:
            # Rounded, because of floating point: 0.1 of 30 calls are 3.
            return ended >= math.ceil(round(self.ratio * total, 9))
        return ended >= total
