"""Rules for queries and moves that all backends share."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from voiceflow_worker.core.ports import Move, Order, Query
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name


def matches(query: Query, job: Job) -> bool:
    """Whether a job matches a query. `limit` and `order` are not considered."""
    return (
        job.queue == query.queue
        and (query.states is None or job.state in query.states)
        and (query.batch_id is None or job.batch_id == query.batch_id)
        and (query.destination is None or job.destination == query.destination)
        and (query.unique_key is None or job.unique_key == query.unique_key)
        and (query.outcomes is None or outcome_name(job) in query.outcomes)
        and (query.due_before is None or job.due_at <= query.due_before)
        and (query.valid_before is None or (job.valid_until is not None and job.valid_until <= query.valid_before))
        and (query.after is None or (job.id < query.after if query.order is Order.NEWEST else job.id > query.after))
    )


def require_answerable(query: Query) -> None:
    """Raise ValueError if a query has `after` but is not ordered by id."""
    if query.after is not None and query.order not in {Order.CREATED, Order.NEWEST}:
        raise ValueError(
            "`after` needs Order.CREATED or Order.NEWEST; with Order.DUE, omit it: each query begins at the first job"
        )


_rare_fields = attrgetter("priority", "batch_id", "destination", "valid_until")


def changes_rare_fields(move: Move) -> bool:
    """Whether a move changes an indexed field that most moves leave as it is."""
    return bool(_rare_fields(move.old) != _rare_fields(move.new))


def require_well_formed(moves: Sequence[Move]) -> None:
    """Raise ValueError for moves of several queues, or without a new revision, or that change an id, key or body."""
    for move in moves:
        old, new = move.old, move.new
        if not new.revision or new.revision == old.revision:
            raise ValueError(f"the move of job {old.id} needs a new revision, but has {new.revision!r}")
        if (old.id, old.queue, old.unique_key) != (new.id, new.queue, new.unique_key):
            raise ValueError(f"the move of job {old.id} changes its id, queue or unique key; these must stay the same")
        if new.body is not old.body and new.body != old.body:
            raise ValueError(f"the move of job {old.id} changes its body; it must stay the same")
        if old.queue != moves[0].old.queue:
            raise ValueError(
                f"a commit has jobs of the queues {moves[0].old.queue} and {old.queue}: make one commit for each queue"
            )
