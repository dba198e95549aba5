"""What follows from an answer is judged once, when it comes, and no evidence is dropped until it is stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine, ScriptedEngine
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.flows import flow, number
from tests.support.manual_time import passing, time_passing
from tests.support.plain_jobs import NOW, POLICY, sending
from tests.support.stores import clocked
from tests.support.voices import GatedVoice, ScriptedVoice, created, turned_away, unknown
from tests.support.workers import at_work, enqueued, set_limits, states, worker_for
from voiceflow_worker import CallQueue, JobState
from voiceflow_worker.core.base.reading import count_states, gates_of
from voiceflow_worker.core.ports import Limits, Placement
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.settle import SummaryResult, outcome_of
from voiceflow_worker.errors import (
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreNotDurableError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, NotSentCause, QueueHold, Verdict, VerdictKind
from voiceflow_worker.reporting.story import story

pytestmark = pytest.mark.anyio

S = SessionStatus
AWAY, HOUR, SECOND = timedelta(seconds=12), timedelta(hours=1), timedelta(seconds=1)
EVERYTHING = ("",)
A_429 = Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429, hold=QueueHold(reason="429"))

store = clocked("memory", within=FaultyStore)


def expired(date: datetime) -> Verdict:
    return Verdict(kind=VerdictKind.REFUSED, message="expired", code=-1015, http_status=400, server_date=date)


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
    engine = Engine(store, Answers(store, expired(clock.now())))
    job = await engine.enqueue(valid_for=HOUR)
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
        async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:  # noqa: ARG002
            await before_first_byte()
            date = clock.now() + off * SECOND
            clock.advance(AWAY)
            return expired(date)

    engine = Engine(store, Slow())
    await engine.enqueue(valid_for=HOUR)
    await engine.send()
    assert ["clock" in gate.reason for gate in await gates(store)] == [True] * held


async def test_a_retry_after_counts_from_its_answer(store: FaultyStore, clock: ManualClock) -> None:
    voice = Answers(store, turned_away(429, retry_after=60 * SECOND))
    engine = Engine(store, voice)
    job = await engine.enqueue()
    await passing(clock, engine.send)
    assert voice.answered_at is not None
    opens = voice.answered_at + 60 * SECOND
    assert [gate.until for gate in await gates(store)] == [opens]
    after = await engine.queue.get(job.id)
    assert (after.due_at, after.posts[-1].answered_at) == (opens, voice.answered_at)


async def test_a_429_without_a_time_doubles_the_pause_once_however_often_it_is_offered(
    store: FaultyStore, clock: ManualClock
) -> None:
    engine = Engine(store, Answers(store, A_429))
    await engine.enqueue()
    await passing(clock, engine.send)
    gate = engine.holds.close(QueueHold(reason="429"))
    assert gate.until is not None
    assert gate.until - clock.now() == 2 * SECOND
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

    await passing(clock, engine.send, resume)
    assert await gates(store) == []


async def test_a_call_that_misses_its_slot_goes_back_and_is_in_no_doubt(
    store: FaultyStore, clock: ManualClock, voice: ScriptedVoice
) -> None:
    await set_limits(store, "default", Limits(rate=10))
    engine = Engine(store, voice, rate=10)
    job = await engine.enqueue()

    async def stalls(call: StoreCall) -> None:
        if call.stores:
            clock.advance(SECOND)

    store.after = stalls
    await engine.send()
    after = await engine.queue.get(job.id)
    assert (voice.placed, after.state, after.attempt, after.failures) == ([], JobState.QUEUED, 0, 0)
    assert after.posts[-1].verdict is VerdictKind.NOT_SENT


@pytest.mark.parametrize("cause", [*NotSentCause, None])
async def test_only_a_way_to_8x8_that_fails_makes_a_worker_pause(
    store: FaultyStore, clock: ManualClock, cause: NotSentCause | None
) -> None:
    """With a slow limiter calls are late, and there is nothing to wait for."""
    await enqueued(store, 2)
    voice = ScriptedVoice(answers=[Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message="not sent")])
    began = clock.now()
    await passing(clock, worker_for(store, voice, concurrency=1).drain)
    paused = voice.placed[1][0] - began
    if cause in {None, NotSentCause.UNREACHABLE, NotSentCause.FAULT}:
        assert 0.2 * SECOND < paused < SECOND
    else:
        assert not paused


async def test_an_answer_that_its_bearer_takes_for_stored_is_compared_with_what_the_store_has(
    engine: ScriptedEngine,
) -> None:
    """A worker whose commit was rolled back remembers a job that knows the answer; the store does not."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()
    remembered = answered(sending, 1, created("s-1"), at=engine.clock.now(), policy=POLICY)
    assert remembered.state is JobState.SUBMITTED
    await engine.verdict(remembered, 1, created("s-1"))
    stored = await engine.queue.get(job.id)
    assert (stored.state, stored.session_id) == (JobState.SUBMITTED, "s-1")


