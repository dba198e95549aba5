"""The writer: many in one commit, each on its own, whoever gives up meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, moved, sample_job, sample_jobs
from tests.support.loops import either_loop
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Operation, Transaction
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Write
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio


async def enqueue(store: Store, number: int) -> None:
    await add_jobs(store, [sample_job(number)])


def put(key: str, transaction: Transaction) -> Generator[None, None, str]:
    yield
    transaction.db.run("INSERT INTO records (namespace, grp, member, value) VALUES ('n', ?, '', '')", (key,))
    return key


def put_and_fail(key: str, transaction: Transaction) -> Generator[None, None, str]:
    yield from put(key, transaction)
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


async def test_a_commit_waits_for_the_disk_unless_a_later_one_makes_it_durable(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease and the locks of numbers come before the journal entry of their POST, in the same log."""
    commits = Commits(monkeypatch)
    await enqueue(store, 1)
    assert commits.taken() == (1, 0)
    [job] = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + timedelta(minutes=1), now=NOW)
    assert commits.taken() == (0, 1)
    assert await commit(store, [moved(job, state=JobState.SENDING)]) == [True]
    assert commits.taken() == (1, 0)
    await store.write(BulkWrite(writes=(Write(puts=(Put("parked", "a", "b", None),)),)), now=NOW)
    assert commits.taken() == (1, 0)


async def test_what_must_be_durable_makes_all_durable_that_is_committed_with_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    writer = writer_of(store)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(writer.carry_out, partial(put, "early"), durably=False))
        group.start_soon(writer.carry_out, partial(put, "late"))
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
            group.start_soon(carry_out, partial(put, name))
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


@either_loop
async def test_a_cancelled_block_closes_its_file(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_store(f"sqlite:///{path}") as store:
            await add_jobs(store, [sample_job()])
            scope.cancel()
            await anyio.sleep_forever()
    assert [file.name for file in path.parent.iterdir()] == ["calls.db"]
    with pytest.raises(StoreUnavailableError):
        await add_jobs(store, [sample_job()])


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
