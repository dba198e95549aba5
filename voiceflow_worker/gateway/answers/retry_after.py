"""Times in the headers of an answer: `Retry-After`, as seconds or as a date, and `Date`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from voiceflow_worker.gateway.answers.answer import RawHeaders

LONGEST_WAIT = timedelta(hours=1)
"""The longest wait that a Retry-After can cause: a wrong value ("86400000") must not stop a queue for years. If 8x8 is
out of service for longer, it gets one request an hour."""

# RFC 9110 §10.2.3 allows whole seconds only. A decimal fraction is accepted too.
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


def read_retry_after(headers: RawHeaders, *, now: datetime) -> timedelta | None:
    """The wait that an answer asks for (RFC 9110 §10.2.3), at most `LONGEST_WAIT`; None if the answer asks for none.

    A date is compared with the Date of the answer, so that a wrong clock of this machine does not matter. If the answer
    has no Date, it is compared with `now`. If there are several Retry-After headers, the longest wait counts.
    """
    texts = _values(headers, b"retry-after")
    if not texts:
        return None
    since = read_date(headers) or now
    waits = [_wait(text.strip(), since=since) for text in texts]
    longest = max((wait for wait in waits if wait is not None), default=None)
    return longest if longest is not None and longest > timedelta(0) else None


def read_date(headers: RawHeaders) -> datetime | None:
    """The Date of an answer (RFC 9110 §6.6.1), in UTC; None if there is no Date, or several, or an unreadable one."""
    dates = _values(headers, b"date")
    return _http_date(dates[0]) if len(dates) == 1 else None


def _values(headers: RawHeaders, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in headers if each.lower() == name]


def _wait(text: str, *, since: datetime) -> timedelta | None:
    if _SECONDS.fullmatch(text):
        # float() reads thousands of digits as infinity; int() would raise an error.
        return timedelta(seconds=min(float(text), LONGEST_WAIT.total_seconds()))
    until = _http_date(text)
    return None if until is None else min(until - since, LONGEST_WAIT)


@lru_cache(maxsize=16)  # saves 3 µs an answer: under load, thousands have the same Date
def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        # The asctime form (RFC 9110 §5.6.7) has no zone; all HTTP dates are in UTC.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
