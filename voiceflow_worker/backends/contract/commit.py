"""The contract of `Jobs.commit` and of `LockingCommit`."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    at_once,
    enqueued,
    enqueued_jobs,
    moved,
    sample_job,
    sample_jobs,
)
from voiceflow_worker.core.ports import Move, Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState, Note, NoteKind, Post

MINUTE = timedelta(minutes=1)
LOCKS, LISTED, BESIDE = "number", "suppressed", "beside"


async def stored(store: Store, job: Job) -> Job | None:
    return (await store.jobs.get([job.id])).get(job.id)


class CommitContract(Ground):
    """Tests of moves. A move is made only if the job still has the revision from which the move starts."""

    async def test_a_move_replaces_the_job(self, store: Store) -> None:
        job = await enqueued(store, unique_key="k", batch_id="b")
        post = Post(number=1, client_request_id=f"{job.id}.1", began_at=NOW, valid_until=NOW + MINUTE)
        move = moved(
            job,
            state=JobState.SENDING,
            due_at=NOW + MINUTE,
            worker_id="worker-1",
            active_until=NOW + 2 * MINUTE,
            post_count=1,
            posts=(post,),
        )
        assert await store.jobs.commit([move]) == [True]
        assert await stored(store, job) == move.new

    async def test_a_stale_revision_is_refused(self, store: Store) -> None:
        job = await enqueued(store)
        first, second = moved(job, state=JobState.CANCELLED), moved(job, state=JobState.EXPIRED)
        assert await store.jobs.commit([first]) == [True]
        assert await store.jobs.commit([second]) == [False]
        assert await stored(store, job) == first.new

    async def test_an_unknown_job_is_not_moved(self, store: Store) -> None:
        assert await store.jobs.commit([moved(sample_job(), state=JobState.EXPIRED)]) == [False]
        assert await stored(store, sample_job()) is None

    async def test_a_repeated_move_succeeds(self, store: Store) -> None:
        job = await enqueued(store)
        move = moved(job, state=JobState.SENDING)
        assert await store.jobs.commit([move]) == [True]
        assert await store.jobs.commit([move]) == [True]
        assert await stored(store, job) == move.new

    async def test_a_repeated_move_fails_after_a_later_move(self, store: Store) -> None:
        job = await enqueued(store)
        lost = moved(job, state=JobState.LEASED)
        await store.jobs.commit([lost])
        later = moved(lost.new, state=JobState.QUEUED)
        await store.jobs.commit([later])
        assert await store.jobs.commit([lost]) == [False]
        assert await stored(store, job) == later.new

    async def test_the_same_move_twice_in_one_commit_succeeds_twice(self, store: Store) -> None:
        job = await enqueued(store)
        move = moved(job, state=JobState.SENDING)
        assert await store.jobs.commit([move, move]) == [True, True]

    async def test_each_move_of_a_commit_is_judged_alone(self, store: Store) -> None:
        jobs = sample_jobs(4)
        await add_jobs(store, jobs[:3])
        await store.jobs.commit([moved(jobs[1], state=JobState.CANCELLED)])
        moves = [moved(job, state=JobState.EXPIRED) for job in jobs]
        assert await store.jobs.commit(moves) == [True, False, True, False]
        states = [job.state for job in await store.jobs.find(Query(queue=QUEUE))]
        assert states == [JobState.EXPIRED, JobState.CANCELLED, JobState.EXPIRED]

    async def test_one_commit_may_move_a_job_several_times(self, store: Store) -> None:
        job = await enqueued(store)
        first = moved(job, state=JobState.LEASED)
        second = moved(first.new, state=JobState.SENDING)
        stale = moved(job, state=JobState.CANCELLED)
        assert await store.jobs.commit([first, second, stale]) == [True, True, False]
        assert await stored(store, job) == second.new

    async def test_a_commit_without_moves_is_allowed(self, store: Store) -> None:
        assert list(await store.jobs.commit([])) == []

    async def test_one_commit_takes_a_thousand_moves(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 1000)
        assert await store.jobs.commit([moved(job, state=JobState.EXPIRED) for job in jobs]) == [True] * 1000
        assert (await store.jobs.count(QUEUE))[JobState.EXPIRED] == 1000

    async def test_one_of_several_concurrent_moves_wins(self, store: Store, other: Store) -> None:
        job = await enqueued(store)
        winners: list[Move] = []

        async def move(handle: Store, number: int) -> None:
            mine = moved(job, state=JobState.LEASED, worker_id=f"worker-{number}")
            if (await handle.jobs.commit([mine]))[0]:
                winners.append(mine)

        await at_once(20, move, store, other)
        assert [winner.new for winner in winners] == [await stored(store, job)]

    async def test_concurrent_writers_that_retry_lose_no_change(self, store: Store, other: Store) -> None:
        job = await enqueued(store)

        async def add_one(handle: Store, _number: int) -> None:
            while True:
                known = await stored(handle, job)
                assert known is not None
                if (await handle.jobs.commit([moved(known, failures=known.failures + 1)]))[0]:
                    return

        await at_once(20, add_one, store, other)
        counted = await stored(store, job)
        assert counted is not None
        assert counted.failures == 20

    async def test_every_indexed_field_follows_the_move(self, store: Store) -> None:
        job = await enqueued(store, batch_id="old", valid_until=NOW + MINUTE)
        move = moved(job, batch_id="new", destination="+6599999999", priority=7, valid_until=NOW - MINUTE)
        await store.jobs.commit([move])
        jobs = store.jobs
        assert list(await jobs.find(Query(queue=QUEUE, batch_id="old"))) == []
        assert list(await jobs.find(Query(queue=QUEUE, batch_id="new"))) == [move.new]
        assert list(await jobs.find(Query(queue=QUEUE, destination=job.destination))) == []
        assert list(await jobs.find(Query(queue=QUEUE, destination="+6599999999"))) == [move.new]
        assert list(await jobs.find(Query(queue=QUEUE, valid_before=NOW))) == [move.new]
        assert list(await jobs.lease(QUEUE, worker_id="w", limit=1, lease_for=MINUTE, now=NOW)) == []

    async def test_a_queued_job_that_changes_its_batch_is_leased_once(self, store: Store) -> None:
        job = await enqueued(store)
        move = moved(job, batch_id="new")
        assert await store.jobs.commit([move]) == [True]
        leased = await store.jobs.lease(QUEUE, worker_id="w", limit=5, lease_for=MINUTE, now=NOW)
        assert [each.id for each in leased] == [job.id]

    async def test_a_large_record_is_stored_whole(self, store: Store) -> None:
        job = await enqueued(store)
        posts = tuple(
            Post(number=n, client_request_id=f"{job.id}.{n}", began_at=NOW, valid_until=NOW, message="m" * 500)
            for n in range(1, 60)
        )
        notes = tuple(Note(at=NOW, kind=NoteKind.REDIALLED, text=f"note {n}") for n in range(60))
        move = moved(job, posts=posts, notes=notes, post_count=59)
        assert await store.jobs.commit([move]) == [True]
        assert await stored(store, job) == move.new
