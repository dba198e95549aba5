"""How far a campaign is, as `voiceflow status --watch` tells it once a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.acceptance.campaign.desk import Desk
from tests.support.processes import Process, running
from tests.support.waiting import wait_until

UNDER_WAY = ("leased", "sending", "submitted")
WITHIN = 1500.0
"""Seconds that a part of the largest campaign may take on a busy machine."""


class Progress:
    """The last line of a `watch --json`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def last(self) -> dict[str, Any]:
        wait_until(lambda: bool(self._process.stdout), lambda: f"a first line of watch, not {self._process.told}")
        found: dict[str, Any] = json.loads(self._process.stdout[-1])
        return found

    @property
    def seen(self) -> int:
        """How many lines there are."""
        return len(self._process.stdout)

    @property
    def states(self) -> dict[str, int]:
        found: dict[str, int] = self.last["states"]
        return found

    def wait_for_done(self, calls: int) -> None:
        """Wait until so many calls have ended."""
        wait_until(
            lambda: self.last["done"] >= calls, lambda: f"{calls} ended, but {self.last}", within=WITHIN, every=1
        )


@contextmanager
def watching(desk: Desk, batch: str) -> Iterator[Progress]:
    """Watch a batch."""
    with running("status", "--watch", "--batch", batch, "--json", env=desk.env, folder=desk.folder) as process:
        yield Progress(process)
