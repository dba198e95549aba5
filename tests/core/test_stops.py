"""What holds a queue: doubts in a row, as in a storm of 502, and what 8x8 reports of the account's numbers."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE, flow, number
from tests.support.manual_time import passing, passing_beside
from tests.support.stores import EVERY, clocked
from tests.support.voices import ScriptedVoice, created, unknown
from tests.support.workers import NO_WEBHOOKS, enqueued, worker_for
from tests.webhooks.payload_forms import OTHER, numbers
from voiceflow_worker import CallQueue, CallRequest, Job, JobState
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.own_numbers import READ_EVERY, OwnNumbers, SourceCheck
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.settling.stops import LONGEST_WAIT, MOST_DOUBTS, AnswerCode, DoubtRuns
from voiceflow_worker.core.worker import MOST_UNANSWERED
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Post
from voiceflow_worker.model.reports.events import NumbersUpdated, parse_event
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict, VerdictKind
from voiceflow_worker.reporting.status import read_status
from voiceflow_worker.service.metrics import StoreFigures, metrics_text
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio

CALLS = 300
STORM = timedelta(seconds=30)
LATENCY = 0.2
READ_TIMEOUT = 40.0


store = clocked("memory")


class Stormy(ScriptedVoice):
    """8x8 with its usual latency, that answers 502, or does not answer, in a time of the clock."""

    def __init__(self, clock: ManualClock, *, begins: timedelta, silent: bool) -> None:
        super().__init__()
        self._clock = clock
        self._begins = clock.now() + begins
        self._silent = silent
        self.rings: Counter[str] = Counter()

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        progress.may_have_been_sent = True
        self.placed.append((now, placement))
        self.rings[placement.client_request_id.rpartition(".")[0]] += 1
        is_stormy = self._begins <= self._clock.now() < self._begins + STORM
        await self._clock.sleep(READ_TIMEOUT if is_stormy and self._silent else LATENCY)
        if not is_stormy:
            return created(f"session-{placement.client_request_id}")
        if self._silent:
            return unknown("no answer within 40 s")
        return Verdict(kind=VerdictKind.UNKNOWN, message="HTTP 502 without JSON", http_status=502)


@pytest.mark.parametrize(
    ("silent", "workers", "begins"), combinations([False, True], [1, 3], [timedelta(), timedelta(seconds=7)])
)
async def test_300_calls_through_a_storm_of_30_seconds(
    store: Store, clock: ManualClock, silent: bool, workers: int, begins: timedelta
) -> None:
    queue = CallQueue(store)
    await queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(CALLS)])
    voice, reasons = Stormy(clock, begins=begins, silent=silent), set[str]()

    async def watch() -> None:
        while True:
            reasons.update(gate.reason for gate in await gates_of(store, "default") if gate.is_closed(at=clock.now()))
            await clock.sleep(1)

    async def drained() -> None:
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as group:
                for _ in range(workers):
                    group.start_soon(worker_for(store, voice, rate=10, concurrency=50).drain)
            watching.cancel_scope.cancel()

    began = clock.now()
    await passing(clock, drained)
    found = {state: count for state, count in (await queue.status()).states.items() if count}
    assert found.keys() == {JobState.ACCEPTED, JobState.IN_DOUBT}
    assert MOST_DOUBTS <= found[JobState.IN_DOUBT] <= 20, found
    assert set(voice.rings.values()) == {1}
    assert len(voice.rings) == CALLS, "everything else is sent after it, once"
    assert reasons, "the queue was held, and said why"
    assert all(
        "no clear answer, call after call; the last: " in each and "One call is tried at" in each for each in reasons
    )
    assert clock.now() - began < begins + STORM + timedelta(seconds=CALLS / 10) + timedelta(minutes=1)


async def test_a_worker_that_is_answered_has_all_its_calls_in_flight(store: Store, clock: ManualClock) -> None:
    """The first answer opens the window; without a rate, 300 calls over 50 connections take seven rounds."""
    await CallQueue(store).enqueue_many([CallRequest(flow=flow(number(place))) for place in range(CALLS)])
    voice = Stormy(clock, begins=timedelta(days=1), silent=True)
    began = clock.now()
    await passing(clock, worker_for(store, voice, concurrency=50).drain)
    assert clock.now() - began < timedelta(seconds=9 * LATENCY)


async def test_while_nothing_is_answered_few_calls_are_on_their_way(store: Store, clock: ManualClock) -> None:
    await CallQueue(store).enqueue_many([CallRequest(flow=flow(number(place))) for place in range(CALLS)])
    voice = Stormy(clock, begins=timedelta(), silent=True)
    worker = worker_for(store, voice, concurrency=50)

    async def look() -> None:
        await clock.sleep(READ_TIMEOUT - 1)
        assert (worker.in_flight, len(voice.placed)) == (MOST_UNANSWERED, MOST_UNANSWERED)
        worker.stop()
        worker.stop()

    await passing(clock, look, worker.run)
    assert list(await gates_of(store, "default")) == [], "a worker that was stopped says nothing about 8x8"


class Row:
    """The doubts of several workers, one after the other."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self._store, self._clock = store, clock
        self._here, self._there = DoubtRuns(store), DoubtRuns(store)
        self._job: Job | None = None

    async def doubt(self, *, began_ago: timedelta = timedelta(), there: bool = False) -> Gate | None:
        """A call is in doubt; returns the hold that stands then."""
        queue = CallQueue(self._store)
        job = self._job = self._job or await queue.enqueue(flow())
        at = self._clock.now() - began_ago
        post = Post(number=1, client_request_id=job.request_id(1), began_at=at, valid_until=at)
        runs = self._there if there else self._here
        await runs.note("default", [AnswerCode(replace(job, posts=(post,)), message="HTTP 502")], is_clear=False)
        return await self.hold()

    async def clear(self) -> None:
        await self._here.note("default", (), is_clear=True)

    async def hold(self) -> Gate | None:
        now = self._clock.now()
        return next((gate for gate in await gates_of(self._store, "default") if gate.is_closed(at=now)), None)


