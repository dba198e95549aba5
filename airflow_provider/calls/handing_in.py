"""Handing in: once per task instance, whatever happens to its tries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.request import WantedCall
from airflow_provider.calls.witness import refuse_amnesia
from voiceflow_worker import CallQueue, InvalidInputError, Job, JobState, KeyConflictError, TooLateError

log = logging.getLogger(__name__)

MOST_GENERATIONS = 64
"""How often one task instance may be asked for anew: more clears than a person makes."""

STOPPED_BY_AIRFLOW = "its Airflow task was stopped"
"""The reason of jobs that `on_kill` cancelled: the next try makes a new call."""


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
) -> Job:
    """The one job of this task instance: the one that was handed in before, else a new one.

    A new one is made where there is none, and where the last one certainly rang nowhere and something has changed
    since: the user cleared the task, corrected the call, or Airflow had stopped the task. With CALL_AGAIN a clear also
    makes a new one of a call that has ended; never of one in doubt.

    Raises InvalidInputError when the number was changed after the call to the old one had left, or when the store does
    not know the call that `recalled` (what the witness told) speaks of; and what `CallQueue.enqueue` raises.
    """
    generation, job = await _last(queue, identity)
    if job is None:
        refuse_amnesia(recalled, store=queue.store.url)
        return await _enqueue(queue, wanted, identity, generation=generation)
    if _begins_anew(job, identity, on_clear):
        log.info("call %s is %s; this task makes a new one", job.id, job.state.value)
        return await _enqueue(queue, wanted, identity, generation=generation + 1)
    if job.destination == wanted.flow.destination or not job.body:
        try:
            return await _enqueue(queue, wanted, identity, generation=generation)  # finds it
        except KeyConflictError:
            return await _changed(queue, wanted, identity, job=job, generation=generation)
    return await _corrected(queue, wanted, identity, job=job, generation=generation)


async def _last(queue: CallQueue, identity: TaskIdentity) -> tuple[int, Job | None]:
    """The newest job of this task instance with its generation; for a pruned one, what its key remembers."""
    keys = [identity.key(generation=number) for number in range(MOST_GENERATIONS)]
    jobs, now = queue.store.jobs, queue.store.clock.now()
    owners = await jobs.owners(queue.name, keys[:4], now=now)
    if keys[3] in owners:
        owners = await jobs.owners(queue.name, keys, now=now)
    generation = next((number for number, key in enumerate(keys) if key not in owners), MOST_GENERATIONS) - 1
    if generation < 0:
        return 0, None
    owner = owners[keys[generation]]
    found = await jobs.get([owner.job_id])
    if owner.job_id in found:
        return generation, found[owner.job_id]
    now = queue.store.clock.now()
    pruned = Job(
        id=owner.job_id,
        queue=queue.name,
        state=owner.state,
        due_at=now,
        destination="",
        body="",
        body_digest=owner.body_digest,
        source="",
        created_at=now,
    )
    return generation, pruned


def _begins_anew(job: Job, identity: TaskIdentity, on_clear: OnClear) -> bool:
    handed_in_under = (job.data or {}).get("airflow_max_tries")
    # Compared with what it was at hand-in, not with the task's `retries`, which a new version of the DAG may change.
    was_cleared = isinstance(handed_in_under, int) and identity.max_tries > handed_in_under
    if never_rang(job):
        return was_cleared or (job.state is JobState.CANCELLED and job.reason == STOPPED_BY_AIRFLOW)
    return was_cleared and on_clear is OnClear.CALL_AGAIN and job.state.is_final


async def _changed(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, job: Job, generation: int) -> Job:
    """The same number, another text: the call that rang, or is on its way, stays the one; another is made anew."""
    if never_rang(job):
        return await _enqueue(queue, wanted, identity, generation=generation + 1)
    log.warning(
        "this task's text has changed since it handed in call %s, which is %s; it goes on with that call, as it was",
        job.id,
        job.state.value,
    )
    return job


async def _corrected(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, job: Job, generation: int) -> Job:
    """Another number than the last try's: fine as long as the old one has not been called."""
    if not job.state.is_final:
        try:
            job = await queue.cancel(job.id, reason="its Airflow task was corrected: it calls another number")
        except TooLateError:
            job = await queue.get(job.id)
    if never_rang(job):
        return await _enqueue(queue, wanted, identity, generation=generation + 1)
    raise InvalidInputError(
        f"this task now asks for a call to {wanted.flow.destination}, but it has called {job.destination} before (call "
        f"{job.id}, {job.state.value}), and a task instance calls one number once. Call the new number from a new run "
        "of the DAG, or give the operator on_clear='call_again' and clear the task once that call has ended"
    )


async def _enqueue(queue: CallQueue, wanted: WantedCall, identity: TaskIdentity, *, generation: int) -> Job:
    return await queue.enqueue(
        wanted.flow,
        unique_key=identity.key(generation=generation),
        batch_id=wanted.batch_id,
        priority=wanted.priority,
        not_before=wanted.not_before,
        valid_for=wanted.valid_for,
        redial=wanted.redial,
        data={**wanted.data, **identity.data()},
        menu=wanted.menu,
    )
