"""The breakdown of a report by hours, countries, attempts, refusals and duration. It reads each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import islice

from anyio.lowlevel import checkpoint

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.model.jobs.job import CountedCall
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.time_zone import zone_named, zone_of_number
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import REACHED, api_code
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.moment import rfc3339

PAGE = 2000
"""The most calls in one trip to the store."""
_SLOT = 900
"""The length of a time slot in seconds. Every zone in use differs from UTC by a whole number of quarters of an hour."""
_MOST_LOOKED_UP = 1000
"""For calls without a zone, the zone of at most this many numbers is looked up. A lookup takes 50 µs, and this many are
enough to find the most frequent zone."""


def rate_of(answered: int, ended: int) -> float | None:
    """The share of answered calls, 0 to 1; None if no call has ended."""
    return round(answered / ended, 4) if ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """Counts of all attempts and of answered attempts in one hour of the day, redials included."""

    hour: int
    attempts: int
    answered: int

    @property
    def answer_rate(self) -> float | None:
        """The share of answered attempts."""
        return rate_of(self.answered, self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountryFigures:
    """Counts and cost of the calls to one country (ISO 3166; None if unknown). `ended` counts calls with an outcome."""

    country: str | None
    total: int
    ended: int
    answered: int
    cost: Mapping[str, Decimal]

    @property
    def answer_rate(self) -> float | None:
        """The share of answered calls among those that ended with an outcome."""
        return rate_of(self.answered, self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCalls:
    """The number of calls that 8x8 refused with one code, and the meaning of the code."""

    code: int | None
    meaning: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The figures of a report that need each call to be read. Deleted calls do not count.

    `by_hour` has the hours of the day in `time_zone`, the most frequent time zone of the calls (by default that of the
    number), else UTC. `attempts` counts calls by the number of their attempts. `answered_seconds` is the total duration
    of the answered calls. `began_at` is the time of the first POST, and `ended_at` the end of the last session.
    """

    time_zone: str
    by_hour: tuple[HourFigures, ...]
    by_country: tuple[CountryFigures, ...]
    attempts: Mapping[int, int]
    refusals: tuple[RefusedCalls, ...]
    answered_seconds: float
    began_at: datetime | None
    ended_at: datetime | None

    @property
    def attempts_per_person(self) -> float | None:
        """The mean number of attempts of the calls that had at least one."""
        called = sum(calls for attempts, calls in self.attempts.items() if attempts)
        made = sum(attempts * calls for attempts, calls in self.attempts.items())
        return round(made / called, 2) if called else None

    @property
    def duration_seconds(self) -> float | None:
        """The time from the first POST to the end of the last session."""
        if self.began_at is None or self.ended_at is None:
            return None
        return round((self.ended_at - self.began_at).total_seconds(), 3)

    def as_json(self) -> dict[str, object]:
        """The figures for scripts."""
        return {
            "time_zone": self.time_zone,
            "by_hour": [
                {"hour": at.hour, "attempts": at.attempts, "answered": at.answered, "answer_rate": at.answer_rate}
                for at in self.by_hour
            ],
            "by_country": [
                {
                    "country": each.country,
                    "total": each.total,
                    "ended": each.ended,
                    "answered": each.answered,
                    "answer_rate": each.answer_rate,
                    "cost": {currency: float(price) for currency, price in sorted(each.cost.items())},
                }
                for each in self.by_country
            ],
            "attempts": {str(attempts): calls for attempts, calls in self.attempts.items()},
            "attempts_per_person": self.attempts_per_person,
            "refusals": [{"code": each.code, "meaning": each.meaning, "count": each.count} for each in self.refusals],
            "answered_seconds": self.answered_seconds,
            "began_at": rfc3339(self.began_at),
            "ended_at": rfc3339(self.ended_at),
            "duration_seconds": self.duration_seconds,
        }


