"""`--wait-for-store`: a store that is locked or not there yet is waited for; what cannot become right ends at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import Program, Spawned
from tests.cli.stored import enqueued, url_of
from tests.support.redis_server import standalone

EIGHT = {"VOICEFLOW_API_KEY": "key-1", "VOICEFLOW_SUB_ACCOUNT": "acme", "VOICEFLOW_BASE_URL": "http://127.0.0.1:1"}
LOCK = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def frozen_writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds SQLite's write lock and is stopped."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["worker", "--drain"], ["serve", "--port", "0"]], ids=["worker", "serve"])
def test_a_store_that_a_frozen_process_has_locked_is_waited_for(voiceflow: Program, command: list[str]) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    assert voiceflow("hold", "--store", url_of(folder)).code == 0
    options = [*command, "--store", url_of(folder), "--wait-for-store", "60s"]
    with frozen_writer(folder / "calls.db") as frozen, Spawned(options, folder, EIGHT) as waiting:
        assert "up to 60 s" in waiting.wait_for("is locked: another process is writing to it")
        frozen.kill()
        if command[0] == "worker":
            assert waiting.end().code == 1  # the hold stopped it
        else:
            waiting.wait_for("is ready")
            assert waiting.stop().code == 0


def test_an_order_waits_for_the_lock_too(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    options = ["hold", "--store", url_of(folder), "--wait-for-store", "60s"]
    with frozen_writer(folder / "calls.db") as frozen, Spawned(options, folder) as waiting:
        waiting.wait_for("the store is locked by another process; waiting")
        frozen.kill()
        assert waiting.end().code == 0


@pytest.mark.slow
def test_after_the_wait_it_is_exit_code_3_and_reading_needs_no_wait(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    began = time.monotonic()
    with frozen_writer(folder / "calls.db"):
        for command in (["worker", "--drain"], ["hold"]):
            with Spawned([*command, "--store", url_of(folder), "--wait-for-store", "0"], folder, EIGHT) as spawned:
                ended = spawned.end()
            assert ended.code == 3, ended.err
            assert "locked" in ended.err
            assert "trying again" not in ended.err
        assert voiceflow("status", "--store", url_of(folder)).code == 0
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_at_once(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    options = ["worker", "--store", url_of(folder), "--wait-for-store", "1h"]
    with frozen_writer(folder / "calls.db"), Spawned(options, folder, EIGHT) as waiting:
        waiting.wait_for("trying again for up to 3600 s")
        waiting.press(signal.SIGINT)
        assert waiting.end().code == 130


def test_a_slip_of_the_pen_is_reported_at_once(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICEFLOW_WAIT_FOR_STORE")
    began = time.monotonic()
    assert voiceflow("status", "--store", "sqlite:///cals.db").code == 3
    ended = voiceflow("status", "--store", "sqlite:///none/calls.db")
    assert ended.code == 3
    assert f"the directory {voiceflow.folder / 'none'} does not exist" in ended.err
    assert "trying again" not in ended.err
    assert time.monotonic() - began < 10


def test_a_wrong_password_ends_at_once(voiceflow: Program, tmp_path: Path) -> None:
    server = standalone(tmp_path / "redis").start()
    try:
        server.ask("CONFIG", "SET", "requirepass", "right")
        for store in (server.url, server.url.replace("//", "//:wrong@")):
            began = time.monotonic()
            ended = voiceflow("status", "--store", store, "--wait-for-store", "60s")
            assert ended.code == 3
            assert "refuses this user" in ended.err
            assert "trying again" not in ended.err
            assert time.monotonic() - began < 30
    finally:
        server.kill()
