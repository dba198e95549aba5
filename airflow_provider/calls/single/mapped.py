"""The call of a mapped task's instance. The number identifies the call, because a clear may change the map indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider.calls.cancellation import REMOVED, cancel_calls, unsent_to
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.earlier.ordinals import claim_ordinals
from airflow_provider.calls.earlier.prior_calls import (
    MARGIN,
    MOST_GENERATIONS,
    Condition,
    KeyOf,
    PriorCall,
    called_number,
    condition_of,
    map_index_of,
    newest_call,
)
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_record import TaskRecord, load_record, refuse_unknown_calls, save_record
from voiceflow_worker import CallQueue


async def mapped_keys(
    queue: CallQueue, identity: TaskIdentity, number: str, *, saved: Mapping[str, Any] | None, expansion: Expansion
) -> KeyOf:
    """Return a function that gives the unique key of this instance's call to `number`, for each generation of the call.

    Several instances may call the same number; each has a call of its own. Unsent calls that this instance no longer
    requests, and unsent calls of removed instances, are cancelled. Raises InvalidInputError if Airflow's task state
    (`saved`) names a call, but the store has no record of this instance.
    """
    record = await load_record(queue, identity)
    if record is None:
        refuse_unknown_calls(saved, store=queue.store.url)
        record = TaskRecord()
    record = record.with_number(number)
    await save_record(queue, identity, record)
    called = called_number(number)

    def keys_at(ordinal: int) -> KeyOf:
        return lambda generation: identity.call_key(called, ordinal, generation=generation)

    made: list[PriorCall] = []
    while len(made) < MARGIN or any(call.condition is not Condition.FREE for call in made[-MARGIN:]):
        call = PriorCall(called=called, ordinal=len(made))
        _, job = await newest_call(queue, keys_at(call.ordinal))
        if job is not None:
            call = replace(call, condition=condition_of(job), map_index=map_index_of(job))
        made.append(call)
    (ordinal,) = await claim_ordinals(queue, identity, [called], {called: made}, expansion)
    key_of = keys_at(ordinal)
    own = {key_of(generation) for generation in range(MOST_GENERATIONS)}
    unsent = [job for each in record.numbers for job in await unsent_to(queue, each, identity)]
    await cancel_calls(queue, [job.id for job in unsent if job.unique_key not in own], reason=REMOVED)
    await expansion.cancel_removed(queue, identity)
    return key_of
