"""Times for people: in UTC, to the second, one form wherever this library speaks to them."""

from __future__ import annotations

from datetime import UTC, datetime


def in_words(at: datetime) -> str:
    """Such as `2026-11-20 09:00:00 UTC`; what lies within a second is cut off."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