async def test_a_summary_that_is_early_while_its_session_is_being_named_settles_its_call_at_once(
    store: FaultyStore, engine: ScriptedEngine
) -> None:
    """The answer is stored between the look and the parking: nobody would look again before the sweep."""
    job = await engine.enqueue()
    (sending,) = await engine.journal()

    async def answer_is_stored(call: StoreCall) -> None:
        if call.name == "write":
            store.before = nothing
            await engine.verdict(sending, 1, created(f"session-{job.id}.1"))

    store.before = answer_is_stored
    result = await engine.summarise(job, S.COMPLETED, with_client_request_id=False)
    assert store.before is nothing
    assert (result, await engine.state(job)) == (SummaryResult.SETTLED, "completed")
    assert await store.records({"early-summary": Page()}, now=store.clock.now()) == {"early-summary": []}


STATUSES = ("COMPLETED", "NO ANSWER", "BUSY", "CANCELED", "FAILED", "ERROR")
PERSON, OTHER = "6587654321", "15550100"
ANY = RedialPolicy(on=frozenset(set(S) - REACHED - OPT_OUTS), limit=1, after=timedelta(0))


def ended(first: str, second: str, status: str) -> Job:
    """A call that may be redialled, after the summary of a session with these two legs."""

    def leg(to: str, status: str) -> dict[str, Any]:
        answered = {"connectedTimestamp": "2026-11-20T08:00:10.000Z"} if status == "COMPLETED" else {}
        told = {"callId": f"c-{to}", "destination": to, "callStatus": status}
        return {**told, "callDuration": 37 if answered else 0, **answered}

    details = {"callA": leg(PERSON, first), "callB": leg(OTHER, second)}
    payload = {"sessionId": "s-1", "sessionStatus": status, "callCount": 2, "details": details}
    event = parse_event({"namespace": "VOICE", "eventType": "SESSION_SUMMARY", "payload": payload})
    assert isinstance(event, SessionSummary)
    return summarised(sending(redial=ANY), 1, outcome_of(event), at=NOW, policy=POLICY)


def test_who_answered_is_never_rung_again_whatever_became_of_the_other_party() -> None:
    """The status of the session is that of the second leg once the first was answered (number masking guide)."""
    for second, first in product(STATUSES, STATUSES):
        job = ended(first, second, second if first == "COMPLETED" else first)
        assert job.state is (JobState.COMPLETED if first == "COMPLETED" else JobState.QUEUED)


def test_the_outcome_keeps_the_status_of_the_session_and_tells_of_each_leg() -> None:
    job = ended("COMPLETED", "BUSY", "BUSY")
    shown: Any = call_as_json(job)["outcome"]
    legs = [(leg["destination"], leg["status"], leg["seconds"]) for leg in shown["legs"]]
    assert (shown["session_status"], legs) == (
        "BUSY", [(f"+{PERSON}", "COMPLETED", 37.0), (f"+{OTHER}", "BUSY", 0.0)],
    )  # fmt: skip
    lines = "\n".join(story(job, at=job.created_at).lines())
    assert "status COMPLETED" in lines
    assert f"+{OTHER} BUSY" in lines


async def test_a_session_status_that_nobody_knows_is_settled_by_the_persons_leg(engine: ScriptedEngine) -> None:
    job = await engine.enqueue(redial=ANY)
    await engine.send()
    told = SessionSummary(
        status=None, status_text="SOMETHING_NEW", client_request_id=f"{job.id}.1",
        call_a=CallLeg(destination=job.destination, status="COMPLETED"), call_b=leg("BUSY", OTHER),
    )  # fmt: skip
    assert await engine.settler.summary(told) is SummaryResult.SETTLED
    assert await engine.state(job) == "completed"


def leg(status: str, destination: str | None = None) -> CallLeg:
    return CallLeg(status=status, destination=destination)


