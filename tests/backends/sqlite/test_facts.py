"""Reports of a file: calls of older versions count too, and the others are not decoded."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from tests.backends.facts_of_before import (
    check_that_no_job_is_decoded,
    check_with_an_older_version,
    check_with_damaged_facts,
    check_with_odd_values,
    reports_are_exact,
)
from tests.core.test_breakdown import some_job
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW
from voiceflow_worker.backends.sqlite.searches import facts_page

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def edit(path: Path, statement: str, values: tuple[str, ...] = ()) -> None:
    db: Any = apsw.Connection(str(path))
    db.execute(statement, values)
    db.close()


async def test_reports_are_exact_beside_an_older_version(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_with_an_older_version(
            store,
            strip=lambda job_id: edit(path, "UPDATE jobs SET facts = NULL WHERE id = ?", (job_id,)),
            move=lambda job_id, revision, record: edit(
                path, "UPDATE jobs SET revision = ?, record = ? WHERE id = ?", (revision, record, job_id)
            ),
        )


async def test_a_report_decodes_no_ended_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_that_no_job_is_decoded(store, monkeypatch)


async def test_a_call_with_odd_values_counts(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_with_odd_values(store)


async def test_damaged_facts_are_ignored(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_with_damaged_facts(
            store, lambda job_id, facts: edit(path, "UPDATE jobs SET facts = ? WHERE id = ?", (facts, job_id))
        )


async def test_a_file_without_facts_gets_them(path: Path) -> None:
    url = f"sqlite:///{path}"
    random = Random(1)
    async with open_store(url) as store:
        await store.jobs.enqueue([some_job(place, random) for place in range(40)], now=NOW)
    edit(path, "ALTER TABLE jobs DROP COLUMN facts")
    async with open_store(url) as store:
        await reports_are_exact(store)
        await store.jobs.enqueue([some_job(place, random) for place in range(40, 60)], now=NOW)
        await reports_are_exact(store)


@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_a_page_of_facts_sorts_nothing_and_reads_its_jobs_only(path: Path, batch_id: str | None) -> None:
    async with open_store(f"sqlite:///{path}"):
        statement, bindings = facts_page("default", batch_id, after="", limit=10)
        db: Any = apsw.Connection(str(path))
        plan = [row[-1] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", bindings)]
        db.close()
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert not [step for step in plan if "SCAN jobs" in step], plan
