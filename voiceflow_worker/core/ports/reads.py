"""The reads of jobs that the engine makes: each is one statement or script of a store.

A read that is not here is made of one that is, and of a look at the jobs that it found. Reads are typed, so a store has
no planner: each type names its own index. `limit` None is unlimited. Each read raises InvalidInputError for a text that
no store can keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.printable import checked_text


@dataclass(frozen=True, slots=True)
class ById:
    """The jobs with these ids, of any queues and in no particular order; unknown ids are left out.

    A job of a newer version raises `StoreVersionError`. In all other reads such a job is left out, and logged.
    """

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByKey:
    """The jobs of a queue that own these unique keys, in no particular order; free keys are left out.

    The tombstones of deleted jobs are found too: jobs with only an id, a key, a digest, a state and times.
    """

    queue: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        for key in self.keys:
            checked_text("unique_key", key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The jobs of a queue, or of a batch of it, in one state, by the time at which they are due, then by id.

    With `by` (inclusive), only those that are due by then.
    """

    queue: str
    state: JobState
    by: datetime | None = None
    batch: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_text("batch_id", self.batch or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """The queued jobs of a queue whose `valid_until` has come at `at` (inclusive), in no particular order."""

    queue: str
    at: datetime
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The queued jobs of a batch, in no particular order, for those who end all of them."""

    queue: str
    batch: str
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_text("batch_id", self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfNumber:
    """The jobs of a queue that have a telephone number among their person's numbers, by id, which is by age.

    `newest` reverses the order. `after` continues behind the job with this id.
    """

    queue: str
    number: str
    newest: bool = False
    after: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        checked_text("destination", self.number)
        checked_text("after", self.after or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The jobs of a queue, or of a batch of it, by id, which is by age; `newest` reverses the order.

    With `states`, only jobs in one of them. With `outcomes`, only jobs whose newest outcome has one of these names, as
    `Totals` counts them. `after` continues behind the job with this id.
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


Read = ById | ByKey | Due | Lapsed | Waiting | OfNumber | Listing
Paged = OfNumber | Listing
"""Reads that can be continued behind the last job of a page."""
