"""What callers hear, and the keys that are captured from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.sandbox.orders.orders import Press

_CHARACTERS_PER_SECOND = 15.0
_SECONDS_OF_A_FILE = 12.0


def heard_of(actions: Sequence[object]) -> Iterator[str]:
    """Yield everything that a person hears in actions without questions."""
    for entry in actions:
        action, params = read_action(entry)
        said = wording(action, params)
        if said is not None:
            yield from (said,) * repetitions(params)


def is_interactive(actions: Sequence[object]) -> bool:
    """Return whether the course of the call depends on people: it asks a question, or calls a second party."""
    names = [read_action(entry)[0] for entry in actions]
    return Action.SAY_AND_CAPTURE in names or names.count(Action.MAKE_CALL) > 1


def repetitions(params: Mapping[str, object]) -> int:
    """Return how many times the action is played."""
    return max(1, int(number(params.get("repetition"), 1)))


def speech_seconds(said: str, params: Mapping[str, object]) -> float:
    """Return how long it takes to say this text once, at the speed that the action sets."""
    return len(said) / _CHARACTERS_PER_SECOND / (number(params.get("speed"), 1.0) or 1.0)


def seconds_of(action: Action | None, params: Mapping[str, object]) -> float:
    """Return the seconds for which the action speaks or plays once, without the wait for keys."""
    if action is Action.PLAY_FILE:
        return _SECONDS_OF_A_FILE
    return speech_seconds(wording(action, params) or "", params)


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


def listen(question: Question, press: Press) -> TryResult:
    """The result of one try at a question. Keys that come too late, or after the input is complete, do not count."""
    digits, now = "", 0.0
    if press.hangs_up:
        return TryResult(None, min(press.after, question.overall_seconds), hung_up=True)
    for place, key in enumerate(press.digits):
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
