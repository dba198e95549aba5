"""A file that is locked, full, damaged, or taken over by a newer version: told clearly, and nothing lost."""

# ruff: noqa: ASYNC240 - a test may wait for a small file or a process of its own

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import apsw
import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import QUEUE, moved, sample_job, sample_jobs
from tests.support.loops import either_loop
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite import SqliteStore, open_sqlite
from voiceflow_worker.backends.sqlite.connection import translated
from voiceflow_worker.backends.sqlite.opening import SCHEMA_VERSION
from voiceflow_worker.core.base.reading import count_states, find_jobs, get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio
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


@either_loop
async def test_who_waits_for_the_lock_gets_it_when_it_is_free(path: Path) -> None:
    async with open_store(f"sqlite:///{path}", lock_timeout=timedelta(seconds=60)) as store:
        intruder = apsw.Connection(str(path))
        intruder.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(enqueue, store, number)
            await anyio.sleep(0.02)  # the writers come to the locked file; no event says when
            assert sum((await count_states(store, QUEUE)).values()) == 0
            intruder.execute("ROLLBACK")
        assert sum((await count_states(store, QUEUE)).values()) == 5
        intruder.close()


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
    assert [type(error) for error in refused] == [StoreReadOnlyError] * 3
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


async def test_a_store_taken_over_by_a_newer_version_is_no_longer_written(
    store: SqliteStore, intruder: apsw.Connection, path: Path
) -> None:
    intruder.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 2}")
    with pytest.raises(StoreVersionError, match=f"{path} was made by another version.*[Uu]pgrade"):
        await commit(store, [moved(sample_job(), state=JobState.CANCELLED)])
    assert intruder.execute("SELECT state FROM jobs").fetchall() == [("queued",)]


async def test_a_closed_store_says_so(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        pass
    for attempt in (add_jobs(store, [sample_job()]), get_jobs(store, ["x"]), count_states(store, QUEUE)):
        with pytest.raises(StoreUnavailableError, match="was closed"):
            await attempt


FORKING = """
import os, sys, anyio
from voiceflow_worker.backends import open_store
from tests.contract.suite import add_jobs, sample_job
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.errors import StoreUnavailableError

async def main():
    async with open_store(sys.argv[1]) as store:
        await add_jobs(store, [sample_job(1)])
        child = os.fork()
        if child == 0:
            try:
                for attempt in (lambda: add_jobs(store, [sample_job(2)]), lambda: get_jobs(store, ["x"])):
                    try:
                        await attempt()
                    except StoreUnavailableError as error:
                        print(error, flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        await add_jobs(store, [sample_job(3)])
        print(sum((await count_states(store, "default")).values()))

anyio.run(main)
"""


def test_a_forked_child_is_told_to_open_its_own(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stdout + run.stderr
    assert all("before this process was forked" in line and str(path) in line for line in lines[:2])
    assert lines[2] == "2"


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (apsw.BusyError, StoreUnavailableError),
        (apsw.CantOpenError, StoreUnavailableError),
        (apsw.IOError, StoreUnavailableError),
        (apsw.FullError, StoreReadOnlyError),
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
