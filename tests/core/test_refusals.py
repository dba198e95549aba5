"""A campaign that is refused for one reason stops itself; one with bad rows goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.stores import BACKENDS, running
from tests.support.voices import Answer, ScriptedVoice, created, refused
from tests.support.workers import NO_WEBHOOKS, enqueued, states, worker_for
from voiceflow_worker import CallQueue, JobState
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.ports.store import Page
from voiceflow_worker.core.settling.settle import PostAnswer
from voiceflow_worker.core.settling.stops import RUNS, AnswerCode, BatchStops, RefusalRuns
from voiceflow_worker.model.jobs.gate import GateScope, GateState
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import StopRules
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

NO_VOICE, NO_SOURCE, BAD_NUMBER, SOURCE_NOT_LISTED = -1002, -1014, -1017, -2008


store = running(*BACKENDS)


async def drained(store: Store, voice: ScriptedVoice, *, concurrency: int = 5) -> None:
    await worker_for(store, voice, concurrency=concurrency).drain()


@pytest.mark.parametrize("code", [NO_VOICE, NO_SOURCE])
async def test_a_campaign_that_is_refused_for_one_reason_is_held_and_goes_on_once_that_is_mended(
    store: Store, code: int
) -> None:
    queue, voice = (
        await enqueued(store, 60, batch_id="people"),
        ScriptedVoice(answer=lambda _: refused(code, "it is not allowed")),
    )
    await drained(store, voice)
    failed = (await states(queue))["failed"]
    assert 10 <= failed <= 10 + 5  # and what was in flight
    [gate] = await gates_of(store, "default")
    assert (gate.scope, gate.name, gate.state, gate.until) == (GateScope.BATCH, "people", GateState.HELD, None)
    assert str(code) in gate.reason
    assert ("en-IE-EmilyNeural" if code == NO_VOICE else "+6531234567") in gate.reason
    voice.answer = None
    await queue.resume(batch_id="people")
    await drained(store, voice)
    assert await states(queue) == {"failed": failed, "accepted": 60 - failed}


async def test_calls_without_a_batch_hold_the_queue(store: Store) -> None:
    queue, voice = await enqueued(store, 60, batch_id=None), ScriptedVoice(answer=lambda _: refused(NO_VOICE))
    await drained(store, voice)
    assert 10 <= (await states(queue))["failed"] <= 15
    [gate] = await gates_of(store, "default")
    assert gate.scope is GateScope.QUEUE


@pytest.mark.parametrize("batch_id", ["people", None])
async def test_a_person_who_resumes_lets_all_workers_count_anew(store: Store, batch_id: str | None) -> None:
    """Calls in flight are refused after the hold; one of the two workers is gone when the person resumes."""
    queue = await enqueued(store, 1, batch_id=batch_id)
    [job] = await queue.find()
    here, gone = RefusalRuns(store), RefusalRuns(store)
    for each in [here] * 4 + [gone] * 5:
        await each.note([AnswerCode(job, NO_VOICE)])
    await queue.resume(batch_id=batch_id)
    for _ in range(9):
        await here.note([AnswerCode(job, NO_VOICE)])
    assert list(await gates_of(store, "default")) == []
    await here.note([AnswerCode(job, NO_VOICE)])
    [gate] = await gates_of(store, "default")
    assert "10 calls in a row" in gate.reason


async def test_a_person_who_resumes_one_batch_lets_the_runs_of_others_stand(store: Store) -> None:
    queue = await enqueued(store, 1, batch_id="people")
    [job] = await queue.find()
    runs = RefusalRuns(store)
    for _ in range(9):
        await runs.note([AnswerCode(job, NO_VOICE)])
    for other in ("peopl", "people2", None):
        await queue.resume(batch_id=other)
    await runs.note([AnswerCode(job, NO_VOICE)])
    assert len(await gates_of(store, "default")) == 1


async def test_the_run_is_over_when_a_call_is_taken(store: Store) -> None:
    def answer(placement: Placement) -> Answer:
        return created(f"s-{placement.client_request_id}") if len(voice.placed) % 10 == 0 else refused(NO_VOICE)

    queue, voice = await enqueued(store, 60, batch_id="people"), ScriptedVoice(answer=answer)
    await drained(store, voice, concurrency=1)
    assert await states(queue) == {"failed": 54, "accepted": 6}
    assert list(await gates_of(store, "default")) == []


async def test_refusals_of_short_processes_are_in_a_row_only_if_no_process_had_a_success(store: Store) -> None:
    """Each process sends six calls: five are taken, and one is refused."""
    queue = await enqueued(store, 90, batch_id="people")
    for _ in range(12):
        voice = ScriptedVoice(answers=[*(created(f"s-{each}") for each in range(5)), refused(NO_VOICE)])
        engine = Engine(store, voice, policy=NO_WEBHOOKS)
        await engine.send(limit=6)
    assert (await states(queue))["failed"] == 12
    assert list(await gates_of(store, "default")) == []
    for _ in range(10):
        await Engine(store, ScriptedVoice(answer=lambda _: refused(NO_VOICE)), policy=NO_WEBHOOKS).send(limit=1)
    [gate] = await gates_of(store, "default")
    assert "10 calls in a row" in gate.reason


async def test_two_processes_that_count_at_once_lose_no_refusal(store: Store) -> None:
    await enqueued(store, 1, batch_id="people")
    [job] = await CallQueue(store).find()

    others = iter([None])

    async def other(call: StoreCall) -> None:
        if call.name == "write" and next(others, call) is None:
            await RefusalRuns(store).note([AnswerCode(job, NO_VOICE)])

    await RefusalRuns(FaultyStore(store, before=other)).note([AnswerCode(job, NO_VOICE)])
    runs = (await store.records({RUNS: Page()}, now=store.clock.now()))[RUNS]
    assert [json.loads(record.value)["length"] for record in runs] == [2]


async def test_refusals_that_are_settled_together_are_counted_together(store: Store) -> None:
    """Other verdicts wait for the trips to the store."""
    await enqueued(store, 9, batch_id="people")
    faulty = FaultyStore(store)
    engine = Engine(faulty, ScriptedVoice(), policy=NO_WEBHOOKS)
    jobs = [job for dispatch in await engine.prepare() if (job := await engine.journal_of(dispatch)) is not None]
    made = faulty.made.copy()
    verdict = refused(NO_VOICE)
    await engine.settler.verdicts([PostAnswer(job, 1, verdict, store.clock.now()) for job in jobs])
    trips = faulty.made - made
    assert trips["write"] == 2  # the verdicts, and the run
    assert trips["records"] == 2  # of the rules and of the run, however many refusals there are
    runs = (await store.records({RUNS: Page()}, now=store.clock.now()))[RUNS]
    assert [json.loads(record.value)["length"] for record in runs] == [9]


async def test_what_blames_the_row_holds_nothing(store: Store) -> None:
    queue, voice = await enqueued(store, 40, batch_id="people"), ScriptedVoice(answer=lambda _: refused(BAD_NUMBER))
    await drained(store, voice)
    assert await states(queue) == {"failed": 40}
    assert list(await gates_of(store, "default")) == []


@dataclass(frozen=True)
class Limited:
    limit: int
    failed: Sequence[int]


@pytest.mark.parametrize("limited", [Limited(3, range(3, 9)), Limited(0, [40])])
async def test_a_batch_may_have_another_limit_or_none(store: Store, limited: Limited) -> None:
    queue, voice = await enqueued(store, 40, batch_id="people"), ScriptedVoice(answer=lambda _: refused(NO_VOICE))
    await BatchStops(store, "default").put("people", StopRules(after_refused=limited.limit))
    await drained(store, voice)
    assert (await states(queue))["failed"] in limited.failed


@pytest.mark.parametrize("code", [NO_VOICE, NO_SOURCE, -2003, -2005, -2006])
async def test_summaries_with_one_fault_of_all_calls_hold_the_batch_and_no_call_is_redialled(
    store: Store, engine: Engine, code: int
) -> None:
    redial = RedialPolicy(on=frozenset({SessionStatus.ERROR}), limit=2, after=timedelta())
    for place in range(14):
        await engine.enqueue(number(place), batch_id="people", redial=redial if code < -2000 else None)
    sent = [job for _ in range(2) for job in await engine.send()]
    assert len(sent) == 14
    # That nobody answers or a line is busy says nothing of a file; that somebody answers does.
    between = SessionStatus.BUSY if code < -2000 else SessionStatus.ERROR
    for place, job in enumerate(sent[:4]):
        await engine.summarise(job, SessionStatus.COMPLETED if place == 2 else between, code=None)
    for place, job in enumerate(sent[4:]):
        assert list(await gates_of(store, "default")) == [], place
        for _ in range(2):
            await engine.summarise(job, SessionStatus.ERROR, code=code)
    [gate] = await gates_of(store, "default")
    assert (gate.scope, gate.name, gate.state, gate.until) == (GateScope.BATCH, "people", GateState.HELD, None)
    assert f"({code}, 10 calls in a row)" in gate.reason
    assert await engine.send() == []
    assert [(await engine.queue.get(job.id)).state for job in sent[4:]] == [JobState.FAILED] * 10


async def test_summaries_that_refuse_the_source_hold_the_batch(store: Store, engine: Engine) -> None:
    for place in range(12):
        await engine.enqueue(number(place), batch_id="people")
    sent = [job for _ in range(2) for job in await engine.send()]
    for place, job in enumerate(sent[:10]):
        assert list(await gates_of(store, "default")) == [], place
        for _ in range(2):  # a repeated one does not count
            await engine.summarise(job, SessionStatus.FAILED, code=SOURCE_NOT_LISTED)
    [gate] = await gates_of(store, "default")
    assert (gate.scope, gate.name) == (GateScope.BATCH, "people")
    assert "-2008" in gate.reason
    assert "+6531234567" in gate.reason
    assert (await engine.queue.get(sent[0].id)).state is JobState.FAILED
