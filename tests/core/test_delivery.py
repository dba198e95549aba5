"""Outcomes and ends of batches on their way to the webhook: at least once, in order, tried again beside the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count

import anyio
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock, delete, sample_job
from tests.support.calls import Calls
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import STEP, time_passing
from tests.support.waiting import until
from voiceflow_worker import JobState, SessionStatus
from voiceflow_worker.core.base.background import LEASES
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.heartbeats import notifications_failing
from voiceflow_worker.core.outcomes.batch_ends import BATCH_ENDS, BatchEnds, BatchOutcome
from voiceflow_worker.core.outcomes.outbox import POSITIONS, READER_LEASE, Consumer, position_at
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Write
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.errors import (
    BatchTimeoutError,
    HookGoneError,
    InvalidInputError,
    RetryLaterError,
    StoreUnavailableError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.notify.delivery import AT_ONCE, HOOK, LOOK_FOR_QUEUES, Notifications

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
GRACE = timedelta(seconds=20)
"""Real seconds that a test which stops deliveries may take."""
DONE, BUSY = SessionStatus.COMPLETED, SessionStatus.BUSY


class Heard:
    """A receiver that keeps what it is told, and refuses the calls and batches that it is to refuse."""

    def __init__(self, *refused: str) -> None:
        self.told: list[CallOutcome] = []
        self.ended: list[BatchOutcome] = []
        self.tries: Counter[str] = Counter()
        self.refused = set(refused)
        self.is_away = False

    async def __call__(self, outcome: CallOutcome | BatchOutcome) -> None:
        key = outcome.batch_id if isinstance(outcome, BatchOutcome) else outcome.job.id
        self.tries[key] += 1
        await anyio.lowlevel.checkpoint()
        if self.is_away or key in self.refused:
            raise RetryLaterError("the billing system is away")
        if isinstance(outcome, BatchOutcome):
            self.ended.append(outcome)
        else:
            self.told.append(outcome)

    @property
    def jobs(self) -> list[str]:
        return [outcome.job.id for outcome in self.told]

    @property
    def ids(self) -> list[str]:
        return [outcome.id for outcome in self.told]

    @property
    def ends(self) -> list[tuple[str, int]]:
        return [(each.batch_id, each.number) for each in self.ended]


def to(store: Store, heard: Heard, *, queue: str | None = "default") -> Notifications:
    return Notifications(store, heard, queue=queue, grace=GRACE)


@asynccontextmanager
async def running(
    notifications: Notifications, clock: ManualClock, *, store: FaultyStore | None = None, step: timedelta = STEP
) -> AsyncIterator[None]:
    """The deliveries at work, from their first position on, while time passes; stopped in order with the block."""
    async with anyio.create_task_group() as group, time_passing(clock, step=step, stores=[store] if store else ()):
        group.start_soon(notifications.run)
        with anyio.fail_after(60):
            await notifications.caught_up()
        yield
        notifications.stop()


async def test_each_outcome_is_told_once_whatever_comes_how_often_and_after_a_restart(
    calls: Calls, clock: ManualClock
) -> None:
    """A summary five times, and before its POST's own answer: one outcome, one delivery."""
    heard = Heard()
    async with running(to(calls.store, heard), clock):
        early = await calls.engine.enqueue()
        await calls.engine.journal()
        for _ in range(5):
            await calls.end(early)
        others = [await calls.placed() for _ in range(5)]
        for job in [*others, *others, *others]:
            await calls.end(job)
        await until(lambda: len(heard.told) >= 6)
    others += [await calls.ended() for _ in range(3)]
    async with running(to(calls.store, heard), clock):
        await until(lambda: len(heard.told) >= 9)
    assert sorted(heard.jobs) == sorted([early.id, *(job.id for job in others)])
    assert len(set(heard.ids)) == 9


