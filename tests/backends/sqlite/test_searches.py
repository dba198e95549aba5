"""Statements of files have a name and a sentence, and a listing is whole though the store changes while it is read."""

from __future__ import annotations

import ast
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import add_jobs, delete
from tests.contract.suite import NOW, QUEUE, sample_job
from voiceflow_worker.backends import sqlite
from voiceflow_worker.backends.sqlite import SqliteStore, open_sqlite
from voiceflow_worker.backends.sqlite.connection import SQL
from voiceflow_worker.backends.store_url import statements
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.model.jobs.job import JobState


@pytest.mark.anyio
class TestFind:
    """What happens while a listing is read."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncGenerator[SqliteStore]:
        async with open_sqlite(f"sqlite:///{tmp_path}/calls.db") as store:
            await add_jobs(store, [sample_job(number) for number in range(1, 41)])
            yield store

    async def test_a_page_is_full_though_jobs_go_while_it_is_read(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The row numbers are found first and the rows read after: what was deleted in between is made up for."""
        scan = store.reader.scan
        gone = [sample_job(number) for number in range(1, 11)]

        async def scan_and_lose(statement: str, bindings: dict[str, Any]) -> Any:
            found = await scan(statement, bindings)
            if gone:
                await delete(store, gone, keep_keys_until=NOW)
                gone.clear()
            return found

        monkeypatch.setattr(store.reader, "scan", scan_and_lose)
        found = await find_jobs(store, Listing(queue=QUEUE, limit=10))
        assert [job.id for job in found] == [sample_job(number).id for number in range(11, 21)]

    async def test_a_job_that_moved_while_a_page_was_read_is_left_out(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scan = store.reader.scan

        async def scan_and_move(statement: str, bindings: dict[str, Any]) -> Any:
            found = await scan(statement, bindings)
            await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + timedelta(hours=1), now=NOW)
            return found

        monkeypatch.setattr(store.reader, "scan", scan_and_move)
        found = await find_jobs(store, Listing(queue=QUEUE, states=frozenset({JobState.QUEUED}), limit=10))
        assert len(found) == 10
        assert all(job.state is JobState.QUEUED for job in found)


FOLDER = Path(sqlite.__file__).parent
FILES = sorted(each.name for each in FOLDER.glob("*.sql") if each.name != "schema.sql")


def used_in(text: str) -> Iterator[str]:
    """The names of the statements that a module uses."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "SQL":
            names = [each.value for each in ast.walk(node.slice) if isinstance(each, ast.Constant) and each.value]
            assert names, f"its name cannot be read: {ast.unparse(node)}"
            yield from map(str, names)


def test_every_statement_is_used_and_what_is_used_is_there() -> None:
    used = {name for each in FOLDER.glob("*.py") for name in used_in(each.read_text("utf-8"))}
    assert used == set(SQL) == set(statements(sqlite.__name__, *FILES))
