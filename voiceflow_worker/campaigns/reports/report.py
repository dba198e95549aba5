"""The report of a batch or a queue: states, outcomes, answers, pressed keys, cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import REACHED

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one batch, or of a whole queue if `batch_id` is None.

    `outcomes` counts calls by the outcome of their newest session. `answered` counts the calls that a person answered,
    and `answer_rate` is their share, 0 to 1, of the calls with an outcome: calls that wait, expired, were refused or
    cancelled do not lower it. It is None without outcomes. `digits` counts calls by the pressed keys. `seconds` is the
    total duration of the newest sessions. `cost` is the price of all sessions, by currency, as far as 8x8's log has
    it: that of `priced` calls out of `placed` ones.
    """

    batch_id: str | None
    total: int
    states: Mapping[JobState, int]
    outcomes: Mapping[str, int]
    answered: int
    digits: Mapping[str, int]
    seconds: float = 0.0
    cost: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    placed: int = 0
    priced: int = 0

    @property
    def ended(self) -> int:
        """How many calls ended with an outcome."""
        return sum(self.outcomes.values())

    @property
    def answer_rate(self) -> float | None:
        """The share of answered calls among those that ended with an outcome."""
        return round(self.answered / self.ended, 4) if self.ended else None

    def as_json(self) -> dict[str, object]:
        """The report for scripts, with every state, and the outcomes and key presses that occurred."""
        return {
            "batch_id": self.batch_id,
            "total": self.total,
            "states": {state.value: self.states.get(state, 0) for state in JobState},
            "outcomes": dict(self.outcomes),
            "answered": self.answered,
            "answer_rate": self.answer_rate,
            "digits": dict(self.digits),
            "seconds": self.seconds,
            "cost": {currency: float(price) for currency, price in sorted(self.cost.items())},
            "placed": self.placed,
            "priced": self.priced,
        }


async def build_report(store: Store, queue: str, batch_id: str | None) -> Report:
    """Count the jobs of a batch, or (None) of a queue, that are still in the store. The total may be 0."""
    states: Counter[JobState] = Counter()
    outcomes: Counter[str] = Counter()
    digits: Counter[str] = Counter()
    cost: dict[str, Decimal] = {}
    answered = placed = priced = 0
    seconds = 0.0
    async with aclosing(jobs_of(store, queue, batch_id)) as jobs:
        async for job in jobs:
            states[job.state] += 1
            if job.digits:
                digits[job.digits] += 1
            placed += any(post.was_placed for post in job.posts)
            priced += any(post.charge is not None for post in job.posts)
            for currency, price in job.cost.items():
                cost[currency] = cost.get(currency, Decimal(0)) + price
            if (outcome := job.outcome) is None:
                continue
            seconds += outcome.seconds or 0.0
            outcomes[outcome.text_of(job.destination)] += 1
            answered += job.outcome_status in REACHED
    return Report(
        batch_id=batch_id,
        total=states.total(),
        states=dict(states),
        outcomes=dict(outcomes.most_common()),
        answered=answered,
        digits=dict(sorted(digits.items())),
        seconds=round(seconds, 3),
        cost=cost,
        placed=placed,
        priced=priced,
    )


async def jobs_of(store: Store, queue: str, batch_id: str | None) -> AsyncGenerator[Job, None]:
    """The jobs of a batch, or (None) of a queue, in the order of enqueuing.

    They are read a page at a time. Close the generator if you do not exhaust it.
    """
    after: str | None = None
    while True:
        page = await store.jobs.find(Query(queue=queue, batch_id=batch_id, after=after, limit=PAGE))
        for job in page:
            yield job
        if len(page) < PAGE:
            return
        after = page[-1].id
