"""Hooks: at least once, in order per call, tried again beside the others, parked in the open; on every backend."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock, delete
from tests.support.calls import Calls
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import time_passing
from tests.support.waiting import until
from voiceflow_worker import JobState, RedialPolicy, SessionStatus
from voiceflow_worker.core.base.background import LEASE_LENGTH, LEASES
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.outcomes.hooks import WAITING, HookOptions, OutcomeHooks
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Write
from voiceflow_worker.errors import HookGoneError, InvalidInputError, RetryLaterError
from voiceflow_worker.model.jobs.call_json import CallOutcome

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
GRACE = timedelta(seconds=20)
"""Real seconds that a test which stops hooks may take."""


class Heard:
    """A handler that keeps what it is told, and fails for the calls it is told to fail for."""

    def __init__(self, fails: Iterable[str] = ()) -> None:
        self.told: list[CallOutcome] = []
        self.tries: Counter[str] = Counter()
        self.fails = set(fails)

    async def __call__(self, outcome: CallOutcome) -> None:
        self.tries[outcome.job.id] += 1
        await anyio.lowlevel.checkpoint()
        if outcome.job.id in self.fails:
            raise RuntimeError("the billing system is away")
        self.told.append(outcome)

    @property
    def jobs(self) -> list[str]:
        return [outcome.job.id for outcome in self.told]

    @property
    def ids(self) -> list[str]:
        return [outcome.id for outcome in self.told]


def hooks_for(
    store: Store, heard: Heard, *, options: HookOptions | None = None, queue: str | None = "default"
) -> OutcomeHooks:
    hooks = OutcomeHooks(store, queue=queue, grace=GRACE)
    hooks.on_outcome(name="billing", options=options)(heard)
    return hooks


@asynccontextmanager
async def running(hooks: OutcomeHooks, clock: ManualClock, *, store: FaultyStore | None = None) -> AsyncIterator[None]:
    """The hooks at work, from their first cursor on, while time passes; stopped in order with the block."""
    async with anyio.create_task_group() as group, time_passing(clock, stores=[store] if store else ()):
        group.start_soon(hooks.run)
        with anyio.fail_after(60):
            await hooks.caught_up()
        yield
        hooks.stop()


async def test_a_hook_is_told_each_outcome_once_whatever_comes_how_often_and_after_a_restart(
    store: Store, clock: ManualClock
) -> None:
    """A summary five times, and before its POST's own answer: one outcome, one call of the hook."""
    calls, heard = Calls(store), Heard()
    async with running(hooks_for(store, heard), clock):
        early = await calls.engine.enqueue()
        await calls.engine.journal()
        for _ in range(5):
            await calls.end(early)
        others = [await calls.placed() for _ in range(5)]
        for job in [*others, *others, *others]:
            await calls.end(job)
        await until(lambda: len(heard.told) >= 6)
    others += [await calls.ended() for _ in range(3)]
    async with running(hooks_for(store, heard), clock):
        await until(lambda: len(heard.told) >= 9)
    assert sorted(heard.jobs) == sorted([early.id, *(job.id for job in others)])
    assert len(set(heard.ids)) == 9


async def test_a_hook_is_told_only_what_it_wants(store: Store, clock: ManualClock) -> None:
    calls, completed, final = Calls(store), Heard(), Heard()
    hooks = OutcomeHooks(store, grace=GRACE)
    hooks.on_outcome(name="completed", only=[JobState.COMPLETED])(completed)
    hooks.on_outcome(name="final", attempts=False)(final)
    policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=MINUTE)
    async with running(hooks, clock):
        busy = await calls.placed(redial=policy)
        await calls.end(busy, SessionStatus.BUSY)
        reached = await calls.ended()
        missed = await calls.ended(SessionStatus.NO_ANSWER)
        await until(lambda: len(final.told) == 2 and len(completed.told) == 1)
        await hooks.caught_up()
    assert completed.jobs == [reached.id]
    assert sorted(final.jobs) == sorted([reached.id, missed.id])


async def test_a_failing_outcome_is_delivered_again_beside_the_others(store: Store, clock: ManualClock) -> None:
    calls, heard = Calls(store), Heard()
    hooks = hooks_for(store, heard)
    async with running(hooks, clock):
        bad = await calls.placed()
        heard.fails = {bad.id}
        await calls.end(bad)
        others = [await calls.ended() for _ in range(20)]
        await until(lambda: len(heard.told) == 20 and heard.tries[bad.id] >= 3)
        assert sorted(heard.jobs) == sorted(job.id for job in others)
        heard.fails.clear()
        await until(lambda: len(heard.told) == 21)
    assert heard.jobs[-1] == bad.id
    counts = hooks.counts["billing"]
    assert (counts.delivered, counts.parked, counts.waiting) == (21, 0, 0)
    assert counts.failures == heard.tries[bad.id] - 1


