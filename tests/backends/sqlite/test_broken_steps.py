"""An operation in which any statement fails: nothing of it is written, and all of those that share its commit are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

from tests.contract.breaking import endings
from tests.contract.suite import NOW, QUEUE, sample_job
from tests.contract.writing import DONE, new, put, stored
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.core.ports.controls import Limits, limits_put
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Same, Slot, Write
from voiceflow_worker.core.writes import all_or_none
from voiceflow_worker.errors import StoreVersionError

pytestmark = pytest.mark.anyio

Operation = Callable[[], Awaitable[Any]]
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


async def prepared(name: str, store: SqliteStore, turn: int) -> Operation:
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


@pytest.mark.parametrize("error", [StoreVersionError, apsw.IOError])
@pytest.mark.parametrize("name", ["a bulk write", "a write of many changes", "a lease", "slots", "pruning"])
async def test_of_an_operation_that_fails_at_any_statement_nothing_is_written(
    name: str, error: type[Exception], store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking(store, monkeypatch, error)
    broken = 0
    failed: list[object] = []

    async def ask(what: object, asked: Operation) -> None:
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
