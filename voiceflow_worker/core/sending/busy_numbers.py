"""The line of jobs that wait because their numbers are busy with other calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from voiceflow_worker.core.sending.journal import Unsent
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import spread
from voiceflow_worker.model.numbers.spellings import spellings
from voiceflow_worker.model.records.waiting import BUSY

NUMBER_BUSY = timedelta(seconds=2)
"""The time that a job waits if its number is busy with another call."""
LONGEST_LINE = timedelta(minutes=1)
"""The longest wait of a job behind other jobs that its worker has leased for the same busy number."""


def in_line(
    busy: Sequence[tuple[Job, str]], *, leased_at: float, locked_at: datetime, locked: Collection[str]
) -> list[Unsent]:
    """Jobs whose numbers are busy, each with its reason and its wait. `locked` has the ids of those that have locks.

    Jobs with the same busy number come due one after the other, in the order of leasing. Without this, many calls that
    bridge to one line would all be leased and put back every two seconds.
    """
    line: list[Unsent] = []
    waiting: dict[str, timedelta] = {}
    for job, number in busy:
        turn = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{number}{leased_at}"))
        waiting[number] = min(waiting.get(number, timedelta()) + turn, LONGEST_LINE)
        locks_since = locked_at if job.id in locked else None
        line.append(Unsent(job, _busy_words(job, number), locks_since, waiting[number]))
    return line


def _busy_words(job: Job, number: str) -> str:
    second = next((each for each in job.parties[1:] if number in spellings(each)), None)
    if second is None:
        return f"its number {BUSY}"
    return f"its second party {second} {BUSY} (if many calls may use a number at once, list it as shared)"