async def test_later_outcomes_of_a_call_wait_behind_one_that_fails(store: Store, clock: ManualClock) -> None:
    calls, heard = Calls(store), Heard()
    policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=MINUTE)
    hooks = hooks_for(store, heard)
    async with running(hooks, clock):
        job = await calls.placed(redial=policy)
        heard.fails = {job.id}
        await calls.end(job, SessionStatus.BUSY)
        await until(lambda: heard.tries[job.id] >= 1)
        clock.advance(2 * MINUTE)
        await calls.engine.send()
        await calls.end(job)
        other = await calls.ended()
        await until(lambda: other.id in heard.jobs)
        await hooks.caught_up()
    # What waits is in the store: another process, or this one started anew, goes on with it, in order.
    heard.fails.clear()
    async with running(hooks_for(store, heard), clock):
        await until(lambda: len(heard.told) >= 3)
    assert [told.post for told in heard.told if told.job.id == job.id] == [1, 2]
    assert len(heard.told) == 3


async def test_an_outcome_that_fails_for_days_is_early_and_can_be_told_again(store: Store, clock: ManualClock) -> None:
    calls, heard = Calls(store), Heard()
    hooks = hooks_for(store, heard, options=HookOptions(give_up_after=MINUTE))
    with capture_logs() as logs:
        async with running(hooks, clock):
            bad = await calls.placed()
            heard.fails = {bad.id}
            await calls.end(bad)
            await until(lambda: hooks.counts["billing"].parked == 1)
            [parked] = await hooks.parked("billing")
            assert (parked.job_id, parked.state, parked.post) == (bad.id, JobState.COMPLETED, 1)
            assert parked.failures == heard.tries[bad.id] > 3
            assert parked.error == "RuntimeError: the billing system is away"
            heard.fails.clear()
            assert await hooks.retry_parked("billing") == 1
            await until(lambda: heard.jobs == [bad.id])
            await until(lambda: hooks.counts["billing"].waiting == 0)
        assert await hooks.parked("billing") == []
    assert [line["job"] for line in logs if "parked" in line["event"]] == [bad.id]
    async with running(hooks_for(store, heard), clock):
        clock.advance(2 * MINUTE)
        later = await calls.ended()
        await until(lambda: later.id in heard.jobs)
    assert heard.jobs == [bad.id, later.id], "what was parked and then delivered is over"


async def test_a_handler_that_hangs_is_timed_out_and_told_again(store: Store, clock: ManualClock) -> None:
    calls = Calls(store)
    tries: Counter[str] = Counter()
    hooks = OutcomeHooks(store, grace=GRACE)

    @hooks.on_outcome(name="slow", options=HookOptions(limit=timedelta(milliseconds=50), concurrency=2))
    async def hang(outcome: CallOutcome) -> None:
        tries[outcome.job.id] += 1
        if tries[outcome.job.id] == 1:
            await anyio.sleep_forever()

    async with running(hooks, clock):
        jobs = [await calls.ended() for _ in range(4)]
        await until(lambda: hooks.counts["slow"].delivered == 4)
    assert tries == {job.id: 2 for job in jobs}


async def test_a_handler_that_hangs_in_its_thread_leaves_a_few_threads_behind_and_holds_nobody_up(
    store: Store, clock: ManualClock
) -> None:
    calls = Calls(store)
    hooks = OutcomeHooks(store, grace=GRACE)
    let = threading.Event()
    entered: list[str] = []
    others: list[str] = []

    @hooks.on_outcome(name="hangs", options=HookOptions(limit=timedelta(milliseconds=200), concurrency=2))
    def hang(outcome: CallOutcome) -> None:
        entered.append(outcome.job.id)
        let.wait(60)

    @hooks.on_outcome(name="others")
    def handle(outcome: CallOutcome) -> None:
        others.append(outcome.job.id)

    try:
        async with running(hooks, clock):
            jobs = [await calls.ended() for _ in range(10)]
            await until(lambda: sorted(others) == sorted(job.id for job in jobs))
            await until(lambda: hooks.counts["hangs"].failures >= 20)
            assert len(entered) <= 4, "each try left a thread behind"
            let.set()
            await until(lambda: hooks.counts["hangs"].delivered == 10)
    finally:
        let.set()


