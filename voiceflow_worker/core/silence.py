"""A silence of 8x8: a time in which it should have sent events of the calls placed by then, and sent none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import NamedTuple

SILENCE = ((timedelta(seconds=45), 50), (timedelta(seconds=90), 5))
"""After how long, and of how many calls, 8x8 should have sent some event: of many, somebody is busy or answers at once;
of a few, nobody rings for longer, and one person may talk for long."""
LATELY = timedelta(minutes=15)
"""How long after it has ended a silence of 8x8 is told. Then outcomes that lack are overdue."""


class Silence(NamedTuple):
    """A time in which no event of 8x8 arrived, and the calls placed in it that have no outcome; it may go on."""

    since: datetime
    until: datetime
    calls: int
    goes_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """When the last event arrived at a receiver, and the last long time in which none did."""

    event_at: datetime | None = None
    silent_since: datetime | None = None
    silent_until: datetime | None = None


def arrived(before: Listening, *, began: datetime, at: datetime) -> Listening:
    """What a receiver that began to listen then knows once an event has arrived."""
    last = before.event_at or began
    is_long = at - last > SILENCE[0][0]
    return Listening(
        event_at=at,
        silent_since=last if is_long else before.silent_since,
        silent_until=at if is_long else before.silent_until,
    )


async def last_silence(
    known: Sequence[Listening],
    placed: Callable[[datetime], Awaitable[int]],
    *,
    heard: datetime | None,
    now: datetime,
) -> Silence | None:
    """The last silence, of lately, in which 8x8 should have sent events; the one that goes on since `heard`, if given.

    `placed` counts the calls that were placed by a time, and have no outcome.
    """
    found = [] if heard is None else [(heard, now)]
    found += [(each.silent_since, each.silent_until) for each in known if each.silent_since and each.silent_until]
    for since, until in sorted(found, key=itemgetter(1), reverse=True):
        for within, fewest in SILENCE if until > now - LATELY else ():
            calls = await placed(until - within) - await placed(since) if until - since > within else 0
            if calls >= fewest:
                return Silence(since, until, calls if until == now else await placed(until), until == now)
    return None
