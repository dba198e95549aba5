"""How large the tables become, with autovacuum alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.postgres import PostgresServer
from voiceflow_worker import JobState, open_store
from voiceflow_worker.backends.contract.samples import HOUR, NOW, add_jobs, commit, moved, new_job, sample_job
from voiceflow_worker.core.heartbeats import WORKERS
from voiceflow_worker.core.ports.store import Event, EventKind, Put
from voiceflow_worker.core.units import NUMBER, POSTED

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
JOBS = 20_000
AT_ONCE = 100
LIFE = (JobState.LEASED, JobState.SENDING, JobState.SUBMITTED, JobState.COMPLETED)
SMALL = 1024 * 1024
"""Bytes of a table below which its growth is of no interest."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that looks after its tables each second, as time passes faster in this test."""
    server = PostgresServer("autovacuum_naptime=1s", "autovacuum_vacuum_cost_delay=0")
    try:
        yield server.start()
    finally:
        server.close()


async def test_tables_are_at_most_three_times_as_large_as_their_rows_after_many_lives_of_calls(
    server: PostgresServer,
) -> None:
    async with open_store(server.url(), advises=False) as store:
        for first in range(0, JOBS, AT_ONCE):
            jobs = [sample_job(first + place) for place in range(AT_ONCE)]
            await add_jobs(store, jobs)
            for state in LIFE:
                units = [
                    replace(
                        moved(job, event(job.id, state), state=state),
                        puts=(
                            Put(NUMBER, job.destination, job.id, NOW + HOUR),
                            Put(WORKERS, "worker", job.id, NOW + HOUR),
                            Put(POSTED, "worker", job.id, NOW + HOUR),
                        ),
                    )
                    for job in jobs
                ]
                assert all(await commit(store, units))
                jobs = [new_job(unit) for unit in units]
            await store.prune("default", now=NOW, events_before=NOW, limit=1000)
    grown = sizes(server)
    server.ask("VACUUM FULL")
    least = sizes(server)
    too_large = {table: (size, least[table]) for table, size in grown.items() if size > max(3 * least[table], SMALL)}
    assert not too_large, too_large
    assert least["jobs"] > SMALL


def event(job_id: str, state: JobState) -> Event:
    return Event(job_id=job_id, kind=EventKind.ENDED, at=NOW, state=state, revision="r", post=1)


def sizes(server: PostgresServer) -> dict[str, int]:
    """The bytes of each table with its indexes."""
    return dict(
        server.ask(
            "SELECT relname::text, pg_total_relation_size(oid)::bigint FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'voiceflow'::regnamespace"
        )
    )