async def test_a_failing_outcome_is_delivered_again_beside_the_others(calls: Calls, clock: ManualClock) -> None:
    heard = Heard()
    notifications = to(calls.store, heard)
    async with running(notifications, clock):
        bad = await calls.placed()
        heard.refused = {bad.id}
        await calls.end(bad)
        others = [await calls.ended() for _ in range(20)]
        await until(lambda: len(heard.told) == 20 and heard.tries[bad.id] >= 3)
        assert sorted(heard.jobs) == sorted(job.id for job in others)
        heard.refused.clear()
        await until(lambda: len(heard.told) == 21)
    assert heard.jobs[-1] == bad.id
    counts = notifications.counts[HOOK]
    assert (counts.delivered, counts.waiting) == (21, 0)
    assert counts.failures == heard.tries[bad.id] - 1


@pytest.mark.parametrize("after", [timedelta(minutes=10), timedelta(days=4)])
async def test_a_receiver_may_say_when_it_wants_to_be_told_again(
    calls: Calls, clock: ManualClock, after: timedelta
) -> None:
    times: list[datetime] = []

    async def handle(_outcome: object) -> None:
        times.append(clock.now())
        if len(times) == 1:
            raise RetryLaterError("closed for lunch", after=after)

    notifications = Notifications(calls.store, handle, queue="default", grace=GRACE)
    async with running(notifications, clock):
        await calls.ended()
        await until(lambda: len(times) == 1)
        await notifications.caught_up()
        clock.advance(after - timedelta(seconds=10))
        await until(lambda: len(times) == 2)
    assert times[1] - times[0] >= after


async def test_a_receiver_that_is_gone_gets_no_more_until_the_next_start_and_loses_nothing(
    calls: Calls, clock: ManualClock
) -> None:
    async def gone(_outcome: object) -> None:
        raise HookGoneError("410 Gone")

    notifications, heard = Notifications(calls.store, gone, queue="default", grace=GRACE), Heard()
    with capture_logs() as logs:
        async with running(notifications, clock):
            jobs = [await calls.ended() for _ in range(3)]
            await until(lambda: notifications.counts[HOOK].is_stopped)
            await notifications.caught_up()
            clock.advance(LOOK_FOR_QUEUES)
            await until(lambda: bool(notifications_failing()))
    assert [line["hook"] for line in logs if line["log_level"] == "error"] == [HOOK]
    async with running(to(calls.store, heard), clock):
        await until(lambda: len(heard.told) >= 3)
    assert sorted(heard.jobs) == sorted(job.id for job in jobs)


async def test_of_two_processes_one_tells_and_the_other_follows_it_when_it_has_finished(
    calls: Calls, clock: ManualClock
) -> None:
    second, told, begun, go_on = Heard(), list[str](), anyio.Event(), anyio.Event()

    async def handle(outcome: CallOutcome | BatchOutcome) -> None:
        assert isinstance(outcome, CallOutcome)
        begun.set()
        await go_on.wait()
        told.append(outcome.job.id)

    ours, theirs = Notifications(calls.store, handle, queue="default", grace=GRACE), to(calls.store, second)
    async with running(ours, clock), anyio.create_task_group() as group:
        group.start_soon(theirs.run)
        job = await calls.ended()
        await begun.wait()
        clock.advance(2 * READER_LEASE / 3)  # it is kept while an outcome is on its way
        await until(lambda: clock.sleepers > 0)
        ours.stop()
        late = await calls.ended()
        await anyio.sleep(0.05)  # time for another delivery to begin, which must not; no event says that none did
        assert second.told == []
        go_on.set()
        await until(lambda: len(second.told) == 1)
        theirs.stop()
    assert (told, second.jobs) == ([job.id], [late.id])


