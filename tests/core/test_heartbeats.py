"""The heartbeat of a worker at work: its rate, and that of each batch."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.flows import flow, number
from tests.support.manual_time import passing_beside
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS, enqueued, worker_for
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.overview.batches import read_batch, read_batches, read_queue
from voiceflow_worker.core.overview.heartbeat import Heartbeats

pytestmark = pytest.mark.anyio


async def test_the_rate_of_each_batch_is_measured_over_the_last_seconds(clock: ManualClock) -> None:
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, policy=NO_WEBHOOKS)
        for place in range(400):
            batch = "odd" if place % 4 else "every fourth"
            await queue.enqueue(flow(number(place)), batch_id=batch)
        worker = worker_for(store, ScriptedVoice(), rate=8)

        async def look() -> None:
            await clock.sleep(20.5)
            (beat,) = await Heartbeats(store).workers("default")
            assert 0 < beat.rate <= 8.4
            batches = await Heartbeats(store).batches("default")
            assert 0 < batches["every fourth"] < batches["odd"]
            assert sum(batches.values()) == pytest.approx(beat.rate)
            every_fourth, odd = await read_batches(store, "default")
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
