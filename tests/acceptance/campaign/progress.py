"""How far a campaign is, as `voiceflow status --batch` tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.acceptance.campaign.desk import Desk
from tests.support.waiting import wait_until

UNDER_WAY = ("leased", "sending", "submitted")
WITHIN = 1500.0
"""Seconds that a part of the largest campaign may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a batch, read anew at each look."""

    desk: Desk
    batch: str

    @property
    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.desk.quietly(f"voiceflow status --batch {self.batch} --json"))
        return found

    @property
    def is_under_way(self) -> bool:
        states = self.now["states"]
        return any(states[state] for state in UNDER_WAY)

    def wait_for_done(self, calls: int) -> None:
        """Wait until so many calls have ended."""
        wait_until(lambda: self.now["done"] >= calls, lambda: f"{calls} ended, but {self.now}", within=WITHIN, every=1)
