"""The contract of queries of jobs, and of deleted jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from voiceflow_worker.backends.contract.samples import NOW, QUEUE, Ground, sample_job, sample_jobs
from voiceflow_worker.backends.contract.totals import post
from voiceflow_worker.backends.contract.writing import (
    DAY,
    DONE,
    EXISTS,
    MICROSECOND,
    MINUTE,
    STALE,
    job_of,
    leased,
    new,
    next_of,
    stored,
    to,
    write,
)
from voiceflow_worker.core.ports.store import Delete, Order, Query, Store, Unit, tally_change
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import SessionStatus

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
        further_numbers=("+6582222222", "+6581111111"),
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
    "a destination": ({"destination": "+6581111111"}, [2, 3, 5]),
    "a further number of a person": ({"destination": "+6582222222"}, [5]),
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
    "the newest of a destination": ({"order": Order.NEWEST, "destination": "+6581111111"}, [5, 3, 2]),
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
    "unique keys": ({"unique_keys": ("k4", "k1", "unknown")}, [1, 4]),
    "a unique key in another batch": ({"batch_id": "b", "unique_keys": ("k1",)}, []),
    "ids": ({"ids": tuple(sample_job(number).id for number in (3, 9, 1))}, [1, 3]),
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


class JobsContract(Ground):
    """Queries of jobs, and their end."""

    async def ids(self, store: Store, **query: Any) -> list[int]:
        found = await store.jobs(Query(queue=QUEUE, **query), now=NOW)
        return [int(job.id.rpartition(".")[2]) for job in found]

    async def test_a_query_gives_its_jobs(self, store: Store) -> None:
        await stored(store, *MIXED)
        for name, (fields, expected) in FOUND.items():
            found = await store.jobs(Query(queue=QUEUE, **fields), now=NOW)
            assert [int(job.id[-1]) for job in found] == expected, name
            assert all(job in MIXED for job in found)
        assert list(await store.jobs(Query(queue="nobody"), now=NOW)) == []

    async def test_in_any_order_a_query_gives_the_same_jobs(self, store: Store) -> None:
        await stored(store, *MIXED)
        for name, (fields, expected) in FOUND.items():
            if "after" not in fields:
                some = await self.ids(store, **{**fields, "order": Order.ANY})
                assert len(set(some)) == len(some) == len(expected), name
                assert "limit" in fields or set(some) == set(expected), name

    async def test_a_query_sees_moves(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(3, batch_id="b"))
        moved = next_of(jobs[1], state=JobState.IN_DOUBT, due_at=NOW + MINUTE)
        await write(other, to(jobs[1], moved))
        assert await self.ids(store, states=frozenset({JobState.QUEUED})) == [1, 3]
        assert await self.ids(store, states=frozenset({JobState.IN_DOUBT})) == [2]
        assert await self.ids(store, batch_id="b", due_before=NOW) == [1, 3]

    @pytest.mark.parametrize("order", [Order.CREATED, Order.NEWEST])
    async def test_pages_have_every_job_once_whatever_their_states(self, store: Store, order: Order) -> None:
        states = list(JobState)
        jobs = [replace(job, state=states[at % 7]) for at, job in enumerate(sample_jobs(250, batch_id="b"))]
        await stored(store, *jobs)
        of: list[dict[str, Any]] = [{}, {"batch_id": "b"}, {"states": frozenset(states)}]
        for fields in of:
            seen: list[str] = []
            after = None
            while page := await store.jobs(Query(queue=QUEUE, order=order, after=after, limit=60, **fields), now=NOW):
                seen += [job.id for job in page]
                after = page[-1].id
            assert seen == sorted({job.id for job in jobs}, reverse=order is Order.NEWEST)

    async def test_a_thousand_jobs_are_found_at_once(self, store: Store) -> None:
        jobs = [sample_job(number, unique_key=f"k{number}") for number in range(1100)]
        await stored(store, *jobs)
        assert len(await self.ids(store)) == 100
        queries: list[dict[str, Any]] = [
            {}, {"order": Order.DUE}, {"ids": tuple(job.id for job in jobs)},
            {"unique_keys": tuple(f"k{number}" for number in range(1100))},
        ]  # fmt: skip
        for query in queries:
            assert await self.ids(store, limit=None, **query) == list(range(1100))

    async def test_a_listing_goes_on_after_a_job(self, store: Store) -> None:
        await stored(store, *sample_jobs(5))
        assert await self.ids(store, after=sample_job(2).id, limit=2) == [3, 4]
        assert await self.ids(store, after=sample_job(3).id, order=Order.NEWEST) == [2, 1]
        assert await self.ids(store, limit=0) == []
        assert await self.ids(store, limit=None) == [1, 2, 3, 4, 5]
        for order in (Order.DUE, Order.ANY):
            with pytest.raises(ValueError, match="needs an order by id"):
                await self.ids(store, after=sample_job(2).id, order=order)

    async def test_a_deleted_job_leaves_its_key_and_nothing_about_the_person(self, store: Store) -> None:
        ended = sample_job(unique_key="k", state=JobState.COMPLETED, data={"name": "Tan"}, not_before=NOW)
        await stored(store, ended)
        gone = Unit(change=Delete(ended, NOW + DAY), tally=tally_change(ended, None))
        assert await write(store, gone) == [DONE]
        assert await job_of(store, ended) is None
        (grave,) = await store.jobs(Query(queue=QUEUE, unique_keys=("k",)), now=NOW)
        assert (grave.id, grave.state, grave.not_before) == (ended.id, ended.state, NOW)
        assert (grave.destination, grave.body, grave.source, grave.data) == ("", "", "", None)
        assert list(await store.jobs(Query(queue=QUEUE, unique_keys=("k",)), now=NOW + DAY)) == []
        assert await write(store, to(ended, next_of(ended, state=JobState.QUEUED))) == [STALE]
        assert await leased(store) == []

    async def test_a_key_can_be_kept_a_second_time(self, store: Store) -> None:
        for number, now in ((1, NOW), (2, NOW + DAY)):
            job = sample_job(number, unique_key="k", state=JobState.COMPLETED)
            assert await write(store, new(job), now=now) == [DONE]
            gone = Unit(change=Delete(job, now + DAY), tally=tally_change(job, None))
            assert await write(store, gone, now=now) == [DONE]
            assert await write(store, new(sample_job(3, unique_key="k")), now=now + DAY - MICROSECOND) == [EXISTS]

    async def test_a_job_that_has_changed_is_not_deleted(self, store: Store) -> None:
        job = (await stored(store, sample_job(state=JobState.COMPLETED)))[0]
        again = next_of(job, state=JobState.QUEUED)
        await write(store, to(job, again))
        assert await write(store, Unit(change=Delete(job, NOW), tally=tally_change(job, None))) == [STALE]
        assert await job_of(store, job) == again
