"""Enqueueing of a task's call: once per task instance, in all its tries."""

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
from voiceflow_worker import CallQueue, InvalidInputError, Job, KeyConflictError, TooLateError

log = logging.getLogger(__name__)


class OnClear(StrEnum):
    """What happens when a user clears a task whose call has ended."""

    SAME_CALL = "same_call"
    """The task shows the outcome of the call that was made."""
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
    """The one job of this task instance: that of an earlier try, else a new one.

    An earlier job that certainly rang nowhere is replaced if the user cleared the task or corrected the call, or if a
    task cancelled it. With CALL_AGAIN, a clear also replaces a call that has ended, but never one in doubt. An instance
    of a mapped task is identified by the number that it calls, not by its index.

    Raises InvalidInputError if the number was changed after the old one was called, or if the store does not know the
    call that is `saved` in Airflow's task state; and what `CallQueue.enqueue` raises.
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
        log.info("call %s is %s; this task makes a new one", job.id, job.state.value)
        return await enqueue(following)
    if job.body and job.destination != requested.number:
        job = await _cancelled(queue, job, reason=CORRECTED)
        if never_rang(job):
            return await enqueue(following)
        raise InvalidInputError(
            f"this task now requests a call to {requested.number}, but it has called {job.destination} before (call "
            f"{job.id}, {job.state.value}), and a task instance calls one number once. Call the new number from a new "
            "run of the DAG, or give the operator on_clear='call_again' and clear the task once that call has ended"
        )
    condition = condition_of(job)
    # A waiting call of another mapped instance, which called this number before the clear, is replaced by an own one.
    is_foreign = identity.is_mapped and condition is Condition.WAITING and not identity.owns(job.data)
    if not is_foreign:
        with contextlib.suppress(KeyConflictError):  # the text was changed
            return await enqueue(generation)  # finds the job
    if condition is Condition.WAITING and following < MOST_GENERATIONS:
        job = await _cancelled(queue, job, reason=REPLACED)
        if not was_cancelled_by_task(job):
            return job
    elif condition is not Condition.ENDED:
        log.warning("the text of this task was changed after it enqueued call %s; it goes on with that call", job.id)
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
    """The job, cancelled if it has not been sent."""
    if job.state.is_final:
        return job
    try:
        return await queue.cancel(job.id, reason=reason)
    except TooLateError:
        return await queue.get(job.id)
