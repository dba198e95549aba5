"""The report of a batch or a queue: states, outcomes, answers, pressed keys, cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one batch, or of a whole queue if `batch_id` is None.

    `outcomes` counts calls by the outcome of their newest session. `answered` counts the calls that a person answered,
    and `answer_rate` is their share, 0 to 1, of the calls with an outcome: calls that wait, expired, were refused or
    cancelled do not lower it. It is None without outcomes. `digits` counts calls by the pressed keys. `seconds` is the
    total duration of the newest sessions. `cost` is the price of all sessions, by currency, as far as 8x8's log has
    it: that of `priced` calls out of `placed` ones. `pruned` calls of the batch are deleted by now, and still counted.
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
    pruned: int = 0

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
            "pruned": self.pruned,
        }


async def build_report(store: Store, queue: str, batch_id: str | None) -> Report:
    """Read the figures of a batch, or (None) of a queue, from its totals. The total may be 0."""
    found = await store.jobs.totals(queue, batch_id=batch_id)
    pruned = found.pruned_states
    states = {state: count + pruned[state] for state, count in found.states.items()}
    return Report(
        batch_id=batch_id,
        total=sum(states.values()),
        states={state: count for state, count in states.items() if count},
        outcomes=found.outcomes,
        answered=found.answered,
        digits=found.digits,
        seconds=found.seconds,
        cost=found.cost,
        placed=found.placed,
        priced=found.priced,
        pruned=sum(pruned.values()),
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
