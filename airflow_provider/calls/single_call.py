"""The only call of a task instance: its request, and its enqueueing, once for all tries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.failures import SECOND_RUN, LateTaskError
from airflow_provider.calls.identity import OncePer, TaskIdentity
from airflow_provider.calls.made_calls import CallsChangedError, resume_redials
from airflow_provider.calls.task_orders import OnClear, TaskOrders
from airflow_provider.calls.task_record import refuse_unknown_calls
from voiceflow_worker import CallFlow, CallQueue, InvalidInputError, Job, telephone_of
from voiceflow_worker.campaigns.called_before import EnqueueLock, said_before
from voiceflow_worker.campaigns.calls.options import CallAgain
from voiceflow_worker.campaigns.fields import WHEN
from voiceflow_worker.core.idempotency import KeyMatch, enqueue_idempotent, existing_call
from voiceflow_worker.core.ports.reading import owners_of
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json
from voiceflow_worker.service.named_call import read_call

if TYPE_CHECKING:
    from voiceflow_worker import Settings
    from voiceflow_worker.core.admission import CheckedCall

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A call that a task asks for: the `fields` of a call, which the settings complete.

    A mapped task identifies the call by its `unique_key`, if it has one, instead of its number. No new call is made
    from `valid_until` on.
    """

    fields: Mapping[str, Any]
    settings: Settings | None = None
    unique_key: str | None = None
    valid_until: datetime | None = None
    again: CallAgain = False
    """Whether to call although another run of the DAG said the same to the number in the last days."""

    def read(self, key: str, *, now: datetime, is_new: bool) -> CheckedCall:
        """Return the call. When a phone may ring is read only for a new call. Raises InvalidInputError."""
        fields = {name: value for name, value in self.fields.items() if is_new or name not in WHEN}
        return read_call(
            fields, key=key, settings=self.settings, now=now,
            named=lambda name: "destination" if name == "to" else name,
        )  # fmt: skip


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


async def enqueue_once(
    queue: CallQueue,
    requested: RequestedCall,
    identity: TaskIdentity,
    *,
    on_clear: OnClear = OnClear.SAME_CALL,
    saved: Mapping[str, Any] | None = None,
) -> Job:
    """Return the job of this task instance. If no try has enqueued a job yet, enqueue one: see `TaskOrders`.

    The instances of a mapped task that call the same number, or have the same `unique_key`, share one call.

    Raises InvalidInputError if the call that stands is to another number, if another instance of the mapped task has a
    different call for the same number or key, if another run of the DAG has called the number with the same words, and
    if Airflow's task state (`saved`) names a call that the store does not have. Raises LateTaskError, IntakeError,
    CallsChangedError, and the errors of `CallQueue.enqueue`.
    """
    if saved is not None and not await owners_of(queue.store, queue.name, [str(saved.get("unique_key"))]):
        refuse_unknown_calls(saved, store=queue.store.url)
    now = queue.store.clock.now()
    wanted = requested.read("-", now=now, is_new=False)
    key = identity.call_key(_called(requested, wanted, identity), 0)
    orders = TaskOrders(identity, again=requested.again, on_clear=on_clear)

    def judge(job: Job) -> KeyMatch:
        found = orders.match(job, wanted.digest)
        if found is KeyMatch.OTHER:
            raise _is_siblings(job)
        if found is KeyMatch.SAME and job.body and telephone_of(job.destination) != telephone_of(wanted.destination):
            raise _is_to_another(job, wanted.destination)
        return found

    async def make() -> CheckedCall:
        call = requested.read(key, now=queue.store.clock.now(), is_new=True)
        ends = min(filter(None, (call.valid_until, requested.valid_until)), default=None)
        return call._replace(valid_until=ends, data={**(call.data or {}), **identity.data()})

    job = await existing_call(queue, key, judge)
    if job is None:
        if requested.valid_until is not None and requested.valid_until <= now:
            raise LateTaskError(requested.valid_until, calls=1)
        # Two runs that begin at once must not both find nobody called.
        lock = EnqueueLock(queue, f"batch {wanted.batch_id}", number=wanted.destination)
        try:
            async with lock.held(needed=requested.again is not True):
                if requested.again is not True:
                    await _refuse_said_before(queue, wanted, identity)
                job, _ = await enqueue_idempotent(queue, key, make, judge, conditions=lock.conditions)
        except KeyConflictError as error:
            why = "another try of this task has just changed its call. A retry looks again"
            raise CallsChangedError(why) from error
    (job,) = await resume_redials(queue, orders.stopped.values()) or (job,)
    if identity.is_of_other_run(job.data):
        log.info("run %s of this DAG made call %s to %s, so this run does not call (once_per='dag')",
                 (job.data or {}).get("airflow_run_id"), job.id, job.destination)  # fmt: skip
    elif job.body_digest != wanted.digest:
        log.warning("the text was changed after call %s was enqueued; the call keeps its text", job.id)
    return job


def _called(requested: RequestedCall, wanted: CheckedCall, identity: TaskIdentity) -> str:
    """Return the name of what the call is counted by. An unmapped task has one call in a run, whatever it calls."""
    if not identity.is_mapped and identity.once_per is OncePer.RUN:
        return ""
    key = requested.unique_key
    return f"number {telephone_of(wanted.destination)}" if key is None else f"key {key}"


async def _refuse_said_before(queue: CallQueue, wanted: CheckedCall, identity: TaskIdentity) -> None:
    """Raise InvalidInputError if another run of the DAG has called the number with the same words."""
    job = await said_before(
        queue,
        destination=wanted.destination,
        digest=wanted.digest,
        counts=lambda job: identity.is_under_other_keys(job.data),
    )
    if job is not None:
        raise InvalidInputError(
            f"run {(job.data or {}).get('airflow_run_id')} of this DAG says the same to {job.destination}, in call "
            f"{job.id}, enqueued at {job.created_at:%Y-%m-%d %H:%M:%S} UTC ({job.state.value}). {SECOND_RUN}"
        )


def _is_to_another(job: Job, number: str) -> InvalidInputError:
    return InvalidInputError(
        f"this task now requests a call to {number}, but an earlier try has enqueued call {job.id} to "
        f"{job.destination} ({job.state.value}), which stands. A task instance calls only one number. If it has not "
        f"been sent, run `voiceflow calls cancel {job.id}`, and clear this task; else call the new number in a new run "
        "of the DAG; or set on_clear='call_again', and clear the task when that call has ended"
    )


def _is_siblings(job: Job) -> InvalidInputError:
    """The error that another instance of the same expansion enqueued this different call."""
    index = (job.data or {}).get("airflow_map_index")
    return InvalidInputError(
        f"instance {index} of this task makes a different call, {job.id} to {job.destination}. A mapped task makes one "
        "call for each number: if several instances call one number with different texts, give each call a unique_key"
    )
