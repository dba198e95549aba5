"""The rules of sayAndCapture, which decide which key presses count (8x8 callflow actions guide)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voiceflow_worker.sandbox.calls.speech import number
from voiceflow_worker.sandbox.orders.caller import Press

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
