"""The report of a batch: its states, outcomes and answers, from counters alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import count_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one batch, or of a whole queue if `batch_id` is None.

    `outcomes` counts calls by the outcome of their newest session. `answered` counts the calls that a person answered,
    and `answer_rate` is their share, 0 to 1, of the calls with an outcome; it is None without outcomes. Calls that
    wait, expired, or were refused or cancelled do not lower the rate. `answers` counts calls by the answer that a menu
    names, and `other_keys` counts the calls with key presses, but without such an answer.
    `seconds` is the total duration of all sessions, and `placed` counts the calls that were placed. `print` shows a
    report as a table.
    """

    queue: str
    batch_id: str | None
    total: int
    states: Mapping[JobState, int]
    outcomes: Mapping[str, int]
    answered: int
    answers: Mapping[str, int] = field(default_factory=dict[str, int])
    other_keys: int = 0
    seconds: float = 0.0
    placed: int = 0

    @property
    def name(self) -> str:
        """Subject of the report, such as `batch people`."""
        return f"queue {self.queue}" if self.batch_id is None else f"batch {self.batch_id}"

    @property
    def ended(self) -> int:
        """Number of calls that ended with an outcome."""
        return sum(self.outcomes.values())

    @property
    def answer_rate(self) -> float | None:
        """Share of answered calls among those that ended with an outcome."""
        return round(self.answered / self.ended, 4) if self.ended else None

    def as_json(self) -> dict[str, object]:
        """Return the report for scripts: every state, and the outcomes and answers that occurred."""
        return {
            "batch_id": self.batch_id,
            "queue": self.queue,
            "total": self.total,
            "states": {state.value: self.states.get(state, 0) for state in JobState},
            "outcomes": dict(self.outcomes),
            "answered": self.answered,
            "answer_rate": self.answer_rate,
            "answers": dict(self.answers),
            "other_keys": self.other_keys,
            "seconds": self.seconds,
            "placed": self.placed,
        }

    def __str__(self) -> str:
        rows = [(kind, printable_line(name), f"{count}") for kind, name, count in self._counts()]
        first, second, third = (max((len(row[place]) for row in rows), default=0) for place in range(3))
        table = [f"  {kind:{first}}  {name:{second}}  {count:>{third}}" for kind, name, count in rows]
        title = printable_line(f"{self.name}: {count_of(self.total, 'call')}")
        return "\n".join([title, *table, *self._lines()])

    def _counts(self) -> Iterator[tuple[str, str, int]]:
        """Yield the counts, each with its kind and its name."""
        others = {"other keys": self.other_keys} if self.other_keys else {}
        states = {state.value: self.states[state] for state in JobState if self.states.get(state)}
        for kind, counts in (("state", states), ("outcome", self.outcomes), ("answer", {**self.answers, **others})):
            yield from ((kind, name, count) for name, count in counts.items())

    def _lines(self) -> Iterator[str]:
        if self.answer_rate is not None:
            yield f"answered: {self.answered} of {self.ended} ({self.answer_rate:.0%})"
            duration = timedelta(seconds=round(self.seconds))
            yield f"duration of all calls: {duration}, answered or not"


async def build_report(store: Store, queue: str, batch_id: str | None) -> Report:
    """Return the report of a batch, or of the whole queue if `batch_id` is None, from counters alone.

    This takes milliseconds.
    """
    found = await totals_of(store, queue, batch_id)
    return Report(
        queue=queue,
        batch_id=batch_id,
        total=sum(found.states.values()),
        states={state: count for state, count in found.states.items() if count},
        outcomes=found.outcomes,
        answered=found.answered,
        answers=found.answers,
        other_keys=found.other_keys,
        seconds=found.seconds,
        placed=found.placed,
    )
