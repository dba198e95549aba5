"""What is known of a queue at work: why calls wait, how fast they leave, and which calls are meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.contract.samples import commit, moved
from tests.contract.suite import ManualClock
from tests.support.cut_imports import cut_import
from tests.support.engine import ScriptedEngine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import passing_beside
from tests.support.plain_jobs import NOW, a_job
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS, enqueued, set_limits, worker_for
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, open_store
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.call_filter import CallFilter, person_of
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.writes import journal_entry
from voiceflow_worker.model.jobs.job import JobState, ReasonKind, RedialPolicy
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.model.jobs.totals import OUTCOME, STATE, Totals
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.reporting import status as module
from voiceflow_worker.reporting.batches import read_batch, read_batches, read_queue
from voiceflow_worker.reporting.status import WaitingCounts, calls_as_json, waits_in_words

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
HALF_A_DAY = 12 * HOUR
ON_BUSY = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=HOUR / 2)


@pytest.fixture
async def engine(clock: ManualClock) -> AsyncIterator[ScriptedEngine]:
    async with open_store("memory://", clock=clock) as store:
        yield ScriptedEngine(store, clock)


def closed_now(clock: ManualClock) -> dict[str, Any]:
    """A window that opens two hours from now, for a number in UTC."""
    begin = clock.now() + 2 * HOUR
    return {"window": CallWindow.parse(f"{begin:%H:%M}-{begin + HOUR:%H:%M}"), "time_zone": "UTC"}


async def limited(engine: ScriptedEngine, *, rate: float | None = 1.0, works: bool = True, **more: Any) -> None:
    """The queue has these limits, and a worker."""
    await set_limits(engine.store, "default", Limits(rate=rate, **more))
    if works:
        await Heartbeats(engine.store).worker(WorkerBeat(queue="default", worker_id="w", rate=1.0, in_flight=0))


async def closed(engine: ScriptedEngine) -> None:
    await engine.queue.enqueue(flow(), **closed_now(engine.clock))


async def redialled(engine: ScriptedEngine) -> None:
    await engine.called(number(1), SessionStatus.BUSY, redial=ON_BUSY)


async def busy(engine: ScriptedEngine) -> None:
    for _ in range(4):
        await engine.enqueue(number(1))
    (dispatch, *_) = await engine.prepare(1)
    assert await engine.journal_of(dispatch) is not None
    assert await engine.send() == []


async def busy_and_limited(engine: ScriptedEngine) -> None:
    await limited(engine)
    await commit(engine.store, [moved(await engine.enqueue(), reason_kind=ReasonKind.NUMBER_BUSY)])
    await engine.enqueue(number(2))


async def paced(engine: ScriptedEngine, *, works: bool = True) -> None:
    await limited(engine, works=works)
    await engine.queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(5)])


async def paced_by_nobody(engine: ScriptedEngine) -> None:
    await paced(engine, works=False)


async def paced_by_the_unable(engine: ScriptedEngine) -> None:
    await paced(engine, works=False)
    failing = {Task.JOURNAL_FILE.value: "since 09:00: the disk is full"}
    beat = WorkerBeat(queue="default", worker_id="w", rate=0.0, in_flight=0, failing=failing)
    await Heartbeats(engine.store).worker(beat)


async def as_many_as_may_be_open(engine: ScriptedEngine) -> None:
    await engine.enqueue(number(1))
    await engine.send()
    await limited(engine, rate=None, max_active=1)
    await engine.enqueue(number(2))


async def behind_an_import(engine: ScriptedEngine) -> None:
    await limited(engine)
    await cut_import(engine.store, batch="april", calls=1)
    await engine.enqueue(number(2))


async def unlimited(engine: ScriptedEngine) -> None:
    await engine.enqueue(number(1))
    await limited(engine, rate=None)


async def few_at_once(engine: ScriptedEngine) -> None:
    await engine.enqueue(number(1))
    await limited(engine, rate=None, max_active=3)


async def behind_a_hold(engine: ScriptedEngine) -> None:
    await limited(engine)
    for place in range(3):
        await engine.enqueue(number(place), batch="march")
    await engine.enqueue(number(7))
    await engine.queue.hold(batch_id="march")


async def behind_two(engine: ScriptedEngine) -> None:
    await behind_a_hold(engine)
    await engine.queue.hold()


async def for_later(engine: ScriptedEngine) -> None:
    await engine.queue.enqueue(flow(), not_before=engine.clock.now() + HOUR)


async def said_by_a_person(engine: ScriptedEngine) -> None:
    """What a person writes is not taken for what a call waits for."""
    said = ("is busy with another call", "the most for one person", "waits for its calling window to open")
    for place, words in enumerate(said):
        job = await engine.enqueue(number(place))
        await engine.queue.cancel(job.id, reason="too early")
        await engine.queue.redial(job.id, note=f"the clerk {words}")
    assert [job.state for job in await engine.queue.find()] == [JobState.QUEUED] * 3


@pytest.mark.parametrize(
    ("calls", "waiting"),
    [
        (closed, {"window": 1}),
        (redialled, {"redial": 1}),
        (busy, {"number_busy": 3}),
        (busy_and_limited, {"number_busy": 1, "rate": 1}),
        (paced, {"rate": 5}),
        (paced_by_nobody, {"no_worker": 5}),
        (paced_by_the_unable, {"worker_may_not_send": 5}),
        (as_many_as_may_be_open, {"max_active": 1, "receiver": 1}),
        (behind_an_import, {"import": 1, "rate": 1}),
        (few_at_once, {"rate": 1}),
        (unlimited, {}),
        (behind_a_hold, {"hold": 3, "rate": 1}),
        (behind_two, {"hold": 4}),
        (for_later, {}),
        (said_by_a_person, {"no_worker": 3}),
    ],
)
async def test_each_call_counts_for_what_it_waits_for(
    engine: ScriptedEngine, calls: Callable[[ScriptedEngine], Awaitable[None]], waiting: dict[str, int]
) -> None:
    await calls(engine)
    found = (await engine.queue.status()).waiting.as_json()
    assert {why: count for why, count in found.items() if count} == waiting


async def test_of_a_longer_queue_the_figures_are_reported_as_least(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_READ", 3)
    for place in range(4):
        await engine.queue.enqueue(flow(number(place)), **closed_now(engine.clock))
    found = (await engine.queue.status()).waiting
    assert (found.window, found.is_exact) == (3, False)
    assert found.in_words() == "at least 3 for their calling window"


async def test_each_call_says_why_it_waits_and_until_when(engine: ScriptedEngine) -> None:
    now, zone = engine.clock.now(), ZoneInfo("Asia/Singapore")
    later, begin = now + HOUR, now + 2 * HOUR
    opens, closed = in_words(begin, zone), closed_now(engine.clock)
    busy = await engine.called(number(1), SessionStatus.BUSY, redial=ON_BUSY)
    dispatched = await engine.enqueue(number(2))
    await engine.send()
    again = await engine.enqueue(number(2))
    await engine.send()
    cases = [
        (busy.id, f"it is called again at {in_words(now + timedelta(minutes=30), zone)}"),
        (again.id, "its number is busy with another call; it is tried again at "),
        ((await engine.queue.enqueue(flow(number(3)), **closed)).id,
         f"its calling window ({closed['window']}) opens at {opens}"),
        ((await engine.enqueue(number(4), not_before=later)).id, f"it is due at {in_words(later, zone)}"),
        ((await engine.enqueue(number(5))).id, "no worker of queue default runs"),
    ]  # fmt: skip
    held = await engine.enqueue(number(6), batch="march", not_before=later)
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
            await queue.enqueue(flow(number(place)), batch=batch)
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
        queue = await enqueued(store, 100, batch="march")
        await queue.enqueue(flow(number(100)), batch="soon", not_before=clock.now() + timedelta(seconds=5))
        worker = worker_for(store, ScriptedVoice(), rate=2)

        async def look() -> None:
            await clock.sleep(10.5)
            assert (await read_queue(store, "default")).ends_at is not None  # all calls are due by then
            await queue.enqueue(flow(number(101)), batch="march", not_before=clock.now() + timedelta(minutes=10))
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


ANA = a_job(data={"Name": "Ana Lim-Mu\u0308ller"})
LATER = NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("+65 8765 4321", {"number": "+6587654321"}),
        ("6587654321", {"number": "+6587654321"}),
        ("4321", {"part": "4321"}),
        ("ana", {"part": "ana"}),
        ("+12", {"part": "+12"}),
    ],
)
def test_a_person_is_found_by_a_whole_number_or_by_a_part(text: str, fields: dict[str, str]) -> None:
    assert person_of(text) == fields


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"part": "LIM"}, True),
        ({"part": "lin"}, False),
        ({"part": "ana lim-m\u00dcl"}, True),
        ({"part": "muller"}, True),
        ({"part": "4321"}, True),
        ({"part": "04321"}, True),
        ({"part": "4322"}, False),
        ({"begin": ANA.touched_at}, True),
        ({"begin": ANA.touched_at + timedelta(seconds=1)}, False),
        ({"begin": ANA.touched_at, "part": "ana"}, True),
        ({"answer": "yes"}, False),
    ],
)
def test_what_stores_cannot_look_up_is_judged_call_by_call(fields: dict[str, Any], passes: bool) -> None:
    wanted = CallFilter(**fields)
    assert wanted.is_judged
    assert wanted.has(ANA) is passes


def test_stores_look_up_the_rest() -> None:
    wanted = CallFilter(states=frozenset({JobState.FAILED}), batch="march", outcomes=frozenset({"BUSY"}))
    assert not wanted.is_judged
    assert wanted.read("q", newest=True, limit=7) == Listing(
        queue="q", states=wanted.states, batch="march", outcomes=wanted.outcomes, newest=True, limit=7
    )


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({}, True),
        ({"states": frozenset({ANA.state})}, True),
        ({"states": frozenset({JobState.FAILED})}, False),
        ({"batch": "march"}, False),
        ({"outcomes": frozenset({"BUSY"})}, False),
        ({"part": "ana"}, True),
        ({"part": "ben"}, False),
    ],
)
def test_of_the_calls_of_a_number_the_rest_is_judged_call_by_call(fields: dict[str, Any], passes: bool) -> None:
    wanted = CallFilter(number=ANA.destination, **fields)
    assert wanted.read("q", after="q.1", limit=7) == OfNumber(queue="q", number=ANA.destination, after="q.1", limit=7)
    assert wanted.is_judged
    assert wanted.has(ANA) is passes
    assert not replace(wanted, number="+6511111111").has(ANA)


@pytest.mark.parametrize(
    ("fields", "may_have"),
    [
        ({}, True),
        ({"states": frozenset({JobState.COMPLETED})}, True),
        ({"states": frozenset({JobState.QUEUED})}, False),
        ({"outcomes": frozenset({"BUSY"})}, False),
        ({"answer": "yes"}, False),
        ({"answer": "-"}, False),
    ],
)
def test_totals_tell_where_no_call_can_be(fields: dict[str, Any], may_have: bool) -> None:
    totals = Totals(live={STATE + JobState.COMPLETED: 1, f"{OUTCOME}COMPLETED": 1})
    assert CallFilter(**fields).may_have(totals) is may_have


REASONS: Mapping[str, str | None] = {
    "gate": "hold", "hold": "import", "number": "number_busy", "second-party-lock": "number_busy",
    "bridge-lock": "number_busy",
    "person": "max_per_person", "cancelled": None, "suppressed": None,
}  # fmt: skip
"""Why a call waits by the namespace of each condition of its journal entry; None for those that end it."""


async def test_each_condition_of_a_journal_entry_has_a_reason_in_the_status(engine: ScriptedEngine) -> None:
    await engine.enqueue(number(1), batch="march")
    (leased,) = await engine.lease()
    policy = replace(engine.policy, max_per_person=PersonLimit(1, HOUR))
    now = engine.clock.now()
    _, write = journal_entry(leased, at=now, lease_until=now + HOUR, policy=policy, store_id=engine.store.id)
    assert {each.namespace for each in write.conditions} == REASONS.keys()
    known = (await engine.queue.status()).waiting.as_json().keys()
    assert {why for why in REASONS.values() if why is not None} <= known
