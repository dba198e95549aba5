"""The answer of a menu to one event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import orjson

from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.job import KeyPress


class Result(StrEnum):
    """The result of an event, for metrics and logs."""

    STARTED = "started"
    """The first question of a call was asked."""
    LED_ON = "led_on"
    """The keys were valid, and the next step followed."""
    ASKED_AGAIN = "asked_again"
    """A try brought a wrong key or none, and tries were left: the question was asked again."""
    GAVE_UP = "gave_up"
    """The last try brought a wrong key or none: the fallback followed. Or too many questions ended the call."""
    FAILED = "failed"
    """A handler or a prompt failed, or gave something that cannot be sent: the fallback or a hang-up followed."""
    TOO_SLOW = "too_slow"
    """A handler took longer than its limit: the fallback or a hang-up followed."""
    NOT_BRIDGED = "not_bridged"
    """The bridge was refused, for example because the other party is in a call: the fallback or a hang-up followed."""
    WENT_ON = "went_on"
    """A text, a recording or a bridge was over: the next action followed."""
    ENDED = "ended"
    """The menus had come to an end: the call was hung up."""
    NO_MENU = "no_menu"
    """No menu takes this call: the fallback of the default menu or a hang-up followed."""
    REPEATED = "repeated"
    """The event was answered before: it got the same answer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuAnswer:
    """The answer to an event: a valid call flow, with the next position in its `clientActionId`.

    `menu` is the name of the menu that asked, and `press` the keys pressed there, which the receiver stores. `trouble`
    describes a failure, and `error` is its exception, if any. `seconds` is the duration of the handler; None if no
    handler ran.
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
        """The body of the HTTP answer to 8x8."""
        return orjson.dumps(self.flow.to_body())
