"""The reads of jobs that the engine makes: each is one statement or script of a store.

A read that is not here is made of one that is, and of a check of the jobs that it found. Reads are typed, so a store
has no planner: each type names its own index. `limit` None is unlimited, and 0 or less finds nothing. Each read raises
InvalidInputError for a text that no store can keep. A job of a newer version is left out, and logged; only `ById`
raises `StoreVersionError` for it.

A store may read the jobs that it found in pages. Each job is then as it is when its page is read, no job is found
twice, and a job that the read no longer `has` is left out. The next jobs replace those that a `Paged` read leaves out:
it finds fewer than `limit` only at its end, and nothing only if nothing follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import outcome_name
from voiceflow_worker.model.text.printable import checked_text


@dataclass(frozen=True, slots=True)
class ById:
    """The jobs with these ids, of any queues and in no particular order; unknown ids are left out.

    A job of a newer version raises `StoreVersionError`. It reads these jobs.
    """

    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        for job_id in self.ids:
            checked_text("the id of a call", job_id)


@dataclass(frozen=True, slots=True)
class ByKey:
    """The jobs that own these unique keys, of any queues and in no particular order; free keys are left out.

    The tombstones of deleted jobs are found too: jobs with only an id, a key, digests, a state with the kind of
    its reason, and times.
    It reads these jobs.
    """

    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        for key in self.keys:
            checked_text("unique_key", key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The jobs of a queue in one state, by the time at which they are due, then by id.

    With `by` (inclusive), only those that are due by then. It reads the jobs that it returns.
    """

    queue: str
    state: JobState
    by: datetime | None = None
    limit: int | None = None

    def has(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        is_due = self.by is None or job.due_at <= self.by
        return job.queue == self.queue and job.state is self.state and is_due


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The queued jobs of a queue whose `valid_until` has come at `at` (inclusive), in no particular order.

    It reads the jobs that it returns.
    """

    queue: str
    at: datetime
    limit: int | None = None

    def has(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        is_over = job.valid_until is not None and job.valid_until <= self.at
        return job.queue == self.queue and job.state is JobState.QUEUED and is_over


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The queued jobs of a batch, by the time at which they are due, then by id.

    With `by` (inclusive), only those that are due by then. It reads the jobs that it returns, and as many index entries
    of each priority that they have.
    """

    queue: str
    batch: str
    by: datetime | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_text("batch_id", self.batch)

    def has(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        is_due = self.by is None or job.due_at <= self.by
        return job.queue == self.queue and job.state is JobState.QUEUED and job.batch_id == self.batch and is_due


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some reads of one queue. They are only counted: how many of them find a job, whatever their limits.

    It reads one index entry of each.
    """

    reads: tuple[Due | Expired, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfNumber:
    """The jobs of a queue that have a telephone number among their person's numbers, by id, which is by age.

    `newest` reverses the order. `after` continues behind the job with this id. It reads the jobs of the number.
    """

    queue: str
    number: str
    newest: bool = False
    after: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_text("destination", self.number)
        checked_text("after", self.after or "")

    def has(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        return job.queue == self.queue and self.number in job.numbers and _is_behind(self, job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The jobs of a queue, or of a batch of it, by id, which is by age; `newest` reverses the order.

    With `states`, only jobs in one of them. With `outcomes`, only jobs whose newest outcome has one of these names, as
    `Totals` counts them. `after` continues behind the job with this id.

    It reads the jobs that it returns, and as many entries of each of the `states`. With `outcomes`, or with `states` of
    a batch, it may also read the heads of the jobs that it leaves out: of the batch, or of the queue and its states.
    """

    queue: str
    batch: str | None = None
    states: frozenset[JobState] | None = None
    outcomes: frozenset[str] | None = None
    newest: bool = False
    after: str | None = None
    limit: int | None = 100

    def __post_init__(self) -> None:
        checked_text("batch_id", self.batch or "")
        checked_text("after", self.after or "")
        for name in self.outcomes or ():
            checked_text("the name of an outcome", name)

    def has(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        return (
            job.queue == self.queue
            and self.batch in {None, job.batch_id}
            and (self.states is None or job.state in self.states)
            and (self.outcomes is None or outcome_name(job) in self.outcomes)
            and _is_behind(self, job)
        )

    def of_number(self, number: str) -> OfNumber:
        """Return the jobs of a number from the same job on, in the same order. The listing `has` only some of them."""
        return OfNumber(queue=self.queue, number=number, newest=self.newest, after=self.after, limit=self.limit)


Paged = OfNumber | Listing
"""Reads in the order of ids, which are continued behind the last job of a page."""
Searched = Due | Expired | Waiting | Paged
"""Reads of the jobs that have something in common."""
Read = ById | ByKey | Searched
Counted = Due | Waiting
"""Reads whose jobs are counted, and not only whether there are any (`AnyOf`)."""


def _is_behind(read: Paged, job: Job) -> bool:
    if read.after is None:
        return True
    return job.id < read.after if read.newest else job.id > read.after
