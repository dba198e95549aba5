"""Times and durations that a program passes: one that no store could keep is refused where a call is made."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import LONGEST

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""The end of the valid times. Until then, a floating-point number of seconds is exact to the microsecond, and a time
can be written in every time zone."""
LONGEST_KEY = 200
"""The most characters of a text that is part of a key in the store. An index of PostgreSQL holds 2,700 bytes, and a
character takes up to four."""
_STEP, _HOUR = timedelta(minutes=15), timedelta(hours=1)
"""The offsets of all clocks of today are multiples of this one. Those of local mean times, such as +06:55, are not."""


def offset_problem(offset: timedelta) -> str | None:
    """Return the error message for an offset from UTC that no clock has, as a clause; None for others."""
    return "whose offset no clock has" if offset % _STEP or not -12 <= offset / _HOUR <= 14 else None


def plain_time(name: str, time: object) -> datetime:
    """Return a datetime of any library as one of Python's own. Raise InvalidInputError for what is none.

    Subclasses of datetime, such as those of pandas and pendulum, calculate in their own ways.
    """
    with suppress(TypeError, ValueError):  # pandas has a datetime that is no time
        if isinstance(time, datetime):
            whole = (time.year, time.month, time.day, time.hour, time.minute, time.second, time.microsecond)
            return datetime(*whole, tzinfo=time.tzinfo, fold=time.fold)
    raise InvalidInputError(f"{name} is {time!r}; give a datetime with a time zone, such as datetime.now(UTC)")


def time_problem(name: str, time: datetime | None) -> str | None:
    """Return the error message for an invalid time; None if the time is valid or not given."""
    if time is None:
        return None
    written = f"{name} is {time.isoformat()}"
    if (offset := time.utcoffset()) is None:
        return f"{written}, without a time zone; set its tzinfo, such as UTC"
    if (problem := offset_problem(offset)) is not None:
        return f"{written}, {problem}; set its tzinfo to a ZoneInfo (with pytz, use localize)"
    if not isinstance(time.tzinfo, timezone) and 1 < time.year < LATEST.year:
        exists = time.astimezone(UTC).astimezone(time.tzinfo).replace(tzinfo=None) == time.replace(tzinfo=None)
        if not exists:
            return f"{written}, which does not exist: the clocks skip it; give another time"
    return f"{written}; give a time before the year {LATEST.year}" if time >= LATEST else None


def checked_time(name: str, time: datetime | None) -> datetime | None:
    """Return the time as one of Python's own, or None for none. Raise InvalidInputError for an invalid one."""
    time = None if time is None else plain_time(name, time)
    if (problem := time_problem(name, time)) is not None:
        raise InvalidInputError(problem)
    return time


def checked_duration(name: str, value: object, *, positive: bool = False) -> timedelta:
    """Return the duration. Raise InvalidInputError for one that no store keeps and, if `positive`, for 0 and less."""
    if not isinstance(value, timedelta):
        problem = "not a timedelta"
    elif positive and value <= timedelta():
        problem = "not above 0"
    elif abs(value) > LONGEST:
        problem = f"longer than {LONGEST.days} days"
    else:
        return value
    raise InvalidInputError(f"{name} is {value}, which is {problem}; give a timedelta, such as timedelta(seconds=30)")
