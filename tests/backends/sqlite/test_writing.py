"""The writer of a file: many in one commit, each on its own; where it waits for the disk; any statement that fails."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import apsw
import pytest

from tests.contract.breaking import endings
from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, moved, sample_job, sample_jobs
from tests.contract.writing import DONE, EXISTS, NOT_FREE, held, new, put, stored
from tests.support.loops import either_loop
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Operation, Transaction
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import Limits, limits_put
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Delete,
    Drop,
    Insert,
    Mode,
    Page,
    Put,
    Result,
    Same,
    Slot,
    Write,
    tally_change,
)
from voiceflow_worker.core.writes import all_or_none, inserted
from voiceflow_worker.errors import StoreError, StoreVersionError
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio


async def enqueue(store: Store, number: int) -> None:
    await add_jobs(store, [sample_job(number)])


def put_in(key: str, transaction: Transaction) -> Generator[None, None, str]:
    yield
    transaction.db.run("INSERT INTO records (namespace, grp, member, value) VALUES ('n', ?, '', '')", (key,))
    return key


def put_and_fail(key: str, transaction: Transaction) -> Generator[None, None, str]:
    yield from put_in(key, transaction)
    raise ArithmeticError("after it has written")


async def keys(store: SqliteStore) -> list[str]:
    return [each.group for each in (await store.records({"n": Page()}, now=NOW))["n"]]


def writer_of(store: SqliteStore) -> GroupCommit:
    return store.writer


class Commits:
    """Counts commits: those that wait for the disk (`PRAGMA synchronous` is FULL), and the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited = self.unwaited = 0
        run = Connection.run

        def counting(db: Connection, statements: str, bindings: object = ()) -> None:
            if statements == "COMMIT":
                waits = db.pragma("synchronous") == 2
                self.waited, self.unwaited = self.waited + waits, self.unwaited + (not waits)
            run(db, statements, bindings)  # type: ignore[arg-type]

        monkeypatch.setattr(Connection, "run", counting)

    def taken(self) -> tuple[int, int]:
        """How many there were since the last look."""
        counted, self.waited, self.unwaited = (self.waited, self.unwaited), 0, 0
        return counted


async def test_what_comes_together_is_committed_together(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = Commits(monkeypatch)
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(enqueue, store, number)
    assert sum((await count_states(store, QUEUE)).values()) == 100
    assert sum(commits.taken()) <= 3


async def test_what_must_be_durable_makes_all_durable_that_is_committed_with_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    writer = writer_of(store)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(writer.carry_out, partial(put_in, "early"), durably=False))
        group.start_soon(writer.carry_out, partial(put_in, "late"))
    assert commits.taken() == (1, 0)
    assert await keys(store) == ["early", "late"]


async def test_one_that_fails_takes_nobody_along(store: SqliteStore) -> None:
    told: list[object] = []

    async def carry_out(operation: Operation[str]) -> None:
        try:
            told.append(await writer_of(store).carry_out(operation))
        except ArithmeticError as error:
            told.append(str(error))

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(carry_out, partial(put_in, name))
            group.start_soon(carry_out, partial(put_and_fail, f"bad {name}"))
    assert sorted(map(str, told)) == ["a", *["after it has written"] * 3, "b", "c"]
    assert await keys(store) == ["a", "b", "c"]


@either_loop
async def test_who_gives_up_before_their_turn_changes_nothing(store: SqliteStore) -> None:
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await add_jobs(store, [sample_job(1)])
        group.start_soon(enqueue, store, 2)
    assert scope.cancelled_caught
    assert list(await find_jobs(store, Listing(queue=QUEUE))) == [sample_job(2)]


@either_loop
async def test_a_long_write_lets_others_on_the_loop_have_their_turn(store: SqliteStore) -> None:
    step = BulkWrite(writes=tuple(inserted(job) for job in sample_jobs(5000)))
    done = anyio.Event()
    turns: list[float] = []

    async def enqueue_many() -> None:
        await store.write(step, now=NOW)
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(enqueue_many)
        while not done.is_set():
            turns.append(time.thread_time())  # of this thread, so that other work on the machine does not count
            await anyio.lowlevel.checkpoint()
    assert max(later - turn for turn, later in pairwise(turns)) < (turns[-1] - turns[0]) / 4


