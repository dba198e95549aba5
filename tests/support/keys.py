"""How soon key presses are answered while other work is done, and what keeps the receiver from them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.stage import PLAIN, Stage
from tests.support.waiting import wait_until

SOON, LATEST = 0.5, 2.0
"""Seconds: on a machine that does nothing else, almost all keys are answered within the first, and all within the
second."""
IDLE = 0.06
"""Seconds: a machine that takes longer for most keys, while nothing else is done here, does too much beside them for
limits in seconds: keys wait for a disk and a processor that others use."""
ALONE = 250
"""The keys that are answered alone."""


def _keys_since(on: Stage, began: float) -> list[dict[str, Any]]:
    found = httpx.get(f"{on.sandbox}/_sandbox/deliveries", timeout=60, **PLAIN).json()
    return [each for each in found if each["event_type"] == "CALL_ACTION" and began <= each["at_seconds"]]


def wait_for_keys(on: Stage, began: float, count: int) -> None:
    """Wait until so many keys were answered since then."""
    wait_until(lambda: len(_keys_since(on, began)) >= count, f"{count} keys", within=900, every=1.0)


@dataclass(frozen=True)
class KeyTimes:
    """The seconds that the answers took, the least first, and those of callbacks that kept the event loop busy."""

    seconds: list[float]
    failed: int
    blocks: list[float]
    lasted: float

    @classmethod
    def alone(cls, on: Stage) -> KeyTimes:
        """Those of the next keys, while nothing else is done."""
        began = time.time()
        wait_for_keys(on, began, ALONE)
        return cls.between(on, began, time.time())

    @classmethod
    def between(cls, on: Stage, began: float, ended: float) -> KeyTimes:
        """Those of the events that were sent in this time."""
        keys = [each for each in _keys_since(on, began) if each["at_seconds"] <= ended]
        assert keys
        failed = sum(each["status"] != 200 for each in keys)
        noted = [tuple(map(float, line.split())) for line in on.blocks.read_text().splitlines()]
        blocks = sorted(took for at, took in noted if began <= at <= ended)
        return cls(sorted(each["seconds"] for each in keys), failed, blocks, ended - began)

    def at(self, share: float) -> float:
        """The seconds within which this share of the keys was answered."""
        return self.seconds[min(int(len(self.seconds) * share), len(self.seconds) - 1)]

    @property
    def was_idle(self) -> bool:
        """Whether the machine did hardly anything else."""
        return self.at(0.5) <= IDLE

    @property
    def longest_block(self) -> float:
        return self.blocks[-1] if self.blocks else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} keys, {len(self.seconds) / self.lasted:.0f}/s, {self.failed} without an answer; "
            f"median {self.at(0.5):.3f} s, 99.9 % {self.at(0.999):.3f} s, latest {self.seconds[-1]:.3f} s; "
            f"longest block {self.longest_block:.3f} s"
        )

    def assert_soon(self, alone: KeyTimes, *, longest_block: float, told: object) -> None:
        """Fail if its event loop was kept busy, or if keys were answered late on a machine that was idle before.

        `longest_block` is the most seconds of processor time that one of its callbacks may take, on any machine.
        """
        shown = f"\n{told}\nalone: {alone}\nmeanwhile: {self}"
        sys.stdout.write(shown)
        assert self.longest_block <= longest_block, shown
        if alone.was_idle:
            assert not self.failed, shown
            assert self.at(0.999) <= SOON, shown
            assert self.seconds[-1] <= LATEST, shown
