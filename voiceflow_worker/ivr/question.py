"""A menu's question as actions of a call, asked in the manner that the menus on the way there hand down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.bridging import AfterBridge
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.speech import filled, joined, spoken
from voiceflow_worker.ivr.steps import END, Handler, Step, Text
from voiceflow_worker.model.flows.callflow import CallFlow

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """How many digits may be typed, and whether # ends the input."""

    min_digits: int
    max_digits: int
    complete_on_hash: bool

    def takes(self, digits: str) -> bool:
        """Whether these may be typed here: so many, and nothing but digits."""
        return self.min_digits <= len(digits) <= self.max_digits and digits.isascii() and digits.isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a menu speaks and waits; None: as the menu before it does."""

    voice_profile: Text | None = None
    language: str | None = None
    again: Text | None = None
    retries: int | None = None
    fallback: Step | Handler | None = None
    overall_timeout: timedelta | None = None
    digit_timeout: timedelta | None = None
    speed: float | None = None
    success_message: Text | None = None
    failure_message: Text | None = None
    tries: int | None = None
    repetition: int | None = None
    after_bridge: AfterBridge | None = None

    def completed(self) -> Manner:
        """With what holds where no menu says otherwise."""
        return inherited((self, _USUAL))


_USUAL = Manner(retries=2, fallback=END, overall_timeout=timedelta(seconds=10), tries=1, after_bridge=AfterBridge())


def inherited(manners: Iterable[Manner]) -> Manner:
    """One manner out of several: the first that says something has its way."""
    given = list(manners)
    return Manner(
        **{
            each.name: next((value for one in given if (value := getattr(one, each.name)) is not None), None)
            for each in fields(Manner)
        }
    )


def manner_of(path: tuple[Menu, ...]) -> Manner:
    """How the last menu of a path speaks and waits: as it says itself, else as the nearest before it."""
    return inherited(menu.own for menu in reversed(path)).completed()


def onto(path: tuple[Menu, ...], menu: Menu) -> tuple[Menu, ...]:
    """The path to a menu that is gone to: back to where it stands in the path, or one further."""
    return path[: path.index(menu) + 1] if menu in path else (*path, menu)


def voice_for(manner: Manner, caller: Caller) -> str:
    """The speech profile to speak with. Raises InvalidInputError when no menu on the way names one."""
    if manner.voice_profile is None:
        raise InvalidInputError(
            f"menu {caller.menu} has no voice: give it, or the menu that leads there, a voice_profile"
        )
    return spoken(manner.voice_profile, caller)


def question(
    menu: Menu, manner: Manner, caller: Caller, *, begun: CallFlow, before: str = "", plays: bool = True
) -> CallFlow:
    """The flow `begun`, and then the menu's question, with a text before its prompt.

    `plays`: with the menu's recording, if it has one.

    Raises InvalidInputError for a prompt that cannot be spoken, and what a prompt that is a function raises.
    """
    voice = voice_for(manner, caller)
    if menu.play is not None and plays:
        if before:
            begun = begun.say(before, voice_profile=voice, speed=manner.speed)
            before = ""
        begun = begun.play(filled(menu.play, caller.data))
    captured = menu.captured
    several = captured.max_digits > 1
    return begun.capture(
        # One prompt with what comes before it: keys that are pressed while a text of its own is said may be lost.
        joined(before, spoken(menu.prompt, caller)),
        voice_profile=voice,
        speed=manner.speed,
        min_digits=captured.min_digits,
        max_digits=captured.max_digits,
        complete_on_hash=captured.complete_on_hash,
        digit_timeout=manner.digit_timeout if several else None,
        overall_timeout=manner.overall_timeout,
        success_message=_optional(manner.success_message, caller),
        failure_message=_optional(manner.failure_message, caller),
        # Sent always: 8x8's documents disagree about its own default.
        tries=manner.tries,
        repetition=manner.repetition,
    )


def _optional(text: Text | None, caller: Caller) -> str | None:
    return None if text is None else spoken(text, caller)
