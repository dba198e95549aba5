"""Unique keys: which call is found by one.

A call has the key with which it was enqueued as long as the store has it, and then its tombstone. What else has a key
is a record, under a keyed digest: a call that was changed is found by the key of its new text too, and of an erased one
it is only known that there was a call.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.base.reading import find_jobs, get_jobs
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.store import Drop, Mode, Put, Record, Store
from voiceflow_worker.model.jobs.job import Job

KEYS = "erased-key"
"""Namespace of the keys of changed and erased calls, by queue and keyed digest: the id of the call and its last state;
of a changed one `changed` and its own key."""
_CHANGED = "changed"
_KEYS_AT_ONCE = 500


def key_group(queue: str, unique_key: str, *, store_id: str) -> str:
    """The group of the record of a unique key."""
    return f"{queue}/{keyed_digest(store_id, unique_key)}"


def changed_key_put(job: Job, unique_key: str, *, store_id: str, until: datetime) -> Put:
    """The record by which a changed call is found by a further key. If another call has that key, it keeps it."""
    group = key_group(job.queue, unique_key, store_id=store_id)
    return Put(KEYS, group, f"{job.id} {_CHANGED} {job.unique_key or ''}", until, Mode.KEEP)


def changed_key_drops(job: Job, *, store_id: str) -> tuple[Drop, ...]:
    """The end of all records by which a changed call is found."""
    keys = () if job.edits is None else job.edits.keys
    value = f"{job.id} {_CHANGED} {job.unique_key or ''}"
    return tuple(Drop(KEYS, key_group(job.queue, key, store_id=store_id), value) for key in keys)


async def owners_of(store: Store, queue: str, unique_keys: Iterable[str]) -> dict[str, Job]:
    """The calls that are found by these unique keys, by key; free keys, and those of erased calls, are left out.

    If the call was deleted, its tombstone is found: a job with only an id, a key, digests, a state and times.
    """
    found: dict[str, Job] = {}
    keys = iter(dict.fromkeys(unique_keys))
    while some := tuple(islice(keys, _KEYS_AT_ONCE)):
        jobs = await find_jobs(store, ByKey(queue, some))
        found |= {job.unique_key: job for job in jobs if job.unique_key is not None}
        if left := [key for key in some if key not in found]:
            found |= await _changed_owners(store, queue, left)
    return found


async def _changed_owners(store: Store, queue: str, keys: Iterable[str]) -> dict[str, Job]:
    """The calls that were changed, and are found by these keys since then."""
    groups = {key_group(queue, key, store_id=store.id): key for key in keys}
    records = (await store.records({KEYS: list(groups)}, now=store.clock.now()))[KEYS]
    named = {groups[record.group]: call for record in records if (call := _changed_call(record)) is not None}
    if not named:
        return {}
    jobs = await get_jobs(store, [job_id for job_id, _ in named.values()])
    gone = {key for job_id, key in named.values() if job_id not in jobs and key}
    buried = {job.id: job for job in (await find_jobs(store, ByKey(queue, tuple(gone))) if gone else ())}
    owners = {key: jobs.get(job_id) or buried.get(job_id) for key, (job_id, _) in named.items()}
    return {key: job for key, job in owners.items() if job is not None}


async def erased_keys(store: Store, queue: str, unique_keys: Iterable[str]) -> set[str]:
    """Those of these unique keys that erased calls had."""
    groups = {key_group(queue, key, store_id=store.id): key for key in unique_keys}
    records = (await store.records({KEYS: list(groups)}, now=store.clock.now()))[KEYS] if groups else ()
    return {groups[record.group] for record in records if _changed_call(record) is None}


def _changed_call(record: Record) -> tuple[str, str] | None:
    """The id of the call that was changed, and its own key; None if the record is of an erased call."""
    job_id, _, rest = record.value.partition(" ")
    state, _, key = rest.partition(" ")
    return (job_id, key) if state == _CHANGED else None
