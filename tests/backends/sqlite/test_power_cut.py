"""Power cuts: whatever part of the log a disk keeps, a journal entry is kept only with its lease and its locks."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, moved, sample_job
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite import open_sqlite
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio

NUMBER = "+6591234567"
HEADER, FRAME_HEADER, PAGE_SIZE_AT = 32, 24, slice(8, 12)
"""Of the log (SQLite file format §4.1)."""

Left = tuple[JobState, str, bool]
"""What a store has of a job: its state, its worker, and whether its number is locked."""
QUEUED: Left = (JobState.QUEUED, "", False)
LEASED: Left = (JobState.LEASED, "w", False)
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


def frames(log: bytes) -> list[slice]:
    """The header of a log and its frames, in their order."""
    size = FRAME_HEADER + int.from_bytes(log[PAGE_SIZE_AT])
    edges = [0, *range(HEADER, len(log) + 1, size)]
    return [slice(start, end) for start, end in pairwise(edges)]


def power_cuts(flushed: bytes, written: bytes) -> Generator[bytes]:
    """Each log that a disk may have after a power cut: the flushed bytes, and some of the frames written since.

    A disk writes pages in any order. So it may have written all up to one frame, or all but one, or only one.
    """
    flushed = flushed.ljust(len(written), b"\0")
    places = frames(written)
    for chosen in range(len(places) + 1):
        for new in (range(chosen), {*range(len(places))} - {chosen}, {chosen}):
            mixed = bytearray(flushed)
            for place in new:
                if place < len(places):
                    mixed[places[place]] = written[places[place]]
            yield bytes(mixed)


@pytest.mark.slow
@pytest.mark.parametrize("log_begins_anew", [False, True])
async def test_what_a_power_cut_leaves_has_a_journal_entry_only_with_its_lease_and_lock(
    tmp_path: Path, *, log_begins_anew: bool
) -> None:
    path = tmp_path / "calls.db"
    async with open_sqlite(f"sqlite:///{path}") as store:
        await add_jobs(store, [replace(sample_job(1), destination=NUMBER)])
        if log_begins_anew:
            db = Connection(path)
            assert db.rows("PRAGMA wal_checkpoint(RESTART)")[0][0] == 0
            db.close()
        flushed = Files.of(path)
        job = await lease(store)
        await lock(store, job)
        await journal(store, job)
        written = Files.of(path)
    assert flushed.file == written.file
    found: list[Left] = []
    for number, log in enumerate(power_cuts(flushed.log, written.log)):
        (tmp_path / str(number)).mkdir()
        cut = tmp_path / str(number) / "calls.db"
        replace(written, log=log).write(cut)
        found.append(await left_in(cut))
    assert set(found) == {QUEUED, LEASED, LOCKED, SENDING}
    # Logs that end after one frame more each, in their order: nothing is kept without what was committed before it.
    assert sorted(found[::3], key=[QUEUED, LEASED, LOCKED, SENDING].index) == found[::3]


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
