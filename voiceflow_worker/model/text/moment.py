"""Times in messages for people: in UTC, to the second."""

from __future__ import annotations

from datetime import UTC, datetime


def in_words(at: datetime) -> str:
    """The time as `2026-11-20 09:00:00 UTC`, rounded down to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
