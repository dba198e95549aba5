"""All workers go by the server's clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.scripted_redis import ScriptedRedis
from tests.support.waiting import until
from voiceflow_worker.backends import open_store
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.errors import StoreError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedRedis]:
    async with ScriptedRedis().listening() as server:
        yield server


async def test_the_time_is_the_servers(scripted: ScriptedRedis) -> None:
    scripted.scripts["clock"] = '["2000000000", "250000"]'
    async with open_store(scripted.url) as store:
        assert abs(store.clock.now() - datetime(2033, 5, 18, 3, 33, 20, 250_000, UTC)) < timedelta(seconds=10)


async def test_a_clock_that_is_set_is_followed(scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.running.RESYNC_EVERY", 0.05)
    scripted.scripts["clock"] = '["2000000000", "0"]'
    async with open_store(scripted.url) as store:
        scripted.scripts["clock"] = '["1900000000", "0"]'
        await until(lambda: store.clock.now().year == 2030)


async def test_the_time_is_right_at_once_after_the_machine_was_suspended(
    scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock that counts on in a suspended machine tells the time, not the one that stands still."""
    scripted.scripts["clock"] = '["2000000000", "0"]'
    async with open_store(scripted.url) as store:
        before = store.clock.now()
        monotonic = SystemClock.monotonic
        monkeypatch.setattr(SystemClock, "monotonic", lambda clock: monotonic(clock) + 600)
        assert timedelta(seconds=600) <= store.clock.now() - before < timedelta(seconds=610)


async def test_one_odd_reply_does_not_end_the_store(scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.running.RESYNC_EVERY", 0.05)
    async with open_store(scripted.url) as store:
        scripted.asked.clear()
        scripted.scripts["clock"] = 7
        await until(lambda: "INFO" in scripted.commands)  # the connection was opened again
        scripted.scripts["clock"] = '["1900000000", "0"]'
        await until(lambda: store.clock.now().year == 2030)
    scripted.scripts["clock"] = 7
    with pytest.raises(StoreError):
        async with open_store(scripted.url):
            pass


async def test_a_clock_that_is_handed_in_is_used(redis_server: RedisServer) -> None:
    clock = ManualClock()
    async with open_store(redis_server.url, clock=clock) as store:
        assert store.clock is clock
        clock.advance(timedelta(hours=1))
        with anyio.fail_after(10):
            seen = await store.wait("default", seen=0, until=clock.now() + timedelta(seconds=5))
            async with anyio.create_task_group() as group:
                group.start_soon(_advance_when_asleep, clock)
                assert await store.wait("default", seen=seen, until=clock.now() + timedelta(seconds=5)) == seen


async def _advance_when_asleep(clock: ManualClock) -> None:
    await until(lambda: bool(clock.sleepers))
    clock.advance(timedelta(seconds=5))
