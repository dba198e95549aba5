"""Names, counts, durations, moments and rates in words and as people write them, and why a file cannot be read."""

from __future__ import annotations

import errno
import json
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import cast
from zoneinfo import ZoneInfo

from voiceflow_worker.model.text.printable import printable_line

DEFAULT_QUEUE = "default"
QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")
"""The pattern of a queue name. A name has at most 16 characters, so that a job id with a POST number fits into the 50
characters of a `clientRequestId`."""

SUB_ACCOUNT_ID = re.compile(r"[A-Za-z0-9\-._&]{3,50}")
"""The pattern of a sub-account id (8x8 voice API reference)."""

_NOT_A_WORD = re.compile(r"\W+")


def folded(name: str) -> str:
    """Return the name in lower case, with _ for spaces and punctuation: `Unique Key` becomes `unique_key`."""
    return _NOT_A_WORD.sub("_", unicodedata.normalize("NFC", name.strip().casefold())).strip("_")


def searched(text: str) -> str:
    """Return a text as it is compared in a search: without case and accents, so that `muller` finds `Müller`."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


def did_you_mean(wanted: str, names: Iterable[str], *, shown: Callable[[str], str] = str) -> str:
    """Return a clause, `; did you mean …?`, with the most similar of these names; empty without one."""
    by_folded = {each.casefold(): each for each in names}
    close = get_close_matches(wanted.casefold(), by_folded, n=1)
    return f"; did you mean {shown(by_folded[close[0]])}?" if close else ""


def name_among(names: Collection[str], wanted: str) -> str:
    """Return the name that a text means by `wanted`: the same name, else the folded one, else `wanted`."""
    if wanted in names:
        return wanted
    return short if (short := folded(wanted)) in names else wanted


def quoted(value: object, *, most: int = 40) -> str:
    """Return a wrong value as a message shows it, cut at `most` characters."""
    if not isinstance(value, str):
        with suppress(TypeError, ValueError):
            return json.dumps(value, ensure_ascii=False, default=str)[:most]
    return repr(str(value)[:most])


def table_text(value: object) -> object:
    """Return a table as text, as people type it: `SG=+6531234567,*=+12025550123`. Other values stay as they are.

    A list has its name before each entry: `{"busy": ["5m", "1h"]}` is `busy=5m,busy=1h`.
    """
    if not isinstance(value, Mapping):
        return value
    pairs = (
        (name, each)
        for name, given in cast("Mapping[object, object]", value).items()
        for each in (cast("list[object]", given) if isinstance(given, list | tuple) else (given,))
    )
    return ",".join(f"{name}={_typed(each)}" for name, each in pairs)


def _typed(value: object) -> object:
    return quoted(value) if value is None or isinstance(value, bool | dict | list) else value  # pyright: ignore[reportUnknownArgumentType]


_REMEDIES = {
    errno.ENOENT: "; check its name and its folder",
    errno.ENOTDIR: "; check its name and its folder",
    errno.EISDIR: "; name a file in it",
    errno.EACCES: "; allow this user to use it and its folder",
}


def why_unreadable(error: OSError | ValueError) -> str:
    """Return the reason why a text file cannot be read, to be added to a message about the file."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def file_remedy(error: OSError) -> str:
    """Return the remedy, to be added to a message about the file; empty if there is none for this error."""
    return _REMEDIES.get(error.errno or 0, "")


def count_of(number: int, noun: str) -> str:
    """Return the number with its noun, such as `1 call` or `2 calls`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def in_words(at: datetime, zone: ZoneInfo | None = None) -> str:
    """Return the time as `2026-11-20 09:00:00 UTC`, rounded down to the second; in `zone`, if it is given."""
    return f"{at.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S} {zone_words(zone)}"


def zone_words(zone: ZoneInfo | None) -> str:
    """Return the name of a zone; UTC for None."""
    return "UTC" if zone is None else zone.key


def rfc3339(time: datetime | None) -> str | None:
    """Return a time in UTC with milliseconds and Z, as all JSON of this library writes it."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
LONGEST = timedelta(days=36_500)
"""The longest duration that is accepted: 100 years. A time of this century plus this duration is a time that every
store keeps exactly."""
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}


def read_duration(text: str, *, in_seconds: bool = False) -> timedelta:
    """Return the duration that a text such as `500ms`, `30s`, `5m`, `2h` or `7d` means. Raises ValueError.

    A number without a unit is refused, unless it is 0 or `in_seconds` is set.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("give a number with a unit, such as 500ms, 30s, 5m, 2h or 7d")
    if match[2] is None and float(match[1]) and not in_seconds:
        raise ValueError(f"it has no unit; write {match[1]}m for minutes, or {match[1]}s for seconds")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"the duration is too long; give at most {LONGEST.days} days")
    return timedelta(seconds=seconds)


def write_duration(duration: timedelta) -> str:
    """Return a text that `read_duration` reads as this duration: `30d`, `90s`, `500ms`."""
    micros = duration // timedelta(microseconds=1)
    if not micros:
        return "0s"
    for unit, size in _MICROSECONDS.items():
        # A few minutes are written in seconds, as in the documentation of the settings: 60s, 120s.
        if micros % size == 0 and (unit != "m" or micros >= 5 * size):
            return f"{micros // size}{unit}"
    return f"{duration.total_seconds():.6f}".rstrip("0") + "s"


def duration_in_words(duration: timedelta) -> str:
    """Return a duration for people, in its two largest units: `40 s`, `3 h 12 min`, `2 d 4 h`."""
    seconds = max(round(duration.total_seconds()), 0)
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit} {rest} {smaller}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"


SLOWEST = 1e-6
"""The lowest rate: a call in twelve days. With a much lower rate, the next slot could be beyond the calendar."""


def read_rate(value: object) -> float | None:
    """Return the calls per second that a value such as `10` or `"2"` means; None for `unlimited`. Raises ValueError."""
    if isinstance(value, str) and value.strip().lower() == "unlimited":
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(cast("float", value))
    except (TypeError, ValueError):
        found = math.nan
    if not is_rate(found):
        raise ValueError(f"give calls per second, at least {SLOWEST:f}, such as 10 or 0.5, or unlimited")
    return found


def is_rate(rate: float) -> bool:
    """Return whether a queue can have this rate, in calls per second."""
    return SLOWEST <= rate < math.inf


def rate_in_words(rate: float | None) -> str:
    """Return a rate for people: `10 calls/s`, or `unlimited`."""
    return "unlimited" if rate is None else f"{rate:g} calls/s"


LONGEST_NAME = 60


def by_person(who: str | None, text: str | None, done: str) -> str:
    """Return a person's reason with their name, such as `a wrong date (by Mary)`; without a reason, what was `done`."""
    if not text:
        return f"{done} by {who or 'a person'}"
    return text if who is None else f"{text} (by {who})"


def read_name(text: str) -> str:
    """Return the name of a person on one line. Raises ValueError for an empty or too long name."""
    name = printable_line(" ".join(text.split()))
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"give a name of 1 to {LONGEST_NAME} characters")
    return name
