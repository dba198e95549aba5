"""The stream of outcomes: what a program is told, in which order and how often; and waiting for one call."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock, delete
from tests.support.calls import Calls
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import time_passing
from tests.support.voices import ScriptedVoice, created, not_sent
from tests.support.waiting import until
from voiceflow_worker import CallQueue, CallRequest, Job, JobState, RedialPolicy, SessionStatus
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.outcomes.outbox import READER_LEASE, OutcomeStream
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import ById, OfNumber
from voiceflow_worker.errors import (
    InvalidInputError,
    JobNotFoundError,
    OutcomeTimeoutError,
    StoreCorruptError,
    VoiceflowError,
)
from voiceflow_worker.model.jobs.call_json import CallOutcome, OutcomeKind

pytestmark = pytest.mark.anyio

ON_BUSY = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=5))
SECOND = timedelta(seconds=1)


async def taken(stream: OutcomeStream, count: int) -> list[CallOutcome]:
    """The next outcomes."""
    with anyio.fail_after(60):
        return [await anext(stream) for _ in range(count)]


async def is_silent(stream: OutcomeStream, clock: ManualClock) -> bool:
    """Whether nothing more comes in a while."""
    found: list[CallOutcome] = []

    async def listen() -> None:
        found.append(await anext(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        for _ in range(20):
            await anyio.sleep(0.002)  # whom the clock has woken acts before the next step
            await until(lambda: bool(clock.sleepers or found))
            clock.advance(timedelta(milliseconds=200))
        group.cancel_scope.cancel()
    return not found


async def test_an_outcome_is_delivered_with_its_call(calls: Calls) -> None:
    job = await calls.placed()
    stream = calls.queue.outcomes()
    await calls.end(job)
    [told] = await taken(stream, 1)
    assert (told.id, told.type) == (f"{job.id.replace('.', '_')}_1_completed", "call.ended")
    assert (told.kind, told.state, told.post) == (OutcomeKind.ENDED, JobState.COMPLETED, 1)
    assert told.job == await calls.queue.get(job.id)
    assert told.outcome is not None
    assert told.outcome.status is SessionStatus.COMPLETED
    assert "." not in told.id


async def test_each_attempt_of_a_redialled_call_is_delivered_once(calls: Calls, clock: ManualClock) -> None:
    stream = calls.queue.outcomes()
    job = await calls.placed(redial=ON_BUSY)
    for _ in range(3):
        await calls.end(job, SessionStatus.BUSY)
    clock.advance(timedelta(minutes=6))
    await calls.engine.send()
    await calls.end(job, SessionStatus.NO_ANSWER)
    first, second = await taken(stream, 2)
    assert (first.kind, first.state, first.post) == (OutcomeKind.ATTEMPTED, JobState.QUEUED, 1)
    assert (second.kind, second.state, second.post) == (OutcomeKind.ENDED, JobState.UNREACHED, 2)
    told = [outcome.outcome.status for outcome in (first, second) if outcome.outcome is not None]
    assert told == [SessionStatus.BUSY, SessionStatus.NO_ANSWER]
    assert first.id != second.id
    assert await is_silent(stream, clock)


async def test_a_late_summary_of_an_accepted_call_is_a_second_outcome_of_another_name(
    calls: Calls, clock: ManualClock
) -> None:
    stream = calls.queue.outcomes()
    job = await calls.placed()
    clock.advance(timedelta(hours=3))
    await calls.engine.sweeper.sweep()
    await calls.end(job)
    accepted, completed = await taken(stream, 2)
    assert (accepted.state, completed.state) == (JobState.ACCEPTED, JobState.COMPLETED)
    assert accepted.id != completed.id
    assert accepted.job.state is JobState.COMPLETED, "the call is shown as it is now"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED),
        (SessionStatus.NO_ANSWER, SessionStatus.UNSUBSCRIBED_CONTACT),
    ],
)
async def test_an_opt_out_in_a_further_summary_is_a_second_outcome_of_another_name(
    calls: Calls, clock: ManualClock, first: SessionStatus, second: SessionStatus
) -> None:
    stream = calls.queue.outcomes()
    job = await calls.placed()
    await calls.end(job, first)
    (ended,) = await taken(stream, 1)
    for _ in range(2):
        await calls.end(job, second)
    (opted_out,) = await taken(stream, 1)
    assert opted_out.state is ended.state
    assert opted_out.outcome is not None
    assert opted_out.outcome.status is second
    assert opted_out.id != ended.id
    assert await is_silent(stream, clock)


async def test_an_answered_call_in_a_further_summary_is_the_outcome_of_its_own_post(
    store: Store, clock: ManualClock
) -> None:
    engine = Engine(store, ScriptedVoice(answers=[created(), not_sent()]))
    stream = engine.queue.outcomes()
    job = await engine.enqueue(redial=ON_BUSY)
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    clock.advance(timedelta(minutes=6))
    await engine.send()
    await engine.summarise(job, SessionStatus.COMPLETED, number=1)
    _, ended = await taken(stream, 2)
    assert (ended.kind, ended.state, ended.post) == (OutcomeKind.ENDED, JobState.COMPLETED, 1)
    assert ended.outcome is not None


async def test_a_doubt_is_not_an_outcome(calls: Calls, clock: ManualClock) -> None:
    stream = calls.queue.outcomes()
    job = await calls.engine.enqueue()
    await calls.engine.journal()
    clock.advance(timedelta(minutes=2))
    await calls.engine.sweeper.sweep()
    assert await calls.engine.state(job) == "in_doubt"
    assert await is_silent(stream, clock)


async def test_a_call_that_was_cancelled_ends_without_an_attempt(calls: Calls) -> None:
    stream = calls.queue.outcomes()
    job = await calls.engine.enqueue()
    await calls.queue.cancel(job.id)
    [told] = await taken(stream, 1)
    assert (told.state, told.post, told.outcome) == (JobState.CANCELLED, 0, None)


async def test_a_stream_begins_when_it_is_asked_for_or_at_a_time(calls: Calls, clock: ManualClock) -> None:
    jobs, times = [], []
    for _ in range(30):
        times.append(clock.now())
        jobs.append((await calls.ended()).id)
        clock.advance(SECOND)
    now = calls.queue.outcomes()
    jobs.append((await calls.ended()).id)
    assert [told.job.id for told in await taken(now, 1)] == jobs[-1:]
    for place in (0, 23):
        then = calls.queue.outcomes(since=times[place])
        assert [told.job.id for told in await taken(then, len(jobs) - place)] == jobs[place:]


async def test_a_consumer_goes_on_behind_what_it_has_done(calls: Calls, clock: ManualClock) -> None:
    async with calls.queue.outcomes(consumer="billing") as first:
        jobs = [await calls.ended() for _ in range(3)]
        assert [told.job.id for told in await taken(first, 2)] == [job.id for job in jobs[:2]]
    # The second was given, and the third never asked for: it may not have been done.
    async with calls.queue.outcomes(consumer="billing") as second:
        assert [told.job.id for told in await taken(second, 2)] == [job.id for job in jobs[1:]]
        assert await is_silent(second, clock)  # which asks for the next, and so ends the third
    async with CallQueue(calls.store).outcomes(consumer="billing") as third:
        assert await is_silent(third, clock)
    async with calls.queue.outcomes(consumer="crm", since=clock.now() - timedelta(days=1)) as other:
        assert len(await taken(other, 3)) == 3


async def test_a_consumer_that_was_killed_is_followed_once_its_turn_is_over(calls: Calls, clock: ManualClock) -> None:
    killed = calls.queue.outcomes(consumer="billing")
    job = await calls.ended()
    [given] = await taken(killed, 1)
    begun = clock.now()
    with capture_logs() as logs:
        async with time_passing(clock):
            [again] = await taken(calls.queue.outcomes(consumer="billing"), 1)
    assert (again.id, again.job.id) == (given.id, job.id)
    assert READER_LEASE <= clock.now() - begun <= timedelta(seconds=10)
    waits = [each for each in logs if "another process reads" in each["event"]]
    assert [each["reader"] for each in waits] == ["stream/billing/default"], "once"


async def test_of_two_who_take_long_over_each_outcome_one_is_served_in_the_end(
    calls: Calls, clock: ManualClock
) -> None:
    told = [list[str](), list[str]()]

    async def listen(stream: OutcomeStream, mine: list[str]) -> None:
        async for outcome in stream:
            mine.append(outcome.job.id)
            await clock.sleep(20)

    jobs = [await calls.ended() for _ in range(6)]
    async with anyio.create_task_group() as group:
        for mine in told:
            since = clock.now() - timedelta(days=1)
            group.start_soon(listen, calls.queue.outcomes(consumer="billing", since=since), mine)
        async with time_passing(clock):
            await until(lambda: {*told[0], *told[1]} == {job.id for job in jobs})
        group.cancel_scope.cancel()
    assert len(told[0]) + len(told[1]) <= len(jobs) + 3


async def test_of_two_consumers_of_one_name_one_is_served(calls: Calls, clock: ManualClock) -> None:
    told: list[str] = []

    async def listen(stream: OutcomeStream) -> None:
        async for outcome in stream:
            told.append(outcome.job.id)  # noqa: PERF401 - a stream never ends

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(listen, calls.queue.outcomes(consumer="billing"))
        async with time_passing(clock):
            jobs = [await calls.ended() for _ in range(10)]
            await until(lambda: len(told) >= 10)
            later = clock.now() + timedelta(seconds=5)  # in which the other looks, and would be served too
            await until(lambda: clock.now() >= later)
        group.cancel_scope.cancel()
    assert told == [job.id for job in jobs]


async def test_one_who_takes_long_over_an_outcome_is_not_given_it_again(calls: Calls, clock: ManualClock) -> None:
    stream = calls.queue.outcomes(consumer="billing")
    jobs = [await calls.ended() for _ in range(2)]
    told = await taken(stream, 1)
    clock.advance(2 * READER_LEASE)
    told += await taken(stream, 1)
    assert [outcome.job.id for outcome in told] == [job.id for job in jobs]


async def test_a_store_that_is_away_is_waited_for(calls: Calls, clock: ManualClock) -> None:
    away_store = FaultyStore(calls.store)
    stream = CallQueue(away_store).outcomes(consumer="billing")
    job = await calls.ended()
    away_store.lose(Loss.BEFORE, "", times=7)
    async with time_passing(clock):
        [told] = await taken(stream, 1)
    assert told.job.id == job.id
    assert away_store.still_to_lose == 0


async def test_the_outcome_of_a_deleted_call_is_left_out_and_told_in_the_log(calls: Calls) -> None:
    stream = calls.queue.outcomes()
    gone, stays = await calls.ended(), await calls.ended()
    [found] = await find_jobs(calls.store, OfNumber(queue="default", number=gone.destination))
    await delete(calls.store, [found], keep_keys_until=found.due_at)
    with capture_logs() as logs:
        [told] = await taken(stream, 1)
    assert told.job.id == stays.id
    assert [line["job"] for line in logs] == [gone.id]


async def test_a_bad_name_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInputError, match="not a valid name of a consumer"):
        CallQueue(store).outcomes(consumer="a/b")


async def test_a_consumer_finds_its_new_place_also_when_the_store_fails_as_it_comes_back(
    calls: Calls, clock: ManualClock
) -> None:
    away = FaultyStore(calls.store)
    jobs = [await calls.ended() for _ in range(3)]
    since = clock.now() - timedelta(days=1)
    stream = CallQueue(away).outcomes(consumer="billing", since=since)
    assert [outcome.job.id for outcome in await taken(stream, 1)] == [jobs[0].id]
    clock.advance(2 * READER_LEASE)
    async with calls.queue.outcomes(consumer="billing") as other:
        assert [outcome.job.id for outcome in await taken(other, 3)] == [job.id for job in jobs]
        assert await is_silent(other, clock)
    last = await calls.ended()
    away.lose(Loss.BEFORE, "records", times=1)
    async with time_passing(clock):
        assert [outcome.job.id for outcome in await taken(stream, 1)] == [last.id]
    assert away.still_to_lose == 0


async def test_it_returns_when_the_call_ends(calls: Calls, clock: ManualClock) -> None:
    job = await calls.placed()
    async with time_passing(clock), anyio.create_task_group() as group:

        async def end() -> None:
            await until(lambda: clock.monotonic() > 2)
            await calls.end(job, SessionStatus.NO_ANSWER)

        group.start_soon(end)
        ended = await calls.queue.wait_for_outcome(job.id, timeout=timedelta(hours=1))
    assert ended.state is JobState.UNREACHED


async def test_a_time_out_says_where_the_call_is(calls: Calls, clock: ManualClock) -> None:
    job = await calls.placed()
    async with time_passing(clock):
        with pytest.raises(
            OutcomeTimeoutError, match=f"call {job.id} has no outcome after 3 s: it is submitted"
        ) as caught:
            await calls.queue.wait_for_outcome(job.id, timeout=3 * SECOND)
    assert (caught.value.job_id, caught.value.state) == (job.id, "submitted")
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, VoiceflowError)


async def test_a_doubt_is_waited_through_and_named(calls: Calls, clock: ManualClock) -> None:
    job = await calls.engine.enqueue()
    await calls.engine.journal()
    clock.advance(timedelta(minutes=2))
    await calls.engine.sweeper.sweep()
    async with time_passing(clock):
        with pytest.raises(OutcomeTimeoutError, match="it is in_doubt and waits for evidence, or a person"):
            await calls.queue.wait_for_outcome(job.id, timeout=3 * SECOND)
    await calls.end(job)
    assert (await calls.queue.wait_for_outcome(job.id)).state is JobState.COMPLETED


async def test_an_unknown_call_is_an_error(store: Store) -> None:
    with pytest.raises(JobNotFoundError):
        await CallQueue(store).wait_for_outcome("default.01ARZ3NDEKTSV4RRFFQ69G5FAV", timeout=SECOND)


async def test_who_waits_for_a_call_waits_for_a_store_that_is_away(store: Store, clock: ManualClock) -> None:
    away = FaultyStore(store)
    job = await Calls(store).ended()
    away.lose(Loss.BEFORE, "", times=5)
    async with time_passing(clock):
        assert (await CallQueue(away).wait_for_outcome(job.id)).state is JobState.COMPLETED
    assert away.still_to_lose == 0


async def test_a_store_that_stays_away_times_out(store: Store, clock: ManualClock) -> None:
    away = FaultyStore(store)
    away.lose(Loss.BEFORE, "", times=1000)
    async with time_passing(clock):
        with pytest.raises(OutcomeTimeoutError, match="the store could not be reached") as caught:
            await CallQueue(away).wait_for_outcome("default.1", timeout=3 * SECOND)
    assert caught.value.state is None


async def test_many_waiters_share_each_look(store: Store, clock: ManualClock) -> None:
    looks: list[int] = []

    async def count(call: StoreCall) -> None:
        if call.name == "jobs" and isinstance(read := call.arguments[0], ById):
            looks.append(len(read.ids))

    queue, calls = CallQueue(FaultyStore(store, before=count)), Calls(store)
    await queue.enqueue_many(CallRequest(flow=flow(number(5000 + place))) for place in range(60))
    jobs = await queue.find(limit=None)
    ended: Counter[str] = Counter()

    async def wait(job: Job) -> None:
        ended[(await queue.wait_for_outcome(job.id)).state] += 1

    async with anyio.create_task_group() as group:
        for job in jobs:
            group.start_soon(wait, job)
        await until(lambda: clock.sleepers == 60)
        clock.advance(timedelta(seconds=1))
        await until(lambda: sum(looks) == 120 and clock.sleepers == 60)
        assert looks == [60] * 2
        for job in jobs:
            await calls.queue.cancel(job.id)
        clock.advance(timedelta(seconds=1))
    assert ended == {"cancelled": 60}
    assert looks == [60] * 3


async def test_who_leaves_does_not_leave_the_others_waiting(calls: Calls, clock: ManualClock) -> None:
    """The one who looks for all is cancelled, or times out: the next one looks."""
    jobs = [await calls.placed() for _ in range(4)]
    told: list[str] = []

    async def wait(job: Job, scope: anyio.CancelScope) -> None:
        with scope:
            told.append((await calls.queue.wait_for_outcome(job.id)).id)

    async def wait_in_vain(job: Job) -> None:
        with pytest.raises(OutcomeTimeoutError):
            await calls.queue.wait_for_outcome(job.id, timeout=2 * SECOND)

    scopes = [anyio.CancelScope() for _ in jobs]
    async with time_passing(clock), anyio.create_task_group() as group:
        group.start_soon(wait, jobs[0], scopes[0])
        await until(lambda: clock.sleepers > 0)
        group.start_soon(wait_in_vain, jobs[1])
        group.start_soon(wait, jobs[2], scopes[2])
        group.start_soon(wait, jobs[3], scopes[3])
        await until(lambda: clock.monotonic() > 1)
        scopes[0].cancel()
        await until(lambda: clock.monotonic() > 4)
        await calls.end(jobs[3])
        await calls.end(jobs[2])
        await until(lambda: len(told) == 2)
    assert set(told) == {jobs[2].id, jobs[3].id}


async def test_a_store_that_cannot_be_read_ends_every_wait(store: Store, clock: ManualClock) -> None:
    async def damaged(call: StoreCall) -> None:
        if call.name == "jobs":
            raise StoreCorruptError("damaged")

    queue = CallQueue(FaultyStore(store, before=damaged))
    failed: list[str] = []

    async def wait() -> None:
        with pytest.raises(StoreCorruptError):
            await queue.wait_for_outcome("default.1")
        failed.append("one")

    async with time_passing(clock), anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
    assert len(failed) == 3
