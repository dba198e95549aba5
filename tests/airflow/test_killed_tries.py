"""Tries of one task at once, killed at any moment, on every durable store: nobody is called twice, nobody is lost."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import ExitStack
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
KILLS = int(os.environ.get("VOICEFLOW_TEST_KILLS", "20"))


def store_on(server: str, folder: Path, ends: ExitStack) -> str:
    """Return the URL of an empty store."""
    if server == "sqlite":
        return f"sqlite:///{folder / 'calls.db'}"
    if server == "redis":
        redis = standalone(folder / "redis").start()
        ends.callback(redis.kill)
        return redis.url
    postgres = PostgresServer()
    ends.callback(postgres.close)
    return postgres.start().url()


@pytest.mark.parametrize(("kind", "at_once"), [("campaign", 2), ("call", 1)])
@pytest.mark.parametrize("server", DURABLE)
def test_each_number_is_called_once_whichever_tries_are_killed(
    server: str, kind: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as ends, stage(tmp_path, store=store_on(server, tmp_path, ends), speed=50) as on:
        connect(monkeypatch, on, store=None, rate="20", lease="5s")
        on.order("script", {"outcome": "COMPLETED"})
        env = {**on.env, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
        arguments = (kind, str(at_once), str(KILLS), "1")
        tries = Process(*arguments, module="tests.airflow.killed_tries", env=env, folder=tmp_path)
        try:
            assert tries.wait(seconds=2800) == 0, tries.printed
            runs = int(tries.stdout[-1])
        finally:
            tries.end()
        ledger = on.ledger()
        jobs = in_queue(on, lambda queue: queue.find(limit=None))
    asked = {number for run in range(runs) for number in people(kind, run)}
    rang = Counter(entry["destination"] for entry in ledger if entry["rang"])
    doubts = {job.destination for job in jobs if job.state is JobState.IN_DOUBT}
    sys.stdout.write(f"{server}, {kind}: {KILLS} kills, {runs} runs: {len(rang)} rang, {len(doubts)} in doubt\n")
    assert max(rang.values(), default=1) == 1
    assert asked - doubts <= rang.keys() <= asked
    assert not [job for job in jobs if not (job.state.is_final or job.state is JobState.IN_DOUBT)]