@either_loop
async def test_what_was_handed_in_is_carried_out_before_the_store_is_closed(path: Path) -> None:
    async with anyio.create_task_group() as group, open_store(f"sqlite:///{path}") as store:
        for number in range(20):
            group.start_soon(enqueue, store, number)
        await anyio.lowlevel.checkpoint()
    async with open_store(f"sqlite:///{path}") as store:
        assert len(await find_jobs(store, Listing(queue=QUEUE))) == 20


class TestNativeCancellation:
    """asyncio's own `task.cancel()`, which no shield of anyio keeps away."""

    async def test_the_others_are_answered_and_the_writer_goes_on(self, store: SqliteStore) -> None:
        jobs = sample_jobs(60)
        await add_jobs(store, jobs)
        tasks = [asyncio.ensure_future(_commit(store, number)) for number in range(60)]
        for step, task in enumerate(tasks):
            if step % 2:
                task.cancel()
            if step % 7 == 0:
                await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer == [True] for answer in answers[::2])
        assert all(answer == [True] or isinstance(answer, asyncio.CancelledError) for answer in answers)
        counted = await count_states(store, QUEUE)
        assert counted[JobState.EXPIRED] >= 30
        assert counted[JobState.EXPIRED] + counted[JobState.QUEUED] == 60

    async def test_a_store_that_was_never_closed_keeps_what_it_answered(self, path: Path) -> None:
        """A program that ends without closing, its loop gone: the next one finds everything."""

        async def forget() -> None:
            opened = open_store(f"sqlite:///{path}")
            store = await opened.__aenter__()
            kept.append((opened, store))
            await add_jobs(store, [sample_job(1)])
            unheard = asyncio.ensure_future(add_jobs(store, [sample_job(2)]))
            await asyncio.sleep(0)
            unheard.cancel()

        kept: list[object] = []
        await anyio.to_thread.run_sync(partial(asyncio.run, forget()))
        async with open_store(f"sqlite:///{path}") as store:
            assert sample_job(1) in await find_jobs(store, Listing(queue=QUEUE))


async def _commit(store: SqliteStore, number: int) -> object:
    return await commit(store, [moved(sample_job(number + 1), state=JobState.EXPIRED)])


# ruff: noqa: ASYNC240 - a test may look at files, and start a process


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


async def test_what_one_write_changes_the_next_ones_of_its_bulk_write_find_changed(store: SqliteStore) -> None:
    """Their checks were read at once, before any of them was written."""
    kept, group = put("a", "kept", mode=Mode.KEEP), AtMost("n", ("a",), 0)
    owner, heir = sample_job(1, unique_key="k"), Insert(sample_job(2, unique_key="k"))
    writes = (
        Write(conditions=(group, Same("n", "a", None)), puts=(kept,)),
        Write(conditions=(group,), puts=(put("b"),)),
        Write(conditions=(Same("n", "a", "kept"),), drops=(Drop("n", "a", None),)),
        Write(conditions=(group, Same("n", "a", None)), puts=(kept,)),
        new(owner),
        Write(changes=(heir,)),
        Write(changes=(Delete(owner, None, tally_change(owner, None)),)),
        Write(changes=(heir,)),
        new(sample_job(3, unique_key="k")),
    )
    results = [answer.result for answer in await store.write(BulkWrite(writes=writes), now=NOW)]
    assert results == [DONE, NOT_FREE, DONE, DONE, DONE, EXISTS, DONE, DONE, EXISTS]
    assert await held(store) == {"a": "kept"}
    assert await find_jobs(store, Listing(queue=QUEUE)) == [heir.job]


Asked = Callable[[], Awaitable[Any]]
TABLES = ("jobs", "bodies", "totals", "events", "queues", "records")


