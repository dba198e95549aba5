"""Many new jobs at once: the file is the same as after an enqueue of each job, for which the triggers run."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from voiceflow_worker.backends.contract import NOW, sample_job
from voiceflow_worker.backends.contract.totals import BATCHES, ODD_TEXTS, post, totals_are_exact
from voiceflow_worker.backends.sqlite import SqliteStore, open_sqlite
from voiceflow_worker.errors import StoreReadOnlyError
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteStore]:
    async with open_sqlite(f"sqlite:///{path}") as opened:
        yield opened


def edit(path: Path, statements: str) -> None:
    """Change the file as a process of another release does."""
    db: Any = apsw.Connection(str(path))
    db.execute(statements)
    db.close()


def found(path: Path, query: str) -> list[tuple[Any, ...]]:
    db: Any = apsw.Connection(str(path))
    rows: list[tuple[Any, ...]] = db.execute(query).fetchall()
    db.close()
    return rows


def counters(path: Path) -> list[list[tuple[Any, ...]]]:
    return [found(path, "SELECT * FROM lanes"), found(path, "SELECT queue, field, batch, live, pruned FROM totals")]


def of_all_kinds(count: int) -> list[Job]:
    """Jobs in all states, of several queues, batches and priorities, due at any time, some with outcomes."""
    chosen = random.Random(7)
    return [
        sample_job(
            number,
            queue=chosen.choice(["one", "two"]),
            batch_id=chosen.choice([*BATCHES, "", "=x"]),
            priority=chosen.choice([0, 0, 5, -2]),
            due_at=NOW + timedelta(seconds=chosen.randrange(-50, 50)),
            state=chosen.choice([JobState.QUEUED, *JobState]),
            posts=(post(text=chosen.choice(ODD_TEXTS), digits="1"),) if chosen.random() < 0.2 else (),
        )
        for number in range(count)
    ]


async def test_lanes_and_totals_are_those_that_the_triggers_make(store: SqliteStore, path: Path) -> None:
    jobs = of_all_kinds(600)
    by_triggers = path.with_name("by-triggers.db")
    async with open_sqlite(f"sqlite:///{by_triggers}") as slow:
        for job in jobs:
            await slow.jobs.enqueue([job], now=NOW)
    for start in range(0, 600, 200):  # the second and third time, the lanes and the counters are there already
        await store.jobs.enqueue(jobs[start : start + 200], now=NOW)
    assert counters(path) == counters(by_triggers)
    assert len(found(path, "SELECT * FROM lanes")) > 20


async def test_after_many_jobs_the_triggers_run_again(store: SqliteStore) -> None:
    await store.jobs.enqueue([sample_job(number) for number in range(300)], now=NOW)
    await store.jobs.enqueue([sample_job(300)], now=NOW)
    await lease_some(store)
    await totals_are_exact(store)


async def test_after_a_failure_the_triggers_run_again(store: SqliteStore) -> None:
    database = store.jobs._writer._db
    database.pragma("max_page_count", database.pragma("page_count") + 50)
    too_much = [sample_job(number, body="x" * 5000) for number in range(300)]
    with pytest.raises(StoreReadOnlyError, match="is full"):
        await store.jobs.enqueue(too_much, now=NOW)
    database.pragma("max_page_count", 10**6)
    await store.jobs.enqueue([sample_job(300)], now=NOW)
    assert await lease_some(store) == [sample_job(300).id]
    await totals_are_exact(store)


async def lease_some(store: SqliteStore) -> Sequence[str]:
    leased = await store.jobs.lease(
        sample_job().queue, worker_id="w", limit=20, lease_for=timedelta(minutes=1), now=NOW
    )
    return [job.id for job in leased]