@pytest.mark.parametrize("store", EVERY, indirect=True)
async def test_doubts_of_all_workers_count_together_and_the_wait_grows_with_each_call_that_is_tried(
    store: Store, clock: ManualClock
) -> None:
    row = Row(store, clock)
    for place in range(MOST_DOUBTS - 1):
        assert await row.doubt(there=bool(place % 2)) is None
    waits: list[timedelta] = []
    for _ in range(8):
        clock.advance(timedelta(milliseconds=1))
        held = await row.doubt()
        assert held is not None
        assert held.until is not None
        waits.append(held.until - clock.now())
        assert (await row.doubt(began_ago=timedelta(seconds=1), there=True)) == held, "it was on its way before"
        clock.advance(waits[-1])
    assert waits == [timedelta(seconds=each) for each in (10, 20, 40, 80, 160, 300, 300, 300)]
    assert waits[-1] == LONGEST_WAIT
    await row.clear()
    for _ in range(MOST_DOUBTS - 1):
        assert await row.doubt() is None, "after a clear answer, it begins anew"


async def test_a_person_who_resumes_lets_it_begin_anew(store: Store, clock: ManualClock) -> None:
    row = Row(store, clock)
    held = [await row.doubt() for _ in range(MOST_DOUBTS)][-1]
    assert held is not None
    await CallQueue(store).resume()
    clock.advance(timedelta(milliseconds=1))
    for _ in range(MOST_DOUBTS - 1):
        assert await row.doubt() is None


async def test_doubts_far_apart_are_not_in_a_row(store: Store, clock: ManualClock) -> None:
    row = Row(store, clock)
    for _ in range(3 * MOST_DOUBTS):
        assert await row.doubt() is None
        clock.advance(timedelta(minutes=16))


async def test_it_shortens_no_hold_of_a_person(store: Store, clock: ManualClock) -> None:
    row = Row(store, clock)
    await CallQueue(store).hold(reason="lunch")
    held = [await row.doubt() for _ in range(MOST_DOUBTS)][-1]
    assert held is not None
    assert (held.state, held.until, held.reason) == (GateState.HELD, None, "lunch")


SPARE = "+6531234569"


async def report(store: Store, *states: tuple[str, str], day: int = 17) -> None:
    event = parse_event(numbers(*states, at=f"2026-02-{day}T05:10:14.760Z"))
    assert isinstance(event, NumbersUpdated)
    await OwnNumbers(store).note(event)


