"""The worker as its user sees it: what was placed, how fast, and where each job ended; on every backend."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow
from tests.support.loops import either_loop
from tests.support.manual_time import passing_beside
from tests.support.stores import BACKENDS, running, url_for
from tests.support.voices import Answer, GatedVoice, ScriptedVoice, turned_away, unknown
from tests.support.waiting import until
from tests.support.workers import NO_WEBHOOKS, enqueued, states, worker_for
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState

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
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await voice.reached(3)
                worker.stop()
                worker.stop()
        assert await states(queue) == {state: 3}
        attempts = {job.attempt for job in await queue.find()}
        assert attempts == {1 if bytes_left else 0}

    async def test_what_does_not_finish_within_the_grace_is_doubted(self, store: Store) -> None:
        queue, voice = await enqueued(store, 2), GatedVoice(bytes_left=True)
        worker = worker_for(store, voice, options={"shutdown_grace": timedelta(milliseconds=50)})
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await voice.reached(2)
                worker.stop()
        assert await states(queue) == {"in_doubt": 2}


@pytest.mark.parametrize("backend", BACKENDS)
class TestIdle:
    """On a clock that stands still: only an event ends the wait of an idle worker, never its next look."""

    async def test_it_stops_at_once(self, backend: str, tmp_path: Path) -> None:
        async with open_store(url_for(backend, tmp_path), clock=ManualClock()) as store:
            waiting = Waiting(store)
            worker = worker_for(waiting.store, ScriptedVoice())
            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    group.start_soon(worker.run)
                    await waiting.begun.wait()
                    worker.stop()


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
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await until(lambda: len(waits) > 2)
                await CallQueue(store, policy=NO_WEBHOOKS).enqueue(flow())
                await voice.arrived.wait()
                worker.stop()


class Waiting:
    """A store that says when a worker has begun to wait for a change; its first wait returns at once."""

    def __init__(self, store: Store) -> None:
        self.store = FaultyStore(store, before=self._before)
        self.begun = anyio.Event()

    async def _before(self, call: StoreCall) -> None:
        if call.name == "wait" and self.store.made[call.name]:
            self.begun.set()


class TestAnswersThatHold:
    async def test_after_a_401_only_the_calls_in_flight_have_seen_it_and_resume_finishes_the_rest(
        self, store: Store
    ) -> None:
        queue = await enqueued(store, 60)
        wrong_key = turned_away(401, "8x8 answered 401: check VOICEFLOW_API_KEY", until_opened=True)
        voice = ScriptedVoice(answer=lambda _: wrong_key)
        result = await worker_for(store, voice, concurrency=5).drain()
        assert len(voice.placed) <= 5
        assert result.stopped_by_hold
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


async def test_calls_into_a_cancelled_batch_are_refused_and_its_jobs_are_ended_by_a_drain(store: Store) -> None:
    queue = await enqueued(store, 3, batch_id="gone")
    await queue.hold(batch_id="gone", reason="wait")
    await order_gate(
        store,
        Gate(
            queue="default",
            scope=GateScope.BATCH,
            name="gone",
            state=GateState.CANCELLED,
            reason="no",
            since=store.clock.now(),
        ),
    )
    with pytest.raises(InvalidInputError, match="another batch id"):
        await queue.enqueue(flow("+6591000001"), batch_id="gone")
    result = await worker_for(store, ScriptedVoice()).drain()
    assert await states(queue) == {"cancelled": 3}
    assert not result.stopped_by_hold


async def test_calls_for_later_and_calls_behind_a_hold_are_left_and_told(store: Store) -> None:
    queue = await enqueued(store, 4, batch_id="held")
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
