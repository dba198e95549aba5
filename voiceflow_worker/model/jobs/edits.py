"""The moves of a job by a new order for the same call: it is changed, or nobody orders it any more."""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.errors import CallFlowError, IllegalMoveError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.differences import asked_digest, differences
from voiceflow_worker.model.jobs.job import ON_THE_WAY, Edits, Job, JobState, NoteKind, ReasonKind
from voiceflow_worker.model.jobs.lifecycle import (
    MoveName,
    cancel,
    in_its_window,
    noted,
    require,
    with_new_place,
)
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import in_words

S = JobState


def edited(job: Job, asked: Job, *, at: datetime) -> Job:
    """Return the job as a new order asks for it, back in the queue; it stays the same call.

    Its id, key, history and, unless another one is asked for, its validity stay. Raises `IllegalMoveError`, also if it
    has a POST, and `CallFlowError` if no time is left for the call.
    """
    require(job, MoveName.EDIT)
    if job.post_count:
        raise IllegalMoveError(job.id, state=job.state.value, move="be changed after a POST")
    if not (names := differences(asked, job)):
        return job
    asks_validity = asked.valid_until is not None and (asked.validity is None or asked.validity != job.validity)
    validity = asked if asks_validity else job
    after = noted(
        replace(
            job,
            state=S.QUEUED,
            due_at=min(job.first_due, at) if job.state is S.LEASED else job.due_at,
            worker_id=None if job.state is S.LEASED else job.worker_id,
            destination=asked.destination,
            further_numbers=asked.further_numbers,
            source=asked.source,
            body=asked.body,
            priority=asked.priority,
            not_before=asked.not_before,
            time_zone=asked.time_zone,
            window=asked.window,
            redial=asked.redial,
            menu=asked.menu,
            data=asked.data,
            valid_until=validity.valid_until,
            validity=validity.validity,
            edits=Edits(digest=asked.body_digest, made=asked_digest(job)),
        ),
        NoteKind.CHANGED,
        " and ".join(names),
        at=at,
    )
    if not {"not_before", "window", "time_zone"}.isdisjoint(names):
        after = _due_again(after, at=at)
    if after.valid_until is not None and after.due_at >= after.valid_until:
        ends, due = in_words(after.valid_until), in_words(after.due_at)
        message = (
            f"its validity ends at {ends}, and it would be called at {due} at the earliest: give a later valid_until, "
            "or an earlier hour"
        )
        raise CallFlowError([Finding(message=message, code=VALIDITY_EXPIRED, path="$.validUntil")])
    return after


def removed(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """Return the job of which nobody orders a call any more: cancelled, or without a further attempt.

    Raises `TooLateError` if it has ended.
    """
    if job.state in ON_THE_WAY:
        return replace(job, ends_because=reason)
    return cancel(job, at=at, reason=reason, policy=policy, kind=ReasonKind.REMOVED)


def followed(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job whose call is no longer on its way, ended if it gets no further attempt."""
    if job.ends_because is None or job.state in ON_THE_WAY:
        return job
    after = replace(job, ends_because=None)
    if after.state.is_final:
        return after
    return cancel(after, at=at, reason=job.ends_because, policy=policy, kind=ReasonKind.REMOVED)


def _due_again(job: Job, *, at: datetime) -> Job:
    """Return a job with other times, due as they say; one that was due, and still is, keeps its place."""
    due = max(at, job.not_before or job.created_at)
    opens = in_its_window(job, due)
    if opens <= at and job.due_at <= at:
        return job
    reason = job.reason if job.reason_kind is None else None  # such as its window
    return with_new_place(replace(job, due_at=opens, reason=reason, reason_kind=None))
