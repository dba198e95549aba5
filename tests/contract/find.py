"""The contract of reads of jobs, and of deleted jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, product

import anyio
import pytest

from voiceflow_worker.core.ports.reads import (
    ById,
    ByKey,
    Due,
    Expired,
    Listing,
    OfNumber,
    Paged,
    Read,
    Searched,
    Waiting,
)
from voiceflow_worker.core.ports.store import Delete, Store, Write, tally_change
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Edits, Job, JobState, ReasonKind
from voiceflow_worker.model.reports.status import SessionStatus

from .breaking import newer
from .samples import NOW, QUEUE, Ground, sample_job, sample_jobs
from .totals import post
from .writing import (
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
    results_of,
    stored,
    to,
)

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
    sample_job(6, queue="reminders", batch_id="a", destination="+6581111111", unique_key="k6", valid_until=NOW),
]

S = JobState
ANA, BEN = "+6581111111", "+6582222222"

FOUND: dict[str, tuple[Searched, list[int]]] = {
    "the due jobs in one state": (Due(queue=QUEUE, state=S.QUEUED), [4, 1]),
    "due at a time or before it": (Due(queue=QUEUE, state=S.QUEUED, by=NOW), [4]),
    "due just before": (Due(queue=QUEUE, state=S.QUEUED, by=NOW - MICROSECOND), []),
    "the first that is due": (Due(queue=QUEUE, state=S.QUEUED, limit=1), [4]),
    "none of those that are due": (Due(queue=QUEUE, state=S.QUEUED, limit=0), []),
    "fewer than none of them": (Due(queue=QUEUE, state=S.QUEUED, limit=-1), []),
    "queued and valid until a time": (Expired(queue=QUEUE, at=NOW), [4]),
    "queued and valid until just before": (Expired(queue=QUEUE, at=NOW - MICROSECOND), []),
    "none of those that have expired": (Expired(queue=QUEUE, at=NOW, limit=0), []),
    "the queued jobs of a batch": (Waiting(queue=QUEUE, batch="a"), [1]),
    "the queued jobs of a batch that are due": (Waiting(queue=QUEUE, batch="a", by=NOW), []),
    "none of the queued jobs of a batch": (Waiting(queue=QUEUE, batch="a", limit=0), []),
    "the queued jobs of a batch with no name": (Waiting(queue=QUEUE, batch=""), []),
    "the queued jobs of an unknown batch": (Waiting(queue=QUEUE, batch="c"), []),
    "the jobs of a number": (OfNumber(queue=QUEUE, number=ANA), [2, 3, 5]),
    "the jobs of a further number of a person": (OfNumber(queue=QUEUE, number=BEN), [5]),
    "the jobs of an unknown number": (OfNumber(queue=QUEUE, number="+65"), []),
    "the newest of a number": (OfNumber(queue=QUEUE, number=ANA, newest=True), [5, 3, 2]),
    "the newest of a number, behind a job": (
        OfNumber(queue=QUEUE, number=ANA, newest=True, after=sample_job(5).id), [3, 2]
    ),
    "the two oldest of a number": (OfNumber(queue=QUEUE, number=ANA, limit=2), [2, 3]),
    "none of a number": (OfNumber(queue=QUEUE, number=ANA, limit=0), []),
    "everything": (Listing(queue=QUEUE), [1, 2, 3, 4, 5]),
    "everything, the newest first": (Listing(queue=QUEUE, newest=True), [5, 4, 3, 2, 1]),
    "the two newest": (Listing(queue=QUEUE, newest=True, limit=2), [5, 4]),
    "no job for a limit of 0": (Listing(queue=QUEUE, limit=0), []),
    "another queue": (Listing(queue="reminders"), [6]),
    "an unknown queue": (Listing(queue="nobody"), []),
    "the beginning of the name of a queue": (Listing(queue=QUEUE[:-1]), []),
    "one state": (Listing(queue=QUEUE, states=frozenset({S.QUEUED})), [1, 4]),
    "several states": (Listing(queue=QUEUE, states=frozenset({S.LEASED, S.COMPLETED, S.FAILED})), [2, 5]),
    "no state at all": (Listing(queue=QUEUE, states=frozenset()), []),
    "a batch": (Listing(queue=QUEUE, batch="a"), [1, 2, 5]),
    "an unknown batch": (Listing(queue=QUEUE, batch="c"), []),
    "a batch in several states": (Listing(queue=QUEUE, batch="a", states=frozenset({S.LEASED, S.COMPLETED})), [2, 5]),
    "behind a job": (Listing(queue=QUEUE, after=sample_job(3).id), [4, 5]),
    "older than a job, the newest first": (Listing(queue=QUEUE, newest=True, after=sample_job(3).id), [2, 1]),
    "behind an id that no job has": (Listing(queue=QUEUE, after=f"{sample_job(3).id}x"), [4, 5]),
    "an outcome": (Listing(queue=QUEUE, outcomes=frozenset({"BUSY"})), [5]),
    "only the newest outcome of a job counts": (Listing(queue=QUEUE, outcomes=frozenset({"NO_ANSWER"})), [3]),
    "several outcomes, the newest first": (
        Listing(queue=QUEUE, outcomes=frozenset({"NO_ANSWER", "BUSY", "say it"}), newest=True), [5, 3]
    ),
    "an outcome of a batch": (Listing(queue=QUEUE, outcomes=frozenset({"BUSY"}), batch="b"), []),
    "a text that is a part of the names of outcomes": (Listing(queue=QUEUE, outcomes=frozenset({"ANSWER", "BUS"})), []),
    "no outcome at all": (Listing(queue=QUEUE, outcomes=frozenset()), []),
}  # fmt: skip

MANY: Sequence[Job] = [
    sample_job(
        number,
        state=S.FAILED if number % 200 == 3 else S.SUBMITTED if number % 2 else S.QUEUED,
        batch_id=("large", "small")[number % 50 == 0] if number % 3 else None,
        destination=f"+65{number % 2}",
        priority=number % 5 - 2,
        posts=(post(status=SessionStatus.BUSY),) if number % 90 == 7 else (),
        due_at=NOW + (number * 7919 % 9) * MINUTE,
        valid_until=NOW + (number % 300) * MINUTE if number % 4 else None,
    )
    for number in range(1100)
]
"""More jobs than one page of a store, in states from rare to common, many of them due at the same time."""


def generated() -> Iterator[Searched]:
    """Reads of `MANY`."""
    limits = cycle((None, 7, 530))
    middle, soon = MANY[550].id, NOW + 4 * MINUTE
    for state, by in product((S.QUEUED, S.FAILED, S.SENDING), (None, soon)):
        yield Due(queue=QUEUE, state=state, by=by, limit=next(limits))
    for minutes in (5, 250):
        yield Expired(queue=QUEUE, at=NOW + minutes * MINUTE)
    for name, by in product(("large", "small"), (None, soon, None)):
        yield Waiting(queue=QUEUE, batch=name, by=by, limit=next(limits))
    for newest, after in product((False, True), (None, middle)):
        yield OfNumber(queue=QUEUE, number="+651", newest=newest, after=after, limit=next(limits))
    some = (None, frozenset({S.FAILED}), frozenset({S.SUBMITTED, S.FAILED}))
    for states, batch, after in product(some, (None, "large", "small"), (None, middle)):
        for newest, outcomes in product((False, True), (None, frozenset({"BUSY"}))):
            yield Listing(
                queue=QUEUE, states=states, batch=batch, outcomes=outcomes, newest=newest, after=after,
                limit=next(limits),
            )  # fmt: skip


def expected(read: Searched, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that a read has, in its order."""
    found = [job for job in jobs if read.has(job)]
    if isinstance(read, Due | Waiting):
        found.sort(key=lambda job: (job.due_at, job.id))
    else:
        found.sort(key=lambda job: job.id, reverse=isinstance(read, Paged) and read.newest)
    return found if read.limit is None else found[: read.limit]


