"""Times as text: to the second for people, and in UTC to the millisecond in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def in_words(at: datetime, zone: ZoneInfo | None = None) -> str:
    """The time as `2026-11-20 09:00:00 UTC`, rounded down to the second; in `zone`, if it is given."""
    return f"{at.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S} {zone_words(zone)}"


def zone_words(zone: ZoneInfo | None) -> str:
    """The name of a zone; UTC for None."""
    return "UTC" if zone is None else zone.key


def rfc3339(time: datetime | None) -> str | None:
    """A time in UTC with milliseconds and Z, as all JSON of this library writes it."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
