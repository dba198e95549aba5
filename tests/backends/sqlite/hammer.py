"""A process that works on one store as hard as it can; started by test_processes.py.

It prints `ready` once the store is open, and begins when it is given a line.

`hammer.py URL lease NAME`: leases until nothing is left, and prints the ids.
`hammer.py URL write NAME`: enqueues jobs and moves them, one commit after the other, until it is killed; prints
`<id> <revision>` once each commit is answered.
"""
# ruff: noqa: T201 - printing is how it answers

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count

import anyio

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, sample_job
from voiceflow_worker.core.ports import Move, Store
from voiceflow_worker.model.jobs.job import JobState


async def lease(store: Store, name: str) -> None:
    while jobs := await store.jobs.lease(QUEUE, worker_id=name, limit=3, lease_for=timedelta(hours=1), now=NOW):
        for job in jobs:
            print(job.id)


async def write(store: Store, name: str) -> None:
    for number in count(1):
        job = sample_job(number, id=f"{QUEUE}.{name}.{number:020d}", body=f'{{"number":{number}}}')
        await store.jobs.enqueue([job], now=NOW)
        print(job.id, job.revision, flush=True)
        for step in range(3):
            moved = replace(job, state=JobState.SENDING, failures=step, revision=f"{name}-{number}-{step}")
            assert await store.jobs.commit([Move(job, moved)]) == [True]
            job = moved
            print(job.id, job.revision, flush=True)


async def main(url: str, what: str, name: str) -> None:
    async with open_store(url, patience=timedelta(seconds=60)) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        await (lease if what == "lease" else write)(store, name)


if __name__ == "__main__":
    anyio.run(partial(main, *sys.argv[1:]))