async def test_a_stop_waits_for_nobody_for_ever(calls: Calls, clock: ManualClock) -> None:
    begun = anyio.Event()

    async def hang(_outcome: object) -> None:
        begun.set()
        await anyio.sleep_forever()

    notifications = Notifications(calls.store, hang, queue="default", grace=timedelta(milliseconds=50))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, time_passing(clock):
            group.start_soon(notifications.run)
            await notifications.caught_up()
            await calls.ended()
            await begun.wait()
            notifications.stop()


def acknowledges(call: StoreCall) -> bool:
    """Whether a call stores how far outcomes were delivered, or ends a lease."""
    writes = call.arguments[0].writes
    return any(write.drops or any(put.namespace == POSITIONS for put in write.puts) for write in writes)


async def test_one_whose_process_was_killed_is_followed(store: Store, clock: ManualClock) -> None:
    """Killed between the delivery and its acknowledgement: told again, under the same id."""
    watched = FaultyStore(store)
    calls, lost, heard = Calls(watched), Heard(), Heard()
    dying = FaultyStore(watched)
    killed = to(dying, lost)
    async with anyio.create_task_group() as process, time_passing(clock, stores=[watched]):
        process.start_soon(killed.run)
        await killed.caught_up()
        told_before = await calls.ended()
        await until(lambda: len(lost.told) == 1)
        await killed.caught_up()
        # From here on the store does not hear that an outcome was delivered, nor a goodbye.
        dying.lose(Loss.BEFORE, "write", times=1_000_000, when=acknowledges)
        job = await calls.ended()
        await until(lambda: len(lost.told) == 2)
        process.cancel_scope.cancel()
    began = clock.now()
    async with running(to(watched, heard), clock, store=watched):
        await until(lambda: len(heard.told) >= 1)
    assert READER_LEASE / 2 < clock.now() - began <= timedelta(seconds=10)
    assert heard.ids == lost.ids[1:]
    assert (lost.jobs, heard.jobs) == ([told_before.id, job.id], [job.id])


async def test_what_was_read_as_the_lease_was_lost_is_delivered_all_the_same(calls: Calls, clock: ManualClock) -> None:
    heard, losses = Heard(), 2

    async def lose_lease(call: StoreCall) -> None:
        nonlocal losses
        puts = [put for write in call.arguments[0].writes for put in write.puts] if call.name == "write" else []
        if losses and any(put.namespace == POSITIONS for put in puts):
            losses -= 1
            drop = Write(drops=(Drop(LEASES, f"hook/{HOOK}/default", None),))
            await calls.store.write(BulkWrite(writes=(drop,)), now=clock.now())

    async with running(to(FaultyStore(calls.store, before=lose_lease), heard), clock):
        jobs = [await calls.ended() for _ in range(3)]
        await until(lambda: len({*heard.jobs}) == 3)
    assert ({*heard.jobs}, losses) == ({job.id for job in jobs}, 0)


async def test_a_store_that_goes_away_and_comes_back_costs_no_outcome(calls: Calls, clock: ManualClock) -> None:
    away = FaultyStore(calls.store)
    heard = Heard()
    async with running(to(away, heard), clock):
        for _ in range(10):
            job = await calls.placed()
            heard.refused = {job.id} if len(heard.told) % 3 == 0 else set()
            away.lose(Loss.BEFORE, "", times=4)
            await calls.end(job)
            await until(lambda: not away.still_to_lose)
        heard.refused.clear()
        await until(lambda: len(set(heard.jobs)) == 10)
    assert len(heard.told) == 10


async def made(store: Store, calls: int, *, first: int) -> list[str]:
    """Calls that have ended; returns their ids."""
    now, ids = store.clock.now(), list[str]()
    for start in range(first, first + calls, 50):
        writes = list[Write]()
        for place in range(start, start + 50):
            job = sample_job(place, state=JobState.COMPLETED, destination=f"+65{81000000 + place}")
            event = Event(job_id=job.id, kind=EventKind.ENDED, at=now, state=job.state, revision="1", post=1)
            writes.append(replace(inserted(job), events=(event,)))
            ids.append(job.id)
        await store.write(BulkWrite(writes=tuple(writes)), now=now)
    return ids