class BreakdownCount:
    """Counts calls one by one, in constant memory."""

    def __init__(self) -> None:
        self._slots: dict[int, list[int]] = {}
        self._zones: Counter[str] = Counter()
        self._countries: dict[str | None, list[int]] = {}
        self._zones_looked_up = 0
        self._costs: dict[str | None, dict[str, Decimal]] = {}
        self._attempts: Counter[int] = Counter()
        self._refusals: Counter[int | None] = Counter()
        self._answered_seconds = 0.0
        self._began_at: datetime | None = None
        self._ended_at: datetime | None = None

    def add_some(self, calls: Iterator[CountedCall], *, most: int = 100) -> int:
        """Count up to `most` further calls, which takes about a millisecond; returns how many. 0 means the end."""
        counted = 0
        for counted, call in enumerate(islice(calls, most), 1):  # noqa: B007 - it is returned
            self.add(call)
        return counted

    async def add_all(self, calls: Iterator[CountedCall]) -> None:
        """Count calls. Other tasks may run meanwhile."""
        while self.add_some(calls):
            await checkpoint()

    def add(self, job: CountedCall) -> None:
        """Count a call."""
        destination = job.destination
        country = country_of(destination)
        self._add_zone(job)
        figures = self._countries.get(country)
        if figures is None:
            figures, self._costs[country] = self._countries.setdefault(country, [0, 0, 0]), {}
        figures[0] += 1
        attempts, outcome, is_reached = 0, None, False
        for post in job.posts:
            if is_attempt := post.may_have_rung:
                attempts += 1
                if self._began_at is None or post.began_at < self._began_at:
                    self._began_at = post.began_at
            charge = post.charge
            if charge is not None and charge.currency is not None:
                costs = self._costs[country]
                costs[charge.currency] = costs.get(charge.currency, Decimal(0)) + charge.price
            if post.outcome is not None:
                outcome = post.outcome
                is_reached = outcome.status_of(destination) in REACHED
                if is_attempt:
                    self._add_session(outcome, post.began_at, is_reached=is_reached)
        self._attempts[attempts] += 1
        if outcome is not None:
            figures[1] += 1
            if is_reached:
                figures[2] += 1
                self._answered_seconds += outcome.seconds or 0.0
        if job.posts and job.posts[-1].verdict is VerdictKind.REFUSED:
            self._refusals[job.posts[-1].code] += 1

    def _add_zone(self, job: CountedCall) -> None:
        if job.time_zone is not None:
            self._zones[job.time_zone] += 1
        elif self._zones_looked_up < _MOST_LOOKED_UP:
            self._zones_looked_up += 1
            self._zones[zone_of_number(job.destination).zone or "UTC"] += 1

    def _add_session(self, outcome: Outcome, began_at: datetime, *, is_reached: bool) -> None:
        if outcome.ended_at is not None and (self._ended_at is None or outcome.ended_at > self._ended_at):
            self._ended_at = outcome.ended_at
        slot = self._slots.setdefault(int((outcome.started_at or began_at).timestamp()) // _SLOT, [0, 0])
        slot[0] += 1
        slot[1] += is_reached

    def result(self) -> Breakdown:
        """The figures of all calls counted so far."""
        zones = self._zones
        zone = min(zones, key=lambda name: (-zones[name], name == "UTC", name), default="UTC")
        hours: dict[int, list[int]] = {}
        for slot, (attempts, answered) in self._slots.items():
            hour = hours.setdefault(datetime.fromtimestamp(slot * _SLOT, zone_named(zone) or UTC).hour, [0, 0])
            hour[0] += attempts
            hour[1] += answered
        return Breakdown(
            time_zone=zone,
            by_hour=tuple(
                HourFigures(hour=at, attempts=each[0], answered=each[1]) for at, each in sorted(hours.items())
            ),
            by_country=tuple(
                CountryFigures(
                    country=country, total=each[0], ended=each[1], answered=each[2], cost=self._costs[country]
                )
                for country, each in sorted(self._countries.items(), key=lambda found: (-found[1][0], found[0] or "~"))
            ),
            attempts=dict(sorted(self._attempts.items())),
            refusals=tuple(
                RefusedCalls(code=code, meaning=api_code(code).meaning if code is not None else "no code", count=count)
                for code, count in self._refusals.most_common()
            ),
            answered_seconds=round(self._answered_seconds, 3),
            began_at=self._began_at,
            ended_at=self._ended_at,
        )


async def read_breakdown(store: Store, queue: str, batch_id: str | None) -> Breakdown:
    """The breakdown of a queue or of a batch, from one pass over its calls."""
    count = BreakdownCount()
    read = partial(store.jobs.posts, queue, batch_id=batch_id, limit=PAGE)
    calls, last = await read()
    while last is not None:
        # The store reads the next page while this one is counted.
        (calls, last), _ = await gather(partial(read, after=last), partial(count.add_all, calls))
    return count.result()
