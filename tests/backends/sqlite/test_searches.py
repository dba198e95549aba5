"""Statements of files have a name and a sentence, and none that is asked again and again reads more than it needs."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.find import FOUND
from tests.contract.samples import add_jobs, delete
from tests.contract.suite import NOW, QUEUE, sample_job
from voiceflow_worker.backends import sqlite, store_url
from voiceflow_worker.backends.sqlite import SqliteStore, open_sqlite
from voiceflow_worker.backends.sqlite.connection import SQL, Connection
from voiceflow_worker.backends.sqlite.opening import open_file, open_reader
from voiceflow_worker.backends.sqlite.reading import search
from voiceflow_worker.backends.store_url import statements
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Due, Expired, Listing, Searched
from voiceflow_worker.model.jobs.job import JobState

STATEMENTS = {
    name: text.format(also="", order="")
    for name, text in statements("voiceflow_worker.backends.sqlite", "write.sql", "lease.sql", "read.sql").items()
    if "{rows}" not in text
}


@pytest.fixture
def database(tmp_path: Path) -> Connection:
    path = tmp_path / "calls.db"
    open_file(path, lock_timeout=timedelta(seconds=1))[0].close()
    return open_reader(path)


def plan(database: Connection, statement: str, bindings: dict[str, Any] | None = None) -> str:
    """How SQLite goes about a statement."""
    for count in range(20):
        with suppress(apsw.BindingsError):
            steps = database.rows(f"EXPLAIN QUERY PLAN {statement}", bindings or [None] * count)
            return "\n".join(str(step[3]) for step in steps)
    raise AssertionError(statement)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table(database: Connection, name: str) -> None:
    steps = plan(database, STATEMENTS[name])
    for table in ("jobs", "bodies", "totals", "events", "queues", "records"):
        assert f"SCAN {table}" not in steps, steps


@pytest.mark.parametrize("name", ["due", "due_of_batch"])
def test_due_jobs_come_in_order_from_the_index_alone(database: Connection, name: str) -> None:
    steps = plan(database, STATEMENTS[name])
    assert "COVERING INDEX" in steps
    assert "due_at<?" in steps
    assert "TEMP B-TREE" not in steps


@pytest.mark.parametrize("read", [read for read, _ in FOUND.values()], ids=FOUND.keys())
def test_no_search_reads_a_whole_table(database: Connection, read: Searched) -> None:
    assert "SCAN jobs" not in plan(database, *search(read))


SENDING, QUEUED, FAILED = JobState.SENDING, JobState.QUEUED, JobState.FAILED
BY_STATE, BY_BATCH = "jobs_by_state (queue=? AND state=? AND due_at<?", "jobs_by_batch (queue=? AND batch_id=?"
IN_ORDER: dict[str, tuple[Searched, str]] = {
    "what is overdue": (Due(queue=QUEUE, state=SENDING, by=NOW), BY_STATE),
    "what is due next": (Due(queue=QUEUE, state=QUEUED, limit=1), BY_STATE),
    "what has expired": (Expired(queue=QUEUE, at=NOW), "jobs_by_validity (queue=? AND valid_until<?"),
    "a page of a queue": (Listing(queue=QUEUE, after="x"), "jobs_by_id (id>? AND id<?"),
    "a page of a batch": (Listing(queue=QUEUE, batch="b", after="x"), f"{BY_BATCH} AND id>?"),
    "the newest of a batch": (Listing(queue=QUEUE, batch="b", after="x", newest=True), f"{BY_BATCH} AND id<?"),
    "a batch in some states": (Listing(queue=QUEUE, batch="b", states=frozenset({FAILED})), BY_BATCH),
}


@pytest.mark.parametrize(("read", "index"), IN_ORDER.values(), ids=IN_ORDER.keys())
def test_a_read_comes_in_order_from_its_index_alone(database: Connection, read: Searched, index: str) -> None:
    steps = plan(database, *search(read))
    assert f"COVERING INDEX {index}" in steps
    assert "TEMP B-TREE" not in steps


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


@pytest.mark.parametrize("file", FILES)
def test_over_every_statement_stands_a_sentence(file: str) -> None:
    text = (FOLDER / file).read_text("utf-8")
    found = re.findall(r"^-- name: \w+\n-- [A-Z][^\n]*(?:\n-- [^\n]*)*\n(?=[A-Z])(?:.+\n)*.+;$", text, re.MULTILINE)
    assert len(found) == len(statements(sqlite.__name__, file)) > 0
    assert all(re.search(r"\.\n(?!--)", each) for each in found), "the sentence ends"


def test_a_statement_comes_without_comments_and_semicolon(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "a.sql": "-- A file.\n\n-- name: one\n-- The first.\nSELECT 1\n-- (or 2)\nLIMIT 1;\n\n\n-- A part.\n\n"
        "-- name: two\n-- Of two\n-- lines.\nSELECT 2;\n",
        "b.sql": "-- name: two\n-- Again.\nSELECT 3;\n",
    }
    monkeypatch.setattr(store_url, "sql_file", lambda _, name: texts[name])
    assert statements("here", "a.sql") == {"one": "SELECT 1\nLIMIT 1", "two": "SELECT 2"}
    with pytest.raises(ValueError, match=r"b\.sql has a second statement with the name two"):
        statements("here", "a.sql", "b.sql")
