"""Stores that are missing, locked, replaced or damaged: what commands say, and what they leave alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from tests.cli.running import Program, Spawned
from tests.cli.stored import enqueued, url_of
from tests.support.workers import damaged, spoilt
from voiceflow_worker import Job, open_store

LOOKING = [
    ["status"], ["report"], ["hold"], ["resume"], ["reconcile"], ["calls", "list"], ["calls", "show", "default.1"],
    ["calls", "cancel", "default.1"], ["calls", "cancel", "--batch", "march", "--yes"],
    ["calls", "redial", "default.1"], ["calls", "resolve", "default.1", "--placed", "--note", "x"],
]  # fmt: skip


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_a_command_that_only_looks_makes_no_store(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    ended = voiceflow(*command, "--store", "sqlite:///cals.db")
    assert (ended.code, ended.out) == (3, "")
    assert f"there is no store {voiceflow.folder / 'cals.db'}" in ended.err
    assert list(voiceflow.folder.iterdir()) == []


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


"""Every command with a `--store` but `doctor`, which tells of it among other things, `demo`, `call` and `restore`."""
"""Make a store of a file that is empty."""


"""Parameters of commands that open a store."""


def test_commands_name_what_cannot_be_read(voiceflow: Program, store_url: str) -> None:
    async def prepare() -> Job:
        async with open_store(store_url) as store:
            return await damaged(store, spoilt)

    bad = anyio.run(prepare)
    assert "1 call cannot be read, and nothing happens to them: " in voiceflow("status", "--store", store_url).out
    told = voiceflow("doctor", "--store", store_url)
    assert "1 call cannot be read" in told.out
    assert told.code == 1
    cancelled = voiceflow("calls", "cancel", bad.id, "--store", store_url)
    assert cancelled.code == 0
    assert "its record could not be read" in cancelled.out
