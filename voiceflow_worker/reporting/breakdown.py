"""The breakdown of a report by hours, countries, attempts and so on, counted from the calls page by page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from voiceflow_worker.core.base.reading import find_pages
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.model.jobs.call_json import CallResult, counted_reason, result_of, sip_code_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import (
    REACHED,
    SESSION_STATUSES,
    SIP_CODES,
    SessionStatus,
    api_code,
    session_error,
)
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.wording import rfc3339
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.zones import zone_named

PAGE = 500
"""The most calls in one round trip to the store."""
_MOST_TEXTS = 10_000
"""The most different texts (keys pressed, reasons) that are counted before the rare ones become one entry."""
_KEPT_TEXTS = 100
_MOST_KEYS = 1000
"""The most different keys pressed in a result, which Airflow stores, too; of more, the most frequent ones are kept."""
_MOST_LOOKED_UP = 1000
"""The most numbers whose zone is looked up, for calls without a zone. A lookup takes 50 µs, and this many are enough to
find the most frequent zone."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
"""The length of a time slot. The UTC offset of every zone in use is a multiple of it."""


def rate_of(answered: int, ended: int) -> float | None:
    """The share of answered calls, 0 to 1; None if no call has ended."""
    return round(answered / ended, 4) if ended else None


@dataclass(slots=True)
class Figures:
    """The figures of the attempts in one hour of the day, or of the calls to one country.

    `ended` counts those with an outcome, and `cost` is their known price, by currency.
    """

    total: int = 0
    ended: int = 0
    answered: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict[str, Decimal])

    def add(self, other: Figures) -> None:
        """Add other figures to these."""
        self.total += other.total
        self.ended += other.ended
        self.answered += other.answered
        for currency, price in other.cost.items():
            self.cost[currency] = self.cost.get(currency, Decimal(0)) + price

    @property
    def answer_rate(self) -> float | None:
        """The share of the answered ones among those that ended with an outcome."""
        return rate_of(self.answered, self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The figures of a report that need each call to be read. Deleted calls do not count.

    `by_hour` has the attempts, redials included, by the hour of the day in `time_zone`: the most frequent time zone of
    the calls, else UTC. A call without a time zone counts with that of its number. `by_country` has the calls by the
    country of their number (ISO 3166; None if unknown). `attempts` counts calls by the number of their attempts, and
    `digits` by the pressed keys: of more than 1,000 different ones, the 100 most frequent, and the sum of the others.
    `failures` are the calls that reached nobody, by the reason in words, the most frequent first.
    `dead_numbers` counts calls that failed because their number does not exist, and `bad_sound` those of the answered
    ones whose sound was bad, by the grades of 8x8.
    `answered_seconds` is the total duration of the answered sessions. `began_at` is the time of the first POST, and
    `ended_at` the end of the last session.
    """

    time_zone: str
    by_hour: Mapping[int, Figures]
    failures: Mapping[str, int]
    by_country: Mapping[str | None, Figures]
    attempts: Mapping[int, int]
    digits: Mapping[str, int]
    dead_numbers: int
    bad_sound: int
    answered_seconds: float
    began_at: datetime | None
    ended_at: datetime | None

    def as_json(self) -> dict[str, object]:
        """The figures for scripts."""
        return {
            "time_zone": self.time_zone,
            "by_hour": [
                {"hour": hour, "attempts": each.total, "answered": each.answered, "answer_rate": each.answer_rate}
                for hour, each in self.by_hour.items()
            ],
            "by_country": [
                {
                    "country": country,
                    "total": each.total,
                    "ended": each.ended,
                    "answered": each.answered,
                    "answer_rate": each.answer_rate,
                    "cost": {currency: float(price) for currency, price in sorted(each.cost.items())},
                }
                for country, each in self.by_country.items()
            ],
            "attempts": {str(attempts): calls for attempts, calls in self.attempts.items()},
            "digits": dict(self.digits),
            "failures": dict(self.failures),
            "dead_numbers": self.dead_numbers,
            "bad_sound": self.bad_sound,
            "answered_seconds": self.answered_seconds,
            "began_at": rfc3339(self.began_at),
            "ended_at": rfc3339(self.ended_at),
        }


class _TextCounts:
    """Counts texts. If there are too many different ones, the rare ones become one entry, named `others`."""

    def __init__(self, others: str) -> None:
        self.counts = Counter[str]()
        self._others = others

    def add(self, text: str | None) -> None:
        if text is not None:
            self.counts[text] += 1
            if len(self.counts) > _MOST_TEXTS:
                self.counts = self.frequent()

    def frequent(self) -> Counter[str]:
        """The most frequent texts, and the sum of the others."""
        kept = Counter(dict(self.counts.most_common(_KEPT_TEXTS)))
        if rest := self.counts.total() - kept.total():
            kept[self._others] += rest
        return kept


class BreakdownCount:
    """Counts calls. Its memory does not grow with their number."""

    def __init__(self) -> None:
        self._zones = Counter[str]()
        self._zones_looked_up = 0
        self._slots = defaultdict[int, Figures](Figures)
        self._countries = defaultdict[str | None, Figures](Figures)
        self._attempts = Counter[int]()
        self._digits = _TextCounts("others")
        self._failures = _TextCounts("other reasons")
        self._answered_seconds = 0.0
        self._dead = self._bad_sound = 0
        self._began: datetime | None = None
        self._ended: datetime | None = None

    def add(self, calls: Iterable[Job]) -> None:
        """Count calls. A thousand take some milliseconds."""
        for job in calls:
            self._add(job)

    def _add(self, job: Job) -> None:
        figures, attempts, outcome, is_answered = Figures(total=1), 0, None, False
        for post in job.posts:
            is_attempt = post.may_have_rung
            if is_attempt:
                attempts += 1
                if self._began is None or post.began_at < self._began:
                    self._began = post.began_at
            charge = post.charge
            if charge is not None and charge.currency is not None:
                figures.cost[charge.currency] = figures.cost.get(charge.currency, Decimal(0)) + charge.price
            if post.outcome is not None:
                outcome = post.outcome
                is_answered = job.status_of(post) in REACHED
                if is_answered:
                    self._answered_seconds += outcome.seconds or 0.0
                if is_attempt:
                    self._add_session(outcome, post.began_at, is_answered=is_answered)
        figures.ended, figures.answered = int(outcome is not None), int(is_answered)
        self._countries[country_of(job.number)].add(figures)
        self._bad_sound += bool(is_answered and outcome is not None and outcome.bad_sound)
        self._dead += job.state is JobState.FAILED and result_of(job) == CallResult.DEAD_NUMBER
        self._attempts[attempts] += 1
        self._digits.add(job.digits)
        self._failures.add(why_nobody_was_reached(job))
        if job.time_zone is not None:
            self._zones[job.time_zone] += 1
        elif self._zones_looked_up < _MOST_LOOKED_UP:
            self._zones_looked_up += 1
            self._zones[zone_of_number(job.number).zone or "UTC"] += 1

    def _add_session(self, outcome: Outcome, began_at: datetime, *, is_answered: bool) -> None:
        if outcome.ended_at is not None and (self._ended is None or outcome.ended_at > self._ended):
            self._ended = outcome.ended_at
        slot = ((outcome.started_at or began_at) - _EPOCH) // _SLOT
        self._slots[slot].add(Figures(total=1, ended=1, answered=int(is_answered)))

    def result(self, zone: ZoneInfo | None = None) -> Breakdown:
        """The figures of all calls counted so far, with times in `zone`; by default in UTC, and the hours as said."""
        zones = self._zones
        usual = min(zones, key=lambda name: (-zones[name], name == "UTC", name), default="UTC")
        digits = self._digits.counts if len(self._digits.counts) <= _MOST_KEYS else self._digits.frequent()
        of_hours = zone or zone_named(usual) or ZoneInfo("UTC")
        hours = defaultdict[int, Figures](Figures)
        for slot, each in self._slots.items():
            hours[(_EPOCH + slot * _SLOT).astimezone(of_hours).hour].add(each)
        return Breakdown(
            time_zone=zone.key if zone else usual,
            by_hour=dict(sorted(hours.items())),
            failures=dict(self._failures.counts.most_common()),
            by_country=dict(sorted(self._countries.items(), key=lambda found: (-found[1].total, found[0] or "~"))),
            attempts=dict(sorted(self._attempts.items())),
            digits=dict(sorted(digits.items())),
            dead_numbers=self._dead,
            bad_sound=self._bad_sound,
            answered_seconds=round(self._answered_seconds, 3),
            began_at=self._began.astimezone(zone) if self._began and zone else self._began,
            ended_at=self._ended.astimezone(zone) if self._ended and zone else self._ended,
        )


def why_nobody_was_reached(job: Job) -> str | None:
    """Why an ended call did not reach its person, in words; None if it did, or if that is not known."""
    outcome, post = job.outcome, job.last_post
    if job.state is JobState.CANCELLED:
        return f"cancelled: {counted_reason(job)}"
    if job.state is JobState.EXPIRED:
        return "its time was over before it could be called"
    if job.state not in {JobState.UNREACHED, JobState.FAILED}:
        return None
    if post is not None and post.verdict is VerdictKind.REFUSED:
        return "refused by 8x8" if post.code is None else f"refused by 8x8: {api_code(post.code).meaning}"
    if outcome is None:
        return job.reason or "no reason is known"
    if (sip_code := sip_code_of(job)) is not None and sip_code in SIP_CODES:
        return SIP_CODES[sip_code].meaning
    status = job.outcome_status
    if status is not None and (outcome.code is None or status in {SessionStatus.NO_ANSWER, SessionStatus.BUSY}):
        return SESSION_STATUSES[status].meaning
    return outcome.status_text if outcome.code is None else session_error(outcome.code).meaning


async def read_breakdown(
    store: Store,
    queue: str,
    batch_id: str | None,
    *,
    zone: ZoneInfo | None = None,
    also: Callable[[Sequence[Job]], Awaitable[None]] | None = None,
) -> Breakdown:
    """The breakdown of a queue or of a batch, from one pass over its calls. `also` gets each page of calls."""
    count = BreakdownCount()
    pages = find_pages(store, Listing(queue=queue, batch=batch_id, limit=PAGE))
    async with aclosing(pages):
        async for page in pages:
            count.add(page)
            if also is not None:
                await also(page)
    return count.result(zone)
