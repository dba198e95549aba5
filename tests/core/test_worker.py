"""The worker as its user sees it: what was placed, how fast, where each job ended, and which refusals stop it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.loops import either_loop
from tests.support.manual_time import all_blocked, passing_beside
from tests.support.stores import BACKENDS, running, url_for
from tests.support.voices import Answer, GatedVoice, ScriptedVoice, created, refused, turned_away, unknown
from tests.support.waiting import until
from tests.support.workers import NO_WEBHOOKS, at_work, enqueued, states, worker_for
from voiceflow_worker import (
    CallFlow,
    CallPolicy,
    CallQueue,
    Job,
    JobState,
    VoiceClient,
    Worker,
    WorkerOptions,
    open_store,
)
from voiceflow_worker.backends.sqlite import wakeup
from voiceflow_worker.core import worker as worker_module
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.heartbeats import LIMITS_DIFFER
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.settling.circuit_breakers import Answer as Refusal
from voiceflow_worker.core.settling.circuit_breakers import CircuitBreakers
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.gateway.wire import body_of
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import EncodedBody, body_digest
from voiceflow_worker.model.jobs.gate import GateScope, GateState
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import read_person_limit
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio

store = running(*BACKENDS)


async def is_held(queue: CallQueue) -> bool:
    return bool((await queue.status()).holds)


@either_loop
async def test_a_drain_places_every_call_once(store: Store) -> None:
    queue, voice = await enqueued(store, 120), ScriptedVoice()
    result = await worker_for(store, voice).drain()
    assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1
    assert len(voice.placed) == 120
    assert await states(queue) == {"accepted": 120}
    assert not result.stopped_by_hold


async def test_no_more_than_the_concurrency_is_in_the_air_or_leased(store: Store) -> None:
    queue, voice = await enqueued(store, 40), GatedVoice(bytes_left=True)
    worker = worker_for(store, voice, concurrency=4)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.drain)
        await voice.reached(4)
        assert worker.in_flight == 4
        assert await states(queue) == {"queued": 36, "sending": 4}
        voice.open.set()
    assert await states(queue) == {"accepted": 40}


def _has_placed(voice: ScriptedVoice, count: int) -> bool:
    return len(voice.placed) == count


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is idle at once, and looks once an hour then: whatever it sees earlier has woken it."""
    monkeypatch.setattr(worker_module, "IDLE_AFTER", 0.0)
    monkeypatch.setattr(worker_module, "IDLE_EVERY", 3600.0)


@pytest.mark.usefixtures("seldom")
async def test_an_idle_worker_sees_a_new_rate_at_once(store: Store) -> None:
    queue = await enqueued(store, 0)
    with capture_logs() as logs:
        async with at_work(worker_for(store, ScriptedVoice(), rate=5)):
            await anyio.sleep(0.1)  # it begins to wait
            await queue.set_rate(7)
            with anyio.fail_after(1):
                await until(lambda: any("rate of the queue was changed" in each["event"] for each in logs))


async def test_a_worker_that_waits_for_a_slow_rate_sees_a_faster_one_within_a_second(store: Store) -> None:
    queue, voice = await enqueued(store, 3), ScriptedVoice()
    await queue.set_rate(0.01)
    async with at_work(worker_for(store, voice)):
        await until(lambda: len(voice.placed) == 1)
        await queue.set_rate(100)
        with anyio.fail_after(2):
            await until(lambda: len(voice.placed) == 3)


async def _has(queue: CallQueue, state: JobState) -> bool:
    return bool(await queue.find(states=[state]))


