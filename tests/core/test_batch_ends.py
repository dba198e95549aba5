"""The end of a batch: noticed once for all its calls, numbered, told at least once, and again after a reopening."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.core.test_hooks import GRACE, running
from tests.support.calls import Calls
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import time_passing
from tests.support.waiting import until
from voiceflow_worker import SessionStatus
from voiceflow_worker.core.base.background import LEASE_LENGTH
from voiceflow_worker.core.outcomes.batch_ends import BATCH_ENDS, BatchEnds, BatchOutcome
from voiceflow_worker.core.outcomes.hooks import OutcomeHooks
from voiceflow_worker.core.outcomes.outbox import Consumer, position_at
from voiceflow_worker.core.ports import EventKind, Store
from voiceflow_worker.errors import BatchTimeoutError, InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
DONE, BUSY = SessionStatus.COMPLETED, SessionStatus.BUSY


class Ends:
    """A handler that keeps the ends of batches, and fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[BatchOutcome] = []
        self.fails = fails

    async def __call__(self, outcome: BatchOutcome) -> None:
        await anyio.lowlevel.checkpoint()
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the board is away")
        self.told.append(outcome)

    @property
    def numbers(self) -> list[int]:
        return [each.number for each in self.told]

    @property
    def ends(self) -> list[tuple[str, int]]:
        return [(each.batch_id, each.number) for each in self.told]


def hooks_for(store: Store, *, queue: str = "default", **ends: Ends) -> OutcomeHooks:
    hooks = OutcomeHooks(store, queue=queue, grace=GRACE)
    for name, each in ends.items():
        hooks.on_batch_end(name=name)(each)
    return hooks


async def ended(calls: Calls, count: int, *, batch: str = "march", status: SessionStatus = DONE) -> None:
    """Calls of a batch are placed, and then end one after the other."""
    engine, first = calls.engine, len(await calls.queue.find(limit=None))
    jobs = [await engine.enqueue(f"+65{81000000 + first + place}", batch_id=batch) for place in range(count)]
    await engine.send(limit=count)
    for job in jobs:
        await calls.end(await calls.queue.get(job.id), status)


async def test_the_end_is_told_once_with_its_totals_and_again_after_a_reopening(
    any_store: Store, clock: ManualClock
) -> None:
    calls, ends, late = Calls(any_store), Ends(fails=2), Ends()
    async with running(hooks_for(any_store, board=ends, late=late), clock):
        await ended(calls, 3)
        await until(lambda: ends.numbers == [1] and late.numbers == [1])
        (told,) = ends.told
        assert (told.type, told.batch_id, told.totals.answered) == ("batch.ended", "march", 3)
        assert told.as_json()["data"]["total"] == 3  # type: ignore[index]
        await calls.engine.enqueue("+6587654321", batch_id="march")
        await calls.engine.enqueue("+6587654322", batch_id="april")
        sent = await calls.engine.send()
        for job in sent:
            await calls.end(job, BUSY)
        await until(lambda: len(ends.told) == 3)
    assert sorted(ends.ends) == [("april", 1), ("march", 1), ("march", 2)]
    assert len({each.id for each in ends.told}) == 3
    async with running(hooks_for(any_store, board=ends), clock):
        await ended(calls, 1, batch="may")
        await until(lambda: len(ends.told) == 4)
    assert ends.told[-1].batch_id == "may", "what was told before is not told again"


async def test_a_batch_in_doubt_has_not_ended(store: Store, clock: ManualClock) -> None:
    calls, ends = Calls(store), Ends()
    async with running(hooks_for(store, board=ends), clock):
        open_call = await calls.engine.enqueue("+6587654321", batch_id="march")
        (sent,) = await calls.engine.send()
        await ended(calls, 2)
        assert sent.id == open_call.id
        with pytest.raises(BatchTimeoutError, match="march has not ended after 60 s"):
            await calls.queue.wait_for_batch("march", timeout=MINUTE)
        assert ends.told == []
        async with anyio.create_task_group() as group:
            group.start_soon(calls.end, sent)
            await calls.queue.wait_for_batch("march")
        report = await calls.queue.wait_for_batch("march")
        assert (report.total, report.answered) == (3, 3)
        await until(lambda: ends.numbers == [1])


async def test_a_wait_for_a_batch_that_nobody_knows_is_refused(store: Store, clock: ManualClock) -> None:
    async with time_passing(clock):
        with pytest.raises(InvalidInputError, match="batch march has no calls"):
            await Calls(store).queue.wait_for_batch("march")


async def by_summary(calls: Calls, job: Job, _: ManualClock) -> None:
    await calls.engine.send()
    await calls.end(job)


async def by_cancel(calls: Calls, job: Job, _: ManualClock) -> None:
    await calls.queue.cancel(job.id)


async def by_cancel_of_the_batch(calls: Calls, _: Job, __: ManualClock) -> None:
    await calls.queue.cancel_batch("march")


async def by_expiry(calls: Calls, _: Job, clock: ManualClock) -> None:
    clock.advance(2 * MINUTE)
    await calls.engine.sweeper.sweep()


async def by_a_person(calls: Calls, job: Job, clock: ManualClock) -> None:
    await calls.engine.journal()
    clock.advance(2 * MINUTE)
    await calls.engine.sweeper.sweep()
    await calls.queue.resolve(job.id, placed=True, note="it rang here")


async def by_time(calls: Calls, _: Job, clock: ManualClock) -> None:
    await calls.engine.send()
    clock.advance(timedelta(hours=3))
    await calls.engine.sweeper.sweep()


