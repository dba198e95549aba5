"""One filter of calls, for commands and pages: what stores can look up, and what is judged call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from voiceflow_worker.core.ports.reads import Listing, Paged
from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState
from voiceflow_worker.model.jobs.totals import Totals, outcome_name
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import searched

OTHER_KEYS = "-"
"""In place of an answer: keys were pressed, but none with a name. No answer has this name."""
NO_KEYS = "--"
"""In place of an answer: no key was pressed. No answer has this name."""

STATES = {
    "queued": frozenset({JobState.QUEUED}),
    "under_way": frozenset({JobState.LEASED, JobState.SENDING, JobState.SUBMITTED}),
    "in_doubt": frozenset({JobState.IN_DOUBT}),
    "ended": FINAL_STATES,
    **{state.value: frozenset({state}) for state in JobState},
}
"""The states by their names, and groups of them."""
_WHOLE_NUMBER = 10
"""A number with this many digits, or with a +, is looked up; a shorter one may be a part of a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """A filter of calls. A field that is None does not restrict them.

    `outcomes` are names of outcomes, as `Totals` counts them. `number` is a whole one in E.164 form; `part` is a part
    of a number, of the person's name or another cell of the row, of the answer or the result. Calls pass if their
    last change was at `begin` or later.
    """

    states: frozenset[JobState] | None = None
    batch: str | None = None
    outcomes: frozenset[str] | None = None
    number: str | None = None
    part: str | None = None
    answer: str | None = None
    begin: datetime | None = None

    def read(self, queue: str, **more: Any) -> Paged:
        """Return the read of all that a store can look up, with `more` of its fields. Raises InvalidInputError."""
        listing = Listing(queue=queue, batch=self.batch, states=self.states, outcomes=self.outcomes, **more)
        return listing if self.number is None else listing.of_number(self.number)

    @property
    def is_judged(self) -> bool:
        """True if some calls that `read` finds may not pass (`has`). Of a number, a store looks up nothing else."""
        return any(each is not None for each in (self.number, self.part, self.begin, self.answer))

    def has(self, job: Job) -> bool:
        """Return whether a call passes."""
        return (
            (self.number is None or self.number in job.numbers)
            and (self.states is None or job.state in self.states)
            and self.batch in {None, job.batch_id}
            and (self.outcomes is None or outcome_name(job) in self.outcomes)
            and (self.begin is None or job.touched_at >= self.begin)
            and (self.answer is None or _answer_of(job) == self.answer)
            and (self.part is None or _has_part(job, self.part))
        )

    def may_have(self, totals: Totals) -> bool:
        """Return whether a queue or batch with these totals may have calls with these states, outcomes and this answer.

        A search for an outcome or an answer that no call has would read every call: stores have no index of them.
        """
        counts = {**totals.answers, OTHER_KEYS: totals.other_keys, NO_KEYS: 1}
        has_state = self.states is None or any(totals.states[state] for state in self.states)
        has_outcome = self.outcomes is None or any(totals.outcomes.get(name) for name in self.outcomes)
        return (self.answer is None or bool(counts.get(self.answer))) and has_state and has_outcome


def _answer_of(job: Job) -> str:
    """Return the name of an answer, or what is in its place."""
    return job.answer or (NO_KEYS if job.digits is None else OTHER_KEYS)


def person_of(text: str) -> dict[str, str]:
    """Return the fields of a filter that find a person: a whole `number`, or a `part` of what is known of them."""
    digits = _digits_of(text)
    if digits and (text.startswith("+") or len(digits) >= _WHOLE_NUMBER):
        with suppress(PhoneNumberError):
            return {"number": read_number(with_plus(text))}
    return {"part": text}


def _digits_of(text: str) -> str:
    """Return the digits of a text that is a number or a part of one; empty for a name."""
    return "" if set(text) - set("+ ()-./0123456789") else "".join(filter(str.isdigit, text))


def _has_part(job: Job, part: str) -> bool:
    cells = (str(cell) for cell in (job.data or {}).values() if cell is not None)
    return part_judge(part)(job.numbers, (job.name, *cells, job.answer or "", result_of(job).replace("_", " ")))


@lru_cache
def part_judge(part: str) -> Callable[[Iterable[str], Iterable[str]], bool]:
    """Return the check of whether a text, or a part of a number, is in numbers or in texts."""
    digits, part = _digits_of(part), searched(part)
    digits = digits.lstrip("0") or digits

    def has(numbers: Iterable[str], texts: Iterable[str]) -> bool:
        return bool(digits and any(digits in each for each in numbers)) or any(part in searched(text) for text in texts)

    return has
