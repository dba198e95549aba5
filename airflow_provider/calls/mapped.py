"""Which call an instance of a mapped task means: by the number that it calls, not by its index.

After a clear an instance may have another index, and the index another number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from airflow_provider.calls.expansion import Expansion, unsent_to
from airflow_provider.calls.generations import MOST_GENERATIONS, KeyOf, newest_call
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.memory import Memory, recall, remember
from airflow_provider.calls.places import places
from airflow_provider.calls.rows import called_number
from airflow_provider.calls.slots import MARGIN, Condition, Slot, condition_of, map_index_of
from airflow_provider.calls.taken_back import REMOVED, cancel_calls
from airflow_provider.calls.witness import refuse_amnesia
from voiceflow_worker import CallQueue, Job


async def mapped_keys(
    queue: CallQueue,
    identity: TaskIdentity,
    number: str,
    *,
    recalled: Mapping[str, Any] | None,
    expansion: Expansion,
) -> KeyOf:
    """The keys of this instance's call to a number, by how often it was asked for anew.

    Where several instances call one number, each has a call of its own. The unsent calls that this instance, and those
    that were removed, asked for before the clear are taken back. Raises InvalidInputError when the store does not know
    the call that `recalled` (what the witness told) speaks of, nor any other of this instance.
    """
    memory = await recall(queue, identity)
    if memory is None:
        memory = await _of_older_release(queue, identity)
        if memory is None:
            refuse_amnesia(recalled, store=queue.store.url)
            memory = Memory()
    memory = memory.with_number(number)
    await remember(queue, identity, memory)
    called = called_number(number)
    calls = [job for job in await queue.find(destination=number, limit=None) if _is_of_task(job, identity)]
    older = sorted({index for job in calls if (index := _older_index(job, identity)) is not None})

    def keys_at(ordinal: int) -> KeyOf:
        if ordinal < len(older):
            was = replace(identity, map_index=older[ordinal])
            return lambda generation: was.key(generation=generation)
        return lambda generation: identity.call_key(called, ordinal, generation=generation)

    slots: list[Slot] = []
    while len(slots) < MARGIN or any(slot.condition is not Condition.FREE for slot in slots[-MARGIN:]):
        _, job = await newest_call(queue, keys_at(len(slots)))
        slot = Slot(called=called, ordinal=len(slots))
        if job is not None:
            slot = replace(slot, condition=condition_of(job), map_index=map_index_of(job))
        slots.append(slot)
    (ordinal,) = await places(queue, identity, [called], {called: slots}, expansion)
    key_of = keys_at(ordinal)
    own = {key_of(generation) for generation in range(MOST_GENERATIONS)}
    unwanted = [
        job.id for each in memory.numbers for job in await unsent_to(queue, each, identity) if job.unique_key not in own
    ]
    await cancel_calls(queue, unwanted, reason=REMOVED)
    await expansion.take_back_removed(queue, identity)
    return key_of


async def _of_older_release(queue: CallQueue, identity: TaskIdentity) -> Memory | None:
    """What an older release, which left no memory, called for this index; None if it called nobody."""
    keys = [identity.key(generation=generation) for generation in range(MOST_GENERATIONS)]
    owners = await queue.store.jobs.owners(queue.name, keys, now=queue.store.clock.now())
    if not owners:
        return None
    jobs = await queue.store.jobs.get([owner.job_id for owner in owners.values()])
    return Memory(numbers=tuple({job.destination for job in jobs.values()}))


def _is_of_task(job: Job, identity: TaskIdentity) -> bool:
    """Whether any instance of this mapped task asked for the call."""
    index = map_index_of(job)
    return index is not None and replace(identity, map_index=index).owns(job.data)


def _older_index(job: Job, identity: TaskIdentity) -> int | None:
    """The map index under whose key an older release handed in the call; None for a call of this release."""
    index = cast("int", (job.data or {})["airflow_map_index"])
    was = replace(identity, map_index=index)
    keys = {was.key(generation=generation) for generation in range(MOST_GENERATIONS)}
    return index if job.unique_key in keys else None
