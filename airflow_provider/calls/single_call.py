"""The only call of a task instance: its request, and its enqueueing, once for all tries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow_provider.calls.failures import SECOND_RUN, LateTaskError, never_rang
from airflow_provider.calls.identity import OncePer, TaskIdentity
from airflow_provider.calls.made_calls import (
    CORRECTED,
    REPLACED,
    CallsChangedError,
    Condition,
    called_key,
    called_number,
    calls_made,
    cancel_calls,
    condition_of,
    lost_redial,
    resume_redial,
    unsent_ids,
    was_cancelled_by_task,
)
from airflow_provider.calls.task_record import refuse_unknown_calls
from voiceflow_worker import (
    CallFlow,
    CallQueue,
    CallRequest,
    InvalidInputError,
    Job,
    telephone_of,
    usual_form,
)
from voiceflow_worker.core.admission import call_digest
from voiceflow_worker.core.ports.reading import owners_of
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.model.flows.callflow import EncodedBody
from voiceflow_worker.model.jobs.admission import end_of
from voiceflow_worker.model.jobs.again import Again, states_of
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json


@dataclass(frozen=True, slots=True)
class RequestedCall:
    """A call to enqueue. Its `unique_key` is that which a mapped task identifies the call by, instead of its number."""

    request: CallRequest
    valid_for: timedelta | None = None
    valid_until: datetime | None = None
    again: Again = False
    """Whether to call although another run of the DAG said the same to the number in the last days."""

    def ends(self, *, now: datetime) -> datetime | None:
        """Return the end of the call's validity, if it is enqueued now. The options replace one that has passed."""
        begin = max(now, self.request.not_before or now)
        own = self.request.valid_until if self.valid_for is None else end_of(self.valid_for, at=begin)
        if own is None or self.valid_until is None:
            return own or self.valid_until
        return self.valid_until if own <= now else min(own, self.valid_until)

    @property
    def digest(self) -> str:
        """The digest of the body and the further numbers, which the job of the call has too."""
        return call_digest(EncodedBody.of(self.request.flow).canonical, tuple(self.request.further_numbers))

    @property
    def number(self) -> str:
        """The number to call, in the form that the job stores."""
        return usual_form(self.request.flow.destination or "")


def read_flow(flow: object) -> object:
    """The 8x8 body of a CallFlow, or of a JSON text. Raises InvalidInputError."""
    if isinstance(flow, CallFlow):
        return flow.to_body()
    if not isinstance(flow, str):
        return flow
    try:
        return read_strict_json(flow)
    except RepeatedNameError as error:
        raise InvalidInputError(f"flow {error}") from None
    except ValueError as error:
        raise InvalidInputError(f"flow is not JSON: {error}") from None


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
) -> Job:
    """Return the job of this task instance. If no try has enqueued a job yet, enqueue one.

    The instances of a mapped task that call the same number, or have the same `unique_key`, share one call. Other calls
    of this instance in a batch of its own are cancelled if they have not been sent: it called another number before.

    A job that certainly rang nobody's phone is replaced in three cases: a user cleared the task, a task cancelled the
    job, or the number or the text of the call was changed. (A call that a person cancelled is not replaced for a new
    text.) If the task calls once in all runs, the call of another run is never replaced, unless it ended without a
    ring. With CALL_AGAIN, a clear also replaces a call that has ended, but never a call in doubt.

    Raises InvalidInputError if the number was changed after the earlier number was called, if another instance of the
    mapped task has a different call for the same number or key, if another run of the DAG has called the number with
    the same words, and if Airflow's task state (`saved`) names a call that the store does not have. Raises
    LateTaskError, IntakeError, CallsChangedError, and the errors of `CallQueue.enqueue`.
    """
    if saved is not None and not await owners_of(queue.store, queue.name, [str(saved.get("unique_key"))]):
        refuse_unknown_calls(saved, store=queue.store.url)
    job = await _made_once(queue, requested, identity, on_clear)
    batch_id = requested.request.batch_id
    if identity.is_mapped and batch_id is not None and batch_id == identity.batch_id():
        unsent = await unsent_ids(queue, [batch_id], identity)
        await cancel_calls(queue, [job_id for job_id in unsent if job_id != job.id], reason=CORRECTED)
    return job


