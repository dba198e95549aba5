"""A silence of 8x8: a time in which it should have sent events of the calls placed by then, and sent none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

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


def arrived(last: datetime, at: datetime) -> dict[str, Any]:
    """What a receiver notes of an event that arrives after the `last` one, or after it began to listen."""
    silent = {"silent_since": last, "silent_until": at} if at - last > SILENCE[0][0] else {}
    return {"event_at": at, **silent}


async def last_silence(
    known: Sequence[tuple[datetime, datetime]], placed: Callable[[datetime], Awaitable[int]], *, now: datetime
) -> Silence | None:
    """The last one of lately, of these long times without an event, in which 8x8 should have sent some.

    One that lasts until `now` goes on. `placed` counts the calls that were placed by a time, and have no outcome.
    """
    for since, until in sorted(known, key=itemgetter(1), reverse=True):
        for within, fewest in SILENCE if until > now - LATELY else ():
            calls = await placed(until - within) - await placed(since) if until - since > within else 0
            if calls >= fewest:
                return Silence(since, until, calls if until == now else await placed(until), until == now)
    return None
