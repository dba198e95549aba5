"""Two machines, of which one sends no more; the server is put back to a copy from before, and the other one goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import Signals

import pytest

from tests.crash.rollbacks import OlderAof, OlderCluster, Rollback
from tests.support.postgres import PostgresServer
from tests.support.processes import Process, running, voiceflow
from tests.support.redis_server import standalone
from tests.support.stage import stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(400)]

CALLS, BEFORE, SENT = 250, 10, 10
"""All calls, those that are sent before the copy, and after it before the other machine begins."""


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Rollback]]:
    """The URL of a server, and how it is put back."""
    if request.param == "redis":
        redis = standalone(tmp_path / "redis").start()
        try:
            yield redis.url, OlderAof(redis, tmp_path)
        finally:
            redis.kill()
        return
    postgres = PostgresServer().start()
    try:
        yield postgres.url(), OlderCluster(postgres, tmp_path)
    finally:
        postgres.kill()


@pytest.mark.parametrize("fate", [Signals.SIGSTOP, Signals.SIGKILL, Signals.SIGTERM])
def test_the_machine_that_goes_on_holds_the_queue_with_the_name_of_the_one_that_is_silent_dead_or_ended(
    server: tuple[str, Rollback], tmp_path: Path, fate: Signals
) -> None:
    if subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may give no process a host name of its own")
    url, rollback = server
    with ExitStack() as stack:
        scene = stack.enter_context(stage(tmp_path, store=url, speed=30, rate="15", wait_for_store="60s"))

        def machine(name: str) -> Process:
            env = scene.env | {"VOICEFLOW_STATE_DIR": str(tmp_path / name)}
            process = stack.enter_context(running("worker", env=env, host=name))
            process.wait_for("voiceflow worker sends")
            return process

        scene.campaign(CALLS)
        one = machine("machine-a")  # alone, so that it certainly sends
        wait_until(lambda: len(scene.ledger()) >= BEFORE, "its first calls", within=60, every=0.1)
        rollback.copy(voiceflow)
        copied = len(scene.ledger())
        wait_until(lambda: len(scene.ledger()) >= copied + SENT, "more calls of it", within=60, every=0.1)
        machine("machine-b")
        time.sleep(2)  # within a second, it has noted the other one
        if fate is Signals.SIGSTOP:
            one.signal(fate)
        else:
            one.end(fate)
        rollback.strike(voiceflow)
        wait_until(lambda: scene.status()["holds"], lambda: f"{scene.status()}", within=60, every=0.5)
        sent = len(scene.ledger())
        wait_until(
            lambda: "machine-a had stored" in f"{scene.status()['holds']}",
            lambda: f"{scene.status()}",
            within=30,
            every=0.5,
        )
        if fate is Signals.SIGSTOP:  # it is started again there, as the hold says
            one.signal(Signals.SIGCONT)
            one.end(Signals.SIGTERM)
            machine("machine-a")
        reconciled = voiceflow("reconcile", env=scene.env)
        assert reconciled.wait() in {0, 1}, reconciled.printed  # 1: a person is to decide
        assert len(scene.ledger()) == sent, "nothing leaves behind the hold"
        assert voiceflow("resume", env=scene.env).wait() == 0
        states = scene.states
        wait_until(lambda: not {"queued", "sending"} & states().keys(), lambda: f"{states()}", within=90, every=1)
        doubts = states().get("in_doubt", 0)
        assert [number for number, count in Counter(scene.rang()).items() if count > 1] == []
        assert len(set(scene.rang())) + doubts >= CALLS
        sys.stdout.write(f"{fate.name} {rollback.name}: {sent} sent before, {doubts} in doubt, 0 twice\n")
