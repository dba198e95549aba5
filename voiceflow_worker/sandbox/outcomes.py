"""The course of calls, chosen by a script, or by a seed and the destination. Equal inputs give equal courses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from voiceflow_worker.model.flows.actions import Action, heard_in, read_action, speech_seconds, wording
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.reports.status import FILE_NOT_FETCHED, SPEECH_FAILED, SessionStatus, session_error
from voiceflow_worker.sandbox.orders import KeyPress, Script

_SECONDS_OF_A_FILE = 12.0


def heard_of(actions: Sequence[object]) -> list[str]:
    """Return everything that a person hears in actions without questions."""
    return [each.text for each in heard_in({"callflow": actions}) for _ in range(each.times)]


def is_interactive(actions: Sequence[object]) -> bool:
    """Return whether the course of the call depends on people: it asks a question, or calls a second party."""
    names = [read_action(entry)[0] for entry in actions]
    return Action.SAY_AND_CAPTURE in names or names.count(Action.MAKE_CALL) > 1


def repetitions(params: Mapping[str, object]) -> int:
    """Return how many times the action is played."""
    return max(1, int(number(params.get("repetition"), 1)))


def seconds_to_say(said: str, params: Mapping[str, object]) -> float:
    """Return how long it takes to say this text once, at the speed that the action sets."""
    return speech_seconds(said) / (number(params.get("speed"), 1.0) or 1.0)


def seconds_of(action: Action | None, params: Mapping[str, object]) -> float:
    """Return the seconds for which the action speaks or plays once, without the wait for keys."""
    if action is Action.PLAY_FILE:
        return _SECONDS_OF_A_FILE
    return seconds_to_say(wording(action, params) or "", params)


def number(value: object, otherwise: float) -> float:
    """Return the value as a number, or `otherwise` if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def text(params: Mapping[str, object], key: str) -> str | None:
    """Return a text parameter, or None if it is missing or not a text."""
    value = params.get(key)
    return value if isinstance(value, str) else None


_BETWEEN_KEYS = 0.3
# The defaults of the guide. The OpenAPI description has other defaults, so clients should rely on neither.
_MAX_DIGITS, _OVERALL, _TRIES = 25, 30_000, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The rules of one question. Times are in seconds from the end of its prompt.

    `digit_seconds` is how long to wait for each key. If it is None, only `overall_seconds` limits the wait.
    """

    min_digits: int
    max_digits: int
    complete_on_hash: bool
    digit_seconds: float | None
    overall_seconds: float
    tries: int


@dataclass(frozen=True, slots=True)
class TryResult:
    """The result of one try, `seconds` after the prompt. `digits` is None if too few digits were pressed."""

    digits: str | None
    seconds: float
    hung_up: bool = False


def read_question(params: Mapping[str, object]) -> Question:
    """Return the rules of a sayAndCapture action. Absent and null fields have the guide's defaults."""
    digit = params.get("digitTimeout")
    return Question(
        min_digits=int(number(params.get("minDigits"), 1)),
        max_digits=int(number(params.get("maxDigits"), _MAX_DIGITS)) or _MAX_DIGITS,
        complete_on_hash=params.get("completeOnHash") is not False,
        digit_seconds=None if digit is None else number(digit, 0) / 1000,
        overall_seconds=number(params.get("overallTimeout"), _OVERALL) / 1000,
        tries=max(1, int(number(params.get("noOfTries"), _TRIES))),
    )


def listen(question: Question, press: KeyPress) -> TryResult:
    """Return the result of one try at a question. Keys after the end of the input do not count."""
    digits, now = "", 0.0
    if press.hangs_up:
        return TryResult(None, min(press.after, question.overall_seconds), hung_up=True)
    for place, key in enumerate(press.keys or ""):
        at = press.after + place * _BETWEEN_KEYS
        if at > _until(question, now):
            break
        now = at
        if key == "#" and question.complete_on_hash:
            return _judged(question, digits, now)
        digits += key
        if len(digits) == question.max_digits:
            return _judged(question, digits, now)
    return _judged(question, digits, _until(question, now))


def _until(question: Question, now: float) -> float:
    """Return the time at which the wait for the next key ends."""
    if question.digit_seconds is None:
        return question.overall_seconds
    return min(question.overall_seconds, now + question.digit_seconds)


