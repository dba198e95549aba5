"""The moves of a job by a new order for the same call: it is changed, or nobody orders it any more.

A job that waits is changed at once, and stays the same job. Of one whose call is on its way, the order is noted for its
next attempt, and followed when this one has ended.
"""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.errors import CallFlowError, IllegalMoveError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.differences import asked_digest, differences, keeps_numbers
from voiceflow_worker.model.jobs.job import ON_THE_WAY, Edits, Job, JobState, NextAttempt, NoteKind, ReasonKind
from voiceflow_worker.model.jobs.lifecycle import (
    MoveName,
    cancel,
    expire,
    in_its_window,
    noted,
    require,
    with_new_place,
)
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.window import CallWindow

S = JobState


def edited(job: Job, asked: Job, *, at: datetime) -> Job:
    """The job as a new order asks for it, back in the queue; it stays the same call.

    Its id, keys, history and, unless another one is asked for, its validity stay. When it is due follows from its own
    times and window, if these are others, but a redial is never due earlier than before. The numbers and the source of
    one with a POST must be the same. Raises `IllegalMoveError`, and `CallFlowError` if no time is left for the call.
    """
    require(job, MoveName.EDIT)
    if not keeps_numbers(job, asked):
        raise IllegalMoveError(job.id, state=job.state.value, move="get other numbers after a POST")
    if not (names := differences(asked, job)):
        return job
    key = asked.unique_key
    keys = (*job.keys, key)[job.unique_key is not None :] if key is not None and key not in job.keys else job.keys[1:]
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
            edits=Edits(digest=asked.body_digest, made=asked_digest(job), keys=keys),
        ),
        NoteKind.CHANGED,
        " and ".join(names),
        at=at,
    )
    if not {"not_before", "window", "time_zone"}.isdisjoint(names):
        after = _due_anew(after, at=at)
    if after.valid_until is not None and after.due_at >= after.valid_until:
        ends, due = in_words(after.valid_until), in_words(after.due_at)
        message = (
            f"its validity ends at {ends}, and it would be called at {due} at the earliest: give a later valid_until, "
            "or an earlier hour"
        )
        raise CallFlowError([Finding(message=message, code=VALIDITY_EXPIRED, path="$.validUntil")])
    return after


def with_key(job: Job, key: str) -> Job:
    """The job with a further key; all else of it stays."""
    keys = (*job.keys, key)[job.unique_key is not None :]
    return replace(job, edits=Edits(digest=job.digest, made=asked_digest(job), keys=keys))


def removed(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """The job of which nobody orders a call any more: it is cancelled, or gets no further attempt.

    Raises `TooLateError` if it has ended.
    """
    if job.state in ON_THE_WAY:
        return replace(job, next_attempt=NextAttempt(at=at, reason=reason))
    return cancel(job, at=at, reason=reason, policy=policy, kind=ReasonKind.REMOVED)


def with_next_attempt(job: Job, asked: Job, *, at: datetime) -> Job:
    """A job whose call is on its way, with what is asked for as its next attempt; its redials are those at once.

    Raises `IllegalMoveError`, also if other numbers are asked for.
    """
    require(job, MoveName.ORDER_NEXT)
    if not keeps_numbers(job, asked):
        raise IllegalMoveError(job.id, state=job.state.value, move="get other numbers after a POST")
    if not differences(asked, job):
        return replace(job, next_attempt=None)
    order = NextAttempt(
        at=at, body=asked.body, digest=asked.body_digest, key=asked.unique_key, priority=asked.priority,
        not_before=asked.not_before, valid_until=asked.valid_until, validity=asked.validity,
        time_zone=asked.time_zone, window=None if asked.window is None else str(asked.window), menu=asked.menu,
        data=asked.data,
    )  # fmt: skip
    return replace(job, next_attempt=order, redial=asked.redial)


def followed(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job whose call is no longer on its way, by what was ordered for its next attempt."""
    order = job.next_attempt
    if order is None or job.state in ON_THE_WAY:
        return job
    after = replace(job, next_attempt=None)
    if after.state.is_final:
        return after
    if order.body is None:
        return cancel(after, at=at, reason=order.reason, policy=policy, kind=ReasonKind.REMOVED)
    asked = replace(
        after, body=order.body, body_digest=order.digest, unique_key=order.key, edits=None, priority=order.priority,
        not_before=order.not_before, valid_until=order.valid_until, validity=order.validity, menu=order.menu,
        time_zone=order.time_zone, window=None if order.window is None else CallWindow.recalled(order.window),
        data=order.data,
    )  # fmt: skip
    try:
        return edited(after, asked, at=at)
    except CallFlowError as error:
        return expire(after, at=at, policy=policy, reason=error.findings[0].message)


def _due_anew(job: Job, *, at: datetime) -> Job:
    """A job with other times, as they say when it is due; one that was due, and still is, keeps its place."""
    due = max(job.due_at if job.attempt else at, job.not_before or job.created_at)
    opens = in_its_window(job, due)
    if opens <= at and job.due_at <= at:
        return job
    reason = job.reason if job.reason_kind is None else None  # such as its window
    return with_new_place(replace(job, due_at=opens, reason=reason, reason_kind=None))
