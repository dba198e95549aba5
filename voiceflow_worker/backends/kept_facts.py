"""The facts of jobs in the form that stores keep, and pages of facts, which are read without decoding the jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from voiceflow_worker.backends.record import job_from, readable
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.records.facts import WIDTH, Facts, facts_of

_UNCOUNTED = "!"
NO_FACTS = orjson.dumps([_UNCOUNTED, *[None] * (WIDTH - 1)]).decode()[1:-1]
"""The row that stands in a page for a job without facts."""
_OPEN = frozenset({JobState.LEASED, JobState.SENDING, JobState.SUBMITTED})
_AT_ONCE = 100 * WIDTH
"""The number of values that are decoded in one step, before other tasks may run: about 100 jobs in 1 to 2 ms."""


def kept_facts(job: Job) -> str:
    """The facts of a job as a store keeps them: the items of a JSON array, without its brackets.

    The text is empty for an open call, which will change soon.
    """
    if job.state in _OPEN:
        return ""
    try:
        return orjson.dumps(facts_of(job)).decode()[1:-1]
    except Exception:  # noqa: BLE001 - odd values of 8x8, or no file descriptor is left for the data of a country
        return ""  # a report then reads the job itself


def facts_in(page: str, jobs: Sequence[Sequence[Any]]) -> Iterator[Facts]:
    """The facts in a page, which is a JSON array of kept facts.

    A row without kept facts is `NO_FACTS`. The facts of such a row are made from its job: `jobs` has the id, the state,
    the destination and the record of each of these jobs, in order.
    """
    rows: Facts = orjson.loads(page)
    return _decoded(rows, iter(jobs)) if jobs else iter((rows,))


def _decoded(rows: Facts, jobs: Iterator[Sequence[Any]]) -> Iterator[Facts]:
    for start in range(0, len(rows), _AT_ONCE):
        facts: Facts = []
        for place in range(start, min(start + _AT_ONCE, len(rows)), WIDTH):
            if rows[place] != _UNCOUNTED:
                facts += rows[place : place + WIDTH]
            else:
                for job in readable((next(jobs),), _counted):
                    facts += facts_of(job)
        yield facts


def _counted(row: Sequence[Any]) -> Job:
    job_id, state, destination, record = row
    return job_from((job_id, "", state, 0, "", None, 0, None, destination, None, None, None), record, "")
