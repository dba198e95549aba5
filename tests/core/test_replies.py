"""What follows from an answer is judged once, when it comes, and no evidence that crosses other evidence is dropped."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import passing
from tests.support.stores import clocked
from tests.support.voices import ScriptedVoice, created, turned_away
from tests.support.workers import enqueued, set_limits, worker_for
from voiceflow_worker import CallPolicy, JobState
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Limits, Placement
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.evidence import answered
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import NotSentCause, PostProgress, QueueHold, Verdict, VerdictKind

pytestmark = pytest.mark.anyio


AWAY = timedelta(seconds=12)


store = clocked("memory", within=FaultyStore)


EVERYTHING = ("",)


class Answers(ScriptedVoice):
    """A voice with whose first answer the store goes away, for twelve seconds."""

    def __init__(self, store: FaultyStore, verdict: Verdict, *, trips: tuple[str, ...] = EVERYTHING) -> None:
        super().__init__(answer=self._answered)
        self._store = store
        self._verdict = verdict
        self._trips = trips
        self.answered_at: datetime | None = None

    def _answered(self, placement: Placement) -> Verdict:
        if self.answered_at is None:
            self.answered_at = self._store.clock.now()
            self._store.before = self._away
            return self._verdict
        return created(f"session-{placement.client_request_id}")

    async def _away(self, call: StoreCall) -> None:
        assert self.answered_at is not None
        is_one = call.name.startswith(self._trips) and (self._trips is EVERYTHING or call.stores)
        if is_one and self._store.clock.now() < self.answered_at + AWAY:
            raise StoreUnavailableError(f"away: {call.name}")


async def gates(store: FaultyStore) -> list[Gate]:
    return list(await gates_of(store, "default"))


async def test_a_missed_window_does_not_mean_a_wrong_clock_when_the_store_was_away_with_the_answer(
    store: FaultyStore, clock: ManualClock
) -> None:
    verdict = Verdict(kind=VerdictKind.REFUSED, message="expired", code=-1015, http_status=400, server_date=clock.now())
    engine = Engine(store, Answers(store, verdict))
    job = await engine.enqueue(valid_for=timedelta(hours=1))
    await passing(clock, engine.send)
    assert await gates(store) == [], "the queue is held until a person resumes it"
    after = await engine.queue.get(job.id)
    assert (after.state, after.missed_windows) == (JobState.QUEUED, 1)


@pytest.mark.parametrize(("off", "held"), [(-30, True), (-3, False), (3, False), (12, False), (30, True)])
async def test_a_date_between_the_post_and_its_answer_is_right_however_slow_the_answer_was(
    store: FaultyStore, clock: ManualClock, off: float, held: bool
) -> None:
    """The answer takes 12 s: a Date from any moment of these proves nothing against this clock."""

    class Slow(ScriptedVoice):
        async def place(self, placement: Placement, **_: object) -> Verdict:  # noqa: ARG002
            date = clock.now() + timedelta(seconds=off)
            clock.advance(AWAY)
            return Verdict(kind=VerdictKind.REFUSED, message="expired", code=-1015, http_status=400, server_date=date)

    engine = Engine(store, Slow())
    await engine.enqueue(valid_for=timedelta(hours=1))
    await engine.send()
    assert ["clock" in gate.reason for gate in await gates(store)] == [True] * held


async def test_an_answer_holds_its_worker_before_its_verdict_is_known_and_the_queue_once(store: FaultyStore) -> None:
    hold = QueueHold(reason="429")
    held: list[bool] = []

    class Early(ScriptedVoice):
        async def place(self, placement: Placement, *, progress: PostProgress, **_: object) -> Verdict:  # noqa: ARG002
            await progress.hold(hold)
            held.append(engine.holds.closed_since(store.clock.monotonic()))
            return Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429, hold=hold)

    engine = Engine(store, Early())
    await engine.enqueue()
    await engine.send()
    [gate] = await gates(store)
    assert (held, gate.until) == ([True], gate.since + timedelta(seconds=1)), "one answer, one pause"


async def test_a_retry_after_counts_from_its_answer(store: FaultyStore, clock: ManualClock) -> None:
    voice = Answers(store, turned_away(429, retry_after=timedelta(seconds=60)))
    engine = Engine(store, voice)
    job = await engine.enqueue()
    await passing(clock, engine.send)
    assert voice.answered_at is not None
    opens = voice.answered_at + timedelta(seconds=60)
    assert [gate.until for gate in await gates(store)] == [opens]
    after = await engine.queue.get(job.id)
    assert (after.due_at, after.posts[-1].answered_at) == (opens, voice.answered_at)


async def test_a_429_without_a_time_doubles_the_pause_once_however_often_it_is_offered(
    store: FaultyStore, clock: ManualClock
) -> None:
    verdict = Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429, hold=QueueHold(reason="429"))
    engine = Engine(store, Answers(store, verdict))
    await engine.enqueue()
    await passing(clock, engine.send)
    gate = engine.holds.close(QueueHold(reason="429"))
    assert gate.until is not None
    assert gate.until - clock.now() == timedelta(seconds=2)
    assert engine.holds.close(QueueHold(reason="429")).until == gate.until, "calls in flight get the same 429"


async def test_a_queue_that_a_person_opened_is_not_held_again_by_an_answer_that_waits_to_be_stored(
    store: FaultyStore, clock: ManualClock
) -> None:
    hold = QueueHold(reason="8x8 answered 401", until_opened=True)
    verdict = Verdict(kind=VerdictKind.TURNED_AWAY, message="401", http_status=401, hold=hold)
    engine = Engine(store, Answers(store, verdict, trips=("write",)))
    await engine.enqueue()

    async def resume() -> None:
        while not await gates(store):
            await clock.sleep(0.05)
        await engine.queue.resume()

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(engine.send)
            group.start_soon(resume)

    await passing(clock, both)
    assert await gates(store) == []


async def test_a_call_that_misses_its_slot_goes_back_and_is_in_no_doubt(
    store: FaultyStore, clock: ManualClock, voice: ScriptedVoice
) -> None:
    await set_limits(store, "default", Limits(rate=10))
    engine = Engine(store, voice, rate=10)
    job = await engine.enqueue()

    async def stalls(call: StoreCall) -> None:
        if call.stores:
            clock.advance(timedelta(seconds=1))

    store.after = stalls
    await engine.send()
    after = await engine.queue.get(job.id)
    assert voice.placed == []
    assert (after.state, after.attempt, after.failures) == (JobState.QUEUED, 0, 0)
    assert after.posts[-1].verdict is VerdictKind.NOT_SENT


@pytest.mark.parametrize("cause", [*NotSentCause, None])
async def test_only_a_way_to_8x8_that_fails_makes_a_worker_pause(
    store: FaultyStore, clock: ManualClock, cause: NotSentCause | None
) -> None:
    """With a slow limiter calls are late, and there is nothing to wait for."""
    await enqueued(store, 2)
    voice = ScriptedVoice(answers=[Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message="not sent")])
    worker = worker_for(store, voice, concurrency=1)
    began = clock.now()
    await passing(clock, worker.drain)
    paused = voice.placed[1][0] - began
    if cause in {None, NotSentCause.UNREACHABLE, NotSentCause.FAULT}:
        assert timedelta(milliseconds=200) < paused < timedelta(seconds=1)
    else:
        assert not paused


async def test_an_answer_that_its_bearer_takes_for_stored_is_compared_with_what_the_store_has(
    store: FaultyStore, clock: ManualClock, engine: Engine
) -> None:
    """A worker whose commit was rolled back remembers a job that knows the answer; the store does not."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()
    remembered = answered(sending, 1, created("s-1"), at=clock.now(), policy=CallPolicy())
    assert remembered.state is JobState.SUBMITTED
    await engine.verdict(remembered, 1, created("s-1"))
    stored = await engine.queue.get(job.id)
    assert (stored.state, stored.session_id) == (JobState.SUBMITTED, "s-1")


async def test_a_summary_that_is_early_while_its_session_is_being_named_settles_its_call_at_once(
    store: FaultyStore, engine: Engine
) -> None:
    """The answer is stored between the look and the parking: nobody would look again before the sweep."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()

    async def answer_is_stored(call: StoreCall) -> None:
        if call.name == "write":
            store.before = nothing_more
            await engine.verdict(sending, 1, created(f"session-{job.id}.1"))

    async def nothing_more(call: StoreCall) -> None:
        """Let the other calls be."""

    store.before = answer_is_stored
    result = await engine.summarise(job, SessionStatus.COMPLETED, with_client_request_id=False)
    assert store.before is nothing_more
    assert (result, await engine.state(job)) == (SummaryResult.SETTLED, "completed")
    assert await engine.settler.apply_all_early() == ""
    wanted = {"early-summary": Page()}
    assert await store.records(wanted, now=store.clock.now()) == {"early-summary": []}