@pytest.mark.parametrize(
    ("session", "legs", "expected"),
    [
        (S.BUSY, [], S.BUSY),
        # One leg alone: as the session says, unless it shows that the person answered, or that the other was called.
        (S.BUSY, [leg("BUSY", PERSON)], S.BUSY),
        (S.NO_ANSWER, [leg("NO ANSWER")], S.NO_ANSWER),
        (S.ERROR, [leg("COMPLETED", PERSON)], S.ERROR),
        (S.BUSY, [leg("COMPLETED")], S.COMPLETED),
        (S.BUSY, [leg("COMPLETED", PERSON)], S.COMPLETED),
        (S.NO_ANSWER, [leg("NO ANSWER", OTHER)], S.COMPLETED),
        (S.FAILED, [leg("FAILED", OTHER)], S.COMPLETED),
        (S.CANCELED, [leg("CANCELED", OTHER)], S.CANCELED),  # who hung up first is not said
        (S.NO_ANSWER, [leg("NO ANSWER", "87654321")], S.NO_ANSWER),
        (S.NO_ANSWER, [leg("NO ANSWER", "6587****21")], S.NO_ANSWER),
        (S.BUSY, [leg("COMPLETED", "+1"), leg("BUSY")], S.COMPLETED),
        # The second in the list may be the person's own, with a digit that is dialled within the country only, too.
        (S.BUSY, [leg("BUSY", OTHER), leg("COMPLETED", PERSON)], S.COMPLETED),
        (S.BUSY, [leg("BUSY", OTHER), leg("COMPLETED", "660812345678")], S.COMPLETED),
        # A request to be left alone in this call counts, whatever became of the legs.
        (S.COMPLETED_UNSUBSCRIBED, [leg("COMPLETED"), leg("BUSY")], S.COMPLETED_UNSUBSCRIBED),
        # The block list held the other party: the person was reached.
        (S.UNSUBSCRIBED_CONTACT, [leg("COMPLETED"), leg("FAILED")], S.COMPLETED),
        (S.UNSUBSCRIBED_CONTACT, [leg("FAILED"), leg("CANCELED")], S.UNSUBSCRIBED_CONTACT),
        (S.NO_ANSWER, [leg("NO ANSWER"), leg("CANCELED")], S.NO_ANSWER),
        (S.BUSY, [leg("SOMETHING_NEW"), leg("BUSY")], S.BUSY),
    ],
)
def test_the_status_of_the_call_to_the_person(session: S, legs: list[CallLeg], expected: S) -> None:
    """Of one leg: what may be half of the session, as a row of the log whose other one has not come yet."""
    told = Outcome(status=session, status_text=session.value, legs=tuple(legs), is_partial=len(legs) == 1)
    person = "+66812345678" if any(each.destination == "660812345678" for each in legs) else f"+{PERSON}"
    assert told.status_of(person) is expected


@pytest.mark.parametrize("session", [S.NO_ANSWER, S.BUSY, S.FAILED])
def test_of_a_session_that_had_one_leg_its_own_status_stands(session: S) -> None:
    told = Outcome(status=session, status_text=session.value, legs=(leg("COMPLETED", PERSON),))
    assert told.status_of(f"+{PERSON}") is session


@pytest.mark.parametrize(
    ("told", "partial"),
    [
        ({"call_count": None, "call_a": leg("COMPLETED")}, False),
        ({"call_count": 1, "call_a": leg("COMPLETED")}, False),
        ({"call_count": 2, "call_a": leg("COMPLETED")}, True),
        ({"call_b": leg("BUSY")}, True),
    ],
)
def test_a_summary_is_partial_when_it_counts_more_calls_than_it_tells_of_or_tells_of_the_second_party_alone(
    told: dict[str, Any], *, partial: bool
) -> None:
    assert outcome_of(SessionSummary(status=S.BUSY, **told)).is_partial is partial


ANYTHING = (
    StoreUnavailableError("away"),
    StoreUnavailableError("refused", passes=False),
    StoreNotDurableError("forgets"),
    StoreCorruptError("a table is not there"),
    StoreVersionError("of another version"),
    StoreError("refused a statement"),
    SettingsError("a role's default was changed"),
    OSError("no file descriptors"),
    ValueError("an answer that cannot be read"),
    RuntimeError("a mistake of ours"),
    ExceptionGroup("a group", [ValueError("within it")]),
)


def placed(placement: Placement) -> Verdict:
    return created(placement.client_request_id)


def held(placement: Placement) -> Verdict:
    return turned_away(403, placement.client_request_id, until_opened=True)


