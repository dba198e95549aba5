"""Enqueueing of the only call of a task, once per task instance."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from airflow_provider.calls.cancellation import CORRECTED, REPLACED, was_cancelled_by_task
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.earlier.prior_calls import MOST_GENERATIONS, Condition, KeyOf, condition_of, newest_call
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.single.mapped import mapped_keys
from airflow_provider.calls.single.request import RequestedCall
from airflow_provider.calls.task_record import refuse_unknown_calls
from voiceflow_worker import CallQueue, InvalidInputError, Job, KeyConflictError, TooLateError, telephone_of

log = logging.getLogger(__name__)


class OnClear(StrEnum):
    """The behaviour of a task that a user clears after its call has ended."""

    SAME_CALL = "same_call"
    """The task shows the outcome of the earlier call."""
    CALL_AGAIN = "call_again"
    """The task calls again, once per clear."""


async def enqueue_once(
    queue: CallQueue,
    requested: RequestedCall,
    identity: TaskIdentity,
    *,
    on_clear: OnClear = OnClear.SAME_CALL,
    saved: Mapping[str, Any] | None = None,
    expansion: Expansion | None = None,
) -> Job:
    """Return the job of this task instance. If no try has enqueued a job yet, enqueue one.

    A job that certainly rang nobody's phone is replaced in three cases: a user cleared the task, a task cancelled the
    job, or the number or the text of the call was changed. (A call that a person cancelled is not replaced for a new
    text.) With CALL_AGAIN, a clear also replaces a call that has ended, but never a call in doubt. An instance of a
    mapped task is identified by the number that it calls, not by its map index.

    Raises InvalidInputError if the number was changed after the earlier number was called. Airflow's task state
    (`saved`) names an earlier call; raises InvalidInputError if the store has no call of this instance. Errors of
    `CallQueue.enqueue` are passed on.
    """

    async def enqueue(generation: int) -> Job:
        return await queue.enqueue(
            requested.flow,
            unique_key=key_of(generation),
            batch_id=requested.batch_id,
            priority=requested.priority,
            not_before=requested.not_before,
            valid_for=requested.valid_for,
            redial=requested.redial,
            data={**requested.data, **identity.data()},
            menu=requested.menu,
        )

    key_of: KeyOf
    if identity.is_mapped:
        key_of = await mapped_keys(queue, identity, requested.number, saved=saved, expansion=expansion or Expansion())
    else:
        key_of = _own_keys(identity)
    generation, job = await newest_call(queue, key_of)
    if job is None:
        if not identity.is_mapped:
            refuse_unknown_calls(saved, store=queue.store.url)
        return await enqueue(generation)
    following = generation + 1
    if _is_replaced(job, identity, on_clear):
        log.info("call %s is %s; this task makes a new call", job.id, job.state.value)
        return await enqueue(following)
    if job.body and telephone_of(job.destination) != telephone_of(requested.number):
        job = await _cancelled(queue, job, reason=CORRECTED)
        if never_rang(job):
            return await enqueue(following)
        raise InvalidInputError(
            f"this task now requests a call to {requested.number}, but it has already called {job.destination} (call "
            f"{job.id}, {job.state.value}). A task instance calls only one number. Call the new number in a new run of "
            f"the DAG; or set on_clear='call_again', and clear the task when call {job.id} has ended"
        )
    condition = condition_of(job)
    # Before the clear, another mapped instance called this number. This instance replaces its waiting call.
    is_foreign = identity.is_mapped and condition is Condition.WAITING and not identity.owns(job.data)
    if not is_foreign:
        with contextlib.suppress(KeyConflictError):  # the text was changed
            return await enqueue(generation)  # returns the existing job
    if condition is Condition.WAITING and following < MOST_GENERATIONS:
        job = await _cancelled(queue, job, reason=REPLACED)
        if not was_cancelled_by_task(job):
            return job
    elif condition is not Condition.ENDED:
        log.warning("the text was changed after call %s was enqueued; the call keeps its old text", job.id)
        return job
    return await enqueue(following)


def _own_keys(identity: TaskIdentity) -> KeyOf:
    return lambda generation: identity.key(generation=generation)


def _is_replaced(job: Job, identity: TaskIdentity, on_clear: OnClear) -> bool:
    enqueued_with = (job.data or {}).get("airflow_max_tries")
    # Not compared with the task's `retries`, which a new version of the DAG may change.
    was_cleared = isinstance(enqueued_with, int) and identity.max_tries > enqueued_with
    if never_rang(job):
        return was_cleared or was_cancelled_by_task(job)
    return was_cleared and on_clear is OnClear.CALL_AGAIN and job.state.is_final


async def _cancelled(queue: CallQueue, job: Job, *, reason: str) -> Job:
    """Cancel the job if it has not been sent, and return the job as it is now."""
    if job.state.is_final:
        return job
    try:
        return await queue.cancel(job.id, reason=reason)
    except TooLateError:
        return await queue.get(job.id)