@pytest.mark.parametrize("other", ["5/1d", None])
async def test_of_workers_with_different_limits_per_person_the_smallest_counts_and_is_reported(
    store: Store, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    monkeypatch.setattr(worker_module, "EVERY", timedelta(milliseconds=50))
    queue, voice = CallQueue(store), ScriptedVoice()

    def one(limit: str | None) -> Worker:
        policy = replace(CallPolicy(), max_per_person=None if limit is None else read_person_limit(limit))
        return Worker(store, voice, rate=None, options=WorkerOptions(policy=policy))

    with capture_logs() as logs:
        async with at_work(one(other), one("1/1d")):
            await until(lambda: sum(LIMITS_DIFFER in each["event"] for each in logs) == 2)
            jobs = [await queue.enqueue(flow(number(1)), unique_key=f"call {place}") for place in range(3)]
            await until(lambda: len(voice.placed) == 1)
            await until(lambda: _has(queue, JobState.SUBMITTED))
            (rung,) = await queue.find(states=[JobState.SUBMITTED])
            await Engine(store, voice).summarise(rung, SessionStatus.NO_ANSWER)

            async def are_capped() -> bool:
                found = [(await queue.get(job.id)).reason or "" for job in jobs]
                return sum("has had 1 attempt within 1d" in each for each in found) == 2

            await until(are_capped)
            told = [each for each in (await read_queue(queue)).conditions if each.check == "workers"]
            assert [each.message for each in told] == [
                f"{LIMITS_DIFFER} (1/1d, {other or 'none'}): the fewest calls in the longest time count"
            ]
    assert len(voice.placed) == 1


async def test_one_file_under_two_names_wakes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "LOOK_EVERY", 3600.0)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "other.db").symlink_to(tmp_path / "real" / "calls.db")
    voice = ScriptedVoice()
    async with open_store(f"sqlite:///{tmp_path}/real/calls.db") as store, at_work(worker_for(store, voice)):
        await anyio.sleep(0.1)  # it begins to wait
        for place, name in enumerate(("link/calls.db", "other.db"), 1):
            async with open_store(f"sqlite:///{tmp_path}/{name}") as other:
                await CallQueue(other).enqueue(flow(number(place)))
                with anyio.fail_after(0.9):
                    await until(partial(_has_placed, voice, place))


class TestStop:
    async def test_calls_in_flight_are_finished_and_no_new_ones_begun(self, store: Store) -> None:
        queue, voice = await enqueued(store, 20), GatedVoice(bytes_left=True)
        worker = worker_for(store, voice, concurrency=5)
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await voice.reached(5)
            worker.stop()
            voice.open.set()
        assert len(voice.placed) == 5
        assert await states(queue) == {"accepted": 5, "queued": 15}

    @pytest.mark.parametrize(("bytes_left", "state"), [(True, "in_doubt"), (False, "queued")])
    async def test_a_second_stop_ends_at_once_and_loses_nothing(
        self, store: Store, bytes_left: bool, state: str
    ) -> None:
        queue, voice = await enqueued(store, 3), GatedVoice(bytes_left=bytes_left)
        worker = worker_for(store, voice)
        async with at_work(worker):
            await voice.reached(3)
            worker.stop()
        assert await states(queue) == {state: 3}
        attempts = {job.attempt for job in await queue.find()}
        assert attempts == {1 if bytes_left else 0}

    async def test_what_does_not_finish_within_the_grace_is_doubted(self, store: Store) -> None:
        queue, voice = await enqueued(store, 2), GatedVoice(bytes_left=True)
        worker = worker_for(store, voice, options={"shutdown_grace": timedelta(milliseconds=50)})
        async with at_work(worker):
            await voice.reached(2)
        assert await states(queue) == {"in_doubt": 2}


