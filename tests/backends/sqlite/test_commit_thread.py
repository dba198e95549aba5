"""The thread of a commit: another one than the event loop's where it waits for the disk."""

# ruff: noqa: ASYNC240 - a test may look at files, and start a process

from __future__ import annotations

import random
import threading
from pathlib import Path

import apsw
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Write
from voiceflow_worker.errors import StoreError

pytestmark = pytest.mark.anyio
HERE, THREAD = True, False
LONG = 1000
"""The pages of a long WAL."""


class Watched:
    """Notes the thread of each commit, and of each move of the WAL into the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits: list[bool] = []
        self.moves: list[bool] = []
        here, run, move = threading.get_ident(), Connection.run, Connection.move_log

        def noted(db: Connection, statements: str, bindings: object = ()) -> None:
            if statements == "COMMIT":
                self.commits.append(threading.get_ident() == here)
            run(db, statements, bindings)  # type: ignore[arg-type]

        def noted_move(db: Connection) -> None:
            self.moves.append(threading.get_ident() == here)
            move(db)

        monkeypatch.setattr(Connection, "run", noted)
        monkeypatch.setattr(Connection, "move_log", noted_move)


@pytest.fixture
def watched(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def pages_of_log(path: Path) -> int:
    return path.with_name("calls.db-wal").stat().st_size // (4096 + 24)


async def test_a_commit_that_waits_for_the_disk_does_so_in_a_thread(store: SqliteStore, watched: Watched) -> None:
    await add_jobs(store, [sample_job(1)])
    await store.write(BulkWrite(writes=(Write(puts=(Put("n", "beat", "1", None),)),), durable=False), now=NOW)
    assert (watched.commits, watched.moves) == ([THREAD, HERE], [])


async def test_a_long_log_is_moved_into_the_file_in_a_thread(store: SqliteStore, watched: Watched, path: Path) -> None:
    filled = 0
    while not watched.moves:
        filled += 1
        body = random.Random(filled).randbytes(100_000).hex()  # 50 pages
        await add_jobs(store, [sample_job(filled, body=body)])
        assert filled < 100
    assert watched.moves == [THREAD]
    assert LONG <= pages_of_log(path) < LONG + 150
    assert path.stat().st_size > 0.8 * LONG * 4096
    for number in range(filled + 1, 2 * filled - 2):  # the WAL begins anew
        await add_jobs(store, [sample_job(number, body="x" * 200_000)])
    assert watched.moves == [THREAD]
    assert pages_of_log(path) < LONG + 150
    assert len(await find_jobs(store, Listing(queue=QUEUE, limit=None))) == 2 * filled - 3


async def test_a_log_of_leases_and_heartbeats_is_moved_too(store: SqliteStore, watched: Watched, path: Path) -> None:
    for number in range(60):
        value = random.Random(number).randbytes(100_000).hex()
        bulk = BulkWrite(writes=(Write(puts=(Put("n", "beat", value, None),)),), durable=False)
        await store.write(bulk, now=NOW)
    assert watched.moves
    assert HERE not in watched.moves
    assert pages_of_log(path) < LONG + 150


async def test_a_log_that_is_being_read_is_moved_again_and_again_and_stops_nobody(
    store: SqliteStore, watched: Watched, path: Path
) -> None:
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT count(*) FROM jobs")
    for number in range(60):
        await add_jobs(store, [sample_job(number, body="x" * 200_000)])
    assert len(watched.moves) > 10
    assert HERE not in watched.moves
    reader.close()
    for number in range(60, 63):
        await add_jobs(store, [sample_job(number)])
    moves = len(watched.moves)
    for number in range(63, 70):
        await add_jobs(store, [sample_job(number)])
    assert len(watched.moves) == moves


async def test_a_full_disk_takes_commits_again_when_the_reader_that_kept_the_wal_has_ended(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT count(*) FROM jobs").fetchall()
    await add_jobs(store, [sample_job(number, body="x" * 40_000) for number in range(LONG // 8)])
    assert path.with_name("calls.db-wal").stat().st_size > LONG * 4096
    run = Connection.run

    def full(db: Connection, statements: str, bindings: object = ()) -> None:
        if statements == "COMMIT" and not is_moved():
            raise apsw.FullError("database or disk is full")
        run(db, statements, bindings)  # type: ignore[arg-type]

    def is_moved() -> bool:
        other = apsw.Connection(str(path))
        [(_, pages, moved)] = other.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()
        other.close()
        return bool(pages == moved)

    monkeypatch.setattr(Connection, "run", full)
    reader.close()
    with pytest.raises(StoreError):
        await add_jobs(store, [sample_job(LONG)])
    assert (await add_jobs(store, [sample_job(LONG)]))[0].result is Result.DONE
