"""A breakdown counted from whole jobs, one by one: what a report must show, however it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from voiceflow_worker import Job, JobState
from voiceflow_worker.core.overview.breakdown import (
    Breakdown,
    CancelledCalls,
    CountryFigures,
    HourFigures,
    RefusedCalls,
)
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.time_zone import zone_named, zone_of_number
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import REACHED, api_code
from voiceflow_worker.model.reports.verdict import VerdictKind

_SLOT = 900
MOST_LOOKED_UP = 1000


def plain_breakdown(jobs: Iterable[Job]) -> Breakdown:
    """The breakdown of these jobs, which are in the order of their ids."""
    count = _PlainCount()
    for job in jobs:
        count.add(job)
    return count.result()


class _PlainCount:
    def __init__(self) -> None:
        self._slots: dict[int, list[int]] = {}
        self._zones: Counter[str] = Counter()
        self._countries: dict[str | None, list[int]] = {}
        self._zones_looked_up = 0
        self._costs: dict[str | None, dict[str, Decimal]] = {}
        self._attempts: Counter[int] = Counter()
        self._refusals: Counter[int | None] = Counter()
        self._cancelled: Counter[str] = Counter()
        self._answered_seconds = 0.0
        self._began_at: datetime | None = None
        self._ended_at: datetime | None = None

    def add(self, job: Job) -> None:
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

        if job.state is JobState.CANCELLED:
            self._cancelled[job.reason or "no reason"] += 1

    def _add_zone(self, job: Job) -> None:
        if job.time_zone is not None:
            self._zones[job.time_zone] += 1
        elif self._zones_looked_up < MOST_LOOKED_UP:
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
            cancellations=tuple(
                CancelledCalls(reason=reason, count=count)
                for reason, count in sorted(self._cancelled.items(), key=lambda found: (-found[1], found[0]))
            ),
            answered_seconds=round(self._answered_seconds, 3),
            began_at=self._began_at,
            ended_at=self._ended_at,
        )