async def test_what_is_refused_for_ever_holds_up_no_other_and_kills_lose_nothing(
    any_store: Store, clock: ManualClock
) -> None:
    """A thousand refused outcomes in front of and beside 2,000 others; two processes are killed."""
    heard, refused, others = Heard(), list[str](), list[str]()
    async with running(to(any_store, heard), clock):
        pass
    for first in (0, 1500):
        refused += await made(any_store, 500, first=first)
        others += await made(any_store, 1000, first=first + 500)
    heard.refused = set(refused)
    for so_many in (300, 1200):
        away = FaultyStore(any_store)
        killed = to(away, heard)
        async with anyio.create_task_group() as process, time_passing(clock, step=timedelta(seconds=1)):
            process.start_soon(killed.run)
            await until(lambda so_many=so_many: len(heard.told) > so_many, within=120)  # type: ignore[misc]
            away.lose(Loss.BEFORE, "write", times=1_000_000)
            process.cancel_scope.cancel()
        clock.advance(2 * READER_LEASE)
    next_one = to(any_store, heard)
    async with running(next_one, clock, step=timedelta(seconds=1)):
        await until(lambda: len(set(heard.ids)) == 2000, within=120)
        assert next_one.counts[HOOK].waiting >= 1000 - AT_ONCE
        heard.refused.clear()
        clock.advance(timedelta(minutes=20))
        await until(lambda: len(set(heard.ids)) == 3000, within=120)
    assert sorted(set(heard.jobs)) == sorted([*refused, *others])
    # On a busy machine the clock of the test outruns the reader, whose lease ends: then what is on its way comes again.
    assert len(heard.told) <= 3000 + 10 * 100, "only what was on its way is sent twice"


async def test_of_all_queues_each_is_told_from_its_first_call_on(store: Store, clock: ManualClock) -> None:
    heard = Heard()
    first, second = Calls(store), Calls(store, queue="reminders")
    names = QueueNames(store)
    await names.remember("default")
    async with running(to(store, heard, queue=None), clock):
        one = await first.ended()
        other = await second.ended()
        await until(lambda: len(heard.told) == 1)
        await names.remember("reminders")
        await until(lambda: len(heard.told) == 2)
    assert heard.jobs == [one.id, other.id]


async def test_a_call_that_was_deleted_before_anybody_heard_is_logged(calls: Calls, clock: ManualClock) -> None:
    heard = Heard()
    async with running(to(calls.store, heard), clock):
        pass
    gone = await calls.ended()
    await delete(calls.store, [await calls.queue.get(gone.id)], keep_keys_until=clock.now())
    with capture_logs() as logs:
        async with running(to(calls.store, heard), clock):
            await until(lambda: True)
    assert [line["job"] for line in logs if "was deleted" in line["event"]] == [gone.id]
    assert heard.told == []


async def ended(
    calls: Calls, count: int, *, batch: str = "march", status: SessionStatus = DONE, refused: set[str] | None = None
) -> list[str]:
    """Calls of a batch are placed, and then end one after the other; their ids, which are `refused` from then on."""
    engine, first = calls.engine, len(await calls.queue.find(limit=None))
    jobs = [await engine.enqueue(f"+65{81000000 + first + place}", batch=batch) for place in range(count)]
    if refused is not None:
        refused |= {job.id for job in jobs}
    await engine.send(limit=count)
    for job in jobs:
        await calls.end(await calls.queue.get(job.id), status)
    return [job.id for job in jobs]