async def _made_once(queue: CallQueue, requested: RequestedCall, identity: TaskIdentity, on_clear: OnClear) -> Job:
    called = _called(requested, identity)
    made = (await calls_made(queue, identity, {called: 1}, note=lambda place, job: (place, job)))[called]
    if not made:
        return await _enqueued(queue, requested, identity, called, 0)
    place, job = made[-1]
    if condition_of(job) in {Condition.ENDED, Condition.CANCELLED} and job.state in states_of(requested.again):
        log.info("call %s is %s; this task makes a new call (again=…)", job.id, job.state.value)
    elif identity.is_of_other_run(job.data):
        if condition_of(job) not in {Condition.ENDED, Condition.CANCELLED_BY_TASK}:
            log.info(
                "run %s of this DAG made call %s to %s, so this run does not call (once_per='dag')",
                (job.data or {}).get("airflow_run_id"),
                job.id,
                job.destination,
            )
            return job
    elif _is_replaced(job, identity, on_clear):
        log.info("call %s is %s; this task makes a new call", job.id, job.state.value)
    elif job.body and telephone_of(job.destination) != telephone_of(requested.number):
        _refuse_siblings(job, identity)
        job = await _cancelled(queue, job, reason=CORRECTED)
        if not never_rang(job):
            raise InvalidInputError(
                f"this task now requests a call to {requested.number}, but it has already called {job.destination} "
                f"(call {job.id}, {job.state.value}). A task instance calls only one number. Call the new number in a "
                "new run of the DAG; or set on_clear='call_again', and clear the task when call "
                f"{job.id} has ended"
            )
    else:
        is_same, is_waiting = job.body_digest == requested.digest, condition_of(job) is Condition.WAITING
        # A waiting call of an instance that called this number before the clear is replaced, because that instance
        # cancels it.
        is_left = identity.is_mapped and is_waiting and not identity.owns(job.data)
        if is_same and not (is_left and not identity.is_sibling_of(job.data)):
            return (await resume_redial(queue, job) if lost_redial(job) else None) or job
        _refuse_siblings(job, identity)
        if is_waiting:
            job = await _cancelled(queue, job, reason=REPLACED)
        if condition_of(job) not in {Condition.ENDED, Condition.CANCELLED_BY_TASK}:
            job = (await resume_redial(queue, job) if lost_redial(job) else None) or job
            if not is_same:
                log.warning("the text was changed after call %s was enqueued; the call keeps its old text", job.id)
            return job
    return await _enqueued(queue, requested, identity, called, place + 1)


def _called(requested: RequestedCall, identity: TaskIdentity) -> str:
    """Return the name of what the call is counted by. An unmapped task has one call in a run, whatever it calls."""
    if not identity.is_mapped and identity.once_per is OncePer.RUN:
        return ""
    key = requested.request.unique_key
    return called_number(requested.number) if key is None else called_key(key)


async def _enqueued(queue: CallQueue, requested: RequestedCall, identity: TaskIdentity, called: str, place: int) -> Job:
    from voiceflow_worker.campaigns.called_before import IntakeTurn  # not when DAGs are parsed: it takes 0.1 s

    wanted, now = requested.request, queue.store.clock.now()
    if requested.valid_until is not None and requested.valid_until <= now:
        raise LateTaskError(requested.valid_until, calls=1)
    request = replace(
        wanted,
        unique_key=identity.call_key(called, place),
        valid_until=requested.ends(now=now),
        data={**(wanted.data or {}), **identity.data()},
    )
    # Two runs that begin at once must not both find nobody called.
    turn = IntakeTurn(queue, f"batch {wanted.batch_id}", number=requested.number)
    try:
        async with turn.held(needed=requested.again is not True):
            if requested.again is not True:
                await _refuse_said_before(queue, requested, identity)
            (enqueued,) = await queue.admitter.admit_all([request], conditions=turn.conditions)
            return enqueued.job
    except KeyConflictError as error:
        raise CallsChangedError(
            f"another try of this task, or another instance that calls {requested.number}, has just enqueued a "
            "different call. A retry looks again. If several instances call one number with different texts, give each "
            "call a unique_key"
        ) from error


async def _refuse_said_before(queue: CallQueue, requested: RequestedCall, identity: TaskIdentity) -> None:
    """Raise InvalidInputError if another run of the DAG has called the number with the same words."""
    from voiceflow_worker.campaigns.called_before import said_before

    job = await said_before(
        queue,
        destination=requested.number,
        digest=requested.digest,
        counts=lambda job: identity.is_under_other_keys(job.data),
    )
    if job is not None:
        raise InvalidInputError(
            f"run {(job.data or {}).get('airflow_run_id')} of this DAG says the same to {job.destination}, in call "
            f"{job.id}, enqueued at {job.created_at:%Y-%m-%d %H:%M:%S} UTC ({job.state.value}). {SECOND_RUN}"
        )


def _refuse_siblings(job: Job, identity: TaskIdentity) -> None:
    """Raise InvalidInputError if another instance of the same expansion enqueued this different call."""
    if identity.is_sibling_of(job.data):
        index = (job.data or {}).get("airflow_map_index")
        raise InvalidInputError(
            f"instance {index} of this task makes a different call, {job.id} to {job.destination}. A mapped task makes "
            "one call for each number: if several instances call one number with different texts, give each call a "
            "unique_key"
        )


def _is_replaced(job: Job, identity: TaskIdentity, on_clear: OnClear) -> bool:
    if never_rang(job):
        return identity.was_cleared_since(job.data) or was_cancelled_by_task(job)
    return identity.was_cleared_since(job.data) and on_clear is OnClear.CALL_AGAIN and job.state.is_final


async def _cancelled(queue: CallQueue, job: Job, *, reason: str) -> Job:
    """Cancel the job if it has not been sent, and return the job as it is now."""
    if job.state.is_final:
        return job
    await cancel_calls(queue, [job.id], reason=reason)
    return await queue.get(job.id)
