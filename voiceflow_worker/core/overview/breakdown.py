"""The breakdown of a report by hours, countries, attempts, refusals and so on. It counts the facts of each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TypeVar

from anyio.lowlevel import checkpoint

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.time_zone import zone_named, zone_of_number
from voiceflow_worker.model.records.facts import (
    SLOT,
    WAITING,
    WIDTH,
    Facts,
    counted_call,
    price_in,
    session_in,
    time_of,
    with_reason,
)
from voiceflow_worker.model.reports.status import api_code
from voiceflow_worker.model.text.moment import rfc3339

Value = TypeVar("Value")

PAGE = 2000
"""The most calls in one trip to the store."""
_MOST_PRICES = 10_000
"""The most different prices that are counted before they are added up."""
_MOST_REASONS = 10_000
"""The most different texts that are counted before the rare reasons of cancelled calls become one entry."""
_KEPT_REASONS = 100
_OTHER_REASONS = "other reasons"
_MOST_LOOKED_UP = 1000
"""The most numbers whose zone is looked up, for calls without a zone. A lookup takes 50 µs, and this many are enough to
find the most frequent zone."""


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
class CancelledCalls:
    """The number of calls that were cancelled for one reason."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The figures of a report that need each call to be read. Deleted calls do not count.

    `by_hour` has the hours of the day in `time_zone`: the most frequent time zone of the calls, else UTC. A call
    without a time zone counts with that of its number. `attempts` counts calls by the number of their attempts.
    `answered_seconds` is the total duration of the answered calls. `began_at` is the time of the first POST, and
    `ended_at` the end of the last session.
    """

    time_zone: str
    by_hour: tuple[HourFigures, ...]
    by_country: tuple[CountryFigures, ...]
    attempts: Mapping[int, int]
    refusals: tuple[RefusedCalls, ...]
    cancellations: tuple[CancelledCalls, ...]
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
            "cancellations": [{"reason": each.reason, "count": each.count} for each in self.cancellations],
            "answered_seconds": self.answered_seconds,
            "began_at": rfc3339(self.began_at),
            "ended_at": rfc3339(self.ended_at),
            "duration_seconds": self.duration_seconds,
        }


class BreakdownCount:
    """Counts the facts of calls. Equal facts are counted together, so memory does not grow with the number of calls."""

    def __init__(self) -> None:
        self._calls: Counter[str | None] = Counter()
        self._sessions: Counter[int | None] = Counter()
        self._prices: Counter[str | None] = Counter()
        self._costs: dict[str | None, dict[str, Decimal]] = {}
        self._waiting: Counter[str | None] = Counter()
        self._zones: Counter[str | None] = Counter()
        self._zones_looked_up = 0
        self._answered_seconds = 0.0
        self._began: int | None = None
        self._ended: int | None = None

    async def add_all(self, calls: Iterator[Facts]) -> int:
        """Count calls; returns how many. Other tasks may run meanwhile."""
        added = 0
        for some in calls:
            added += self.add(some)
            await checkpoint()
        return added

    def add(self, calls: Facts) -> int:
        """Count calls; returns how many. A thousand calls take about a millisecond."""
        seconds: list[float | None]
        texts, sessions, prices, seconds, began, ended, zones, numbers = (calls[at::WIDTH] for at in range(WIDTH))
        if self._zones_looked_up < _MOST_LOOKED_UP:
            self._look_up_zones(numbers, zones)
        if WAITING in texts:
            waiting = (number for text, number in zip(texts, numbers, strict=True) if text == WAITING)
            self._waiting.update(map(country_of, waiting))
        self._calls.update(texts)
        if len(self._calls) > _MOST_REASONS:
            self._join_rare_reasons()
        self._sessions.update(sessions)
        self._prices.update(prices)
        if len(self._prices) > _MOST_PRICES:
            self._add_up_prices()
        self._answered_seconds = sum(filter(None, seconds), self._answered_seconds)
        self._began = min((time for time in (self._began, *began) if time is not None), default=None)
        self._ended = max((time for time in (self._ended, *ended) if time is not None), default=None)
        self._zones.update(zones)
        return len(texts) - texts.count(None)

    def _look_up_zones(self, numbers: Iterable[str | None], zones: Iterable[str | None]) -> None:
        without = (number for number, zone in zip(numbers, zones, strict=True) if number is not None and zone is None)
        for number in islice(without, _MOST_LOOKED_UP - self._zones_looked_up):
            self._zones_looked_up += 1
            self._zones[zone_of_number(number).zone or "UTC"] += 1

    def _join_rare_reasons(self) -> None:
        cancelled = {text: count for text, count in _present(self._calls) if text and counted_call(text).cancelled}
        for text in sorted(cancelled, key=lambda text: -cancelled[text])[_KEPT_REASONS:]:
            # Not the count in `cancelled`: the text for other reasons may be among the rare ones, and may have grown.
            count = self._calls.pop(text)
            self._calls[with_reason(text, _OTHER_REASONS)] += count

    def _add_up_prices(self) -> None:
        for text, count in _present(self._prices):
            country, price, currency = price_in(text)
            costs = self._costs.setdefault(country, {})
            costs[currency] = costs.get(currency, Decimal(0)) + price * count
        self._prices.clear()

    def result(self) -> Breakdown:
        """The figures of all calls counted so far."""
        self._add_up_prices()
        zones = dict(_present(self._zones))
        zone = min(zones, key=lambda name: (-zones[name], name == "UTC", name), default="UTC")
        hours: dict[int, list[int]] = {}
        for session, count in _present(self._sessions):
            slot, answered = session_in(session)
            hour = hours.setdefault(datetime.fromtimestamp(slot * SLOT, zone_named(zone) or UTC).hour, [0, 0])
            hour[0] += count
            hour[1] += count * answered
        countries = {country: [count, 0, 0] for country, count in self._waiting.items()}
        attempts, refusals, cancelled = Counter[int](), Counter[int | None](), Counter[str]()
        if self._waiting:
            attempts[0] = self._waiting.total()
        for text, count in _present(self._calls):
            if text == WAITING:
                continue
            call = counted_call(text)
            figures = countries.setdefault(call.country, [0, 0, 0])
            figures[0] += count
            figures[1] += count * call.has_outcome
            figures[2] += count * call.is_answered
            attempts[call.attempts] += count
            if call.is_refused:
                refusals[call.refusal] += count
            if call.cancelled is not None:
                cancelled[call.cancelled] += count
        return Breakdown(
            time_zone=zone,
            by_hour=tuple(
                HourFigures(hour=at, attempts=each[0], answered=each[1]) for at, each in sorted(hours.items())
            ),
            by_country=tuple(
                CountryFigures(
                    country=country, total=each[0], ended=each[1], answered=each[2], cost=self._costs.get(country, {})
                )
                for country, each in sorted(countries.items(), key=lambda found: (-found[1][0], found[0] or "~"))
            ),
            attempts=dict(sorted(attempts.items())),
            refusals=tuple(
                RefusedCalls(code=code, meaning=api_code(code).meaning if code is not None else "no code", count=count)
                for code, count in refusals.most_common()
            ),
            cancellations=tuple(
                CancelledCalls(reason=reason, count=count)
                for reason, count in sorted(cancelled.items(), key=lambda found: (-found[1], found[0]))
            ),
            answered_seconds=round(self._answered_seconds, 3),
            began_at=time_of(self._began),
            ended_at=time_of(self._ended),
        )


def _present(counted: Counter[Value | None]) -> Iterator[tuple[Value, int]]:
    """The counts without that of None, which stands for missing values."""
    return ((value, count) for value, count in counted.items() if value is not None)


async def read_breakdown(
    store: Store, queue: str, batch_id: str | None, *, counted: Callable[[int], None] | None = None
) -> Breakdown:
    """The breakdown of a queue or of a batch, from one pass over the facts of its calls.

    `counted` is called after each page with the number of calls in it.
    """
    count = BreakdownCount()
    read = partial(store.jobs.facts, queue, batch_id=batch_id, limit=PAGE)
    calls, last = await read()
    while last is not None:
        # The store reads the next page while this one is counted.
        (calls, last), added = await gather(partial(read, after=last), partial(count.add_all, calls))
        if counted is not None:
            counted(added)
    return count.result()
