"""A file that is locked, full, damaged or taken over by a newer version, and power cuts: told, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, moved, sample_job, sample_jobs
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite import SqliteStore, open_sqlite
from voiceflow_worker.backends.sqlite.connection import translated
from voiceflow_worker.backends.sqlite.opening import SCHEMA_VERSION
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio

# ruff: noqa: ASYNC240 - a test may wait for a small file or a process of its own


SHORT = timedelta(milliseconds=50)


async def enqueue(store: Store, number: int) -> None:
    await add_jobs(store, [sample_job(number)])


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteStore]:
    async with open_sqlite(f"sqlite:///{path}", lock_timeout=SHORT) as store:
        await add_jobs(store, [sample_job()])
        yield store


@pytest.fixture
def intruder(store: SqliteStore, path: Path) -> Iterator[apsw.Connection]:
    """Another user of the file."""
    connection = apsw.Connection(str(path))
    yield connection
    connection.close()


async def test_a_locked_store_says_so_and_goes_on_once_it_is_free(
    store: SqliteStore, intruder: apsw.Connection, path: Path
) -> None:
    intruder.execute("BEGIN IMMEDIATE")
    move = moved(sample_job(), state=JobState.CANCELLED)
    with pytest.raises(StoreUnavailableError, match=f"{path} is locked.*[Nn]othing was changed.*[Tt]ry again"):
        await commit(store, [move])
    assert list(await find_jobs(store, Listing(queue=QUEUE))) == [sample_job()]  # who only reads is not kept
    intruder.execute("ROLLBACK")
    assert await commit(store, [move]) == [True]


async def test_a_full_store_says_so_and_keeps_what_it_has(store: SqliteStore, path: Path) -> None:
    database = store.writer._db
    pages = database.pragma("page_count")
    database.pragma("max_page_count", pages + 10)
    too_much = [sample_job(number, body="x" * 5000) for number in range(2, 100)]
    with pytest.raises(StoreReadOnlyError, match=f"disk of the store {path} is full.*[Ff]ree space"):
        await add_jobs(store, too_much)
    assert list(await find_jobs(store, Listing(queue=QUEUE))) == [sample_job()]
    database.pragma("max_page_count", 10**6)
    await add_jobs(store, too_much)
    assert sum((await count_states(store, QUEUE)).values()) == 99


async def test_what_does_not_fit_takes_nobody_along_that_does(store: SqliteStore) -> None:
    database = store.writer._db
    database.pragma("max_page_count", database.pragma("page_count") + 10)
    refused: list[StoreError] = []

    async def too_much() -> None:
        try:
            await add_jobs(store, [sample_job(number, body="x" * 5000) for number in range(100, 200)])
        except StoreError as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for number in range(2, 5):
            group.start_soon(enqueue, store, number)
            group.start_soon(too_much)
    assert [type(error) for error in refused] == [StoreFullError] * 3
    assert len(await find_jobs(store, Listing(queue=QUEUE))) == 4


async def test_a_damaged_store_is_reported_and_not_overwritten(path: Path) -> None:
    url = f"sqlite:///{path}"
    async with open_store(url) as store:
        await add_jobs(store, sample_jobs(2000))
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(
        StoreCorruptError, match=rf"(?s)the store {path} is damaged.*Nothing was changed.*restore a backup"
    ):
        async with open_store(url) as store:
            await find_jobs(store, Listing(queue=QUEUE))
    with pytest.raises(StoreCorruptError):
        async with open_store(url) as store:
            await add_jobs(store, [sample_job(9999)])
    assert path.read_bytes() == bytes(content)


async def test_a_store_whose_schema_was_changed_is_no_longer_written(
    store: SqliteStore, intruder: apsw.Connection, path: Path
) -> None:
    intruder.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreVersionError, match=rf"{path} has schema.*Use the version that made the store"):
        await commit(store, [moved(sample_job(), state=JobState.CANCELLED)])
    assert intruder.execute("SELECT state FROM jobs").fetchall() == [("queued",)]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (apsw.BusyError, StoreUnavailableError),
        (apsw.CantOpenError, StoreUnavailableError),
        (apsw.IOError, StoreUnavailableError),
        (apsw.FullError, StoreFullError),
        (apsw.PermissionsError, StoreReadOnlyError),
        (apsw.CorruptError, StoreCorruptError),
        (apsw.SQLError, StoreError),
    ],
)
async def test_whatever_sqlite_raises_is_reported_with_the_file(
    raised: type[apsw.Error], kind: type[StoreError]
) -> None:
    path = Path(__file__)
    error = translated(raised("it said so"), path)
    assert type(error) is kind
    assert str(path) in str(error)


NUMBER = "+6591234567"
Left = tuple[JobState, str, bool]
"""What a store has of a job: its state, its worker, and whether its number is locked."""
LOCKED: Left = (JobState.LEASED, "w", True)
SENDING: Left = (JobState.SENDING, "w", True)


class DiskFile(apsw.VFSFile):
    """A file of a `Disk`."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._is_log = (name.filename() if isinstance(name, apsw.URIFilename) else str(name)).endswith("-wal")
        super().__init__(disk.base, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name that SQLite gives it
        self._disk.unflushed += self._is_log
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - the name that SQLite gives it
        if self._is_log and self._disk.fails_next:
            self._disk.fails_next = False
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        self._disk.unflushed = 0 if self._is_log else self._disk.unflushed
        super().xSync(flags)


class Disk(apsw.VFS):
    """The default files of SQLite. It counts writes to the log that are not flushed, and can fail to flush it once."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.unflushed = 0
        self.fails_next = False
        super().__init__("disk-of-a-test", base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> DiskFile:  # noqa: N802 - the name that SQLite gives it
        return DiskFile(self, name, flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    usual = apsw.vfs_names()[0]
    disk = Disk(usual)
    yield disk
    apsw.set_default_vfs(usual)
    disk.unregister()


@dataclass(frozen=True)
class Files:
    """The bytes of a store's file and of its log."""

    file: bytes
    log: bytes

    @classmethod
    def of(cls, path: Path) -> Files:
        return cls(path.read_bytes(), Path(f"{path}-wal").read_bytes())

    def write(self, path: Path) -> None:
        for suffix, content in (("", self.file), ("-wal", self.log)):
            Path(f"{path}{suffix}").write_bytes(content)
        with suppress(FileNotFoundError):
            os.unlink(f"{path}-shm")  # noqa: PTH108 - the name is a text


async def lease(store: Store) -> Job:
    [job] = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + timedelta(minutes=1), now=NOW)
    return job