def numbers_of(jobs: Sequence[Job]) -> list[int]:
    return [int(job.id.rpartition(".")[2]) for job in jobs]


class JobsContract(Ground):
    """Reads of jobs, and their end."""

    async def numbers(self, store: Store, read: Read) -> list[int]:
        return numbers_of(await store.jobs(read, now=NOW))

    async def test_a_read_gives_its_jobs(self, store: Store) -> None:
        await stored(store, *MIXED)
        for name, (read, numbers) in FOUND.items():
            found = await store.jobs(read, now=NOW)
            assert numbers_of(found) == numbers, name
            assert all(job in MIXED for job in found)

    async def test_jobs_are_found_by_their_ids_in_any_queue(self, store: Store) -> None:
        await stored(store, *MIXED)
        ids = (MIXED[2].id, sample_job(9).id, MIXED[5].id, MIXED[2].id, "nobody.1", "default", "")
        found = await store.jobs(ById(ids), now=NOW)
        assert sorted(found, key=lambda job: job.id) == [MIXED[2], MIXED[5]]
        assert list(await store.jobs(ById(()), now=NOW)) == []

    async def test_jobs_are_found_by_their_keys_in_any_queue(self, store: Store) -> None:
        await stored(store, *MIXED)
        assert sorted(await self.numbers(store, ByKey(("k4", "k1", "k4", "k6", "unknown", "")))) == [1, 4, 6]
        assert await self.numbers(store, ByKey(())) == []

    async def test_each_read_has_all_its_jobs_in_its_order(self, store: Store) -> None:
        await stored(store, *MANY)
        for read in generated():
            found = list(await store.jobs(read, now=NOW))
            if isinstance(read, Expired):
                found.sort(key=lambda job: job.id)
            assert numbers_of(found) == numbers_of(expected(read, MANY)), read
        unordered = Expired(queue=QUEUE, at=NOW + 250 * MINUTE)
        some = await self.numbers(store, replace(unordered, limit=90))
        assert len(set(some)) == len(some) == 90
        assert set(some) <= set(numbers_of(expected(unordered, MANY)))

    async def test_a_thousand_jobs_are_found_at_once(self, store: Store) -> None:
        jobs = [sample_job(number, unique_key=f"k{number}") for number in range(1100)]
        await stored(store, *jobs)
        assert len(await store.jobs(Listing(queue=QUEUE), now=NOW)) == 100
        for one in (ById(tuple(job.id for job in jobs)), ByKey(tuple(f"k{n}" for n in range(1100)))):
            assert sorted(await self.numbers(store, one)) == list(range(1100))
        for read in (Listing(queue=QUEUE, limit=None), Due(queue=QUEUE, state=S.QUEUED)):
            assert await self.numbers(store, read) == list(range(1100))

    async def test_a_read_sees_moves(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(3, batch_id="b", valid_until=NOW))
        moved = next_of(jobs[1], state=S.IN_DOUBT, due_at=NOW + MINUTE)
        await results_of(other, to(jobs[1], moved))
        assert await self.numbers(store, Due(queue=QUEUE, state=S.QUEUED)) == [1, 3]
        assert await self.numbers(store, Due(queue=QUEUE, state=S.IN_DOUBT)) == [2]
        assert await self.numbers(store, Due(queue=QUEUE, state=S.IN_DOUBT, by=NOW)) == []
        for batch in (None, "b"):
            assert await self.numbers(store, Listing(queue=QUEUE, batch=batch, states=frozenset({S.IN_DOUBT}))) == [2]
        assert sorted(await self.numbers(store, Expired(queue=QUEUE, at=NOW))) == [1, 3]
        assert await self.numbers(store, Waiting(queue=QUEUE, batch="b")) == [1, 3]
        assert await store.jobs(OfNumber(queue=QUEUE, number=moved.destination), now=NOW) == [moved]

    async def test_jobs_that_move_while_pages_are_read_are_found_once_or_not(self, store: Store, other: Store) -> None:
        jobs = await stored(store, *sample_jobs(1200, batch_id="b", valid_until=NOW))
        restless = jobs[::3]
        reads: list[Searched] = [
            Due(queue=QUEUE, state=S.QUEUED), Due(queue=QUEUE, state=S.QUEUED, by=NOW),
            Expired(queue=QUEUE, at=NOW), Waiting(queue=QUEUE, batch="b"), Waiting(queue=QUEUE, batch="b", by=NOW),
            Listing(queue=QUEUE, batch="b", states=frozenset({S.QUEUED}), limit=None),
        ]  # fmt: skip
        found: dict[Searched, Sequence[Job]] = {}

        async def read(one: Searched) -> None:
            found[one] = await store.jobs(one, now=NOW)

        async with anyio.create_task_group() as group:
            for one in reads:
                group.start_soon(read, one)
            for start in range(0, len(restless), 80):  # some come due later, and the others end
                later = [next_of(job, due_at=NOW + MINUTE) for job in restless[start : start + 40]]
                over = [next_of(job, state=S.EXPIRED) for job in restless[start + 40 : start + 80]]
                await results_of(other, *map(to, restless[start : start + 80], [*later, *over]))
        for one, page in found.items():
            ids = [job.id for job in page]
            assert len(ids) == len(set(ids)), one
            assert {job.id for job in jobs} - {job.id for job in restless} <= set(ids), one
            assert all(map(one.has, page)), one

    async def test_a_job_of_a_newer_version_is_left_out_and_told_by_its_id(self, store: Store) -> None:
        strange = newer(sample_job(2, batch_id="b", unique_key="k", valid_until=NOW))
        await stored(store, *(sample_job(n, batch_id="b", destination=strange.destination) for n in (1, 3)), strange)
        try:
            await store.jobs(ById((strange.id,)), now=NOW)
        except StoreVersionError:
            pass
        else:
            return  # a store in this process keeps the job as it is
        for newest in (False, True):
            order = [3, 1] if newest else [1, 3]
            assert await self.numbers(store, Listing(queue=QUEUE, newest=newest, limit=2)) == order
            behind = sample_job(order[0]).id
            assert await self.numbers(store, Listing(queue=QUEUE, newest=newest, limit=1, after=behind)) == order[1:]
            assert await self.numbers(store, Listing(queue=QUEUE, newest=newest, batch="b")) == order
            assert await self.numbers(store, OfNumber(queue=QUEUE, number=strange.destination, newest=newest)) == order
        assert await self.numbers(store, ByKey(("k",))) == []

    @pytest.mark.parametrize("newest", [False, True])
    async def test_pages_have_every_job_once_whatever_their_states(self, store: Store, *, newest: bool) -> None:
        jobs = [replace(job, state=list(S)[at % 7]) for at, job in enumerate(sample_jobs(250, batch_id="b"))]
        await stored(store, *(replace(job, destination="+65") for job in jobs))
        reads: list[Paged] = [
            Listing(queue=QUEUE, newest=newest, limit=60),
            Listing(queue=QUEUE, newest=newest, limit=60, batch="b"),
            Listing(queue=QUEUE, newest=newest, limit=60, states=frozenset(S)),
            OfNumber(queue=QUEUE, newest=newest, limit=60, number="+65"),
        ]
        for read in reads:
            seen: list[str] = []
            while page := await store.jobs(replace(read, after=seen[-1] if seen else None), now=NOW):
                seen += [job.id for job in page]
            assert seen == sorted((job.id for job in jobs), reverse=newest)

    async def test_a_deleted_job_leaves_its_key_and_nothing_about_the_person(self, store: Store) -> None:
        ended = sample_job(
            unique_key="k", state=JobState.CANCELLED, data={"name": "Tan"}, not_before=NOW,
            reason_kind=ReasonKind.BY_PERSON, edits=Edits(digest="now", made="then"),
        )  # fmt: skip
        await stored(store, ended)
        gone = Write(changes=(Delete(ended, NOW + DAY, tally_change(ended, None)),))
        assert await results_of(store, gone) == [DONE]
        assert await job_of(store, ended) is None
        (tombstone,) = await store.jobs(ByKey(("k",)), now=NOW)
        assert (tombstone.id, tombstone.state, tombstone.not_before) == (ended.id, ended.state, NOW)
        assert (tombstone.destination, tombstone.body, tombstone.source, tombstone.data) == ("", "", "", None)
        assert (tombstone.reason_kind, tombstone.digest, tombstone.unique_key) == (ReasonKind.BY_PERSON, "now", "k")
        assert list(await store.jobs(ByKey(("k",)), now=NOW + DAY)) == []
        assert await results_of(store, to(ended, next_of(ended, state=JobState.QUEUED))) == [STALE]
        assert await leased(store) == []

    async def test_a_deletion_that_keeps_nothing_leaves_no_key(self, store: Store) -> None:
        ended = sample_job(1, state=JobState.COMPLETED, unique_key="k")
        await stored(store, ended)
        assert await results_of(store, Write(changes=(Delete(ended, None, tally_change(ended, None)),))) == [DONE]
        assert list(await store.jobs(ByKey(("k",)), now=NOW)) == []
        assert await results_of(store, new(sample_job(2, unique_key="k"))) == [DONE]

    async def test_a_key_can_be_kept_a_second_time(self, store: Store) -> None:
        for number, now in ((1, NOW), (2, NOW + DAY)):
            job = sample_job(number, unique_key="k", state=JobState.COMPLETED)
            assert await results_of(store, new(job), now=now) == [DONE]
            gone = Write(changes=(Delete(job, now + DAY, tally_change(job, None)),))
            assert await results_of(store, gone, now=now) == [DONE]
            assert await results_of(store, new(sample_job(3, unique_key="k")), now=now + DAY - MICROSECOND) == [EXISTS]

    async def test_a_job_that_has_changed_is_not_deleted(self, store: Store) -> None:
        job = (await stored(store, sample_job(state=JobState.COMPLETED)))[0]
        again = next_of(job, state=JobState.QUEUED)
        await results_of(store, to(job, again))
        assert await results_of(store, Write(changes=(Delete(job, NOW, tally_change(job, None)),))) == [STALE]
        assert await job_of(store, job) == again
