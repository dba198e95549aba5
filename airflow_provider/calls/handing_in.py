"""Handing in: once per task instance, whatever happens to its tries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.generations import MOST_GENERATIONS, KeyOf, newest_call
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.mapped import mapped_keys
from airflow_provider.calls.request import WantedCall
from airflow_provider.calls.slots import Condition, condition_of
from airflow_provider.calls.taken_back import CORRECTED, REPLACED, was_taken_back
from airflow_provider.calls.witness import refuse_amnesia
from voiceflow_worker import CallQueue, InvalidInputError, Job, KeyConflictError, TooLateError

log = logging.getLogger(__name__)


class OnClear(StrEnum):
    """What a task does that a user cleared, when its call has been made."""

    SAME_CALL = "same_call"
    """It goes on with the call that was made: nobody is called again."""
    CALL_AGAIN = "call_again"
    """It calls again, once per clear, if the call before has ended."""


async def hand_in(
    queue: CallQueue,
    wanted: WantedCall,
    identity: TaskIdentity,
    *,
    on_clear: OnClear = OnClear.SAME_CALL,
    recalled: Mapping[str, Any] | None = None,
    expansion: Expansion | None = None,
) -> Job:
    """The one job of this task instance: the one that was handed in before, else a new one.

    A new one is made where there is none, and where the last one certainly rang nowhere and something has changed
    since: the user cleared the task, corrected the call, or Airflow had stopped the task. With CALL_AGAIN a clear also
    makes a new one of a call that has ended; never of one in doubt. An instance of a mapped task is known by the number
    that it calls, not by its index.

    Raises InvalidInputError when the number was changed after the call to the old one had left, or when the store does
    not know the call that `recalled` (what the witness told) speaks of; and what `CallQueue.enqueue` raises.
    """
    key_of = _own_keys(identity)
    if identity.is_mapped:
        key_of = await mapped_keys(
            queue, identity, wanted.number, recalled=recalled, expansion=expansion or Expansion()
        )
    generation, job = await newest_call(queue, key_of)
    if job is None:
        if not identity.is_mapped:
            refuse_amnesia(recalled, store=queue.store.url)
        return await _enqueue(queue, wanted, identity, key_of(generation))
    if _begins_anew(job, identity, on_clear):
        log.info("call %s is %s; this task makes a new one", job.id, job.state.value)
        return await _enqueue(queue, wanted, identity, key_of(generation + 1))
    if job.body and job.destination != wanted.number:
        return await _corrected(queue, wanted, identity, job=job, next_key=key_of(generation + 1))
    if identity.is_mapped and condition_of(job) is Condition.WAITING and not identity.owns(job.data):
        # Another instance called this number before the clear, and takes back what it asked for then.
        return await _replaced(queue, wanted, identity, job=job, next_key=key_of(generation + 1))
    try:
        return await _enqueue(queue, wanted, identity, key_of(generation))  # finds it
    except KeyConflictError:
        if generation + 1 >= MOST_GENERATIONS:
            return job
        return await _changed(queue, wanted, identity, job=job, next_key=key_of(generation + 1))


def _own_keys(identity: TaskIdentity) -> KeyOf:
    return lambda generation: identity.key(generation=generation)


def _begins_anew(job: Job, identity: TaskIdentity, on_clear: OnClear) -> bool:
    handed_in_under = (job.data or {}).get("airflow_max_tries")
    # Compared with what it was at hand-in, not with the task's `retries`, which a new version of the DAG may change.
    was_cleared = isinstance(handed_in_under, int) and identity.max_tries > handed_in_under
    if never_rang(job):
        return was_cleared or was_taken_back(job)
    return was_cleared and on_clear is OnClear.CALL_AGAIN and job.state.is_final


async def _changed(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, job: Job, next_key: str) -> Job:
    """The same number, another text: a call that rang, or is on its way, stays the one; another is made anew.

    One that a person cancelled stays cancelled: only a clear calls again.
    """
    match condition_of(job):
        case Condition.WAITING:
            return await _replaced(queue, wanted, identity, job=job, next_key=next_key)
        case Condition.ENDED:
            return await _enqueue(queue, wanted, identity, next_key)
        case _:
            log.warning(
                "this task's text has changed since it handed in call %s, which is %s; it goes on with that call, as it"
                " was",
                job.id,
                job.state.value,
            )
            return job


async def _replaced(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, job: Job, next_key: str) -> Job:
    """A call that waits gives way to the one that is asked for now; if it has left meanwhile, it stays the one."""
    try:
        job = await queue.cancel(job.id, reason=REPLACED)
    except TooLateError:
        job = await queue.get(job.id)
    if was_taken_back(job):
        return await _enqueue(queue, wanted, identity, next_key)
    return job


async def _corrected(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, job: Job, next_key: str) -> Job:
    """Another number than the last try's: fine as long as the old one has not been called."""
    if not job.state.is_final:
        try:
            job = await queue.cancel(job.id, reason=CORRECTED)
        except TooLateError:
            job = await queue.get(job.id)
    if never_rang(job):
        return await _enqueue(queue, wanted, identity, next_key)
    raise InvalidInputError(
        f"this task now asks for a call to {wanted.number}, but it has called {job.destination} before (call "
        f"{job.id}, {job.state.value}), and a task instance calls one number once. Call the new number from a new run "
        "of the DAG, or give the operator on_clear='call_again' and clear the task once that call has ended"
    )


async def _enqueue(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, key: str) -> Job:
    return await queue.enqueue(
        wanted.flow,
        unique_key=key,
        batch_id=wanted.batch_id,
        priority=wanted.priority,
        not_before=wanted.not_before,
        valid_for=wanted.valid_for,
        redial=wanted.redial,
        data={**wanted.data, **identity.data()},
        menu=wanted.menu,
    )
