"""Unique keys: which call has one.

A key belongs to one call for ever, whatever queue that is in: as long as the store has the call, and then to its
tombstone. Of an erased call only the keyed digest of its key is known. A call that is made again has the key of the one
before, with `/again-N` behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.store import Store
from voiceflow_worker.model.jobs.differences import ended_without_ring
from voiceflow_worker.model.jobs.job import Job, again_key, split_key

KEYS = "erased-key"
"""Namespace of the keys of erased calls, by keyed digest: the id of the call and its last state."""
_KEYS_AT_ONCE = 500


def key_group(unique_key: str, *, store_id: str) -> str:
    """Return the group of the record of an erased call's unique key."""
    return keyed_digest(store_id, unique_key)


async def owners_of(store: Store, unique_keys: Iterable[str]) -> dict[str, Job]:
    """Return the calls that have these unique keys, by key; free keys, and those of erased calls, are left out.

    If the call was deleted, its tombstone is found: a job with only an id, a key, digests, a state and times.
    """
    found: dict[str, Job] = {}
    keys = iter(dict.fromkeys(unique_keys))
    while some := tuple(islice(keys, _KEYS_AT_ONCE)):
        jobs = await find_jobs(store, ByKey(some))
        found |= {job.unique_key: job for job in jobs if job.unique_key is not None}
    return found


async def newest_of(store: Store, unique_keys: Iterable[str]) -> dict[str, Job]:
    """Return the newest call of each of these keys: the call itself, or the last one as which it was made again.

    A call notes as which one it was made again. A tombstone has no notes: there the next key is looked for.
    """
    found = await owners_of(store, unique_keys)
    looked = dict(found)
    while looked:
        following = {key: _next_key(job) for key, job in looked.items() if job.again or ended_without_ring(job)}
        owners = await owners_of(store, following.values()) if following else {}
        looked = {key: owners[after] for key, after in following.items() if after in owners}
        found |= looked
    return found


def _next_key(job: Job) -> str:
    key = job.unique_key or ""
    return again_key(key, job.again or split_key(key)[1] + 1)
