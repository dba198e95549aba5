"""The contract of the outbox: `Jobs.events` and `forget_events`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    at_once,
    commit,
    enqueued,
    enqueued_jobs,
    moved,
    sample_job,
)
from voiceflow_worker.core.ports import Event, EventKind, Move, Store
from voiceflow_worker.model.jobs.job import Job, JobState

MINUTE = timedelta(minutes=1)


def ending(job: Job, kind: EventKind = EventKind.ENDED, *, at: datetime = NOW, name: str = "") -> Move:
    """A move that ends a job, with one event."""
    move = moved(job, state=JobState.COMPLETED)
    event = Event(job_id=job.id, kind=kind, at=at, state=JobState.COMPLETED, revision=name or move.new.revision)
    return Move(move.old, move.new, (event,))


class EventsContract(Ground):
    """Tests of events, which are stored together with their moves."""

    async def test_every_field_of_an_event_is_stored(self, store: Store) -> None:
        job = await enqueued(store)
        move = ending(job, EventKind.INCIDENT, at=NOW + timedelta(microseconds=1))
        move = Move(move.old, move.new, (replace(move.events[0], post=3),))
        await commit(store, [move])
        [event] = await store.jobs.events(QUEUE)
        assert event == replace(move.events[0], sequence=event.sequence)
        assert event.sequence > 0

    async def test_events_of_one_move_keep_their_order(self, store: Store) -> None:
        job = await enqueued(store)
        move = ending(job)
        several = tuple(replace(move.events[0], kind=kind) for kind in EventKind)
        await commit(store, [Move(move.old, move.new, several)])
        events = await store.jobs.events(QUEUE)
        assert [event.kind for event in events] == list(EventKind)
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})

    async def test_a_refused_move_stores_no_event(self, store: Store) -> None:
        job = await enqueued(store)
        await commit(store, [moved(job, state=JobState.CANCELLED)])
        assert await commit(store, [ending(job), ending(sample_job(2))]) == [False, False]
        assert list(await store.jobs.events(QUEUE)) == []

    async def test_a_repeated_move_stores_its_events_once(self, store: Store) -> None:
        job = await enqueued(store)
        move = ending(job)
        assert await commit(store, [move]) == [True]
        assert await commit(store, [move]) == [True]
        assert len(await store.jobs.events(QUEUE)) == 1

    async def test_events_are_read_page_by_page(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 700)
        await commit(store, [ending(job) for job in jobs])
        found: list[str] = []
        after = 0
        while page := await store.jobs.events(QUEUE, after=after, limit=300):
            assert len(page) <= 300
            found += [event.job_id for event in page]
            after = page[-1].sequence
        assert found == [job.id for job in jobs]
        assert len(await store.jobs.events(QUEUE)) == 700

    async def test_each_queue_has_its_own_events(self, store: Store) -> None:
        here, there = sample_job(), sample_job(queue="reminders")
        await add_jobs(store, [here])
        await add_jobs(store, [there])
        await commit(store, [ending(there)])
        assert list(await store.jobs.events(QUEUE)) == []
        assert [event.job_id for event in await store.jobs.events("reminders")] == [there.id]

    async def test_events_of_a_job_have_the_order_of_its_moves(self, store: Store, other: Store) -> None:
        jobs = await enqueued_jobs(store, 5)

        async def live(handle: Store, number: int) -> None:
            job = jobs[number]
            for step in range(10):
                move = ending(job, name=str(step))
                assert await commit(handle, [move]) == [True]
                job = move.new

        await at_once(5, live, store, other)
        events = await store.jobs.events(QUEUE)
        for job in jobs:
            assert [event.revision for event in events if event.job_id == job.id] == [str(n) for n in range(10)]
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})

    async def test_forgetting_drops_old_events_and_keeps_later_ones(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 3)
        await commit(store, [ending(job, at=NOW + n * MINUTE) for n, job in enumerate(jobs)])
        assert await store.jobs.forget_events(QUEUE, before=NOW + 2 * MINUTE) == 2
        assert [event.job_id for event in await store.jobs.events(QUEUE)] == [jobs[2].id]
        assert await store.jobs.forget_events(QUEUE, before=NOW + 2 * MINUTE) == 0
        assert await store.jobs.forget_events("reminders", before=NOW + 9 * MINUTE) == 0

    async def test_a_reader_misses_no_event_when_older_ones_are_forgotten(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 2)
        await commit(store, [ending(jobs[0])])
        read = (await store.jobs.events(QUEUE))[-1].sequence
        await store.jobs.forget_events(QUEUE, before=NOW + MINUTE)
        await commit(store, [ending(jobs[1])])
        assert [event.job_id for event in await store.jobs.events(QUEUE, after=read)] == [jobs[1].id]
