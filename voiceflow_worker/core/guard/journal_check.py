"""Comparison of the journal files of a host with a store, to find sent calls that the store has lost.

A job that the sweep deleted leaves a tombstone, so that it does not look like a lost job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.journal_files import Witness
from voiceflow_worker.core.ports.reading import owners_of, read_each
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import is_forgotten

PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCheck:
    """The result of a comparison of journal files with the store.

    `files` and `calls` are the numbers of files and calls that were read. `forgotten` are the sent calls that the store
    has lost. `set_back` is True if the store certainly had one of these calls before.
    """

    files: int
    calls: int
    forgotten: tuple[Job, ...]
    set_back: bool


async def check_journals(store: Store, witness: Witness, *, queue: str, policy: CallPolicy) -> JournalCheck:
    """Compare all journal files of this host with the store, changing nothing."""
    now = store.clock.now()
    files = await witness.files(queue)
    kept: set[str] = set()
    calls: set[str] = set()
    forgotten: dict[str, Job] = {}
    for file in files:
        if file.kept is not None:
            kept |= {job.id for job, _ in await forgotten_of(store, [file.kept], now=now, policy=policy)}
        entries = await witness.entries(queue, file.name)
        calls |= {job.id for job in entries}
        for start in range(0, len(entries), PAGE):
            page = entries[start : start + PAGE]
            forgotten |= {job.id: job for job, _ in await forgotten_of(store, page, now=now, policy=policy)}
    # While its worker writes, a file may be ahead of the store, so a call that only the file has proves nothing.
    return JournalCheck(
        files=len(files), calls=len(calls), forgotten=tuple(forgotten.values()) if kept else (), set_back=bool(kept)
    )


async def forgotten_of(
    store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy
) -> list[tuple[Job, Job | None]]:
    """The journalled jobs of which the store lacks a POST, each with its stored job, or None if that is missing.

    A missing job counts as pruned, not as forgotten, if its POST began longer ago than the retention.
    """
    stored = await read_each(store, [job.id for job in jobs])
    found: list[tuple[Job, Job | None]] = []
    for each in jobs:
        job = stored.jobs.get(each.id)
        if each.id in stored.unreadable:
            continue  # a newer version has moved it: it is not lost
        if now < each.posts[-1].began_at + policy.retention if job is None else is_forgotten(each, job):
            found.append((each, job))
    # A process with a shorter retention may have deleted a job early. The tombstone of the job shows that.
    pruned = await known_as_pruned(store, [each for each, job in found if job is None])
    return [(each, job) for each, job in found if each.id not in pruned]


TOMBSTONES = "pruned"


async def remember_pruned(store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy) -> None:
    """Leave tombstones of jobs that are about to be deleted.

    Jobs with a unique key are left out, because deleting them leaves a tombstone anyway. Jobs that were never sent are
    left out, because no journal file names them.
    """
    tombstones = {job.id: "1" for job in jobs if job.unique_key is None and job.post_count}
    await text_records(store, TOMBSTONES).put(tombstones, until=now + max(policy.key_retention, policy.retention))


async def known_as_pruned(store: Store, jobs: Sequence[Job]) -> set[str]:
    """The ids of the jobs that have a tombstone in the store. Pass only jobs that the store lacks.

    A store that was set back to a time before it deleted a job has no tombstone of that job.
    """
    known = set(await text_records(store, TOMBSTONES).get(job.id for job in jobs))
    left = [job for job in jobs if job.id not in known and job.unique_key is not None]
    for queue in {job.queue for job in left}:
        keys = {job.unique_key: job.id for job in left if job.queue == queue and job.unique_key is not None}
        owners = await owners_of(store, queue, keys)
        known |= {
            owner.id
            for key, owner in owners.items()
            # If the server evicted a job, its key still names it, but is not a tombstone.
            if owner.id == keys[key] and owner.state in FINAL_STATES
        }
    return known