async def lock(store: Store, job: Job) -> None:
    write = Write(puts=(Put("number", NUMBER, job.request_id(1), None),))
    await store.write(BulkWrite(writes=(write,), durable=False), now=NOW)


async def journal(store: Store, job: Job) -> None:
    assert await commit(store, [moved(job, state=JobState.SENDING)]) == [True]


async def left_in(path: Path) -> Left:
    async with open_sqlite(f"sqlite:///{path}") as store:
        [job] = await find_jobs(store, Listing(queue=QUEUE))
        return (
            job.state,
            job.worker_id or "",
            bool((await store.records({"number": [NUMBER]}, now=NOW))["number"]),
        )


async def test_a_job_whose_lease_was_undone_by_a_power_cut_can_be_leased_and_sent(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    async with open_sqlite(f"sqlite:///{path}") as store:
        await add_jobs(store, [replace(sample_job(1), destination=NUMBER)])
        flushed = Files.of(path)
        await lock(store, await lease(store))
    cut = tmp_path / "cut.db"
    flushed.write(cut)
    async with open_sqlite(f"sqlite:///{cut}") as store:
        job = await lease(store)
        await lock(store, job)
        await journal(store, job)
    assert await left_in(cut) == SENDING


async def test_a_journal_entry_flushes_the_lease_and_the_locks_before_it(disk: Disk, tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/calls.db") as store:
        await add_jobs(store, [replace(sample_job(1), destination=NUMBER)])
        assert disk.unflushed == 0
        job = await lease(store)
        await lock(store, job)
        assert disk.unflushed > 0
        await journal(store, job)
        assert disk.unflushed == 0
        await store.write(BulkWrite(writes=(Write(puts=(Put("parked", "a", "b", None),)),)), now=NOW)
        assert disk.unflushed == 0


async def test_after_a_flush_has_failed_the_log_is_moved_into_the_file_before_anything_else_is_sent(
    disk: Disk, tmp_path: Path
) -> None:
    """Linux takes pages that it could not write for written, so a later flush succeeds without them."""
    path = tmp_path / "calls.db"
    async with open_sqlite(f"sqlite:///{path}") as store:
        await add_jobs(store, [replace(sample_job(1), destination=NUMBER)])
        job = await lease(store)
        await lock(store, job)
        before = Files.of(path)  # now: after the failure, the log is moved at once, on another thread
        disk.fails_next = True
        with pytest.raises(StoreUnavailableError, match="writing the store"):
            await journal(store, job)
        await journal(store, job)
        after = Files.of(path)
    lost = tmp_path / "lost.db"
    replace(after, log=b"").write(lost)
    assert await left_in(lost) == LOCKED  # the file alone has what the log had before its flush failed
    assert len(after.log) < len(before.log)
    after.write(lost)
    assert await left_in(lost) == SENDING


@pytest.mark.parametrize("has_reader", [False, True])
async def test_a_store_that_is_closed_after_a_failed_flush_leaves_no_log_for_another_process_to_continue(
    disk: Disk, tmp_path: Path, *, has_reader: bool
) -> None:
    """Only the process whose flush failed knows of it: the next one flushes the log without an error."""
    path = tmp_path / "calls.db"
    async with open_sqlite(f"sqlite:///{path}") as other:
        await add_jobs(other, [replace(sample_job(1), destination=NUMBER)])
        async with open_sqlite(f"sqlite:///{path}") as store:
            reader = apsw.Connection(str(path))
            if has_reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM jobs").fetchall()
            job = await lease(store)
            await lock(store, job)
            disk.fails_next = True
            with pytest.raises(StoreUnavailableError):
                await journal(store, job)
            reader.close()
        left = Files.of(path)
    lost = tmp_path / "lost.db"
    replace(left, log=b"").write(lost)
    assert await left_in(lost) == LOCKED


async def test_a_store_whose_log_cannot_be_moved_yet_takes_nothing(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    async with open_sqlite(f"sqlite:///{path}", lock_timeout=timedelta(milliseconds=50)) as store:
        await add_jobs(store, [replace(sample_job(1), destination=NUMBER)])
        reader = apsw.Connection(str(path))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchall()
        job = await lease(store)
        disk.fails_next = True
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await journal(store, job)
        reader.close()
        await journal(store, job)
    assert await left_in(path) == (JobState.SENDING, "w", False)
