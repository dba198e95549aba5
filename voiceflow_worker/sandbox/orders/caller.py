"""The simulated person on the phone, who presses keys after questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from voiceflow_worker.sandbox.orders.orders import StrictModel

HANGS_UP = "hangup"
_KEYS = re.compile(r"[0-9*#A-D]{1,50}")
_AFTER = 1.0
# How often each key is pressed in a hundred questions without a script; None stands for no key.
_HABITS: Sequence[tuple[str | None, int]] = (
    ("1", 34), ("2", 20), ("3", 10), ("4", 6), ("5", 5), ("6", 4), ("7", 3), ("8", 3), ("9", 5), (None, 10),
)  # fmt: skip
_ENOUGH = 25


def _checked(keys: str) -> str:
    if keys != HANGS_UP and _KEYS.fullmatch(keys) is None:
        raise ValueError(
            f'{keys[:60]!r} is not valid: give 1 to 50 keys (0-9, *, #, A-D), null for no key, or "{HANGS_UP}"'
        )
    return keys


class KeyPress(StrictModel):
    """The reaction to one question: some `keys`, no key (null), or hanging up ("hangup").

    `after` is the time in seconds from the prompt to the reaction. It is divided by the sandbox's speed.
    """

    keys: Annotated[str, AfterValidator(_checked)] | None = None
    after: float = Field(default=_AFTER, ge=0)


Try: TypeAlias = str | KeyPress | None
Entries: TypeAlias = Sequence[Try | tuple[Try, ...]]


def _all_checked(entries: Entries) -> Entries:
    for entry in entries:
        if isinstance(entry, tuple) and not entry:
            raise ValueError("a question has an empty list of tries; write null if no key is pressed")
        for press in entry if isinstance(entry, tuple) else (entry,):
            if isinstance(press, str):
                _checked(press)
    return entries


Keys: TypeAlias = Annotated[Entries, AfterValidator(_all_checked)]
"""The reactions of a caller, one entry for each question. A tuple (in JSON a list) has one entry for each try."""
Reached: TypeAlias = Literal["COMPLETED", "NO_ANSWER", "BUSY", "FAILED", "ERROR"]
"""The result of the call to a second party."""


@dataclass(frozen=True, slots=True)
class Press:
    """One reaction of the caller: the keys in order, and the seconds from the prompt to the first key."""

    digits: str
    after: float
    hangs_up: bool = False


class SimulatedCaller:
    """A caller who answers the questions of a call, by a script or at random.

    When the script has no more entries, no keys are pressed. After too many questions, the caller hangs up, so that an
    endless menu does not keep the sandbox busy.
    """

    def __init__(self, dice: Random, keys: Entries | None) -> None:
        self._dice = dice
        self._keys = keys
        self._questions = 0

    def answer(self, *, fewest: int) -> Sequence[Press]:
        """The caller's reactions to the next question, one for each try. The last reaction serves all further tries.

        `fewest` is the number of keys that the question needs.
        """
        place = self._questions
        self._questions += 1
        scripted = 0 if self._keys is None else len(self._keys)
        if place >= scripted + _ENOUGH:
            return (Press("", _AFTER, hangs_up=True),)
        if self._keys is None:
            return (self._drawn(fewest),)
        entry = self._keys[place] if place < scripted else None
        return tuple(map(_press, entry)) if isinstance(entry, tuple) else (_press(entry),)

    def _drawn(self, fewest: int) -> Press:
        after = self._dice.uniform(0.4, 3.0)
        (first,) = self._dice.choices([key for key, _ in _HABITS], [weight for _, weight in _HABITS])
        if first is None:
            return Press("", after)
        return Press(first + "".join(self._dice.choices("0123456789", k=max(fewest, 1) - 1)), after)


def _press(given: Try) -> Press:
    press = given if isinstance(given, KeyPress) else KeyPress(keys=given)
    if press.keys == HANGS_UP:
        return Press("", press.after, hangs_up=True)
    return Press(press.keys or "", press.after)
