"""Durations as people write them: a number with a unit."""

from __future__ import annotations

import re
from datetime import timedelta

from voiceflow_worker.errors import InvalidInputError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
LONGEST = timedelta(days=36_500)
"""The longest duration that is accepted: 100 years. A time of this century plus this duration is a time that every
store keeps exactly."""
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}


def read_duration(text: str) -> timedelta:
    """The duration that a text such as `30` (seconds), `500ms`, `5m`, `2h` or `7d` means. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("give a number of seconds, or a number with a unit, such as 500ms, 30s, 5m, 2h or 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"the duration is too long; give at most {LONGEST.days} days")
    return timedelta(seconds=seconds)


def checked_duration(name: str, value: object, *, positive: bool = False) -> timedelta:
    """The value, if it is a timedelta, and with `positive` above 0. Otherwise raises InvalidInputError."""
    if not isinstance(value, timedelta):
        raise InvalidInputError(
            f"{name} is {str(value)[:40]!r}, which is not a timedelta; give a timedelta, such as timedelta(seconds=30)"
        )
    if positive and value <= timedelta():
        raise InvalidInputError(
            f"{name} is {value}, which is not above 0; give a timedelta, such as timedelta(seconds=30)"
        )
    return value


def write_duration(duration: timedelta) -> str:
    """A text that `read_duration` reads as this duration, in the largest unit that fits: `30d`, `90s`, `500ms`."""
    micros = duration // timedelta(microseconds=1)
    if not micros:
        return "0s"
    for unit, size in _MICROSECONDS.items():
        # A few minutes are written in seconds, as in the documentation of the settings: 60s, 120s.
        if micros % size == 0 and (unit != "m" or micros >= 5 * size):
            return f"{micros // size}{unit}"
    return f"{duration.total_seconds():.6f}".rstrip("0") + "s"


def duration_in_words(duration: timedelta) -> str:
    """A duration for people, in its two largest units: `40 s`, `3 h 12 min`, `2 d 4 h`. Negative ones are `0 s`."""
    seconds = max(round(duration.total_seconds()), 0)
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit} {rest} {smaller}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"