@pytest.mark.parametrize("end", [by_summary, by_cancel, by_cancel_of_the_batch, by_expiry, by_a_person, by_time])
async def test_whatever_ends_the_last_call_ends_its_batch(
    store: Store, clock: ManualClock, end: Callable[[Calls, Job, ManualClock], Awaitable[None]]
) -> None:
    calls, ends = Calls(store), Ends()
    async with running(hooks_for(store, board=ends), clock):
        expires = {"valid_until": clock.now() + MINUTE} if end is by_expiry else {}
        await end(calls, await calls.engine.enqueue("+6587654321", batch_id="march", **expires), clock)
        await until(lambda: ends.numbers == [1])


async def ends_in(store: Store, queue: str) -> list[tuple[str, int]]:
    """The ends of batches in an outbox."""
    events = await store.events(queue)
    return [(each.job_id, each.post) for each in events if each.kind is EventKind.BATCH_ENDED]


async def killed_before(n: int, store: Store, clock: ManualClock) -> bool:
    """A process is killed before its n-th act after the last call has ended, while it settles another batch.

    Returns whether it was told of the end, and had done with it.
    """
    queue, board, again, left, last = f"q{n}", Ends(), Ends(), -1, list[Job]()
    calls = Calls(store, queue=queue)

    async def act(call: StoreCall) -> None:
        nonlocal left
        if last and call.name == "records" and BATCH_ENDS in call.arguments[0]:
            await calls.end(last.pop())
            left = n + 2  # this one, and the page after it
        left -= left > 0
        if left == 0:
            raise StoreUnavailableError("killed")

    killed, process = hooks_for(FaultyStore(store, before=act), queue=queue, board=board), anyio.CancelScope()

    async def run() -> None:
        with process:
            await killed.run()

    async with anyio.create_task_group() as group, time_passing(clock):
        group.start_soon(run)
        await killed.caught_up()
        other = await calls.engine.enqueue("+6587654321", batch_id="april")
        march = await calls.engine.enqueue("+6587654322", batch_id="march")
        await calls.engine.send()
        last.append(march)
        await calls.end(other)
        await until(lambda: left == 0)
        process.cancel()
        clock.advance(2 * LEASE_LENGTH)
        async with running(hooks_for(store, queue=queue, board=again), clock):
            await until(lambda: ("march", 1) in board.ends + again.ends)
            await ended(calls, 1)
            await until(lambda: ("march", 2) in again.ends)
    assert set(board.ends + again.ends) == {("april", 1), ("march", 1), ("march", 2)}
    assert sorted(await ends_in(store, queue)) == [
        (f"{queue}.{name}", post) for name, post in sorted(set(board.ends + again.ends))
    ]
    return again.ends == [("march", 2)]


async def test_an_end_is_neither_lost_nor_stored_twice_before_whichever_act_a_process_is_killed(
    any_store: Store, clock: ManualClock
) -> None:
    for n in count():  # a failure prints it
        if await killed_before(n, any_store, clock):
            break
    assert n > 5


class Reader:
    """Reads the ends of batches; each act may be late, lost, or the last one of a process that another one follows."""

    def __init__(self, store: Store, queue: str, chosen: random.Random) -> None:
        self._store = store
        self._queue = queue
        self._chosen = chosen
        self._position = 0
        self.is_over = False
        self.told: list[int] = []

    async def run(self) -> None:
        """Read until all is read."""
        store = FaultyStore(self._store, before=self._late, after=self._late)
        consumer, ends = self._process(store)
        while not (self.is_over and self._position == await position_at(self._store, self._queue, None)):
            try:
                self.told += [event.post for event in await ends.page()]
                self._position = max(self._position, ends.position)
            except StoreUnavailableError:
                if self._chosen.random() < 0.5:
                    consumer, ends = self._process(store)
                    consumer.position = self._position

    def _process(self, store: Store) -> tuple[Consumer, BatchEnds]:
        consumer = Consumer(store, self._queue, name=None, since=store.clock.now())
        return consumer, BatchEnds(store, self._queue, consumer)

    async def _late(self, _call: StoreCall) -> None:
        for _ in range(self._chosen.randrange(4)):
            await anyio.lowlevel.checkpoint()
        if self._chosen.random() < 0.1:
            raise StoreUnavailableError("lost")


async def test_each_end_is_one_event_for_readers_and_calls_in_any_order(any_store: Store) -> None:
    for seed in range(2):
        chosen, queue = random.Random(seed), f"q{seed}"
        calls, readers = Calls(any_store, queue=queue), [Reader(any_store, queue, chosen) for _ in range(3)]
        waiting, closings = list[Job](), 0
        async with anyio.create_task_group() as group:
            for reader in readers:
                group.start_soon(reader.run)
            for place in range(40):
                if waiting and (place >= 30 or chosen.random() < 0.6):
                    await calls.queue.cancel(waiting.pop(chosen.randrange(len(waiting))).id)
                    closings += not waiting
                elif place < 30:
                    waiting.append(await calls.engine.enqueue(f"+65{81000000 + place}", batch_id="march"))
                for _ in range(chosen.randrange(20)):
                    await anyio.lowlevel.checkpoint()
            for reader in readers:
                reader.is_over = True
        numbers = [number for _, number in await ends_in(any_store, queue)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert not waiting
        assert 1 <= len(numbers) <= closings
        assert (await any_store.events(queue))[-1].kind is EventKind.BATCH_ENDED, "the last end was lost"
        assert [sorted(set(reader.told)) for reader in readers] == [numbers] * 3
