"""The times at which a worker acts, on a manual clock: wake-ups at once, an outage counted once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.flows import flow
from tests.support.manual_time import all_blocked, passing
from tests.support.voices import ScriptedVoice, created, not_sent
from tests.support.workers import NO_WEBHOOKS, enqueued, worker_for
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with open_store("memory://", clock=clock) as opened:
        yield opened


async def enqueue(queue: CallQueue) -> None:
    await queue.enqueue(flow())


async def held_then_resumed(queue: CallQueue) -> None:
    await queue.hold(reason="a look at the texts")
    await queue.enqueue(flow())
    await all_blocked()
    await queue.resume()


@pytest.mark.parametrize("happens", [enqueue, held_then_resumed])
async def test_an_idle_worker_is_woken_by_what_happens_and_does_not_wait_for_its_next_look(
    store: Store, clock: ManualClock, happens: Callable[[CallQueue], Awaitable[None]]
) -> None:
    queue, voice = CallQueue(store, policy=NO_WEBHOOKS), ScriptedVoice()
    worker = worker_for(store, voice)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await all_blocked()
        await happens(queue)
        await all_blocked()
        assert len(voice.placed) == 1, "no time has passed"
        worker.stop()


class Unreachable(ScriptedVoice):
    """No connection for the first calls, each told some time after the one before; then all is well."""

    def __init__(self, clock: ManualClock, *, calls: int, apart: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._calls = calls
        self._apart = apart
        self.failed_at: list[datetime] = []

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        self.placed.append((now, placement))
        if len(self.placed) > self._calls:
            return created(f"session-{placement.client_request_id}")
        progress.may_have_left = False
        await self._clock.sleep((len(self.placed) * self._apart).total_seconds())
        self.failed_at.append(self._clock.now())
        return not_sent()


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(milliseconds=100)])
async def test_fifty_calls_that_fail_together_are_one_outage(
    store: Store, clock: ManualClock, apart: timedelta
) -> None:
    voice = Unreachable(clock, calls=50, apart=apart)
    await enqueued(store, 60)
    with capture_logs() as logs:
        await passing(clock, worker_for(store, voice, concurrency=50).drain)
    assert [line["event"] for line in logs].count("8x8 cannot be reached") == 1
    asked_again = voice.placed[50][0]
    assert asked_again - voice.failed_at[-1] <= timedelta(seconds=1)
    assert len(voice.placed) == 110
