"""What holds a queue: doubts in a row, as in a storm of 502."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.everyday import combinations
from tests.support.flows import flow, number
from tests.support.manual_time import passing
from tests.support.stores import EVERY, clocked
from tests.support.voices import ScriptedVoice, created, unknown
from tests.support.workers import worker_for
from voiceflow_worker import CallQueue, CallRequest, Job, JobState
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.settling.circuit_breakers import LONGEST_WAIT, MOST_DOUBTS, Answer, CircuitBreakers
from voiceflow_worker.core.worker import MOST_UNANSWERED
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Post
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict, VerdictKind

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

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        departure = await before_first_byte()
        self.placed.append((departure.at, placement))
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
    """Doubts that one worker meets, one after the other."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self._store, self._clock = store, clock
        self._breakers = CircuitBreakers(store)
        self._job: Job | None = None

    async def doubt(self, *, began_ago: timedelta = timedelta()) -> Gate | None:
        """A call is in doubt; returns the hold that stands then."""
        queue = CallQueue(self._store)
        job = self._job = self._job or await queue.enqueue(flow())
        at = self._clock.now() - began_ago
        post = Post(number=1, client_request_id=job.request_id(1), began_at=at, valid_until=at)
        doubt = Answer(replace(job, posts=(post,)), message="HTTP 502")
        await self._breakers.note_doubts("default", [doubt], is_clear=False)
        return await self.hold()

    async def clear(self) -> None:
        await self._breakers.note_doubts("default", (), is_clear=True)

    async def hold(self) -> Gate | None:
        now = self._clock.now()
        return next((gate for gate in await gates_of(self._store, "default") if gate.is_closed(at=now)), None)


@pytest.mark.parametrize("store", EVERY, indirect=True)
async def test_doubts_in_a_row_hold_the_queue_and_the_wait_grows_with_each_call_that_is_tried(
    store: Store, clock: ManualClock
) -> None:
    row = Row(store, clock)
    for _ in range(MOST_DOUBTS - 1):
        assert await row.doubt() is None
    waits: list[timedelta] = []
    for _ in range(8):
        clock.advance(timedelta(milliseconds=1))
        held = await row.doubt()
        assert held is not None
        assert held.until is not None
        waits.append(held.until - clock.now())
        assert (await row.doubt(began_ago=timedelta(seconds=1))) == held, "it was on its way before"
        clock.advance(waits[-1])
    assert waits == [timedelta(seconds=each) for each in (10, 20, 40, 80, 160, 300, 300, 300)]
    assert waits[-1] == LONGEST_WAIT
    await row.clear()
    for _ in range(MOST_DOUBTS - 1):
        assert await row.doubt() is None, "after a clear answer, it begins anew"


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
