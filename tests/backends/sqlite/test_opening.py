"""Opening a file: made if it is new, left as it was if it cannot be used; and a file that is replaced meanwhile."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import apsw
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import sample_job
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import GatedVoice, ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, Worker, WorkerOptions
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite.backups import back_up
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.backends.sqlite.opening import GLANCE_EVERY
from voiceflow_worker.core.base.reading import count_states, gates_of, get_jobs
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
)

pytestmark = pytest.mark.anyio

# ruff: noqa: ASYNC221, ASYNC240 - a test may wait for a small file or a process of its own


async def refusal(path: Path, kind: type[StoreError], **options: Any) -> str:
    """The sentence with which opening this file is refused; it names the file, which is left as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind) as caught:
        async with open_store(f"sqlite:///{path}", **options):
            pytest.fail("it was opened")
    assert (path.read_bytes() if path.is_file() else None) == before
    sentence = str(caught.value)
    assert str(path) in sentence
    return sentence


def by_hand(path: Path, *statements: str) -> None:
    """Work on a file as another program would. Not with Python's sqlite3: two libraries in a process break locks."""
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement)
    db.close()


async def test_a_new_file_is_its_owners_alone(path: Path) -> None:
    previous = os.umask(0)
    try:
        async with open_store(f"sqlite:///{path}") as store:
            await add_jobs(store, [sample_job()])
            files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(previous)
    assert files == {"calls.db": 0o600, "calls.db-wal": 0o600, "calls.db-shm": 0o600}


async def test_a_missing_directory_is_named_and_not_made(tmp_path: Path) -> None:
    sentence = await refusal(tmp_path / "no" / "where" / "calls.db", StoreUnavailableError)
    assert f"the directory {tmp_path}/no/where does not exist" in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"destination\n+6587654321\n" * 100, b"x", b"SQLite format 3\x00" + b"\xff" * 4080]
)
async def test_a_file_that_is_not_a_store_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    await refusal(path, StoreCorruptError)


async def test_another_applications_file_is_left_as_it_is(path: Path) -> None:
    by_hand(path, "PRAGMA journal_mode = wal", "CREATE TABLE customers (name)")
    assert "another application" in await refusal(path, StoreCorruptError)


async def test_a_file_locked_by_another_is_waited_for_and_then_given_up(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in await refusal(path, StoreUnavailableError, lock_timeout=timedelta(milliseconds=50))
    other.execute("ROLLBACK")
    other.close()
    async with open_store(f"sqlite:///{path}") as store:
        await add_jobs(store, [sample_job()])


async def test_a_file_system_that_cannot_share_a_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pragma = Connection.pragma

    def without_wal(self: Connection, name: str, value: object = None) -> object:
        return "delete" if name == "journal_mode" else pragma(self, name, value)

    monkeypatch.setattr(Connection, "pragma", without_wal)
    with pytest.raises(StoreUnavailableError, match="local disk"):
        async with open_store(f"sqlite:///{path}"):
            pass


# Everything is imported and used once before the rights are given up: this checkout may not be everybody's to read.
OPEN_IT = """
import os, sys, anyio
from voiceflow_worker.backends import open_store
from voiceflow_worker.errors import StoreError

async def main(url, mine):
    async with open_store(mine):
        pass
    if os.geteuid() == 0:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
    try:
        async with open_store(url) as store:
            print("opened")
    except StoreError as error:
        print(type(error).__name__, error)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.parametrize("what", ["the file", "the directory"])
async def test_what_may_not_be_written_is_refused(tmp_path: Path, what: str) -> None:
    with TemporaryDirectory() as folder:  # not below tmp_path, which only its owner may enter
        path = Path(folder) / "calls.db"
        async with open_store(f"sqlite:///{path}"):
            pass
        path.chmod(0o444 if what == "the file" else 0o666)
        path.parent.chmod(0o777 if what == "the file" else 0o555)
        run = subprocess.run(
            [sys.executable, "-c", OPEN_IT, f"sqlite:///{path}", f"sqlite:///{tmp_path}/mine.db"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        path.parent.chmod(0o755)
    assert run.stdout.startswith("StoreReadOnlyError "), run.stdout + run.stderr
    assert str(path) in run.stdout


# ruff: noqa: ASYNC240 - a test may look at small files


AT_ONCE = WorkerOptions(shutdown_grace=timedelta(seconds=1))
"""A verdict that the store cannot take is kept until the worker stops: not for long here."""


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
async def test_what_was_leased_is_not_sent_and_a_worker_ends(path: Path, way: Callable[[Path], None]) -> None:
    voice = ScriptedVoice()
    async with open_store(f"sqlite:///{path}") as store:
        engine = Engine(store, voice)
        await engine.enqueue()
        (dispatch,) = await engine.prepare()
        way(path)
        assert await engine.journal_of(dispatch) is None
        with pytest.raises(StoreCorruptError, match="restore a backup"):
            await engine.enqueue(number(1))
        with pytest.raises(StoreCorruptError):
            await Worker(store, voice).run()
    assert voice.placed == []


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
            with anyio.fail_after(20), pytest.RaisesGroup(StoreCorruptError, flatten_subgroups=True):
                await Worker(store, voice, rate=None, concurrency=2, options=AT_ONCE).run()
    assert len(voice.placed) == 2


@pytest.mark.parametrize("way", [another_file, no_file, renamed])
async def test_who_only_reads_notices_too(path: Path, way: Callable[[Path], None]) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        engine = Engine(store, ScriptedVoice())
        job = await engine.enqueue()
        way(path)
        await store.clock.sleep(2 * GLANCE_EVERY)
        with pytest.raises(StoreCorruptError):
            await get_jobs(store, [job.id])
        with pytest.raises(StoreCorruptError):
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
        with pytest.raises(StoreCorruptError):
            await enqueue(store, 4)
    async with open_store(f"sqlite:///{path}") as store:
        assert sum((await count_states(store, "default")).values()) == 3


async def enqueue(store: Store, count: int) -> None:
    engine = Engine(store, ScriptedVoice())
    await engine.queue.enqueue_many(
        [CallRequest(flow=flow(number(place)), unique_key=f"key-{place}") for place in range(count)]
    )


@pytest.mark.parametrize("moves", [True, False])
async def test_a_backup_that_was_put_in_place_by_hand_is_held_by_the_first_write(tmp_path: Path, moves: bool) -> None:
    path, copy = tmp_path / "calls.db", tmp_path / "copy.db"
    async with open_store(f"sqlite:///{path}") as store:
        await add_jobs(store, [sample_job()])
        back_up(path, copy, now=store.clock.now())
    if moves:
        copy.replace(path)
    else:
        path.write_bytes(copy.read_bytes())
    async with open_store(f"sqlite:///{path}") as store:
        assert not await gates_of(store, "default"), "who only reads holds nothing"
        await confirm(store)
        holds = [gate.reason.partition(" of ")[0] for gate in await gates_of(store, "default")]
        assert holds == ["restored from a backup"]
        await CallQueue(store).resume()
    async with open_store(f"sqlite:///{path}") as store:
        await confirm(store)
        assert not await gates_of(store, "default")