async def hold(store: Store, queue: str = "default") -> str:
    """The reason of the hold of a queue; empty without one."""
    now = store.clock.now()
    return next((gate.reason for gate in await gates_of(store, queue) if gate.is_closed(at=now)), "")


async def test_a_number_that_is_not_active_is_told_until_it_is_and_the_newest_report_counts(store: Store) -> None:
    queue = CallQueue(store, policy=NO_WEBHOOKS)
    await report(store, (SOURCE, "Unhealthy"), (OTHER.removeprefix("+"), "EXPIRING"), (SPARE, "Suspended"))
    await report(store, (SOURCE, "Active"), day=16)  # an older one that came late
    found = (await read_status(store, "default", clock_skew=timedelta(), summary_deadline=timedelta(hours=2))).numbers
    assert [(each.number, each.status) for each in found] == [
        (SOURCE, "Unhealthy"),
        (OTHER, "EXPIRING"),
        (SPARE, "Suspended"),
    ]
    text = metrics_text(StoreFigures(queues=[await read_queue(queue)])).decode()
    for state, count in {"unhealthy": 1, "expiring": 1, "suspended": 1, "inactive": 0}.items():
        assert f'voiceflow_account_numbers{{state="{state}"}} {count}.0' in text
    await report(store, (SOURCE, "Active"), (SPARE, "Active"), day=18)
    assert [each.number for each in await OwnNumbers(store).not_active()] == [OTHER]
    assert await hold(store) == ""


async def test_an_inactive_source_holds_the_queues_whose_calls_wait_for_it_and_no_others(store: Store) -> None:
    await enqueued(store, 2)
    await CallQueue(store, "reminders").hold(reason="for a test")
    await report(store, (OTHER, "Inactive"), (SOURCE, "Unhealthy"))
    assert await hold(store) == "", "nobody calls from it"
    await report(store, (SOURCE, "Inactive"), day=18)
    assert SOURCE in await hold(store)
    assert "--stored --replace --source NUMBER" in await hold(store), "the hold has its remedy"
    assert await hold(store, "reminders") == "for a test"


async def test_a_person_may_resume_and_the_number_holds_the_queue_again_only_once_it_is_inactive_anew(
    store: Store, clock: ManualClock
) -> None:
    queue = await enqueued(store, 2)
    await report(store, (SOURCE, "Inactive"))
    await queue.resume()
    await report(store, (SOURCE, "Inactive"))
    await report(store, (SOURCE, "Inactive"), day=18)
    check = SourceCheck(store, "default")
    check.leased((await queue.find())[:1])
    await check.check()
    assert await hold(store) == "", "what the person knows already"
    clock.advance(timedelta(seconds=READ_EVERY))
    await report(store, (SOURCE, "Active"), day=19)
    await report(store, (SOURCE, "Inactive"), day=20)
    assert SOURCE in await hold(store)


async def test_a_worker_holds_its_queue_at_the_first_call_from_a_number_that_was_inactive_before(
    store: Store, clock: ManualClock
) -> None:
    await report(store, (SOURCE, "Inactive"))
    await enqueued(store, 20)
    voice = ScriptedVoice(answer=lambda _: created())
    worker = worker_for(store, voice, rate=2, concurrency=1)

    async def watch() -> None:
        while not await hold(store):
            await clock.sleep(0.2)
        clock_at = clock.now()
        while clock.now() < clock_at + timedelta(seconds=5):
            await clock.sleep(0.5)
        worker.stop()

    await passing_beside(clock, [worker], watch)
    assert len(voice.placed) < 10


async def test_no_hold_is_stored_of_a_number_that_has_become_active_meanwhile(store: Store) -> None:
    await enqueued(store, 1)

    async def is_active_again(call: StoreCall) -> None:
        writes = call.arguments[0].writes if call.name == "write" else ()
        if any(put.namespace == GATES for write in writes for put in write.puts):
            await report(store, (SOURCE, "Active"), day=19)

    await report(FaultyStore(store, before=is_active_again), (SOURCE, "Inactive"), day=18)
    assert await hold(store) == ""
    assert not [gate for gate in await gates_of(store, "default") if gate.state is GateState.HELD]
