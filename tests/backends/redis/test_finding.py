"""Finding few among many and many among many: the same jobs, whichever index answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.everyday import combinations
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job
from voiceflow_worker.backends.contract.samples import add_jobs
from voiceflow_worker.backends.contract.totals import post
from voiceflow_worker.backends.record import matches
from voiceflow_worker.core.ports import Order, Query, Store
from voiceflow_worker.core.ports.reading import count_states, find_jobs
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

S = JobState
MINUTE = timedelta(minutes=1)
JOBS = [
    sample_job(
        number,
        state=S.FAILED if number % 700 == 3 else S.SUBMITTED if number % 2 else S.QUEUED,
        batch_id=("large", "small")[number % 50 == 0] if number % 3 else None,
        destination=f"+65{number % 11}",
        unique_key="the key" if number == 1333 else None,
        posts=(post(status=SessionStatus.BUSY),) if number % 900 == 7 else (),
        due_at=NOW + (number * 7919 % 100) * MINUTE,
        valid_until=NOW + (number % 300) * MINUTE if number % 4 else None,
    )
    for number in range(2400)
]
"""More than one page of each script, in states from rare to common."""


@pytest.fixture(scope="module")
def jobs_server(standalone_server: RedisServer) -> RedisServer:
    standalone_server.ask("FLUSHALL")
    return standalone_server


@pytest.fixture
async def store(jobs_server: RedisServer) -> AsyncGenerator[Store]:
    async with open_store(f"{jobs_server.url}?prefix=finding") as store:
        if not sum((await count_states(store, QUEUE)).values()):
            await add_jobs(store, JOBS)
        yield store


def expected(query: Query) -> Sequence[Job]:
    found = [job for job in JOBS if matches(query, job)]
    found.sort(key=lambda job: (job.due_at if query.order is Order.DUE else NOW, job.id))
    if query.order is Order.NEWEST:
        found.reverse()
    return found if query.limit is None else found[: query.limit]


QUERIES = [
    Query(queue=QUEUE),
    Query(queue=QUEUE, states=frozenset({S.FAILED})),
    Query(queue=QUEUE, states=frozenset({S.QUEUED})),
    Query(queue=QUEUE, states=frozenset({S.SENDING})),
    Query(queue=QUEUE, states=frozenset({S.FAILED, S.SUBMITTED}), batch_id="large"),
    Query(queue=QUEUE, states=frozenset({S.QUEUED}), valid_before=NOW + 5 * MINUTE),
    Query(queue=QUEUE, states=frozenset({S.QUEUED}), valid_before=NOW + 250 * MINUTE),
    Query(queue=QUEUE, states=frozenset({S.SUBMITTED}), valid_before=NOW + 5 * MINUTE, batch_id="large"),
    Query(queue=QUEUE, batch_id="small"),
    Query(queue=QUEUE, destination="+653"),
    Query(queue=QUEUE, destination="+653", states=frozenset({S.FAILED}), after=JOBS[800].id),
    Query(queue=QUEUE, due_before=NOW + MINUTE),
    Query(queue=QUEUE, due_before=NOW + 90 * MINUTE, after=JOBS[1600].id),
    Query(queue=QUEUE, states=frozenset({S.QUEUED}), due_before=NOW + 50 * MINUTE, order=Order.DUE),
    Query(queue=QUEUE, order=Order.NEWEST, destination="+653"),
    Query(queue=QUEUE, order=Order.NEWEST, after=JOBS[1600].id),
    Query(queue=QUEUE, order=Order.NEWEST, states=frozenset({S.FAILED}), after=JOBS[1600].id),
    Query(queue=QUEUE, order=Order.NEWEST, outcomes=frozenset({"BUSY"})),
    Query(queue=QUEUE, outcomes=frozenset({"BUSY"}), states=frozenset({S.SUBMITTED}), batch_id="large"),
    Query(queue=QUEUE, outcomes=frozenset({"BUSY"}), order=Order.DUE, due_before=NOW + 50 * MINUTE),
    Query(queue=QUEUE, order=Order.DUE, batch_id="small", valid_before=NOW + 90 * MINUTE),
]


@pytest.mark.parametrize(("query", "limit"), combinations(QUERIES, [1, 100, 1100, None]))
async def test_a_query_gives_its_jobs_in_its_order(store: Store, query: Query, limit: int | None) -> None:
    query = replace(query, limit=limit)
    assert list(await find_jobs(store, query)) == list(expected(query))


async def test_a_listing_is_continued_behind_its_last_job(store: Store) -> None:
    query = Query(queue=QUEUE, states=frozenset({S.SUBMITTED, S.FAILED}), limit=700)
    listed: list[Job] = []
    while page := await find_jobs(store, replace(query, after=listed[-1].id if listed else None)):
        listed += page
    assert listed == list(expected(replace(query, limit=None)))
