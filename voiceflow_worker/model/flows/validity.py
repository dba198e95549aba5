"""The `validUntil` of a request: read leniently, and written as 8x8 documents it (`YYYY-MM-DDTHH:MM:SS.SSSZ`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

VALIDITY_EXPIRED = -1015
"""The 8x8 code for a `validUntil` that has passed."""

# 8x8 documents three decimals and UTC. Here, 0 to 9 decimals are accepted, but no other zone than Z.
_VALID_UNTIL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z", re.ASCII)


def read_valid_until(value: object) -> datetime | None:
    """The time in a `validUntil`, as an aware datetime in UTC; None if it is not a valid time."""
    if not isinstance(value, str) or _VALID_UNTIL.fullmatch(value) is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # the 30th of February, 25 o'clock
        return None


def write_valid_until(moment: datetime) -> str:
    """The time as 8x8 documents it, rounded down to the millisecond.

    Raises ValueError for a time without a zone.
    """
    if moment.tzinfo is None:
        raise ValueError(
            f"valid_until needs a time zone: {moment.isoformat()}; use datetime.now(UTC) + … or an aware datetime"
        )
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
