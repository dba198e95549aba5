"""The contract of `Jobs.commit` and of `LockingCommit`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

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
from voiceflow_worker.core.ports import Event, EventKind, Move, Query, Store
from voiceflow_worker.core.ports.journal_files import Restartable
from voiceflow_worker.core.ports.one_trip import KnownPost, LockingCommit, LockingMove, Made
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


def begun(job: Job, *locks: str, began_at: datetime = NOW) -> LockingMove:
    """The move that begins the next POST of a job and locks `locks`, by default the job's phone number."""
    number = job.post_count + 1
    post = Post(number=number, client_request_id=f"{job.id}.{number}", began_at=began_at, valid_until=NOW + MINUTE)
    events = (Event(job_id=job.id, kind=EventKind.ATTEMPTED, at=NOW, state=JobState.SENDING, revision=f"to-{number}"),)
    made = moved(job, state=JobState.SENDING, due_at=NOW + MINUTE, post_count=number, posts=(*job.posts, post))
    keys = locks or (job.destination,)
    return LockingMove(
        type(made)(made.old, made.new, events),
        post.client_request_id,
        keys,
        {LISTED: keys, BESIDE: [f"{key} 2" for key in keys]},
    )


class LockingContract(Ground):
    """Tests of moves that also lock numbers, for a store whose jobs are a `LockingCommit`."""

    async def commit(
        self, store: Store, *moves: LockingMove, known: KnownPost | None = None, now: datetime = NOW
    ) -> Sequence[Made] | None:
        assert isinstance(store.jobs, LockingCommit)
        return await store.jobs.commit_locking(
            moves, namespace=LOCKS, expires_at=now + 3 * MINUTE, now=now, known=known
        )

    async def locks(self, store: Store, *keys: str, at: datetime = NOW) -> dict[str, str]:
        return dict(await store.records.get(LOCKS, keys, now=at))

    async def state(self, store: Store, job: Job) -> JobState:
        return (await store.jobs.get([job.id]))[job.id].state

    async def test_a_move_whose_locks_are_free_is_made_and_locks_them(self, store: Store, other: Store) -> None:
        job = await enqueued(store)
        move = begun(job, "a", "b")
        assert await self.commit(store, move) == [Made.YES]
        assert (await other.jobs.get([job.id]))[job.id] == move.move.new
        assert await self.locks(other, "a", "b") == {"a": move.owner, "b": move.owner}
        assert await self.locks(other, "a", "b", at=NOW + 3 * MINUTE) == {}
        assert [event.kind for event in await store.jobs.events(QUEUE)] == [EventKind.ATTEMPTED]

    async def test_locks_whose_end_has_passed_are_pruned(self, store: Store) -> None:
        assert await self.commit(store, begun(await enqueued(store), "a", "b")) == [Made.YES]
        assert await store.records.prune(now=NOW + 2 * MINUTE) == 0
        assert await store.records.prune(now=NOW + 3 * MINUTE) == 2

    async def test_of_a_move_whose_lock_another_has_nothing_is_stored(self, store: Store) -> None:
        job, free = await enqueued_jobs(store, 2)
        await store.records.put(LOCKS, {"b": "theirs"}, expires_at=NOW + MINUTE, now=NOW)
        assert await self.commit(store, begun(job, "a", "b"), begun(free, "c")) == [Made.NOT_FREE, Made.YES]
        assert await self.state(store, job) is JobState.QUEUED
        assert await self.locks(store, "a", "b", "c") == {"b": "theirs", "c": f"{free.id}.1"}
        assert len(await store.jobs.events(QUEUE)) == 1

    @pytest.mark.parametrize("namespace", [LISTED, BESIDE])
    async def test_of_a_move_that_a_record_forbids_nothing_is_stored(self, store: Store, namespace: str) -> None:
        job, free = await enqueued_jobs(store, 2)
        key = job.destination if namespace == LISTED else f"{job.destination} 2"
        await store.records.put(namespace, {key: "1"}, expires_at=NOW + MINUTE, now=NOW)
        assert await self.commit(store, begun(job), begun(free)) == [Made.NOT_FREE, Made.YES]
        assert await self.state(store, job) is JobState.QUEUED
        assert list(await self.locks(store, job.destination, free.destination)) == [free.destination]

    async def test_locks_and_records_that_have_ended_do_not_count(self, store: Store) -> None:
        job = await enqueued(store)
        for namespace, key in ((LOCKS, "a"), (LISTED, "a"), (BESIDE, "a 2")):
            await store.records.put(namespace, {key: "1"}, expires_at=NOW + MINUTE, now=NOW)
        assert await self.commit(store, begun(job, "a"), now=NOW + MINUTE) == [Made.YES]
        assert await self.locks(store, "a", at=NOW + 2 * MINUTE) == {"a": f"{job.id}.1"}

    async def test_of_two_moves_with_one_lock_the_first_is_made(self, store: Store) -> None:
        first, second = await enqueued_jobs(store, 2)
        moves = [begun(first, "a"), begun(second, "b", "a")]
        assert await self.commit(store, *moves) == [Made.YES, Made.NOT_FREE]
        assert await self.locks(store, "a", "b") == {"a": moves[0].owner}

    async def test_a_job_that_has_changed_is_not_moved_and_locks_nothing(self, store: Store) -> None:
        job = await enqueued(store)
        assert await store.jobs.commit([moved(job, state=JobState.CANCELLED)]) == [True]
        assert await self.commit(store, begun(job, "a")) == [Made.STALE]
        assert (await self.state(store, job), await self.locks(store, "a")) == (JobState.CANCELLED, {})

    async def test_a_move_that_was_made_before_counts_as_made(self, store: Store) -> None:
        """The answer to the first try was lost."""
        job = await enqueued(store)
        move = begun(job, "a")
        assert await self.commit(store, move) == [Made.YES]
        assert await self.commit(store, move) == [Made.YES]
        await store.records.put(LISTED, {"a": "since then"}, expires_at=None, now=NOW)
        assert await self.commit(store, move) == [Made.YES]
        assert len(await store.jobs.events(QUEUE)) == 1
        assert await self.locks(store, "a") == {"a": move.owner}

    async def test_a_move_that_was_made_before_counts_as_made_although_the_known_post_is_missing(
        self, store: Store
    ) -> None:
        """The server was restarted just after it had made the move."""
        job, missing = await enqueued_jobs(store, 2)
        move = begun(job, "a")
        known = KnownPost(missing.id, begun(missing).move.new.posts[-1], "another")
        assert await self.commit(store, move) == [Made.YES]
        assert await self.commit(store, move, known=known) == [Made.YES]
        assert len(await store.jobs.events(QUEUE)) == 1

    async def test_an_own_lock_keeps_a_later_end(self, store: Store) -> None:
        job = await enqueued(store)
        move = begun(job, "soon", "later")
        for minutes, key in ((1, "soon"), (9, "later")):
            await store.records.put(LOCKS, {key: move.owner}, expires_at=NOW + minutes * MINUTE, now=NOW)
        assert await self.commit(store, move) == [Made.YES]
        left = [list(await self.locks(store, "soon", "later", at=NOW + minutes * MINUTE)) for minutes in (2, 3, 9)]
        assert left == [["soon", "later"], ["later"], []]

    async def test_the_known_post_must_be_in_the_store(self, store: Store) -> None:
        job, sent, unsent = await enqueued_jobs(store, 3)
        incarnation = (await store.look(QUEUE, []))[0] if isinstance(store, Restartable) else None
        late = begun(sent, began_at=NOW + MINUTE)
        assert await self.commit(store, begun(sent)) == [Made.YES]
        for forgotten in (late.move.new, begun(unsent).move.new, begun(moved(sent, id=f"{sent.id}9").new).move.new):
            known = KnownPost(forgotten.id, forgotten.posts[-1], incarnation)
            assert await self.commit(store, begun(job), known=known) is None
            assert await self.state(store, job) is JobState.QUEUED
            assert await self.locks(store, job.destination) == {}
        later = moved((await store.jobs.get([sent.id]))[sent.id], state=JobState.SUBMITTED, reason="it left")
        assert await store.jobs.commit([later]) == [True]
        known = KnownPost(sent.id, begun(sent).move.new.posts[-1], incarnation)
        assert await self.commit(store, begun(job), known=known) == [Made.YES]

    async def test_the_server_must_be_the_known_one(self, store: Store) -> None:
        if not isinstance(store, Restartable):
            pytest.skip("this store has no server")
        job, first = await enqueued_jobs(store, 2)
        assert await self.commit(store, begun(first)) == [Made.YES]
        assert await self.commit(store, begun(job), known=KnownPost("", None, "another")) is None
        assert await self.state(store, job) is JobState.QUEUED
        incarnation, _ = await store.look(QUEUE, [])
        assert await self.commit(store, begun(job), known=KnownPost("", None, incarnation)) == [Made.YES]
