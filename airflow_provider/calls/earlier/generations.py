"""Generations of one call: jobs that replaced each other, each under a unique key of its own."""

from __future__ import annotations

from collections.abc import Callable

from voiceflow_worker import CallQueue, Job

MOST_GENERATIONS = 64
"""More than anybody clears a task."""

KeyOf = Callable[[int], str]
"""The unique key of one call by its generation."""


async def newest_call(queue: CallQueue, key_of: KeyOf) -> tuple[int, Job | None]:
    """The number of a call's newest generation, and its job.

    If that job was pruned, it has only the fields that are kept with its unique key.
    """
    keys = [key_of(number) for number in range(MOST_GENERATIONS)]
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
