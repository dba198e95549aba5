"""A file that is replaced or removed while it is open: noticed at the next transaction, and nothing is sent."""

# ruff: noqa: ASYNC240 - a test may look at small files

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import apsw
import pytest

from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import GatedVoice, ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, Worker, WorkerOptions
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite.opening import GLANCE_EVERY
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreReplacedError

AT_ONCE = WorkerOptions(shutdown_grace=timedelta(seconds=1))
"""A verdict that the store cannot take is kept until the worker stops: not for long here."""

pytestmark = pytest.mark.anyio


def another_file(path: Path) -> None:
    shutil.copy(path, copy := path.with_name("copy.db"))
    copy.rename(path)


def no_file(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("old.db"))


def no_log(path: Path) -> None:
    path.with_name("calls.db-wal").unlink()


def another_log(path: Path) -> None:
    no_log(path)
    path.with_name("calls.db-wal").write_bytes(b"")


def no_index(path: Path) -> None:
    path.with_name("calls.db-shm").unlink()


WAYS = [another_file, no_file, renamed, no_log, another_log, no_index]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_sent_that_was_leased_before(path: Path, way: Callable[[Path], None]) -> None:
    voice = ScriptedVoice()
    async with open_store(f"sqlite:///{path}") as store:
        engine = Engine(store, voice)
        await engine.enqueue()
        (dispatch,) = await engine.prepare()
        way(path)
        assert await engine.journal_of(dispatch) is None
        with pytest.raises(StoreReplacedError, match="restore a backup"):
            await engine.enqueue(number(1))
    assert voice.placed == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_worker_ends(path: Path, way: Callable[[Path], None]) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        engine = Engine(store, ScriptedVoice())
        await engine.enqueue()
        way(path)
        with pytest.raises(StoreReplacedError):
            await Worker(store, ScriptedVoice()).run()


async def test_a_worker_ends_when_all_its_calls_wait_for_an_answer(path: Path) -> None:
    voice = GatedVoice(bytes_left=True)
    async with open_store(f"sqlite:///{path}") as store:
        await CallQueue(store).enqueue_many([CallRequest(flow=flow(number(place))) for place in range(3)])

        async def replace() -> None:
            await voice.reached(2)
            another_file(path)
            voice.open.set()

        async with anyio.create_task_group() as group:
            group.start_soon(replace)
            with anyio.fail_after(20), pytest.RaisesGroup(StoreReplacedError, flatten_subgroups=True):
                await Worker(store, voice, rate=None, concurrency=2, options=AT_ONCE).run()
    assert len(voice.placed) == 2


@pytest.mark.parametrize("way", [another_file, no_file, renamed])
async def test_who_only_reads_notices_too(path: Path, way: Callable[[Path], None]) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        engine = Engine(store, ScriptedVoice())
        job = await engine.enqueue()
        way(path)
        await store.clock.sleep(2 * GLANCE_EVERY)
        with pytest.raises(StoreReplacedError):
            await get_jobs(store, [job.id])
        with pytest.raises(StoreReplacedError):
            await count_states(store, "default")


async def test_the_file_that_is_there_now_keeps_what_others_wrote(path: Path) -> None:
    """The last process to close a store moves its log into the file: not into a file that is another one by now."""
    async with open_store(f"sqlite:///{path}") as store:
        await enqueue(store, 3)
        another_file(path)
        other = apsw.Connection(str(path))
        other.execute("UPDATE queues SET burst = 7")
        before = path.read_bytes()
    assert path.read_bytes() == before
    assert other.execute("SELECT burst FROM queues").fetchall() == [(7,)]
    assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()


async def test_a_log_that_lost_its_name_is_not_lost(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await enqueue(store, 3)
        no_log(path)
        with pytest.raises(StoreReplacedError):
            await enqueue(store, 4)
    async with open_store(f"sqlite:///{path}") as store:
        assert sum((await count_states(store, "default")).values()) == 3


async def enqueue(store: Store, count: int) -> None:
    engine = Engine(store, ScriptedVoice())
    await engine.queue.enqueue_many(
        [CallRequest(flow=flow(number(place)), unique_key=f"key-{place}") for place in range(count)]
    )
