"""Points at which a process can be struck: the boundaries of a call's way, and the acts that happen there."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from anyio.lowlevel import checkpoint


class Point(StrEnum):
    """A boundary of a call's way."""

    AFTER_LEASE = "after-lease"
    """The store has leased jobs; the worker has not heard so yet."""
    BEFORE_JOURNAL = "before-journal"
    """The journal entry is about to be written."""
    AFTER_JOURNAL = "after-journal"
    """The journal entry is durable; the worker has not heard so yet."""
    AFTER_FILE = "after-file"
    """The worker's own journal file has the entry too."""
    BEFORE_FIRST_BYTE = "before-first-byte"
    """The gateway has the call; nothing of it has left."""
    AFTER_ANSWER = "after-answer"
    """8x8 has answered; nobody has written down what."""
    BEFORE_SWAP = "before-swap"
    """The verdict is about to be written."""
    AFTER_SWAP = "after-swap"
    """The verdict is durable; the worker has not heard so yet."""
    BEFORE_SWEEP = "before-sweep"
    """What a dead worker left behind is about to be moved."""
    AFTER_SWEEP = "after-sweep"
    """It was moved."""
    BEFORE_SUMMARY = "before-summary"
    """In the webhook: the outcome is about to be written."""
    AFTER_SUMMARY = "after-summary"
    """In the webhook: the outcome is durable, and 8x8 has no answer yet."""


class OperatorAction(StrEnum):
    """What happens at a point."""

    KILL = "kill"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """At the `nth` hit of a point the process kills itself, or stops itself."""

    point: Point
    nth: int = 1
    act: OperatorAction = OperatorAction.KILL


class Fuse:
    """Counts the hits of every point, and strikes where a trigger says so.

    A process is stopped only when `writes_ended` has returned. In the middle of a write to SQLite it would lock out the
    others until it is continued.
    """

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = triggers
        self._hits: Counter[Point] = Counter()
        self.writes_ended: Callable[[], Awaitable[object]] = checkpoint

    def waits_for(self, point: Point) -> bool:
        """Whether a trigger is at this point."""
        return any(trigger.point is point for trigger in self._triggers)

    async def hit(self, point: Point) -> None:
        """The process has come to this point. Returns unless it is killed here."""
        self._hits[point] += 1
        nth = self._hits[point]
        for trigger in self._triggers:
            if trigger.point is point and trigger.nth == nth:
                if trigger.act is OperatorAction.STOP:
                    await self.writes_ended()
                self._strike(trigger)

    def _strike(self, trigger: Trigger) -> None:
        match trigger.act:
            case OperatorAction.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case OperatorAction.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
