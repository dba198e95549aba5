"""A call that comes back keeps its place: it is sent before the calls that were never tried."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import LEASE, Engine
from tests.support.flows import number
from tests.support.stores import EVERY, clocked
from tests.support.voices import ScriptedVoice, created, not_sent, turned_away
from voiceflow_worker import Job
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.sending.journal import NUMBER_BUSY, Journal, Requeue
from voiceflow_worker.core.settling.settle import PostAnswer
from voiceflow_worker.model.jobs.job import ReasonKind, RedialPolicy
from voiceflow_worker.model.jobs.lifecycle import RETRIES_FIRST
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
BUSY = "its number is busy with another call"


store = clocked("memory")


on_every_store = pytest.mark.parametrize("store", EVERY, indirect=True)


class Line:
    """A queue of calls, and what becomes of those that a worker has taken."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.engine = Engine(store, ScriptedVoice())
        self.clock = clock
        self.journal = Journal(store, self.engine.policy, lease=LEASE)
        self.numbers: dict[str, int] = {}

    async def add(self, count: int, **options: object) -> None:
        for _ in range(count):
            place = len(self.numbers) + 1
            job = await self.engine.enqueue(number(place), **options)
            self.numbers[job.id] = place
            self.clock.advance(timedelta(milliseconds=1))

    async def leased(self, limit: int = 100) -> list[int]:
        return [self.numbers[job.id] for job in await self.engine.lease(limit)]

    async def begun(self, job: Job) -> Job:
        (entry,), _ = await self.journal.begin([job])
        return entry.job


@on_every_store
async def test_whatever_brings_a_call_back_it_goes_before_those_never_tried(store: Store, clock: ManualClock) -> None:
    line = Line(store, clock)
    await line.add(12)
    busy, _, slot, away, unreached, held = await line.engine.lease(6)
    await line.journal.requeue([Requeue(busy, BUSY, ReasonKind.NUMBER_BUSY, NUMBER_BUSY)])
    await line.journal.requeue([Requeue(slot, "the rate allows no further call yet")])
    now = clock.now()
    begun = await line.begun(away)
    await line.engine.settler.verdicts([PostAnswer(begun, 1, turned_away(429), now, held_until=now + 2 * LEASE)])
    await line.engine.verdict(await line.begun(unreached), 1, not_sent())
    await line.engine.settler.verdicts([PostAnswer(await line.begun(held), 1, turned_away(401), now, None)])
    assert (await line.leased())[:2] == [3, 6], "they are due at once, where they were"
    clock.advance(LEASE + SECOND)  # the leases of all others end
    await line.engine.sweeper.sweep()
    clock.advance(LEASE + SECOND)
    assert await line.leased() == [2, 3, 6, 7, 8, 9, 10, 11, 12, 5, 1, 4], "by the time at which each is due"


@on_every_store
async def test_row_2_of_40_that_was_busy_for_a_moment_is_sent_third(store: Store, clock: ManualClock) -> None:
    line = Line(store, clock)
    await line.add(40)
    _, second = await line.engine.lease(2)
    await line.journal.requeue([Requeue(second, BUSY, ReasonKind.NUMBER_BUSY, 0.3 * SECOND)])
    assert await line.leased(1) == [3]
    clock.advance(0.3 * SECOND)
    assert await line.leased() == [2, *range(4, 41)]


@on_every_store
async def test_what_is_busy_for_longer_than_a_minute_holds_up_nobody(store: Store, clock: ManualClock) -> None:
    line = Line(store, clock)
    await line.add(2)
    (job,) = await line.engine.lease(1)
    for _ in range(1 + RETRIES_FIRST // NUMBER_BUSY):
        await line.journal.requeue([Requeue(job, BUSY, ReasonKind.NUMBER_BUSY, NUMBER_BUSY)])
        clock.advance(NUMBER_BUSY)
        (job,) = await line.engine.lease(1)
    assert line.numbers[job.id] == 2
    assert await line.leased() == [1]


@on_every_store
async def test_a_higher_priority_goes_before_what_came_back(store: Store, clock: ManualClock) -> None:
    line = Line(store, clock)
    await line.add(2)
    (job,) = await line.engine.lease(1)
    await line.journal.requeue([Requeue(job, BUSY, ReasonKind.NUMBER_BUSY, NUMBER_BUSY)])
    await line.add(1, priority=1)
    clock.advance(NUMBER_BUSY)
    assert await line.leased() == [3, 1, 2]


@on_every_store
async def test_a_redial_and_a_persons_order_get_a_new_place(store: Store, clock: ManualClock) -> None:
    line = Line(store, clock)
    policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta())
    await line.add(4, redial=policy)
    busy, answered = await line.engine.lease(2)
    for job, status in ((busy, SessionStatus.BUSY), (answered, SessionStatus.COMPLETED)):
        clock.advance(SECOND)
        await line.engine.verdict(await line.begun(job), 1, created(f"session-{job.id}"))
        await line.engine.summarise(job, status)
    await line.engine.queue.redial(answered.id, note="again", force=True)
    assert await line.leased() == [3, 4, 1, 2]


@on_every_store
async def test_how_late_the_oldest_call_is_counts_from_when_it_was_first_due(store: Store, clock: ManualClock) -> None:
    """A worker that can send nothing takes calls and puts them back, again and again."""
    line = Line(store, clock)
    await line.add(3)
    began = clock.now() - timedelta(milliseconds=3)
    for _ in range(20):
        jobs = await line.engine.lease()
        await line.journal.requeue([Requeue(job, BUSY, ReasonKind.NUMBER_BUSY, NUMBER_BUSY) for job in jobs])
        clock.advance(10 * SECOND)
    status = await line.engine.queue.status()
    assert status.oldest_due_seconds == pytest.approx((clock.now() - began).total_seconds(), abs=0.01)
