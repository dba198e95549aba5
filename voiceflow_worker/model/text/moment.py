"""Times as text, in UTC: to the second for people, to the millisecond in JSON."""

from __future__ import annotations

from datetime import UTC, datetime


def in_words(at: datetime) -> str:
    """The time as `2026-11-20 09:00:00 UTC`, rounded down to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def rfc3339(time: datetime | None) -> str | None:
    """A time in UTC with milliseconds and Z, as all JSON of this library writes it."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
