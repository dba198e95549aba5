"""A Redis restarted under workers: they go on; and the copies of its file that other tests put in its place."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.redis_server import RedisServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, worker_with_files
from voiceflow_worker import open_store
from voiceflow_worker.core.base.reading import gates_of

pytestmark = pytest.mark.anyio
AOF = "appendonly*"
"""One file up to 6.2, a folder of files from 7.0 on."""


def back_up(server: RedisServer, to: Path) -> None:
    for path in server.folder.glob(AOF):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to / path.name)


def restore(server: RedisServer, backup: Path) -> None:
    """Kill the server, give it the older AOF, and start it."""
    server.kill()
    for path in server.folder.glob(AOF):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(backup, server.folder, dirs_exist_ok=True)
    server.start()


async def placed(voice: ScriptedVoice, count: int) -> None:
    await until(lambda: len(voice.placed) >= count)


@pytest.mark.alone
async def test_after_a_plain_restart_it_goes_on_within_five_seconds(own_server: RedisServer, tmp_path: Path) -> None:
    voice = ScriptedVoice()
    async with open_store(own_server.url) as store, anyio.create_task_group() as group:
        await enqueued(store, 10)
        worker = worker_with_files(store, voice, tmp_path / "journals")
        group.start_soon(worker.run)
        await placed(voice, 10)
        await to_thread.run_sync(own_server.kill)
        await anyio.sleep(1.5)  # the length of the outage
        await to_thread.run_sync(own_server.start)
        back = time.monotonic()
        await once_available(lambda: enqueued(store, 5, first=10))
        await placed(voice, 15)
        took = time.monotonic() - back
        assert list(await gates_of(store, "default")) == []
        worker.stop()
    assert took < 5, took
    assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1


async def test_a_restarted_server_is_another_incarnation(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        before = store.server
        assert before == own_server.ask("INFO", "server").split("run_id:")[1][:40]  # type: ignore[attr-defined]
        await to_thread.run_sync(own_server.kill)
        await to_thread.run_sync(own_server.start)
        await once_available(lambda: store.records({"n": ["k"]}, now=store.clock.now()))
        assert store.server == own_server.ask("INFO", "server").split("run_id:")[1][:40] != before  # type: ignore[attr-defined]
