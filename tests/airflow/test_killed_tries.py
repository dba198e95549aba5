"""Two and three tries of one task at once, killed at any moment, on every durable store."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.airflow.killed_tries import people
from tests.airflow.scene import connect, in_queue
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Process
from tests.support.redis_server import standalone
from tests.support.stage import stage
from tests.support.stores import DURABLE
from voiceflow_worker import JobState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@contextmanager
def store_on(server: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store on a server."""
    if server == "redis":
        redis = standalone(folder / "redis").start()
        try:
            yield redis.url
        finally:
            redis.kill()
    else:
        postgres = PostgresServer()
        try:
            yield postgres.start().url()
        finally:
            postgres.close()


KILLS = int(os.environ.get("VOICEFLOW_TEST_KILLS", "20"))


@pytest.mark.parametrize("at_once", [2, 3])
@pytest.mark.parametrize("server", DURABLE)
def test_each_row_is_called_once_whichever_tries_are_killed(
    server: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = nullcontext(f"sqlite:///{tmp_path / 'calls.db'}")
    with (
        file if server == "sqlite" else store_on(server, tmp_path) as store,
        stage(tmp_path, store=store, speed=50) as on,
    ):
        connect(monkeypatch, on, store=None, rate="10", lease="5s")
        on.order("script", {"outcome": "COMPLETED"})
        env = {**on.env, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
        seed = str(at_once)
        tries = Process(str(at_once), str(KILLS), seed, module="tests.airflow.killed_tries", env=env, folder=tmp_path)
        try:
            assert tries.wait(seconds=2800) == 0, tries.told
            runs = int(tries.stdout[-1])
        finally:
            tries.end()
        ledger = on.ledger()
        jobs = in_queue(on, lambda queue: queue.find(limit=None))
    asked = Counter(row["destination"] for run in range(runs) for row in people(run))
    rang = Counter(entry["destination"] for entry in ledger if entry["rang"])
    doubts = sum(job.state is JobState.IN_DOUBT for job in jobs)
    sys.stdout.write(f"{server}, {at_once} at once: {KILLS} kills, {runs} runs: {len(rang)} rang, {doubts} in doubt\n")
    assert not rang - asked, "who rang too often, or is in no list"
    assert asked.total() - doubts <= rang.total() <= asked.total()
    heard = Counter((entry["destination"], text) for entry in ledger for text in entry["heard"])
    assert max(heard.values()) == 1, "each of two rows with one number says its own"
    assert not [job for job in jobs if not (job.state.is_final or job.state is JobState.IN_DOUBT)]
