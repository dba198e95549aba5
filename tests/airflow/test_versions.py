"""A task of the version before that is killed and retried while its store is upgraded, at last by this version."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow.scene import connect, in_queue
from tests.airflow.test_server_stores import store_on
from tests.crash.judge import judge
from tests.support.processes import ROOT, Process, voiceflow
from tests.support.stage import stage
from tests.support.stores import DURABLE
from tests.support.version_before import installed_before, upgraded
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = int(os.environ.get("VOICEFLOW_TEST_ROUNDS", "4"))
PEOPLE = [f"+65{87660000 + place}" for place in range(120)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the version before is installed."""
    return installed_before(tmp_path_factory.mktemp("before"))


@pytest.fixture(params=DURABLE)
def url(request: pytest.FixtureRequest, tmp_path: Path, before: Path) -> Iterator[str]:
    """The URL of a store that the version before has made."""
    if request.param == "sqlite":
        yield made_before(f"sqlite:///{tmp_path / 'calls.db'}", before)
    else:
        with store_on(request.param, tmp_path) as served:
            yield made_before(f"{served}?schema=calls" if request.param == "postgres" else served, before)


def made_before(store: str, before: Path) -> str:
    done = voiceflow("doctor", "--make", env={"VOICEFLOW_STORE": store}, folder=before)
    assert done.stdout, done.told
    return store


@pytest.mark.parametrize("run", range(RUNS))
def test_nobody_is_called_twice_by_tries_of_two_versions(
    url: str, run: int, before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = random.Random(f"{url.partition(':')[0]} {run}")
    with stage(tmp_path, store=url, speed=30, wait_for_store="60s") as on:
        connect(monkeypatch, on, store=None, rate="0.5")  # so that no try ends by itself
        tries: list[Process] = []

        def tried(folder: Path) -> Process:
            env = {**on.env, "PYTHONPATH": str(ROOT)}
            tries.append(Process(*PEOPLE, module="tests.airflow.one_try", env=env, folder=folder))
            return tries[-1]

        def calls_on(process: Process, more: int) -> None:
            wanted = len(on.ledger()) + more
            wait_until(
                lambda: len(on.ledger()) >= wanted or not process.is_running, process.told, within=120, every=0.1
            )
            assert process.is_running, process.told

        try:
            first = tried(before)
            calls_on(first, kills.randint(1, 6))
            waits = upgraded(on, kills, kills.randint(1, 2)).wait() == 1
            assert (first.is_running, waits) == (True, True), "it waits for the task of the version before"
            first.end(signal.SIGKILL)
            second = tried(before)
            calls_on(second, kills.randint(1, 6))
            second.end(signal.SIGKILL)
            connect(monkeypatch, on, store=None)
            last = tried(ROOT)
            while upgraded(on, kills, kills.randint(0, 1)).wait() != 0:
                pass  # those of the version before that were killed seem to live for 30 s
            assert last.wait(seconds=300) == 0, last.told
            report = json.loads(last.stdout[-1])
            refused = tried(before)
            assert refused.wait() != 0
            assert "Upgrade this installation" in refused.told, refused.told
        finally:
            for each in tries:
                each.end(signal.SIGKILL)
        ledger = on.ledger()
        jobs = in_queue(on, lambda queue: queue.find(limit=None))
    judgement = judge(jobs, ledger, enqueued=[job.id for job in jobs])
    sys.stdout.write(f"{url.partition(':')[0]} {run}: {judgement}\n")
    assert not judgement.violations, judgement
    assert report["total"] == len(jobs) == len({job.destination for job in jobs}) == len(PEOPLE)
    assert judgement.rang + len(judgement.open_doubts) == len(PEOPLE)