async def test_the_end_is_told_once_with_its_totals_and_again_after_a_reopening(
    any_store: Store, clock: ManualClock
) -> None:
    calls, heard = Calls(any_store), Heard("march")
    async with running(to(any_store, heard), clock):
        await ended(calls, 3)
        await until(lambda: heard.tries["march"] > 1)
        heard.refused.clear()
        await until(lambda: heard.ends == [("march", 1)])
        (told,) = heard.ended
        assert (told.type, told.batch_id, told.totals.answered) == ("batch.ended", "march", 3)
        assert told.as_json()["data"]["total"] == 3  # type: ignore[index]
        await calls.engine.enqueue("+6587654321", batch="march")
        await calls.engine.enqueue("+6587654322", batch="april")
        for job in await calls.engine.send():
            await calls.end(job, BUSY)
        await until(lambda: len(heard.ended) == 3)
    assert sorted(heard.ends) == [("april", 1), ("march", 1), ("march", 2)]
    assert len({each.id for each in heard.ended}) == 3
    async with running(to(any_store, heard), clock):
        await ended(calls, 1, batch="may")
        await until(lambda: len(heard.ended) == 4)
    assert heard.ends[-1] == ("may", 1), "what was told before is not told again"


async def test_a_batch_in_doubt_has_not_ended(calls: Calls, clock: ManualClock) -> None:
    heard = Heard()
    async with running(to(calls.store, heard), clock):
        open_call = await calls.engine.enqueue("+6587654321", batch="march")
        (sent,) = await calls.engine.send()
        await ended(calls, 2)
        assert sent.id == open_call.id
        with pytest.raises(BatchTimeoutError, match="march has not ended after 60 s"):
            await calls.queue.wait_for_batch("march", timeout=MINUTE)
        assert heard.ended == []
        async with anyio.create_task_group() as group:
            group.start_soon(calls.end, sent)
            await calls.queue.wait_for_batch("march")
        report = await calls.queue.wait_for_batch("march")
        assert (report.total, report.answered) == (3, 3)
        await until(lambda: heard.ends == [("march", 1)])


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
    calls: Calls, clock: ManualClock, end: Callable[[Calls, Job, ManualClock], Awaitable[None]]
) -> None:
    heard = Heard()
    async with running(to(calls.store, heard), clock):
        expires = {"valid_until": clock.now() + MINUTE} if end is by_expiry else {}
        await end(calls, await calls.engine.enqueue("+6587654321", batch="march", **expires), clock)
        await until(lambda: heard.ends == [("march", 1)])


async def ends_in(store: Store, queue: str) -> list[tuple[str, int]]:
    """The ends of batches in an outbox."""
    events = await store.events(queue)
    return [(each.job_id, each.post) for each in events if each.kind is EventKind.BATCH_ENDED]


async def killed_before(n: int, store: Store, clock: ManualClock) -> bool:
    """A process is killed before its n-th act after the last call has ended, while it settles another batch.

    Returns whether it was told of the end, and had done with it.
    """
    queue, board, again, left, last = f"q{n}", Heard(), Heard(), -1, list[Job]()
    calls = Calls(store, queue=queue)

    async def act(call: StoreCall) -> None:
        nonlocal left
        if last and call.name == "records" and BATCH_ENDS in call.arguments[0]:
            await calls.end(last.pop())
            left = n + 2  # this one, and the page after it
        left -= left > 0
        if left == 0:
            raise StoreUnavailableError("killed")

    killed, process = to(FaultyStore(store, before=act), board, queue=queue), anyio.CancelScope()

    async def run() -> None:
        with process:
            await killed.run()

    async with anyio.create_task_group() as group, time_passing(clock):
        group.start_soon(run)
        await killed.caught_up()
        other = await calls.engine.enqueue("+6587654321", batch="april")
        march = await calls.engine.enqueue("+6587654322", batch="march")
        await calls.engine.send()
        last.append(march)
        await calls.end(other)
        await until(lambda: left == 0)
        process.cancel()
        clock.advance(2 * READER_LEASE)
        async with running(to(store, again, queue=queue), clock):
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
                    waiting.append(await calls.engine.enqueue(f"+65{81000000 + place}", batch="march"))
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
