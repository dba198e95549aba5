"""Times as stores keep them: whole microseconds since 1970-01-01 UTC, which sort as numbers and lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """Microseconds since 1970 UTC. A naive time raises `TypeError`: it names no instant."""
    return (time - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time at these microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def to_micros_or_none(time: datetime | None) -> int | None:
    """As `to_micros`; None stays None."""
    return None if time is None else (time - EPOCH) // _MICROSECOND


def from_micros_or_none(micros: int | None) -> datetime | None:
    """As `from_micros`; None stays None."""
    return None if micros is None else EPOCH + timedelta(microseconds=micros)