@pytest.mark.parametrize("after", [timedelta(minutes=10), timedelta(days=4)])
async def test_a_handler_may_say_when_it_wants_to_be_told_again(
    store: Store, clock: ManualClock, after: timedelta
) -> None:
    """Also if it asks for more time than a failure may last."""
    calls = Calls(store)
    times: list[datetime] = []
    hooks = OutcomeHooks(store, grace=GRACE)

    @hooks.on_outcome(name="busy")
    async def handle(_outcome: CallOutcome) -> None:
        times.append(clock.now())
        if len(times) == 1:
            raise RetryLaterError("closed for lunch", after=after)

    async with running(hooks, clock):
        await calls.ended()
        await until(lambda: len(times) == 1)
        await hooks.caught_up()
        assert await hooks.parked("busy") == []
        clock.advance(after - timedelta(seconds=10))
        await until(lambda: len(times) == 2)
    assert times[1] - times[0] >= after


async def test_a_handler_that_is_gone_ends_its_hook_and_loses_nothing(store: Store, clock: ManualClock) -> None:
    calls, heard, other = Calls(store), Heard(), Heard()
    hooks = OutcomeHooks(store, grace=GRACE)
    hooks.on_outcome(name="other")(other)

    @hooks.on_outcome(name="billing")
    async def gone(_outcome: CallOutcome) -> None:
        raise HookGoneError("410 Gone")

    with capture_logs() as logs:
        async with running(hooks, clock):
            jobs = [await calls.ended() for _ in range(3)]
            await until(lambda: hooks.counts["billing"].is_stopped)
            await until(lambda: len(other.told) == 3)
            await hooks.caught_up()
    assert [line["hook"] for line in logs if line["log_level"] == "error"] == ["billing"]
    async with running(hooks_for(store, heard), clock):
        await until(lambda: len(heard.told) >= 3)
    assert sorted(heard.jobs) == sorted(job.id for job in jobs)


async def test_of_two_processes_one_tells_and_the_other_follows_it_when_its_handlers_have_finished(
    store: Store, clock: ManualClock
) -> None:
    calls, second = Calls(store), Heard()
    begun, go_on = anyio.Event(), anyio.Event()
    told: list[str] = []
    ours, theirs = OutcomeHooks(store, grace=GRACE), hooks_for(store, second)

    @ours.on_outcome(name="billing")
    async def handle(outcome: CallOutcome) -> None:
        begun.set()
        await go_on.wait()
        told.append(outcome.job.id)

    async with running(ours, clock), anyio.create_task_group() as group:
        group.start_soon(theirs.run)
        job = await calls.ended()
        await begun.wait()
        ours.stop()
        late = await calls.ended()
        await anyio.sleep(0.05)  # time for another handler to begin, which must not; no event says that none did
        assert second.told == []
        go_on.set()
        await until(lambda: len(second.told) == 1)
        theirs.stop()
    assert (told, second.jobs) == ([job.id], [late.id])


async def test_a_stop_waits_for_nobody_for_ever(store: Store, clock: ManualClock) -> None:
    calls = Calls(store)
    begun = anyio.Event()
    hooks = OutcomeHooks(store, grace=timedelta(milliseconds=50))

    @hooks.on_outcome(name="hung")
    async def handle(_outcome: CallOutcome) -> None:
        begun.set()
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, time_passing(clock):
            group.start_soon(hooks.run)
            await hooks.caught_up()
            await calls.ended()
            await begun.wait()
            hooks.stop()


def drops(call: StoreCall) -> bool:
    """Whether a call deletes records."""
    return any(write.drops for write in call.arguments[0].writes)


