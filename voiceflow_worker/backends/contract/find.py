"""The contract of `Jobs.find` and `count`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    commit,
    enqueued_jobs,
    moved,
    numbers,
    sample_job,
    sample_jobs,
)
from voiceflow_worker.backends.contract.totals import post
from voiceflow_worker.core.ports import Order, Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import SessionStatus

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)

MIXED: Sequence[Job] = [
    sample_job(1, batch_id="a", due_at=NOW + 3 * MINUTE, unique_key="k1", valid_until=NOW + MINUTE),
    sample_job(2, batch_id="a", due_at=NOW + 2 * MINUTE, state=JobState.LEASED, destination="+6581111111"),
    sample_job(
        3,
        batch_id="b",
        due_at=NOW + 2 * MINUTE,
        state=JobState.SUBMITTED,
        destination="+6581111111",
        posts=(post(status=SessionStatus.NO_ANSWER), post(2)),
    ),
    sample_job(4, due_at=NOW, unique_key="k4", valid_until=NOW),
    sample_job(
        5,
        due_at=NOW - MINUTE,
        state=JobState.COMPLETED,
        batch_id="a",
        valid_until=NOW,
        posts=(post(status=SessionStatus.NO_ANSWER), post(2, status=SessionStatus.BUSY)),
    ),
    sample_job(6, queue="reminders", batch_id="a", destination="+6581111111", unique_key="k1", valid_until=NOW),
]

FOUND: dict[str, tuple[dict[str, Any], list[int]]] = {
    "everything": ({}, [1, 2, 3, 4, 5]),
    "one state": ({"states": frozenset({JobState.QUEUED})}, [1, 4]),
    "several states": ({"states": frozenset({JobState.LEASED, JobState.COMPLETED, JobState.FAILED})}, [2, 5]),
    "no state at all": ({"states": frozenset[JobState]()}, []),
    "a batch": ({"batch_id": "a"}, [1, 2, 5]),
    "an unknown batch": ({"batch_id": "c"}, []),
    "a destination": ({"destination": "+6581111111"}, [2, 3]),
    "due at a time or before it": ({"due_before": NOW}, [4, 5]),
    "due just before": ({"due_before": NOW - MICROSECOND}, [5]),
    "valid until a time, or until an earlier one": ({"valid_before": NOW}, [4, 5]),
    "queued and valid until a time": ({"valid_before": NOW, "states": frozenset({JobState.QUEUED})}, [4]),
    "behind a job": ({"after": sample_job(3).id}, [4, 5]),
    "at most as many as the limit": ({"limit": 2}, [1, 2]),
    "no job for a limit of 0": ({"limit": 0}, []),
    "the earliest due first, and those with equal times by id": ({"order": Order.DUE}, [5, 4, 2, 3, 1]),
    "the two earliest due": ({"order": Order.DUE, "limit": 2}, [5, 4]),
    "the earliest due of some states": (
        {"order": Order.DUE, "states": frozenset({JobState.QUEUED, JobState.LEASED}), "due_before": NOW + 2 * MINUTE},
        [4, 2],
    ),
    "the earliest due of one state": ({"order": Order.DUE, "states": frozenset({JobState.QUEUED})}, [4, 1]),
    "the newest first": ({"order": Order.NEWEST}, [5, 4, 3, 2, 1]),
    "the two newest": ({"order": Order.NEWEST, "limit": 2}, [5, 4]),
    "older than a job, the newest first": ({"order": Order.NEWEST, "after": sample_job(3).id}, [2, 1]),
    "the newest of one state": ({"order": Order.NEWEST, "states": frozenset({JobState.QUEUED})}, [4, 1]),
    "the newest of a batch in one state": (
        {"order": Order.NEWEST, "batch_id": "a", "states": frozenset({JobState.QUEUED})},
        [1],
    ),
    "the newest of a destination": ({"order": Order.NEWEST, "destination": "+6581111111"}, [3, 2]),
    "an outcome": ({"outcomes": frozenset({"BUSY"})}, [5]),
    "only the newest outcome of a job counts": ({"outcomes": frozenset({"NO_ANSWER"})}, [3]),
    "several outcomes, the newest first": (
        {"outcomes": frozenset({"NO_ANSWER", "BUSY", "say it"}), "order": Order.NEWEST},
        [5, 3],
    ),
    "an outcome in order of due time": ({"outcomes": frozenset({"NO_ANSWER", "BUSY"}), "order": Order.DUE}, [5, 3]),
    "an outcome of a batch": ({"outcomes": frozenset({"BUSY"}), "batch_id": "b"}, []),
    "a text that is a part of the names of outcomes": ({"outcomes": frozenset({"ANSWER", "BUS"})}, []),
    "no outcome at all": ({"outcomes": frozenset[str]()}, []),
    "all at once": (
        {
            "states": frozenset({JobState.QUEUED}),
            "batch_id": "a",
            "destination": sample_job(1).destination,
            "due_before": NOW + 3 * MINUTE,
            "valid_before": NOW + MINUTE,
            "after": sample_job(0).id,
        },
        [1],
    ),
    "a batch in one state": ({"batch_id": "a", "states": frozenset({JobState.LEASED})}, [2]),
    "a batch in several states": (
        {"batch_id": "a", "states": frozenset({JobState.LEASED, JobState.COMPLETED}), "order": Order.DUE},
        [5, 2],
    ),
    "a destination in one state": ({"destination": "+6581111111", "states": frozenset({JobState.SUBMITTED})}, [3]),
}


class FindContract(Ground):
    """Tests of queries for the jobs of a queue, and of counts."""

    @pytest.mark.parametrize(("fields", "expected"), FOUND.values(), ids=FOUND.keys())
    async def test_a_query_gives_its_jobs(self, store: Store, fields: dict[str, Any], expected: list[int]) -> None:
        for job in MIXED:
            await add_jobs(store, [job])
        found = await store.jobs.find(Query(queue=QUEUE, **fields))
        assert numbers(found) == expected
        assert all(job in MIXED for job in found)

    @pytest.mark.parametrize(("fields", "expected"), FOUND.values(), ids=FOUND.keys())
    async def test_order_any_has_the_same(self, store: Store, fields: dict[str, Any], expected: list[int]) -> None:
        if "after" in fields:
            return
        for job in MIXED:
            await add_jobs(store, [job])
        query = replace(Query(queue=QUEUE, **fields), order=Order.ANY)
        everything = numbers(await store.jobs.find(replace(query, limit=None)))
        some = numbers(await store.jobs.find(query))
        assert len(set(some)) == len(expected)
        assert set(some) <= set(everything)
        assert "limit" in fields or set(everything) == set(expected)

    async def test_an_unknown_queue_has_no_jobs(self, store: Store) -> None:
        assert list(await store.jobs.find(Query(queue="nobody"))) == []
        assert set((await store.jobs.count("nobody")).values()) == {0}

    @pytest.mark.parametrize("fields", [{}, {"batch_id": "b"}, {"states": frozenset({JobState.QUEUED})}], ids=str)
    async def test_pages_have_every_job_once(self, store: Store, fields: dict[str, Any]) -> None:
        await add_jobs(store, sample_jobs(250, batch_id="b"))
        seen: list[int] = []
        after = None
        while page := await store.jobs.find(Query(queue=QUEUE, after=after, limit=100, **fields)):
            assert len(page) == 100 or len(seen) == 200
            seen += numbers(page)
            after = page[-1].id
        assert seen == list(range(1, 251))

    async def test_pages_from_the_newest_on_have_every_job_once(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(250, batch_id="b"))
        seen: list[int] = []
        after = None
        while page := await store.jobs.find(Query(queue=QUEUE, order=Order.NEWEST, after=after, limit=100)):
            seen += numbers(page)
            after = page[-1].id
        assert seen == list(range(250, 0, -1))

    @pytest.mark.parametrize("order", [Order.CREATED, Order.NEWEST])
    async def test_pages_of_a_batch_have_its_jobs_in_order_whatever_their_states(
        self, store: Store, order: Order
    ) -> None:
        states = list(JobState)
        jobs = [replace(job, state=states[place % 7]) for place, job in enumerate(sample_jobs(40, batch_id="b"))]
        await add_jobs(store, jobs)
        seen: list[int] = []
        after = None
        while page := await store.jobs.find(Query(queue=QUEUE, batch_id="b", order=order, after=after, limit=6)):
            seen += numbers(page)
            after = page[-1].id
        assert seen == sorted(range(1, 41), reverse=order is Order.NEWEST)

    async def test_the_default_limit_is_a_hundred_and_none_is_unlimited(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(2500))
        assert numbers(await store.jobs.find(Query(queue=QUEUE))) == list(range(1, 101))
        assert numbers(await store.jobs.find(Query(queue=QUEUE, limit=None))) == list(range(1, 2501))
        assert len(await store.jobs.find(Query(queue=QUEUE, limit=None, order=Order.DUE))) == 2500

    async def test_queries_see_moves(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 3, batch_id="b")
        move = moved(jobs[1], state=JobState.IN_DOUBT, due_at=NOW + MINUTE)
        await commit(store, [move])
        assert numbers(await store.jobs.find(Query(queue=QUEUE, states=frozenset({JobState.QUEUED})))) == [1, 3]
        assert list(await store.jobs.find(Query(queue=QUEUE, states=frozenset({JobState.IN_DOUBT})))) == [move.new]
        assert numbers(await store.jobs.find(Query(queue=QUEUE, batch_id="b", due_before=NOW))) == [1, 3]

    async def test_counts_have_every_state(self, store: Store) -> None:
        for job in MIXED:
            await add_jobs(store, [job])
        counted = await store.jobs.count(QUEUE)
        assert set(counted) == set(JobState)
        assert {state: n for state, n in counted.items() if n} == {
            JobState.QUEUED: 2,
            JobState.LEASED: 1,
            JobState.SUBMITTED: 1,
            JobState.COMPLETED: 1,
        }

    async def test_counts_can_be_limited_to_a_batch_and_to_due_jobs(self, store: Store) -> None:
        for job in MIXED:
            await add_jobs(store, [job])

        async def count(**fields: Any) -> dict[JobState, int]:
            return {state: n for state, n in (await store.jobs.count(QUEUE, **fields)).items() if n}

        assert await count(batch_id="a") == {JobState.QUEUED: 1, JobState.LEASED: 1, JobState.COMPLETED: 1}
        assert await count(due_before=NOW) == {JobState.QUEUED: 1, JobState.COMPLETED: 1}
        assert await count(due_before=NOW - MICROSECOND) == {JobState.COMPLETED: 1}
        assert await count(batch_id="a", due_before=NOW + 2 * MINUTE) == {JobState.LEASED: 1, JobState.COMPLETED: 1}

    async def test_counts_see_moves(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 10)
        await commit(store, [moved(job, state=JobState.FAILED) for job in jobs[:4]])
        counted = await store.jobs.count(QUEUE)
        assert (counted[JobState.QUEUED], counted[JobState.FAILED], sum(counted.values())) == (6, 4, 10)
