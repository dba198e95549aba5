"""What a bulk write and an open transaction cost others, and how large tables become, counted in the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.contract.samples import NOW, QUEUE, sample_job, sample_jobs
from tests.contract.writing import next_of, results_of, stored, to
from voiceflow_worker.backends.postgres import PostgresStore, open_postgres
from voiceflow_worker.backends.postgres.codec import plain_bulk
from voiceflow_worker.backends.postgres.store import AT_ONCE
from voiceflow_worker.core import writes
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

SOON = NOW + timedelta(minutes=1)
POLICY = CallPolicy(max_per_person=PersonLimit(3, timedelta(days=1)))
MOST_ADDITIONS = 2 * 251
"""Additions are folded one time in 251, by one of those who write."""


async def test_a_reader_of_counters_finds_few_additions_however_many_bulk_writes_were_written(
    fresh_url: Callable[[str], str],
) -> None:
    async with open_postgres(fresh_url("postgres")) as store:
        jobs = list(await stored(store, *sample_jobs(20, batch_id="b")))
        for turn in range(40):
            for place, job in enumerate(jobs):
                state = JobState.SENDING if turn % 2 == 0 else JobState.QUEUED
                jobs[place] = next_of(job, revision=f"{turn}", state=state)
                await results_of(store, to(job, jobs[place]))
        statement = store.database.url.named("SELECT count(*) FROM voiceflow.additions")
        ((left,),) = await store.database.rows(statement)
        assert left < MOST_ADDITIONS
        for batch in (None, "b"):
            assert (await totals_of(store, QUEUE, batch)).states[JobState.QUEUED] == 20


def leased_jobs() -> list[Job]:
    return [
        sample_job(
            place, destination=f"+65{81000000 + place}", batch_id="b", state=JobState.LEASED, worker_id="w", due_at=SOON
        )
        for place in range(AT_ONCE)
    ]


def journalled(jobs: Sequence[Job]) -> list[tuple[Job, Write]]:
    of_worker: Any = {"policy": POLICY, "store_id": "store"}
    return [writes.journal_entry(job, at=NOW, lease_until=SOON, **of_worker) for job in jobs]


def summarised(jobs: Sequence[Job]) -> list[tuple[Job, Write]]:
    ended = []
    for job, _ in journalled(jobs):
        outcome = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
        post = replace(job.posts[-1], verdict=VerdictKind.CREATED, session_id=f"s{job.id}", outcome=outcome)
        ended.append(
            writes.settled(
                job, replace(job, posts=(post,), state=JobState.COMPLETED), at=NOW, policy=POLICY, store_id="store"
            )
        )
    return ended


@pytest.mark.parametrize("made", [journalled, summarised])
async def test_a_bulk_write_of_many_calls_locks_no_other_calls(
    fresh_url: Callable[[str], str], made: Callable[[Sequence[Job]], list[tuple[Job, Write]]]
) -> None:
    async with open_postgres(fresh_url("postgres")) as store:
        assert await locks_of(store, [write for _, write in made(leased_jobs())]) == {True}


async def locks_of(store: PostgresStore, bulk: Sequence[Write]) -> set[bool]:
    """Whether the locks of the whole store that a bulk write takes are shared."""
    write_it = store.database.url.named("SELECT voiceflow.write(%s::jsonb)").encode()
    whole = "SELECT mode = 'ShareLock' FROM pg_locks WHERE pid = pg_backend_pid() AND objid = 4294967295"
    async with await psycopg.AsyncConnection.connect(store.database.url.conninfo) as connection:
        await connection.execute(write_it, (plain_bulk(BulkWrite(writes=tuple(bulk)), bulk, now=NOW),))
        found = await (await connection.execute(whole)).fetchall()
        await connection.rollback()
    return {is_shared for (is_shared,) in found}


@pytest.fixture
async def store(fresh_url: Callable[[str], str]) -> AsyncIterator[PostgresStore]:
    async with open_postgres(fresh_url("postgres")) as store:
        yield store