def _judged(question: Question, digits: str, seconds: float) -> TryResult:
    return TryResult(digits if digits and len(digits) >= question.min_digits else None, seconds)


# The share of each outcome in percent, in the order of the draw.
_SHARES = {
    SessionStatus.COMPLETED: 72,
    SessionStatus.NO_ANSWER: 13,
    SessionStatus.BUSY: 8,
    SessionStatus.FAILED: 5,
    SessionStatus.ERROR: 2,
}
_FAILED_CODES = (-2004, -2001, -2002)
_NEVER_RINGS = frozenset({SessionStatus.UNSUBSCRIBED_CONTACT})
_ANSWERED = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR}
)
_RING_SECONDS = {
    SessionStatus.NO_ANSWER: (28.0, 45.0),
    SessionStatus.BUSY: (0.5, 3.0),
    SessionStatus.FAILED: (0.2, 2.0),
    SessionStatus.ERROR: (0.2, 2.0),
}
_SUMMARY_LAG = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """The planned course of one call. Durations are in simulated seconds: they are not divided by the speed yet."""

    status: SessionStatus
    code: int | None = None
    message: str | None = None
    ring_seconds: float = 0.0
    talk_seconds: float = 0.0
    lag_seconds: float = _SUMMARY_LAG
    luck: int = 0
    """The seed for the choices of the person on the phone."""

    @property
    def rings(self) -> bool:
        """True if the number is dialled at all."""
        return self.status not in _NEVER_RINGS

    @property
    def is_answered(self) -> bool:
        """True if the call is answered."""
        return self.status in _ANSWERED


class Outcomes:
    """The maker of call plans. With the same seed, the n-th call to a destination always goes the same way."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed
        self._calls: dict[str, int] = {}

    def plan(self, destination: str, actions: Sequence[object], *, script: Script | None = None) -> PlannedCall:
        """Return the plan of the next call to `destination`. If the call is answered, it runs `actions`."""
        nth = self._calls.get(destination, 0)
        self._calls[destination] = nth + 1
        luck = self._luck(f"{destination}/{nth}")
        dice = Random(luck)
        (status,) = dice.choices(list(_SHARES), list(_SHARES.values()))
        code = _code(status, dice, actions)
        if script is not None and script.outcome is not None:
            status, code = script.outcome, None
        planned = PlannedCall(
            status=status,
            code=code,
            message=None if code is None else session_error(code).meaning,
            ring_seconds=_ringing(status, dice),
            talk_seconds=_talking(actions) * dice.uniform(0.8, 1.1) if status in _ANSWERED else 0.0,
            luck=luck,
        )
        return planned if script is None else _as_scripted(planned, script)

    def _luck(self, call: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._seed}/{call}".encode(), digest_size=8).digest())

    def clear(self) -> None:
        """Start again: the next call to each destination counts as the first."""
        self._calls.clear()


def _as_scripted(plan: PlannedCall, script: Script) -> PlannedCall:
    def chosen(scripted: float | None, otherwise: float) -> float:
        return otherwise if scripted is None else scripted

    return replace(
        plan,
        ring_seconds=chosen(script.ring_seconds, plan.ring_seconds),
        talk_seconds=chosen(script.talk_seconds, plan.talk_seconds) if plan.is_answered else 0.0,
        lag_seconds=chosen(script.delay_seconds, plan.lag_seconds),
    )


def _code(status: SessionStatus, dice: Random, actions: Sequence[object]) -> int | None:
    if status is SessionStatus.FAILED:
        return dice.choice(_FAILED_CODES)
    if status is SessionStatus.ERROR:
        plays = any(is_object(entry) and entry.get("action") == Action.PLAY_FILE for entry in actions)
        return FILE_NOT_FETCHED if plays else SPEECH_FAILED
    return None


def _ringing(status: SessionStatus, dice: Random) -> float:
    if status in _NEVER_RINGS:
        return 0.0
    return dice.uniform(*_RING_SECONDS.get(status, (3.0, 20.0)))


def _talking(actions: Sequence[object]) -> float:
    """Return the seconds that the actions take if the person listens to the end."""
    seconds = 1.0
    for entry in actions:
        action, params = read_action(entry)
        seconds += seconds_of(action, params) * repetitions(params)
    return seconds
