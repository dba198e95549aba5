"""Which call an instance of a mapped task means: by the number that it calls, not by its index.

After a clear an instance may have another index, and the index another number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.memory import Memory, recall, remember
from airflow_provider.calls.places import places
from airflow_provider.calls.rows import called_number
from airflow_provider.calls.taken_back import REMOVED, cancel_calls
from airflow_provider.calls.witness import refuse_amnesia
from voiceflow_worker import CallQueue, Job, JobState

OLDER_GENERATIONS = 64
"""How many calls an older release made of one task instance at most."""


async def mapped_keys(
    queue: CallQueue, identity: TaskIdentity, number: str, *, recalled: Mapping[str, Any] | None
) -> Callable[[int], str]:
    """The keys of this instance's call to a number, by how often it was asked for anew.

    Where several instances call one number, each has a call of its own. What this instance called before the clear and
    had not left is taken back. Raises InvalidInputError when the store does not know the call that `recalled` (what the
    witness told) speaks of, nor any other of this instance.
    """
    memory = await recall(queue, identity)
    if memory is None:
        memory = await _of_older_release(queue, identity)
        if memory is None:
            refuse_amnesia(recalled, store=queue.store.url)
            memory = Memory()
    await remember(queue, identity, memory.with_number(number))
    (ordinal,) = await places(queue, identity, [called_number(number)])
    await _take_back(queue, identity, [each for each in memory.numbers if each != number])
    calls = [job for job in await queue.find(destination=number, limit=None) if _is_of_task(job, identity)]
    older = sorted({index for job in calls if (index := _older_index(job, identity)) is not None})
    if ordinal < len(older):
        was = replace(identity, map_index=older[ordinal])
        return lambda generation: was.key(generation=generation)
    return lambda generation: identity.call_key(called_number(number), ordinal, generation=generation)


async def _take_back(queue: CallQueue, identity: TaskIdentity, numbers: list[str]) -> None:
    for number in numbers:
        found = await queue.find(states=[JobState.QUEUED, JobState.LEASED], destination=number, limit=None)
        await cancel_calls(queue, [job.id for job in found if identity.owns(job.data)], reason=REMOVED)


async def _of_older_release(queue: CallQueue, identity: TaskIdentity) -> Memory | None:
    """What an older release, which left no memory, called for this index; None if it called nobody."""
    keys = [identity.key(generation=generation) for generation in range(OLDER_GENERATIONS)]
    owners = await queue.store.jobs.owners(queue.name, keys, now=queue.store.clock.now())
    if not owners:
        return None
    jobs = await queue.store.jobs.get([owner.job_id for owner in owners.values()])
    return Memory(numbers=tuple({job.destination for job in jobs.values()}))


def _is_of_task(job: Job, identity: TaskIdentity) -> bool:
    """Whether any instance of this mapped task asked for the call."""
    index = (job.data or {}).get("airflow_map_index")
    return isinstance(index, int) and replace(identity, map_index=index).owns(job.data)


def _older_index(job: Job, identity: TaskIdentity) -> int | None:
    """The map index under whose key an older release handed in the call; None for a call of this release."""
    index = cast("int", (job.data or {})["airflow_map_index"])
    was = replace(identity, map_index=index)
    keys = {was.key(generation=generation) for generation in range(OLDER_GENERATIONS)}
    return index if job.unique_key in keys else None
