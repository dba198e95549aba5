"""Opening a file: made if it is new, left as it was if it cannot be used."""

# ruff: noqa: ASYNC221, ASYNC240 - a test may wait for a small file or a process of its own

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import apsw
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import QUEUE, sample_job
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.backends.sqlite.opening import APPLICATION_ID, SCHEMA_VERSION, open_file
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)

pytestmark = pytest.mark.anyio


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


async def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    """A write-ahead log, synced at each commit (2 is FULL): what the promise of the journal stands on."""
    db = open_file(path, lock_timeout=timedelta(seconds=1))[0]
    assert (db.pragma("journal_mode"), db.pragma("synchronous")) == ("wal", 2)
    assert (db.pragma("application_id"), db.pragma("user_version")) == (APPLICATION_ID, SCHEMA_VERSION)
    db.close()


async def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    async def use(number: int) -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await add_jobs(store, [sample_job(number)])

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(use, number)
    async with open_store(f"sqlite:///{path}") as store:
        assert len(await find_jobs(store, Listing(queue=QUEUE))) == 10


async def test_a_missing_directory_is_named_and_not_made(tmp_path: Path) -> None:
    sentence = await refusal(tmp_path / "no" / "where" / "calls.db", StoreUnavailableError)
    assert f"mkdir -p {tmp_path}/no/where" in sentence
    assert list(tmp_path.iterdir()) == []


async def test_a_link_to_a_missing_file_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    link = tmp_path / "calls.db"
    link.symlink_to(tmp_path / "moved.db")
    assert f"it is a symbolic link to {tmp_path}/moved.db, which does not exist" in await refusal(
        link, StoreUnavailableError
    )
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize(
    "content", [b"destination\n+6587654321\n" * 100, b"x", b"SQLite format 3\x00" + b"\xff" * 4080]
)
async def test_a_file_that_is_not_a_store_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    await refusal(path, StoreCorruptError)


async def test_another_applications_file_is_left_as_it_is(path: Path) -> None:
    by_hand(path, "PRAGMA journal_mode = wal", "CREATE TABLE customers (name)")
    assert "another application" in await refusal(path, StoreCorruptError)


@pytest.mark.parametrize(
    ("version", "remedy"), [(SCHEMA_VERSION + 2, "Upgrade this"), (SCHEMA_VERSION - 2, "Use that")]
)
async def test_a_file_of_another_version_is_refused(path: Path, version: int, remedy: str) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await add_jobs(store, [sample_job()])
    by_hand(path, f"PRAGMA user_version = {version}")
    sentence = await refusal(path, StoreVersionError)
    assert f"schema {version}" in sentence
    assert remedy in sentence


async def test_a_file_locked_by_another_is_waited_for_and_then_given_up(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in await refusal(path, StoreUnavailableError, lock_timeout=timedelta(milliseconds=50))
    other.execute("ROLLBACK")
    other.close()
    async with open_store(f"sqlite:///{path}") as store:
        await add_jobs(store, [sample_job()])


async def test_a_file_that_is_being_written_can_be_opened_and_read(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await add_jobs(store, [sample_job()])
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    async with open_store(f"sqlite:///{path}", lock_timeout=timedelta(milliseconds=50)) as store:
        assert list(await find_jobs(store, Listing(queue=QUEUE))) == [sample_job()]
    other.execute("ROLLBACK")
    other.close()


async def test_a_sqlite_that_may_damage_files_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreUnavailableError, match=r"3\.51\.2.*pip install -U apsw"):
        async with open_store(f"sqlite:///{path}"):
            pass
    assert not path.exists()


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
