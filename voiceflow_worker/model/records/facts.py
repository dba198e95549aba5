"""The facts of a call: the few values that a report counts. Stores keep them beside the call, to avoid decoding it.

A store keeps facts for months. If their layout or meaning changes, the number of the store's schema must change too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any, TypeAlias

from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.records.cancellation import counted_reason
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import REACHED
from voiceflow_worker.model.reports.verdict import VerdictKind

SLOT = 900
"""The length of a time slot in seconds. The UTC offset of every zone in use is a multiple of this length."""

Facts: TypeAlias = list[Any]
"""The facts of some calls, in one flat list of rows of `WIDTH` plain JSON values.

The values of a row are: the text that `counted_call` reads, or `WAITING` for a call without POSTs that is not
cancelled; the session that `session_in` reads; the price that `price_in` reads; the seconds of an answered call; the
beginning of the first attempt and the end of the last session, in microseconds since 1970 UTC; the time zone of the
call; and its number, if it has no zone or its text is `WAITING`. None stands for a missing value. For each further
session or price, the call has another row, in which all other values are missing.

There is no list for each call: Python's garbage collector would visit all of these lists again and again, which would
take longer than all other work.
"""
WIDTH = 8
WAITING = ""
"""The text of a call without POSTs that is not cancelled."""

_AT_ONCE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SLOT = timedelta(seconds=SLOT)
_NO_CODE = "?"


@dataclass(frozen=True, slots=True)
class CountedCall:
    """The way in which a call counts in a report. The call has POSTs, or is cancelled.

    `country` is ISO 3166; `refusal` is the code of a refused call. `cancelled` is the reason of a cancelled call.
    """

    country: str | None
    attempts: int
    has_outcome: bool
    is_answered: bool
    is_refused: bool
    refusal: int | None
    cancelled: str | None


def facts_of_each(jobs: Sequence[Job]) -> Iterator[Facts]:
    """The facts of calls, in portions that each take about a millisecond."""
    for start in range(0, len(jobs), _AT_ONCE):
        yield [value for job in jobs[start : start + _AT_ONCE] for value in facts_of(job)]


def facts_of(job: Job) -> Facts:
    """The facts of one call."""
    number, zone, posts = job.destination, job.time_zone, job.posts
    cancelled = counted_reason(job)
    if not posts and cancelled is None:
        return [WAITING, None, None, None, None, None, zone, number]
    country = country_of(number) or ""
    attempts = 0
    sessions: list[int] = []
    prices: list[str] = []
    outcome: Outcome | None = None
    is_answered = False
    began: datetime | None = None
    ended: datetime | None = None
    for post in posts:
        if is_attempt := post.may_have_rung:
            attempts += 1
            if began is None or post.began_at < began:
                began = post.began_at
        charge = post.charge
        if charge is not None and charge.currency is not None:
            prices.append(f"{country}|{charge.price}|{charge.currency}")
        if post.outcome is not None:
            outcome = post.outcome
            is_answered = outcome.status_of(number) in REACHED
            if is_attempt:
                if outcome.ended_at is not None and (ended is None or outcome.ended_at > ended):
                    ended = outcome.ended_at
                sessions.append(((outcome.started_at or post.began_at) - _EPOCH) // _SLOT * 2 + is_answered)
    end = "" if outcome is None else "answered" if is_answered else "ended"
    last = posts[-1] if posts else None
    is_refused = last is not None and last.verdict is VerdictKind.REFUSED
    refusal = "" if last is None or not is_refused else _NO_CODE if last.code is None else last.code
    ending = "" if cancelled is None else f"|{cancelled}"
    facts: Facts = []
    for session, price in zip_longest(sessions[1:], prices[1:]):
        facts += (None, session, price, None, None, None, None, None)
    facts += [
        f"{country}|{attempts}|{end}|{refusal}{ending}",
        sessions[0] if sessions else None,
        prices[0] if prices else None,
        outcome.seconds if outcome is not None and is_answered else None,
        None if began is None else (began - _EPOCH) // _MICROSECOND,
        None if ended is None else (ended - _EPOCH) // _MICROSECOND,
        zone,
        number if zone is None else None,
    ]
    return facts


def counted_call(text: str) -> CountedCall:
    """The way in which a call counts, from the first value of its facts."""
    country, attempts, end, refusal, *cancelled = text.split("|", 4)
    return CountedCall(
        country=country or None,
        attempts=int(attempts),
        has_outcome=end != "",
        is_answered=end == "answered",
        is_refused=refusal != "",
        refusal=int(refusal) if refusal not in {"", _NO_CODE} else None,
        cancelled=cancelled[0] if cancelled else None,
    )


def with_reason(text: str, reason: str) -> str:
    """The text that `counted_call` reads, with another reason for a cancelled call."""
    return "|".join((*text.split("|", 4)[:4], reason))


def session_in(number: int) -> tuple[int, int]:
    """The time slot of a session, counted from 1970 UTC, and 1 if the person answered, else 0."""
    return divmod(number, 2)


def price_in(text: str) -> tuple[str | None, Decimal, str]:
    """The country, the price and the currency of a session."""
    country, price, currency = text.split("|", 2)
    return country or None, Decimal(price), currency


def time_of(micros: int | None) -> datetime | None:
    """The time that a fact gives in microseconds since 1970 UTC; None for a missing value."""
    return None if micros is None else _EPOCH + micros * _MICROSECOND
