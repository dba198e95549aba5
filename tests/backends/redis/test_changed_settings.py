"""A Redis whose settings are changed under a running worker: its verdicts wait, orders to stop pass, nothing ends."""

from __future__ import annotations

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.redis_server import RedisServer
from tests.support.voices import ScriptedVoice, created
from tests.support.waiting import until
from tests.support.workers import enqueued, in_state, worker_for
from voiceflow_worker import CallQueue, JobState, open_store
from voiceflow_worker.backends.redis.connection import Connection
from voiceflow_worker.backends.redis.durability import RedisDurability, Survey
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import SettingsError, StoreError
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [
        ("appendonly", "no", "yes"),
        pytest.param("maxmemory-policy", "allkeys-lru", "noeviction", marks=pytest.mark.slow),
    ],
)
async def test_a_setting_that_changes_under_a_worker_drops_no_verdict(
    own_server: RedisServer, setting: str, bad: str, good: str
) -> None:
    def changed(placement: Placement) -> Verdict:
        own_server.ask("CONFIG", "SET", setting, bad)
        own_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return created(placement.client_request_id)

    voice = ScriptedVoice(answer=changed)
    async with open_store(own_server.url, advises=False) as store, anyio.create_task_group() as group:
        await enqueued(store, 1)
        worker = worker_for(store, voice)
        group.start_soon(worker.run)
        await until(lambda: worker.counts.task_failures[Task.VERDICT] >= 3)
        with pytest.raises(StoreError):
            await CallQueue(store).status()
        async with open_store(own_server.url, advises=False, allow_degraded=True) as in_a_hurry:
            await CallQueue(in_a_hurry).hold()
            await SuppressionList(in_a_hurry).add(number(5), reason="asked for it")
        await to_thread.run_sync(own_server.ask, "CONFIG", "SET", setting, good)
        await in_state(store, JobState.ACCEPTED, 1)
        worker.stop()
    assert len(voice.placed) == 1


async def test_a_check_that_finds_a_wrong_setting_ends_no_task_of_an_open_store(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is replaced by one that is too old: what listens and measures the time goes on afterwards."""
    survey = Survey.server
    is_old = False

    async def judged(own: Survey, connection: Connection) -> RedisDurability:
        if not is_old:
            return await survey(own, connection)
        raise SettingsError("the store URL names a Redis 5.0, which is too old")

    monkeypatch.setattr(Survey, "server", judged)
    voice = ScriptedVoice()
    async with open_store(own_server.url, advises=False) as store, anyio.create_task_group() as group:
        worker = worker_for(store, voice)
        group.start_soon(worker.run)
        await enqueued(store, 1)
        await until(lambda: len(voice.placed) == 1)
        is_old = True
        await to_thread.run_sync(own_server.ask, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: worker.counts.task_failures.total() >= 3)
        with pytest.raises(StoreError, match="too old"):
            await CallQueue(store).status()
        is_old = False
        await in_state(store, JobState.ACCEPTED, 1)
        await enqueued(store, 1, first=1)
        await until(lambda: len(voice.placed) == 2)
        worker.stop()
