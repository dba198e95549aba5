"""Times in the headers of an answer: `Retry-After` in both of its forms, and `Date`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from httpx import Headers

LONGEST_WAIT = timedelta(hours=1)
"""The longest Retry-After that is obeyed. During a longer outage, 8x8 gets one request an hour; a wrong value in a
header ("86400000") must not stop a queue for years."""

# RFC 9110 §10.2.3 has whole seconds only; a decimal fraction is accepted, as its meaning is clear.
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


def read_retry_after(headers: Headers, *, now: datetime) -> timedelta | None:
    """The wait that an answer asks for (RFC 9110 §10.2.3), at most `LONGEST_WAIT`; None without a time in the future.

    A date counts from the answer's own Date, so that a wrong clock on either side does not matter, and from `now` where
    there is none. Of several Retry-After headers the longest counts.
    """
    texts = headers.get_list("retry-after")
    if not texts:
        return None
    since = read_date(headers) or now
    waits = [_wait(text.strip(), since=since) for text in texts]
    longest = max((wait for wait in waits if wait is not None), default=None)
    return longest if longest is not None and longest > timedelta(0) else None


def read_date(headers: Headers) -> datetime | None:
    """The answer's Date (RFC 9110 §6.6.1), aware and in UTC; None when there is not exactly one that can be read."""
    dates = headers.get_list("date")
    return _http_date(dates[0]) if len(dates) == 1 else None


def _wait(text: str, *, since: datetime) -> timedelta | None:
    if _SECONDS.fullmatch(text):
        # As a float: thousands of digits are infinite seconds here, and an error in int().
        return timedelta(seconds=min(float(text), LONGEST_WAIT.total_seconds()))
    until = _http_date(text)
    return None if until is None else min(until - since, LONGEST_WAIT)


@lru_cache(maxsize=16)  # under load, thousands of answers have the same Date: 3 µs each
def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        # The asctime form (RFC 9110 §5.6.7) has no zone; all HTTP dates are in UTC.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
