"""What a journey asks of an interface. What each interface calls it, its driver alone knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.cli.running import Program
from tests.support.stage import Stage

Again = Callable[[], object]
"""Gives the same order once more, as somebody does who got no answer."""
Person = Mapping[str, str]
Call = Mapping[str, Any]
WORDS = {"say": "Hello {{name}}.", "window": "any"}
"""What a list has that says nothing else."""


@dataclass
class Driver:
    """An interface to what is on a stage; `voiceflow` is the command, run in this process."""

    on: Stage
    voiceflow: Program

    def drain(self) -> None:
        """Send until nothing is left to be sent now."""
        self.voiceflow("worker", "--drain")


class Interface(Protocol):
    """Starts of lists, orders, and the calls of a batch."""

    def drain(self) -> None: ...
    def start(self, batch: str, people: Sequence[Person], **fields: Any) -> Again: ...
    def calls(self, batch: str) -> Sequence[Call]: ...
    def hold(self, batch: str) -> None: ...
    def resume(self, batch: str) -> None: ...
    def cancel_call(self, call: Call) -> None: ...
    def cancel_batch(self, batch: str) -> None: ...
    def redial_busy(self, batch: str) -> Again: ...
    def suppress(self, number: str) -> None: ...
    def resolve(self, call: Call, *, placed: bool) -> None: ...


def busy(calls: Sequence[Call]) -> list[Call]:
    """The calls of which the last one found the line busy."""
    return [each for each in calls if (each["outcome"] or {}).get("session_status") == "BUSY"]
