"""What a menu answers to one event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import orjson

from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.job import KeyPress


class Result(StrEnum):
    """What came of an event, for metrics and logs."""

    STARTED = "started"
    """The first question of a call was asked."""
    LED_ON = "led_on"
    """What was pressed led on."""
    ASKED_AGAIN = "asked_again"
    """A wrong key, or none, with tries left."""
    GAVE_UP = "gave_up"
    """A wrong key, or none, for the last time: the fallback."""
    FAILED = "failed"
    """A handler or a prompt raised, or gave what cannot be sent: the fallback."""
    TOO_SLOW = "too_slow"
    """A handler took longer than its limit: the fallback."""
    NOT_BRIDGED = "not_bridged"
    """The number to bridge to is on the suppression list, or in a call of a queue: the fallback."""
    WENT_ON = "went_on"
    """Something was said or played, or a bridge was over: what follows it."""
    ENDED = "ended"
    """Nothing was left to do: the call ends."""
    NO_MENU = "no_menu"
    """No menu takes this call: it ends, with the default menu's fallback if there is one."""
    REPEATED = "repeated"
    """The event was answered before: the same answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The flow to answer with, valid, with the next position in its `clientActionId`.

    `menu` asked; `press` is what was pressed there, to be stored. `trouble` says in words what went wrong, and `error`
    is what was raised, if anything was. `seconds` is how long the handler took, None if there was none.
    """

    flow: CallFlow
    result: Result
    menu: str = ""
    press: KeyPress | None = None
    trouble: str | None = None
    error: BaseException | None = None
    seconds: float | None = None

    @property
    def body(self) -> bytes:
        """The answer as it is sent."""
        return orjson.dumps(self.flow.to_body())