class Breaking:
    """Raises an error at the n-th statement of the writer."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
        self.left: float = float("inf")
        self._error = error
        writer = store.writer._db  # pyright: ignore[reportPrivateUsage]
        for name in ("run", "run_each", "rows", "rows_of_each"):
            monkeypatch.setattr(Connection, name, self._breaking(getattr(Connection, name), writer))

    def _breaking(self, method: Callable[..., Any], writer: Connection) -> Callable[..., Any]:
        def run(db: Connection, statement: str, bindings: Any = ()) -> Any:
            if db is writer and statement != "ROLLBACK":
                self.left -= 1
                if self.left == 0:
                    raise self._error("broken here")
            return method(db, statement, bindings)

        return run


def contents(path: Path) -> dict[str, list[Any]]:
    """All rows, without those of the neighbours."""
    db: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found: dict[str, list[Any]] = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}
    found["records"] = [row for row in found["records"] if not row[1].startswith("neighbour")]
    db.close()
    return found


async def prepared(name: str, store: SqliteStore, turn: int) -> Asked:
    """An operation, with what it finds in the store."""
    minute, first = timedelta(minutes=1), 1 + 10 * turn
    jobs = [sample_job(number, batch_id="b", unique_key=f"k{number}") for number in range(first, first + 2)]
    await stored(store, *jobs)
    over = Put("n", f"over {turn}", "v", NOW - timedelta(days=1))
    await store.write(BulkWrite(writes=(Write(puts=(limits_put(QUEUE, Limits(rate=1e6)), over)),)), now=NOW)
    swap = Write(conditions=(Same("n", f"swap {turn}", None),), puts=(put(f"swap {turn}", "token"),), wakes=QUEUE)
    writes = (*endings(jobs), new(sample_job(first + 5, unique_key=f"k{first + 5}")), swap)
    match name:
        case "a lease":
            return partial(store.lease, QUEUE, worker_id="w", limit=2, until=NOW + minute, now=NOW)
        case "slots":
            slots = tuple(Write(puts=(put(f"slot {each}"),), slot=Slot(QUEUE, NOW, NOW + minute)) for each in range(3))
            return partial(store.write, BulkWrite(writes=slots), now=NOW)
        case "pruning":
            return partial(store.prune, QUEUE, now=NOW, events_before=NOW, limit=10)
        case _:
            given = (all_or_none(writes),) if name == "a write of many changes" else writes
            return partial(store.write, BulkWrite(writes=given), now=NOW)


@pytest.mark.parametrize("error", [StoreVersionError, apsw.FullError])
@pytest.mark.parametrize("name", ["a bulk write", "a write of many changes", "a lease", "slots", "pruning"])
async def test_of_an_operation_that_fails_at_any_statement_nothing_is_written(
    name: str, error: type[Exception], store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking(store, monkeypatch, error)
    broken = 0
    failed: list[object] = []

    async def ask(what: object, asked: Asked) -> None:
        try:
            await asked()
        except Exception:  # noqa: BLE001 - whichever error it is, nothing may be written
            failed.append(what)

    for turn in range(1, 200):
        operation = await prepared(name, store, turn)
        neighbours = [f"neighbour {turn} {side}" for side in ("before", "after")]
        first, last = (
            partial(store.write, BulkWrite(writes=(Write(puts=(put(key),)),)), now=NOW) for key in neighbours
        )
        before = contents(path)
        failed.clear()
        breaking.left = turn
        async with anyio.create_task_group() as group:
            for what, asked in ((neighbours[0], first), (operation, operation), (neighbours[1], last)):
                group.start_soon(ask, what, asked)
        has_broken, breaking.left = breaking.left <= 0, float("inf")
        found = (await store.records({"n": Page()}, now=NOW))["n"]
        assert {each.group for each in found if each.group.startswith(f"neighbour {turn} ")} == set(neighbours) - set(
            failed
        )
        assert bool(failed) == has_broken
        if operation in failed:
            broken += 1
            assert contents(path) == before
            if name.startswith("a bulk write"):
                assert {answer.result for answer in await operation()} == {DONE}
        elif not has_broken:
            break
    assert broken > 3
