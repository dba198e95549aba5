"""Rules for queries that all backends share."""

from __future__ import annotations

from voiceflow_worker.core.ports import Order, Query
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name


def matches(query: Query, job: Job) -> bool:
    """Whether a job matches a query, apart from `ids`, `unique_keys` and `limit`."""
    return (
        job.queue == query.queue
        and (query.states is None or job.state in query.states)
        and (query.batch_id is None or job.batch_id == query.batch_id)
        and (query.destination is None or job.destination == query.destination)
        and (query.outcomes is None or outcome_name(job) in query.outcomes)
        and (query.due_before is None or job.due_at <= query.due_before)
        and (query.valid_before is None or (job.valid_until is not None and job.valid_until <= query.valid_before))
        and (query.after is None or (job.id < query.after if query.order is Order.NEWEST else job.id > query.after))
    )