async def test_one_whose_process_was_killed_is_followed(store: Store, clock: ManualClock) -> None:
    """Killed between the handler's call and its acknowledgement: told again, under the same id."""
    watched = FaultyStore(store)
    calls, lost, heard = Calls(watched), Heard(), Heard()
    dying = FaultyStore(watched)
    killed = hooks_for(dying, lost)
    async with anyio.create_task_group() as process, time_passing(clock, stores=[watched]):
        process.start_soon(killed.run)
        await killed.caught_up()
        told_before = await calls.ended()
        await until(lambda: len(lost.told) == 1)
        await killed.caught_up()
        # From here on the store does not hear that an outcome was delivered, nor a goodbye.
        dying.lose(Loss.BEFORE, "write", times=1_000_000, when=drops)
        job = await calls.ended()
        await until(lambda: len(lost.told) == 2)
        process.cancel_scope.cancel()
    began = clock.now()
    async with running(hooks_for(watched, heard), clock, store=watched):
        await until(lambda: len(heard.told) >= 1)
    assert LEASE_LENGTH - timedelta(seconds=11) < clock.now() - began < 2 * LEASE_LENGTH
    assert heard.ids == lost.ids[1:]
    assert (lost.jobs, heard.jobs) == ([told_before.id, job.id], [job.id])


async def test_what_was_read_as_the_lease_was_lost_is_delivered_all_the_same(store: Store, clock: ManualClock) -> None:
    calls, heard, losses = Calls(store), Heard(), 2

    async def lose_lease(call: StoreCall) -> None:
        nonlocal losses
        puts = [put for write in call.arguments[0].writes for put in write.puts] if call.name == "write" else []
        if losses and any(put.namespace == WAITING for put in puts):
            losses -= 1
            drop = Write(drops=(Drop(LEASES, "hook/billing/default", None),))
            await store.write(BulkWrite(writes=(drop,)), now=clock.now())

    async with running(hooks_for(FaultyStore(store, before=lose_lease), heard), clock):
        jobs = [await calls.ended() for _ in range(3)]
        await until(lambda: len(heard.told) >= 3)
    assert (heard.jobs, losses) == ([job.id for job in jobs], 0)


async def test_a_store_that_goes_away_and_comes_back_costs_no_outcome(store: Store, clock: ManualClock) -> None:
    away = FaultyStore(store)
    calls, heard = Calls(store), Heard()
    async with running(hooks_for(away, heard), clock):
        for _ in range(10):
            job = await calls.placed()
            heard.fails = {job.id} if len(heard.told) % 3 == 0 else set()
            away.lose(Loss.BEFORE, "", times=4)
            await calls.end(job)
            await until(lambda: not away.still_to_lose)
        heard.fails.clear()
        await until(lambda: len(set(heard.jobs)) == 10)
    assert len(heard.told) == 10


async def test_too_many_that_wait_hold_up_what_is_new_and_lose_nothing(store: Store, clock: ManualClock) -> None:
    calls, heard = Calls(store), Heard()
    hooks = hooks_for(store, heard, options=HookOptions(most_waiting=5))
    async with running(hooks, clock):
        jobs = [await calls.placed() for _ in range(20)]
        heard.fails = {job.id for job in jobs}
        for job in jobs:
            await calls.end(job)
        await until(lambda: hooks.counts["billing"].failures >= 20)
        heard.fails.clear()
        await until(lambda: len(heard.told) >= 20)
    assert sorted(heard.jobs) == sorted(job.id for job in jobs)


async def test_hooks_of_all_queues_are_told_of_a_queue_from_its_first_call_on(store: Store, clock: ManualClock) -> None:
    heard = Heard()
    first, second = Calls(store), Calls(store, queue="reminders")
    names = QueueNames(store)
    await names.remember("default")
    async with running(hooks_for(store, heard, queue=None), clock):
        one = await first.ended()
        other = await second.ended()
        await until(lambda: len(heard.told) == 1)
        await names.remember("reminders")
        await until(lambda: len(heard.told) == 2)
    assert heard.jobs == [one.id, other.id]


async def test_a_call_that_was_deleted_before_its_hook_heard_is_early(store: Store, clock: ManualClock) -> None:
    calls, heard = Calls(store), Heard()
    hooks = hooks_for(store, heard)
    async with running(hooks, clock):
        pass
    gone = await calls.ended()
    await delete(store, [await calls.queue.get(gone.id)], keep_keys_until=clock.now())
    async with running(hooks_for(store, heard), clock):
        await until(lambda: True)
    assert [parked.job_id for parked in await hooks.parked("billing")] == [gone.id]
    assert heard.told == []


async def test_names_are_checked(store: Store) -> None:
    hooks = hooks_for(store, Heard())
    with pytest.raises(InvalidInputError, match="there is a hook billing already"):
        hooks.on_outcome(name="billing")(Heard())
    with pytest.raises(InvalidInputError, match="not a valid name of a consumer or hook"):
        hooks.on_outcome(name="a/b")(Heard())
    with pytest.raises(InvalidInputError):
        HookOptions(concurrency=0)
