"""What the outbox promises."""
# ruff: noqa: D102, S101
# A test's name is its sentence, and asserting is what it is for.

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import anyio

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, moved, sample_job, sample_jobs
from voiceflow_worker.core.ports import Event, EventKind, Move, Store
from voiceflow_worker.model.jobs.job import Job, JobState

MINUTE = timedelta(minutes=1)


def telling(job: Job, kind: EventKind = EventKind.ENDED, *, at: datetime = NOW, name: str = "") -> Move:
    """A move that ends a job, with one event."""
    move = moved(job, state=JobState.COMPLETED)
    event = Event(job_id=job.id, kind=kind, at=at, state=JobState.COMPLETED, revision=name or move.new.revision)
    return Move(move.old, move.new, (event,))


class EventsContract(Ground):
    """Events are stored with the move that made them."""

    async def test_an_event_comes_back_as_it_was_committed(self, store: Store) -> None:
        job = sample_job()
        await store.jobs.enqueue([job], now=NOW)
        move = telling(job, EventKind.INCIDENT, at=NOW + timedelta(microseconds=1))
        move = Move(move.old, move.new, (replace(move.events[0], post=3),))
        await store.jobs.commit([move])
        [event] = await store.jobs.events(QUEUE)
        assert event == replace(move.events[0], sequence=event.sequence)
        assert event.sequence > 0

    async def test_events_of_one_move_keep_their_order(self, store: Store) -> None:
        job = sample_job()
        await store.jobs.enqueue([job], now=NOW)
        move = telling(job)
        several = tuple(replace(move.events[0], kind=kind) for kind in EventKind)
        await store.jobs.commit([Move(move.old, move.new, several)])
        events = await store.jobs.events(QUEUE)
        assert [event.kind for event in events] == list(EventKind)
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})

    async def test_a_refused_move_tells_nothing(self, store: Store) -> None:
        job = sample_job()
        await store.jobs.enqueue([job], now=NOW)
        await store.jobs.commit([moved(job, state=JobState.CANCELLED)])
        assert await store.jobs.commit([telling(job), telling(sample_job(2))]) == [False, False]
        assert list(await store.jobs.events(QUEUE)) == []

    async def test_a_move_committed_again_tells_once(self, store: Store) -> None:
        job = sample_job()
        await store.jobs.enqueue([job], now=NOW)
        move = telling(job)
        assert await store.jobs.commit([move]) == [True]
        assert await store.jobs.commit([move]) == [True]
        assert len(await store.jobs.events(QUEUE)) == 1

    async def test_events_are_read_page_by_page(self, store: Store) -> None:
        jobs = sample_jobs(700)
        await store.jobs.enqueue(jobs, now=NOW)
        await store.jobs.commit([telling(job) for job in jobs])
        told: list[str] = []
        after = 0
        while page := await store.jobs.events(QUEUE, after=after, limit=300):
            assert len(page) <= 300
            told += [event.job_id for event in page]
            after = page[-1].sequence
        assert told == [job.id for job in jobs]
        assert len(await store.jobs.events(QUEUE)) == 700

    async def test_each_queue_has_its_own_events(self, store: Store) -> None:
        here, there = sample_job(), sample_job(queue="reminders")
        await store.jobs.enqueue([here], now=NOW)
        await store.jobs.enqueue([there], now=NOW)
        await store.jobs.commit([telling(there)])
        assert list(await store.jobs.events(QUEUE)) == []
        assert [event.job_id for event in await store.jobs.events("reminders")] == [there.id]

    async def test_events_of_a_job_are_told_in_the_order_of_its_moves(self, store: Store, other: Store) -> None:
        jobs = sample_jobs(5)
        await store.jobs.enqueue(jobs, now=NOW)

        async def live(handle: Store, job: Job) -> None:
            for step in range(10):
                move = telling(job, name=str(step))
                assert await handle.jobs.commit([move]) == [True]
                job = move.new

        async with anyio.create_task_group() as group:
            for number, job in enumerate(jobs):
                group.start_soon(live, (store, other)[number % 2], job)
        events = await store.jobs.events(QUEUE)
        for job in jobs:
            assert [event.revision for event in events if event.job_id == job.id] == [str(n) for n in range(10)]
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})

    async def test_old_events_are_forgotten_and_later_ones_kept(self, store: Store) -> None:
        jobs = sample_jobs(3)
        await store.jobs.enqueue(jobs, now=NOW)
        await store.jobs.commit([telling(job, at=NOW + n * MINUTE) for n, job in enumerate(jobs)])
        assert await store.jobs.forget_events(QUEUE, before=NOW + 2 * MINUTE) == 2
        assert [event.job_id for event in await store.jobs.events(QUEUE)] == [jobs[2].id]
        assert await store.jobs.forget_events(QUEUE, before=NOW + 2 * MINUTE) == 0
        assert await store.jobs.forget_events("reminders", before=NOW + 9 * MINUTE) == 0

    async def test_who_has_read_up_to_a_sequence_misses_nothing_when_events_are_forgotten(self, store: Store) -> None:
        jobs = sample_jobs(2)
        await store.jobs.enqueue(jobs, now=NOW)
        await store.jobs.commit([telling(jobs[0])])
        read = (await store.jobs.events(QUEUE))[-1].sequence
        await store.jobs.forget_events(QUEUE, before=NOW + MINUTE)
        await store.jobs.commit([telling(jobs[1])])
        assert [event.job_id for event in await store.jobs.events(QUEUE, after=read)] == [jobs[1].id]
