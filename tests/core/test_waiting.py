"""What is known of a queue at work: why calls wait, how fast they leave, and when a drain is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from tests.contract.samples import commit, moved
from tests.contract.suite import ManualClock
from tests.support.cut_imports import cut_import
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import passing_beside
from tests.support.voices import ScriptedVoice, not_sent
from tests.support.workers import NO_WEBHOOKS, enqueued, set_limits, worker_for
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, open_store
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.model.jobs.job import JobState, ReasonKind, RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.reporting import status as module
from voiceflow_worker.reporting.batches import read_batch, read_batches, read_queue
from voiceflow_worker.reporting.status import WaitingCounts, calls_as_json, waits_in_words

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with open_store("memory://") as store:
        yield Engine(store, ScriptedVoice())


@pytest.fixture
async def clocked() -> AsyncIterator[tuple[Engine, ManualClock]]:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        yield Engine(store, ScriptedVoice()), clock


async def waiting_in(engine: Engine) -> dict[str, int]:
    return {why: count for why, count in (await engine.queue.status()).waiting.as_json().items() if count}


def closed_now() -> CallWindow:
    """A window that opens an hour or more from now, for a number in UTC."""
    begin = datetime.now(UTC) + timedelta(hours=2)
    return CallWindow.parse(f"{begin:%H:00}-{begin + timedelta(hours=1):%H:00}")


async def test_calls_to_a_busy_number_count_as_such(engine: Engine) -> None:
    await engine.enqueue(number(1))
    (dispatch,) = await engine.prepare()
    assert await engine.journal_of(dispatch) is not None
    for _ in range(3):
        await engine.enqueue(number(1))
    assert await engine.send() == []
    assert await waiting_in(engine) == {"number_busy": 3}


HALF_A_DAY = timedelta(hours=12)


async def test_a_clock_that_was_rolled_back_is_told_and_stops_a_drain(clocked: tuple[Engine, ManualClock]) -> None:
    """Whether the calls were enqueued since, or only put back into the queue."""
    engine, clock = clocked
    for place in range(3):
        await engine.enqueue(number(place))
    clock.jump(-HALF_A_DAY)
    assert await drained_by(engine) == (HALF_A_DAY, 3, True)
    clock.jump(HALF_A_DAY)
    assert await drained_by(engine) is None


async def test_a_call_that_went_back_before_the_clock_did_waits_for_it(clocked: tuple[Engine, ManualClock]) -> None:
    engine, clock = clocked
    await engine.enqueue()
    clock.advance(timedelta(days=2))
    await Engine(engine.store, ScriptedVoice(answers=[not_sent()])).send()
    clock.jump(-HALF_A_DAY)
    found = await drained_by(engine)
    assert found is not None
    assert found[0] == HALF_A_DAY


async def test_clocks_that_differ_a_little_and_calls_for_later_are_no_news(clocked: tuple[Engine, ManualClock]) -> None:
    engine, clock = clocked
    await engine.enqueue(not_before=clock.now() + timedelta(days=1))
    assert await drained_by(engine) is None
    clock.jump(-engine.policy.clock_skew)
    assert await drained_by(engine) is None
    clock.jump(-timedelta(seconds=1))
    assert await drained_by(engine) == (engine.policy.clock_skew + timedelta(seconds=1), 0, False)


async def test_a_worker_says_that_the_clock_is_behind_once(clocked: tuple[Engine, ManualClock]) -> None:
    engine, clock = clocked
    await engine.enqueue()
    clock.jump(-HALF_A_DAY)
    with capture_logs() as logs:
        result = await worker_for(engine.store, ScriptedVoice()).drain()
    assert result.stopped_by_clock
    (line,) = [log["event"] for log in logs if "CLOCK" in log["event"]]
    assert "12 h" in line
    assert "1 call" in line


async def drained_by(engine: Engine) -> tuple[timedelta, int, bool] | None:
    """The clock as a drain and the status see it: how far behind, how many calls wait for it, whether that ends it."""
    check = DrainCheck(engine.store, queue=engine.name, batch_id=None, policy=engine.policy)
    result = await check.result()
    assert (await engine.queue.status()).clock == result.clock
    return None if result.clock is None else (result.clock.by, result.clock.calls, result.stopped_by_clock)


async def test_a_closed_window_counts_as_such(engine: Engine) -> None:
    await engine.queue.enqueue(flow(), window=closed_now(), time_zone="UTC")
    assert await waiting_in(engine) == {"window": 1}


async def test_a_redial_counts_as_such(engine: Engine) -> None:
    policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=30))
    await engine.enqueue(redial=policy)
    (job,) = await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    assert await waiting_in(engine) == {"redial": 1}


async def test_what_is_due_waits_for_the_rate_only_while_a_worker_lives(engine: Engine) -> None:
    await engine.queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(5)])
    await set_limits(engine.store, "default", Limits(rate=1.0))
    assert await waiting_in(engine) == {}
    await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=1.0, in_flight=0))
    assert await waiting_in(engine) == {"rate": 5}


async def test_what_is_due_waits_for_its_turn_under_a_limit_of_open_calls(engine: Engine) -> None:
    await engine.enqueue(number(1))
    await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=0.0, in_flight=0))
    await set_limits(engine.store, "default", Limits(rate=None))
    assert await waiting_in(engine) == {}
    await set_limits(engine.store, "default", Limits(rate=None, max_active=3))
    assert await waiting_in(engine) == {"rate": 1}


async def test_a_hold_counts_what_is_due_behind_it_and_the_rest_waits_for_the_rate(engine: Engine) -> None:
    await set_limits(engine.store, "default", Limits(rate=1.0))
    await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=1.0, in_flight=0))
    for place in range(3):
        await engine.enqueue(number(place), batch_id="march")
    await engine.enqueue(number(7))
    await engine.queue.hold(batch_id="march")
    assert await waiting_in(engine) == {"hold": 3, "rate": 1}
    await engine.queue.hold()
    assert await waiting_in(engine) == {"hold": 4}


async def test_what_is_due_and_waits_for_a_number_does_not_wait_for_the_rate(engine: Engine) -> None:
    await set_limits(engine.store, "default", Limits(rate=1.0))
    await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=1.0, in_flight=0))
    job = await engine.enqueue()
    await commit(engine.store, [moved(job, reason_kind=ReasonKind.NUMBER_BUSY)])
    await engine.enqueue(number(2))
    assert await waiting_in(engine) == {"number_busy": 1, "rate": 1}


async def test_the_words_of_a_person_are_not_taken_for_what_a_call_waits_for(engine: Engine) -> None:
    for place, words in enumerate(
        ("is busy with another call", "the most for one person", "waits for its calling window to open")
    ):
        job = await engine.enqueue(number(place))
        await engine.queue.cancel(job.id, reason="too early")
        await engine.queue.redial(job.id, note=f"the clerk {words}")
    assert [job.state for job in await engine.queue.find()] == [JobState.QUEUED] * 3
    assert await waiting_in(engine) == {}


async def test_calls_for_later_wait_for_none_of_these(engine: Engine) -> None:
    await engine.queue.enqueue(flow(), not_before=engine.store.clock.now() + timedelta(hours=1))
    assert await waiting_in(engine) == {}


async def test_of_a_longer_queue_the_figures_are_reported_as_least(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_READ", 3)
    for place in range(4):
        await engine.queue.enqueue(flow(number(place)), window=closed_now(), time_zone="UTC")
    found = (await engine.queue.status()).waiting
    assert (found.window, found.is_exact) == (3, False)
    assert found.in_words() == "at least 3 for their calling window"


async def test_each_call_says_why_it_waits_and_until_when(clocked: tuple[Engine, ManualClock]) -> None:
    engine, clock = clocked
    now, zone = clock.now(), ZoneInfo("Asia/Singapore")
    later = now + timedelta(hours=1)
    opens = in_words(later + timedelta(hours=1), zone)
    begin = later + timedelta(hours=1)
    window = CallWindow.parse(f"{begin:%H:%M}-{begin + timedelta(hours=1):%H:%M}")
    redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=30))
    busy = await engine.enqueue(number(1), redial=redial)
    await engine.send()
    await engine.summarise(busy, SessionStatus.BUSY)
    dispatched = await engine.enqueue(number(2))
    await engine.send()
    again = await engine.enqueue(number(2))
    await engine.send()
    cases = [
        (busy.id, f"it is called again at {in_words(now + timedelta(minutes=30), zone)}"),
        (again.id, "its number is busy with another call; it is tried again at "),
        ((await engine.queue.enqueue(flow(number(3)), window=window, time_zone="UTC")).id,
         f"its calling window ({window}) opens at {opens}"),
        ((await engine.enqueue(number(4), not_before=later)).id, f"it is due at {in_words(later, zone)}"),
        ((await engine.enqueue(number(5))).id, "no worker of queue default runs"),
    ]  # fmt: skip
    held = await engine.enqueue(number(6), batch_id="march", not_before=later)
    await engine.queue.hold(batch_id="march", reason="wait for legal", until=begin)
    march = f"batch march is held until {opens}: wait for legal"
    cases.append((held.id, f"{march}; it is due at {in_words(later, zone)}"))
    await cut_import(engine.store, batch="april", calls=1)
    (staged,) = await engine.queue.find(batch_id="april")
    cases.append((staged.id, "an import of batch april, begun at "))
    ids = [job_id for job_id, _ in cases]
    calls = [await engine.queue.get(job_id) for job_id in (*ids, dispatched.id)]
    found = await waits_in_words(engine.store, calls, zone=zone)
    assert list(found) == ids
    for job_id, why in cases:
        assert found[job_id].startswith(why), (found[job_id], why)
    await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=1.0, in_flight=0))
    documents = await calls_as_json(engine.store, calls)
    assert [each["id"] for each in documents] == [job.id for job in calls]
    assert [each["waits"] for each in documents] == [*(await waits_in_words(engine.store, calls)).values(), None]
    assert "it waits for its turn" in (await waits_in_words(engine.store, calls)).values()
    await engine.queue.hold(reason="a wrong text")
    found = await waits_in_words(engine.store, calls)
    assert {why.partition(";")[0] for why in found.values()} == {
        "queue default is held until somebody resumes it: a wrong text"
    }


async def test_why_calls_wait_is_read_at_the_same_cost_for_a_page_of_them(engine: Engine) -> None:
    costs: list[Counter[str]] = []
    for count in (1, 30):
        for place in range(count):
            await engine.enqueue(number(place), batch_id=f"batch {place}")
        store = FaultyStore(engine.store)
        assert len(await waits_in_words(store, calls := await engine.queue.find())) == len(calls)
        costs.append(Counter(store.made))
    assert costs[0] == costs[1]


def test_in_words() -> None:
    found = WaitingCounts(number_busy=2, window=1, redial=3, rate=4, hold=5)
    assert found.in_words() == (
        "2 for a busy number, 1 for their calling window, 3 for a redial, 4 for their turn, 5 behind a hold"
    )
    assert WaitingCounts().in_words() == ""


async def test_the_rate_of_each_batch_is_measured_over_the_last_seconds(clock: ManualClock) -> None:
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, policy=NO_WEBHOOKS)
        for place in range(400):
            batch = "odd" if place % 4 else "every fourth"
            await queue.enqueue(flow(number(place)), batch_id=batch)
        worker = worker_for(store, ScriptedVoice(), rate=8)

        async def look() -> None:
            await clock.sleep(20.55)  # not while calls are leased
            (beat,) = await Heartbeats(store).workers("default")
            assert 0 < beat.rate <= 8.4
            batches = await Heartbeats(store).batches("default")
            assert 0 < batches["every fourth"] < batches["odd"]
            assert sum(batches.values()) == pytest.approx(beat.rate)
            every_fourth, odd = (await read_batches(store, ["default"])).batches
            assert (every_fourth.batch_id, odd.batch_id) == ("every fourth", "odd")
            assert odd.ends_at is not None
            left = odd.total - odd.done
            assert (odd.ends_at - odd.at).total_seconds() == pytest.approx(left / odd.rate_now, rel=0.01)
            worker.stop()

        await passing_beside(clock, [worker], look)


async def test_the_end_is_not_known_while_calls_wait_for_their_time(clock: ManualClock) -> None:
    async with open_store("memory://", clock=clock) as store:
        queue = await enqueued(store, 100, batch_id="march")
        await queue.enqueue(flow(number(100)), batch_id="soon", not_before=clock.now() + timedelta(seconds=5))
        worker = worker_for(store, ScriptedVoice(), rate=2)

        async def look() -> None:
            await clock.sleep(10.5)
            assert (await read_queue(store, "default")).ends_at is not None  # all calls are due by then
            await queue.enqueue(flow(number(101)), batch_id="march", not_before=clock.now() + timedelta(minutes=10))
            assert (await read_queue(store, "default")).ends_at is None
            march = await read_batch(store, "default", "march")
            assert (march.ends_at, march.unknown.partition(",")[0]) == (None, "1 call waiting for a redial")
            worker.stop()

        await passing_beside(clock, [worker], look)


async def test_a_drain_goes_on_while_another_worker_has_the_job_that_was_due_a_moment_ago() -> None:
    async with open_store("memory://") as store:
        await CallQueue(store).enqueue(flow())

        async def other_leases(call: StoreCall) -> None:
            if call.name == "totals":
                now = store.clock.now()
                await store.lease("default", worker_id="other", limit=1, until=now + timedelta(minutes=1), now=now)

        watched = FaultyStore(store, after=other_leases)
        check = DrainCheck(watched, queue="default", batch_id=None, policy=CallPolicy())
        assert not await check.is_done()