async def _cancel_scope(worker: Worker, cut: anyio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await cut.wait()
        group.cancel_scope.cancel()


async def _cancel_task(worker: Worker, cut: anyio.Event, *, times: int = 1) -> None:
    task = asyncio.create_task(worker.run())
    await cut.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task


async def _time_out(worker: Worker, cut: anyio.Event) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(worker.run(), 0.3)
    assert cut.is_set()


async def _fail_neighbour(worker: Worker, cut: anyio.Event) -> None:
    async def fail() -> None:
        await cut.wait()
        raise ValueError("a neighbour failed")

    with pytest.RaisesGroup(ValueError):
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            group.create_task(fail())


Cancels = Callable[[Worker, anyio.Event], Coroutine[Any, Any, None]]
ON_ASYNCIO: list[Cancels] = [_cancel_task, partial(_cancel_task, times=3), _time_out, _fail_neighbour]


@pytest.mark.parametrize(
    ("anyio_backend", "cancels"),
    [("trio", _cancel_scope), *(("asyncio", each) for each in (_cancel_scope, *ON_ASYNCIO))],
)
async def test_cancelled_worker_waits_for_the_answers_of_its_calls(cancels: Cancels) -> None:
    async with open_store("memory://") as store:
        queue, voice, cut = await enqueued(store, 3), GatedVoice(bytes_left=True), anyio.Event()
        worker = worker_for(store, voice, concurrency=3)

        async def answer() -> None:
            await voice.reached(3)
            await queue.enqueue(flow(number(9)))
            cut.set()
            await anyio.sleep(0.5)
            voice.open.set()

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            await cancels(worker, cut)
        assert await states(queue) == {"accepted": 3, "queued": 1}


async def test_cancelled_worker_puts_unanswered_calls_in_doubt_after_its_grace() -> None:
    async with open_store("memory://") as store:
        queue, voice = await enqueued(store, 1), GatedVoice(bytes_left=True)
        worker = worker_for(store, voice, options={"shutdown_grace": timedelta(seconds=0.1)})
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await voice.reached(1)
                group.cancel_scope.cancel()
        assert await states(queue) == {"in_doubt": 1}


async def test_worker_runs_once_and_with_an_open_client_only() -> None:
    async with open_store("memory://") as store:
        with pytest.raises(RuntimeError, match="inside the client's `async with`"):
            await worker_for(store, VoiceClient("key", "sub")).run()
        worker = worker_for(store, ScriptedVoice())
        await worker.drain()
        with pytest.raises(RuntimeError, match="Make a new Worker for each run"):
            await worker.run()


async def test_an_idle_worker_stops_at_once() -> None:
    """On a clock that stands still: only an event ends its wait, never its next look."""
    async with open_store("memory://", clock=ManualClock()) as store, at_work(worker_for(store, ScriptedVoice())):
        await all_blocked()


async def test_a_store_that_goes_away_while_an_idle_worker_waits_does_not_end_it(tmp_path: Path) -> None:
    async with open_store(url_for("sqlite", tmp_path)) as store:
        waits: list[str] = []

        async def lost(call: StoreCall) -> None:
            if call.name == "wait":
                waits.append(call.name)
                if len(waits) == 2:
                    raise StoreUnavailableError("connection lost")

        voice = GatedVoice(bytes_left=True)
        voice.open.set()
        worker = worker_for(FaultyStore(store, before=lost), voice)
        async with at_work(worker):
            await until(lambda: len(waits) > 2)
            await CallQueue(store, policy=NO_WEBHOOKS).enqueue(flow())
            await voice.arrived.wait()


class TestAnswersThatHold:
    async def test_after_a_401_only_the_calls_in_flight_have_seen_it_and_resume_finishes_the_rest(
        self, store: Store
    ) -> None:
        queue = await enqueued(store, 60)
        wrong_key = turned_away(401, "8x8 answered 401: check VOICEFLOW_API_KEY", until_opened=True)
        voice = ScriptedVoice(answer=lambda _: wrong_key)
        with capture_logs() as logs:
            result = await worker_for(store, voice, concurrency=5).drain()
        assert len(voice.placed) <= 5
        assert result.stopped_by_hold
        (error,) = (line for line in logs if line["log_level"] == "error")
        assert "VOICEFLOW_API_KEY" in error["reason"]
        assert "`voiceflow resume --queue default`" in error["remedy"]
        assert await states(queue) == {"queued": 60}

        voice.answer, voice.placed = None, []
        await queue.resume()
        result = await worker_for(store, voice, concurrency=5).drain()
        assert (len(voice.placed), result.stopped_by_hold) == (60, False)
        assert await states(queue) == {"accepted": 60}
        assert {job.attempt for job in await queue.find(limit=None)} == {1}

    async def test_a_drain_waits_for_a_short_hold_of_a_429_also_when_it_is_longer_than_a_retry(
        self, store: Store
    ) -> None:
        queue = await enqueued(store, 3)
        throttled = turned_away(429, retry_after=timedelta(seconds=25))
        voice = ScriptedVoice(answers=[throttled])
        check = DrainCheck(store, queue="default", batch_id=None, policy=NO_WEBHOOKS)
        async with anyio.create_task_group() as group:
            worker = worker_for(store, voice, concurrency=1)
            group.start_soon(worker.run)
            await until(lambda: is_held(queue))
            assert not await check.is_done()
            worker.stop()
        left = await check.result()
        assert (left.held, left.later) == (3, 0)


async def test_workers_that_share_a_slow_rate_hold_no_more_than_a_call_or_two_each() -> None:
    clock, voice = ManualClock(), ScriptedVoice()
    async with open_store("memory://", clock=clock) as store:
        queue = await enqueued(store, 60)
        workers = [worker_for(store, voice, rate=4) for _ in range(3)]

        async def held_after_three_seconds() -> None:
            for _ in range(12):
                await clock.sleep(0.25)
                assert sum(worker.in_flight for worker in workers) <= 6
            await queue.hold(reason="stop")
            before = len(voice.placed)
            await clock.sleep(1.5)
            assert len(voice.placed) - before <= 3
            assert 10 <= before <= 15
            for worker in workers:
                worker.stop()

        await passing_beside(clock, workers, held_after_three_seconds)
        assert await states(queue) == {"accepted": len(voice.placed), "queued": 60 - len(voice.placed)}


async def test_calls_for_later_and_calls_behind_a_hold_are_left_and_told(store: Store) -> None:
    queue = await enqueued(store, 4, batch="held")
    await queue.enqueue(flow("+6591000001"), not_before=store.clock.now() + timedelta(hours=1))
    await queue.enqueue(flow("+6591000002"))
    await queue.hold(batch_id="held", reason="the texts are wrong")
    voice = ScriptedVoice()
    result = await worker_for(store, voice).drain()
    assert (len(voice.placed), result.held, result.later) == (1, 4, 1)
    assert [gate.reason for gate in result.holds] == ["the texts are wrong"]


@pytest.mark.parametrize("answer", [RuntimeError("a bug"), unknown()], ids=["a gateway that raises", "no answer"])
async def test_a_doubt_is_reported_and_not_sent_again_and_stops_nothing_else(store: Store, answer: Answer) -> None:
    queue, voice = await enqueued(store, 5), ScriptedVoice(answers=[answer])
    result = await worker_for(store, voice).drain()
    assert (result.doubts, len(voice.placed)) == (1, 5)
    assert await states(queue) == {"accepted": 4, "in_doubt": 1}


NO_VOICE, NO_SOURCE, BAD_NUMBER, SOURCE_NOT_LISTED = -1002, -1014, -1017, -2008


async def drained(store: Store, voice: ScriptedVoice, *, concurrency: int = 5) -> None:
    await worker_for(store, voice, concurrency=concurrency).drain()


@pytest.mark.parametrize("code", [NO_VOICE, NO_SOURCE])
async def test_a_campaign_that_is_refused_for_one_reason_is_held_and_goes_on_once_that_is_mended(
    store: Store, code: int
) -> None:
    queue, voice = (
        await enqueued(store, 60, batch="people"),
        ScriptedVoice(answer=lambda _: refused(code, "it is not allowed")),
    )
    await drained(store, voice)
    failed = (await states(queue))["failed"]
    assert 10 <= failed <= 10 + 5  # and what was in flight
    [gate] = await gates_of(store, "default")
    assert (gate.scope, gate.name, gate.state, gate.until) == (GateScope.BATCH, "people", GateState.HELD, None)
    assert str(code) in gate.reason
    assert "+6531234567" in gate.reason
    voice.answer = None
    await queue.resume(batch_id="people")
    await drained(store, voice)
    assert await states(queue) == {"failed": failed, "accepted": 60 - failed}


async def test_calls_without_a_batch_hold_the_queue(store: Store) -> None:
    queue, voice = await enqueued(store, 60, batch=None), ScriptedVoice(answer=lambda _: refused(NO_VOICE))
    await drained(store, voice)
    assert 10 <= (await states(queue))["failed"] <= 15
    [gate] = await gates_of(store, "default")
    assert gate.scope is GateScope.QUEUE


async def test_refusals_in_a_row_hold_again_after_a_person_has_resumed(store: Store) -> None:
    queue = await enqueued(store, 1, batch="people")
    [job] = await queue.find()
    breakers = CircuitBreakers(store)
    for _ in range(2):
        for _ in range(9):
            await breakers.note([Refusal(job, NO_VOICE)])
        assert list(await gates_of(store, "default")) == []
        await breakers.note([Refusal(job, NO_VOICE)])
        [gate] = await gates_of(store, "default")
        assert "10 calls in a row" in gate.reason
        await queue.resume(batch_id="people")


async def test_the_run_is_over_when_a_call_is_taken(store: Store) -> None:
    def answer(placement: Placement) -> Answer:
        return created(f"s-{placement.client_request_id}") if len(voice.placed) % 10 == 0 else refused(NO_VOICE)

    queue, voice = await enqueued(store, 60, batch="people"), ScriptedVoice(answer=answer)
    await drained(store, voice, concurrency=1)
    assert await states(queue) == {"failed": 54, "accepted": 6}
    assert list(await gates_of(store, "default")) == []


async def test_what_blames_the_row_holds_nothing(store: Store) -> None:
    queue, voice = await enqueued(store, 40, batch="people"), ScriptedVoice(answer=lambda _: refused(BAD_NUMBER))
    await drained(store, voice)
    assert await states(queue) == {"failed": 40}
    assert list(await gates_of(store, "default")) == []


@pytest.mark.parametrize(
    ("code", "status"),
    [*((code, SessionStatus.ERROR) for code in (NO_VOICE, NO_SOURCE, -2003, -2005, -2006)),
     (SOURCE_NOT_LISTED, SessionStatus.FAILED)],
)  # fmt: skip
async def test_summaries_with_one_fault_of_all_calls_hold_the_batch_and_no_call_is_redialled(
    store: Store, engine: Engine, code: int, status: SessionStatus
) -> None:
    redial = RedialPolicy(on=frozenset({SessionStatus.ERROR}), limit=2, after=timedelta())
    for place in range(14):
        await engine.enqueue(number(place), batch="people", redial=redial if code < -2000 else None)
    sent = [job for _ in range(2) for job in await engine.send()]
    assert len(sent) == 14
    # That nobody answers or a line is busy says nothing of a file; that somebody answers does.
    between = SessionStatus.BUSY if code < -2000 else SessionStatus.ERROR
    for place, job in enumerate(sent[:4]):
        await engine.summarise(job, SessionStatus.COMPLETED if place == 2 else between, code=None)
    for place, job in enumerate(sent[4:]):
        assert list(await gates_of(store, "default")) == [], place
        for _ in range(2):
            await engine.summarise(job, status, code=code)
    [gate] = await gates_of(store, "default")
    assert (gate.scope, gate.name, gate.state, gate.until) == (GateScope.BATCH, "people", GateState.HELD, None)
    assert f"({code}, 10 calls in a row)" in gate.reason
    assert code != SOURCE_NOT_LISTED or "+6531234567" in gate.reason
    assert await engine.send() == []
    assert [(await engine.queue.get(job.id)).state for job in sent[4:]] == [JobState.FAILED] * 10


def body(destination: str, source: str, **more: object) -> dict[str, Any]:
    call = {"action": "makeCall", "params": {"source": source, "destination": destination}}
    say = {"action": "say", "params": {"text": "Grüße", "voiceProfile": "en-IE-EmilyNeural", "speed": 1.0}}
    return {"callflow": [call, say], **more}


async def posted(store: Store, given: dict[str, Any], **options: Any) -> tuple[Job, dict[str, Any]]:
    """The job of a body, and what its POST carried."""
    queue, voice = CallQueue(store, policy=NO_WEBHOOKS), ScriptedVoice()
    job = await queue.enqueue(CallFlow.parse(given), **options)
    await worker_for(store, voice).drain()
    assert (await queue.get(job.id)).state is JobState.ACCEPTED
    [(_, placement)] = voice.placed
    return job, orjson.loads(body_of(placement))


@pytest.mark.parametrize("plus", ["", "+"])
async def test_numbers_leave_as_the_caller_spelled_them(store: Store, plus: str) -> None:
    given = body(f"{plus}6587654321", f"{plus}6531234567")
    job, sent = await posted(store, given)
    assert sent.pop("clientRequestId") == f"{job.id}.1"
    assert sent.pop("validUntil")
    assert sent == given
    assert job.destination == "+6587654321"


@pytest.mark.parametrize(
    ("own", "named", "sent"),
    [
        (None, "september", "september"),
        ("theirs", None, "theirs"),
        ("theirs", "ours", "ours"),
        (None, 'a "quoted" \\ name', 'a "quoted" \\ name'),
        (None, "août", None),
        (None, None, None),
    ],
)
async def test_the_batch_of_the_call_is_sent(
    store: Store, own: str | None, named: str | None, sent: str | None
) -> None:
    given = body("+6587654321", "+6531234567", **({} if own is None else {"clientBatchId": own}))
    job, posted_body = await posted(store, given, batch=named)
    assert (job.batch_id, posted_body.get("clientBatchId")) == (named or own, sent)


def test_the_same_call_spelled_in_two_ways_has_one_digest() -> None:
    spelled = [body("6587654321", "+6531234567"), body("+6587654321", "6531234567", clientBatchId="b")]
    first, second = (body_digest(EncodedBody.of(CallFlow.parse(each)).canonical) for each in spelled)
    assert first == second