async def test_a_verdict_that_waits_for_the_store_keeps_no_call_from_being_sent(
    store: FaultyStore, clock: ManualClock
) -> None:
    """After a doubt, one call at a time has no answer. The verdict of the doubt itself cannot be stored."""
    doubted: list[str] = []

    async def fails(call: StoreCall) -> None:
        if doubted and call.name == "write" and any(
            any(each.job.id == doubted[0] for each in write.changes)
            for write in call.arguments[0].writes
        ):  # fmt: skip
            raise StoreUnavailableError("away")

    def answers(placement: Placement) -> Verdict:
        doubted.extend([] if doubted else [placement.client_request_id.rpartition(".")[0]])
        is_first = placement.client_request_id.startswith(doubted[0])
        return unknown() if is_first else created(placement.client_request_id)

    voice = ScriptedVoice(answer=answers)
    queue = await enqueued(store, 1)
    worker = worker_for(store, voice)

    async def work() -> None:
        async with at_work(worker):
            await clock.sleep(3)
            await queue.enqueue(flow(number(7)))
            await clock.sleep(5)
            assert len(voice.placed) > 1, "the others are sent"
            store.before = nothing

    store.before = fails
    await passing(clock, work)


@pytest.mark.parametrize(("error", "answer"), combinations(ANYTHING, [placed, held]))
async def test_a_verdict_is_kept_until_it_is_stored(
    store: FaultyStore, clock: ManualClock, error: Exception, answer: Callable[[Placement], Verdict]
) -> None:
    """Every trip fails for a while after the answer; then the store works again."""
    answered_at: list[float] = []
    failed = 0

    async def fails(_: StoreCall) -> None:
        nonlocal failed
        if answered_at and clock.monotonic() < answered_at[0] + 20:
            failed += 1
            raise error

    def answers(placement: Placement) -> Verdict:
        answered_at.append(clock.monotonic())
        return answer(placement)

    voice = ScriptedVoice(answer=answers)
    queue = await enqueued(store, 1)
    worker = worker_for(store, voice)

    async def work() -> None:
        async with at_work(worker):
            while not answered_at or clock.monotonic() < answered_at[0] + 25:
                await clock.sleep(0.5)

    store.before = fails
    try:
        await passing(clock, work)
    except* (StoreCorruptError, StoreVersionError):
        pass  # a worker ends for these, and keeps its verdicts until then
    store.before = nothing
    assert failed
    assert "sending" not in await states(queue)
    assert "in_doubt" not in await states(queue)
    assert len(voice.placed) == 1
    assert sum(worker.counts.task_failures.values())


CALLS = 20


async def drained(store: FaultyStore, clock: ManualClock) -> CallQueue:
    """A queue of calls after a worker without a rate has sent them."""
    queue = await enqueued(store, CALLS)
    await passing(clock, worker_for(store, ScriptedVoice(), concurrency=CALLS).drain)
    return queue


class OneAnswerVoice(GatedVoice):
    """Answers the first POST at once. The others wait until `open` is set."""

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        if not self.placed:
            self.placed.append(placement)
            await before_first_byte()
            return created(f"session-{placement.client_request_id}")
        return await super().place(placement, before_first_byte=before_first_byte)


@pytest.mark.parametrize("slots", [2, 20])
async def test_a_worker_takes_the_next_call_as_soon_as_a_slot_is_free(
    store: FaultyStore, clock: ManualClock, slots: int
) -> None:
    await enqueued(store, slots + 1)
    voice = OneAnswerVoice(bytes_left=True)
    worker = worker_for(store, voice, concurrency=slots)
    began = clock.monotonic()
    async with time_passing(clock, step=timedelta(milliseconds=1)), anyio.create_task_group() as group:
        group.start_soon(worker.run)
        with anyio.fail_after(60):
            await voice.reached(slots)
        assert clock.monotonic() - began < 1, "not at its next look at the queue"
        worker.stop()
        voice.open.set()
    assert len(voice.placed) == slots + 1


@pytest.mark.parametrize("fault", [StoreUnavailableError("away"), OSError(24, "Too many open files")], ids=str)
async def test_verdicts_that_the_store_does_not_take_together_are_stored_one_by_one(
    store: FaultyStore, clock: ManualClock, fault: Exception
) -> None:
    refused = 0

    async def refuse(call: StoreCall) -> None:
        nonlocal refused
        if any(job.state is JobState.ACCEPTED for job in call.stores) and refused < 3:
            refused += 1
            raise fault

    store.before = refuse
    queue = await drained(store, clock)
    counts = await count_states(store, queue.name)
    assert (refused, counts[JobState.ACCEPTED]) == (3, CALLS)
