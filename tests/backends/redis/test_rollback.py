"""A Redis restored to an older AOF under running workers: nothing rings twice; and after a plain restart they go on."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import flow, number
from tests.support.redis_server import RedisServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, JobState, Worker, WorkerOptions, open_store
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.guard.rollback import HELD
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.journal_files import Restartable
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
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


def worker_on(store: Store, voice: ScriptedVoice, files: Path) -> Worker:
    return Worker(store, voice, rate=None, options=WorkerOptions(policy=POLICY), witness=JournalFiles(files))


async def enqueued(store: Store, first: int, count: int) -> CallQueue:
    queue = CallQueue(store, policy=POLICY)
    await queue.enqueue_many(CallRequest(flow=flow(number(place))) for place in range(first, first + count))
    return queue


async def placed(voice: ScriptedVoice, count: int) -> None:
    await until(lambda: len(voice.placed) >= count)


async def in_state(store: Store, state: JobState, count: int) -> None:
    async def reached() -> bool:
        return (await store.jobs.count("default"))[state] == count

    await until(lambda: once_available(reached))


async def held(store: Store) -> None:
    async def is_held() -> bool:
        return any(gate.reason == HELD for gate in await store.control.gates("default"))

    await until(lambda: once_available(is_held))


@pytest.mark.alone
async def test_an_older_aof_under_a_running_worker(own_server: RedisServer, tmp_path: Path) -> None:
    backup, voice = tmp_path / "backup", ScriptedVoice()
    backup.mkdir()
    async with open_store(own_server.url) as store, anyio.create_task_group() as group:
        queue = await enqueued(store, 0, 30)
        await to_thread.run_sync(back_up, own_server, backup)
        await enqueued(store, 30, 10)
        worker = worker_on(store, voice, tmp_path / "journals")
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, 40)
        await to_thread.run_sync(restore, own_server, backup)
        await held(store)
        await in_state(store, JobState.IN_DOUBT, 40)
        # Given every chance to send them again, it does not.
        await anyio.sleep(3)  # no event says that nothing is sent: it has this long to go wrong
        assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1
        assert len(voice.placed) == 40
        # Once a person has settled them and resumed, what is new goes out.
        for job in await queue.find(states=[JobState.IN_DOUBT], limit=None):
            await queue.resolve(job.id, placed=True, note="seen in the log")
        await enqueued(store, 40, 5)
        await queue.resume()
        await placed(voice, 45)
        worker.stop()
    assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1


@pytest.mark.alone
async def test_a_worker_that_knows_nothing_waits_for_one_that_does(own_server: RedisServer, tmp_path: Path) -> None:
    """As on two hosts: one has sent the calls and is slow to come back, the other has sent none."""
    backup, voices = tmp_path / "backup", [ScriptedVoice(), ScriptedVoice()]
    backup.mkdir()
    async with open_store(own_server.url) as first, open_store(own_server.url) as second:
        queue = await enqueued(first, 0, 30)
        await to_thread.run_sync(back_up, own_server, backup)
        await worker_on(first, voices[0], tmp_path / "journals-1").drain()
        assert len(voices[0].placed) == 30
        knowing = worker_on(first, voices[0], tmp_path / "journals-1")
        unknowing = worker_on(second, voices[1], tmp_path / "journals-2")
        async with anyio.create_task_group() as group:
            group.start_soon(unknowing.run)
            group.start_soon(knowing.run)
            await anyio.sleep(0.5)  # both workers have looked at the store; no event says so
            await to_thread.run_sync(restore, own_server, backup)
            await held(first)
            await anyio.sleep(3)  # no event says that nothing is sent: it has this long to go wrong
            knowing.stop()
            unknowing.stop()
        assert (await queue.status()).states[JobState.IN_DOUBT] == 30
    assert (len(voices[0].placed), len(voices[1].placed)) == (30, 0)


@pytest.mark.alone
async def test_after_a_plain_restart_it_goes_on_within_five_seconds(own_server: RedisServer, tmp_path: Path) -> None:
    voice = ScriptedVoice()
    async with open_store(own_server.url) as store, anyio.create_task_group() as group:
        await enqueued(store, 0, 10)
        worker = worker_on(store, voice, tmp_path / "journals")
        group.start_soon(worker.run)
        await placed(voice, 10)
        await to_thread.run_sync(own_server.kill)
        await anyio.sleep(1.5)  # the length of the outage
        await to_thread.run_sync(own_server.start)
        back = time.monotonic()
        await once_available(lambda: enqueued(store, 10, 5))
        await placed(voice, 15)
        took = time.monotonic() - back
        assert list(await store.control.gates("default")) == []
        worker.stop()
    assert took < 5, took
    assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1


async def test_a_restarted_server_is_another_incarnation(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        assert isinstance(store, Restartable)
        before, _ = await store.look("default", [])
        assert before == own_server.ask("INFO", "server").split("run_id:")[1][:40]  # type: ignore[attr-defined]
        await to_thread.run_sync(own_server.kill)
        await to_thread.run_sync(own_server.start)
        after, _ = await once_available(lambda: store.look("default", []))
        assert after != before
