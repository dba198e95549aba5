"""Stores and journal files of two commits before: a backup that is put back under this version, and a rolling upgrade.

Nobody is called twice. A backup holds the queue, and a rolling upgrade holds nothing.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.rollbacks import OlderCluster
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Process, running, voiceflow
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(400)]

COMMITS = ("d9ef4ca6", "1bb016bf")
CALLS = int(os.environ.get("TEST_VERSIONS_CALLS", "120"))
SENDS = "voiceflow worker sends"


@pytest.fixture(scope="module", params=COMMITS)
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sources of that commit."""
    archive = ["git", "archive", "--format=zip", request.param, "voiceflow_worker"]
    packed = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the commit {request.param} is not in this copy of the repository")
    folder: Path = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(io.BytesIO(packed.stdout)) as sources:
        sources.extractall(folder)
    return folder


class _Sqlite:
    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'calls.db'}"
        self._backup = folder / "backup.db"

    def back_up(self, env: dict[str, str], *, by: Path) -> None:
        done = voiceflow("backup", str(self._backup), env=env, folder=by)
        assert done.wait() == 0, done.told

    def put_back(self, env: dict[str, str]) -> None:
        done = voiceflow("restore", str(self._backup), env=env)
        assert done.wait() == 0, done.told

    def end(self) -> None:
        pass


class _Postgres:
    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer().start()
        self._cluster = OlderCluster(self._server, folder)
        self.url = self._server.url()

    def back_up(self, env: dict[str, str], *, by: Path) -> None:  # noqa: ARG002 - PostgreSQL has its own tools
        self._cluster.copy(voiceflow)

    def put_back(self, env: dict[str, str]) -> None:  # noqa: ARG002
        self._cluster.strike(voiceflow)

    def end(self) -> None:
        self._server.kill()


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Sqlite | _Postgres]:
    store = _Sqlite(tmp_path) if request.param == "sqlite" else _Postgres(tmp_path)
    try:
        yield store
    finally:
        store.end()


@contextmanager
def staged(kept: _Sqlite | _Postgres, before: Path, folder: Path) -> Iterator[Stage]:
    """A campaign in a store that the version before has made."""
    made = voiceflow("doctor", "--make", env={"VOICEFLOW_STORE": kept.url}, folder=before)
    assert made.stdout, made.told
    settings = {"rate": "20", "state_dir": str(folder / "state"), "wait_for_store": "60s"}
    with stage(folder, store=kept.url, speed=30, **settings) as scene:
        file = folder / "people.csv"
        rows = "".join(f"+65{80000000 + place},Customer {place}\n" for place in range(CALLS))
        file.write_text(f"destination,name\n{rows}", encoding="utf-8")
        say = ("--say", "Hello {{name}}.", "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567")
        # By that version: a worker of it that begins reads no newer journal of orders.
        done = voiceflow("enqueue", str(file), *say, env=scene.env, folder=before)
        assert done.wait() == 0, done.told
        yield scene


def rung(scene: Stage, least: int) -> None:
    wait_until(lambda: len(scene.ledger()) >= least, lambda: f"{scene.states()}", within=90, every=0.1)


def twice(scene: Stage) -> list[str]:
    return [number for number, count in Counter(scene.rang()).items() if count > 1]


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_a_backup_of_the_version_before_is_put_back_and_nobody_is_called_twice(
    kept: _Sqlite | _Postgres, before: Path, tmp_path: Path, ends: signal.Signals
) -> None:
    with ExitStack() as stack:
        scene = stack.enter_context(staged(kept, before, tmp_path))
        scene.serving.end(signal.SIGTERM)
        for least, signal_of_end in ((CALLS // 5, signal.SIGTERM), (3 * CALLS // 5, ends)):
            with running("worker", env=scene.env, folder=before) as old:
                old.wait_for(SENDS)
                rung(scene, least)
                old.end(signal_of_end)
            if least < CALLS // 2:
                kept.back_up(scene.env, by=before)
        sent = len(scene.ledger())
        kept.put_back(scene.env)
        with scene.worker() as new:
            new.wait_for(SENDS)
            wait_until(lambda: scene.status()["holds"], lambda: f"{scene.status()}", within=30, every=0.5)
            voiceflow("reconcile", env=scene.env)
            done = voiceflow("resume", env=scene.env)
            assert done.wait() == 0, done.told
            states = scene.states
            wait_until(lambda: not {"queued", "sending"} & states().keys(), lambda: f"{states()}", within=90, every=1)
            doubts = states().get("in_doubt", 0)
        assert twice(scene) == []
        assert len(set(scene.rang())) + doubts >= CALLS
        sys.stdout.write(f"{before.name} {type(kept).__name__} {ends.name}: {sent} sent, {doubts} in doubt, 0 twice\n")


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_workers_of_the_version_before_are_replaced_one_after_the_other_and_nothing_is_held(
    kept: _Sqlite | _Postgres, before: Path, tmp_path: Path, ends: signal.Signals
) -> None:
    with ExitStack() as stack:
        scene = stack.enter_context(staged(kept, before, tmp_path))

        def started(folder: Path) -> Process:
            process = stack.enter_context(running("worker", env=scene.env, folder=folder))
            process.wait_for(SENDS)
            return process

        old = [started(before), started(before)]
        rung(scene, CALLS // 6)
        for place, each in enumerate(old, 1):
            each.end(ends)
            started(ROOT)
            rung(scene, CALLS // 6 * (place + 1))
        states: Callable[[], dict[str, int]] = scene.states
        wait_until(lambda: not {"queued", "sending"} & states().keys(), lambda: f"{states()}", within=90, every=1)
        assert not scene.status()["holds"]
        assert twice(scene) == []
        doubts = states().get("in_doubt", 0)
        assert ends is signal.SIGKILL or not doubts
        assert len(set(scene.rang())) + doubts >= CALLS
        sys.stdout.write(f"{before.name} {type(kept).__name__} {ends.name}: {doubts} in doubt, 0 twice\n")
