"""Reports of a file: ended calls are not decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.backends.kept_facts import (
    check_that_no_job_is_decoded,
    check_with_odd_values,
    check_without_file_descriptors,
)
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.sqlite.searches import facts_page

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


async def test_a_report_decodes_no_ended_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_that_no_job_is_decoded(store, monkeypatch)


async def test_a_call_with_odd_values_counts(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_with_odd_values(store)


async def test_a_process_without_file_descriptors_stores_calls(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await check_without_file_descriptors(store, monkeypatch)


@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_a_page_of_facts_sorts_nothing_and_reads_its_jobs_only(path: Path, batch_id: str | None) -> None:
    async with open_store(f"sqlite:///{path}"):
        statement, bindings = facts_page("default", batch_id, after="", limit=10)
        db: Any = apsw.Connection(str(path))
        plan = [row[-1] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", bindings)]
        db.close()
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert not [step for step in plan if "SCAN jobs" in step], plan
