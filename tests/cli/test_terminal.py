"""A terminal that is closed under a command, and readers of its output that go away: calls in flight are finished."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.stored import enqueued, states, url_of
from tests.cli.terminal import Terminal
from tests.support.waiting import wait_until
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Fault, FaultKind

SECONDS = 60
CALLS = 4


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    """A sandbox whose answers take a second, so that calls are in flight when the terminal goes."""
    sandbox = Sandbox(api_key="key-1")
    sandbox.faults.add(Fault(fault=FaultKind.DELAY, seconds=1, times=None))
    with running(sandbox) as found:
        yield found.settings(monkeypatch, WAIT_FOR_STORE="30", SOURCE="+6531234567", VOICE_PROFILE="en-IE-EmilyNeural")


def wait_for_posts(eight: EightByEight, count: int = 1) -> None:
    wait_until(lambda: len(eight.sandbox.ledger) >= count, f"{count} POSTs")


@pytest.mark.slow
@pytest.mark.parametrize("drain", [False, True])
def test_a_worker_whose_window_is_closed_finishes_the_calls_in_flight(
    folder: Path, eight: EightByEight, drain: bool
) -> None:
    enqueued(folder, CALLS)
    arguments = ["worker", "--rate", "2", "--store", url_of(folder)]
    window = Terminal([*arguments, *(["--drain"] if drain else [])], folder)
    wait_for_posts(eight)
    window.close()
    code = window.end()
    found = states(folder)
    assert set(found) <= {"accepted", "queued"}, (found, window.shown)
    assert found["accepted"] == len(eight.rang) == len(set(eight.rang))
    assert code == 0 or drain  # a drain cannot print its result


@pytest.mark.slow
def test_under_nohup_a_worker_goes_on_at_a_dead_terminal(folder: Path, eight: EightByEight) -> None:
    enqueued(folder, CALLS)
    arguments = ["worker", "--drain", "--rate", "2", "--store", url_of(folder)]
    window = Terminal(arguments, folder, nohup=True)
    wait_for_posts(eight)
    window.close()
    window.end()
    assert states(folder) == {"accepted": CALLS}
    assert len(set(eight.rang)) == len(eight.rang) == CALLS


@pytest.mark.slow
def test_a_receiver_whose_window_is_closed_ends_in_order(folder: Path, eight: EightByEight) -> None:
    window = Terminal(["serve", "--port", "0", "--store", url_of(folder)], folder)
    window.shows("is ready on")
    window.close()
    assert window.end() == 0


@pytest.mark.slow
def test_a_single_call_whose_window_is_closed_is_settled(folder: Path, eight: EightByEight) -> None:
    window = Terminal(["call", "+6587654321", "--say", "Hello.", "--store", url_of(folder)], folder)
    wait_for_posts(eight)
    window.close()
    window.end()
    assert (states(folder), len(eight.rang)) == ({"accepted": 1}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [("stderr",), ("stdout", "stderr")])
@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "--drain", "--rate", "2"],
        ["call", "+6587654321", "--say", "Hello."],
    ],
    ids=["worker", "call"],
)
def test_readers_that_go_away_cut_no_call(
    folder: Path, eight: EightByEight, arguments: list[str], closed: tuple[str, ...]
) -> None:
    """As `2>&1 | head` and a log collector that dies do."""
    calls = 1
    if arguments[0] == "worker":
        enqueued(folder, calls := CALLS)
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceflow_worker", *arguments, "--store", url_of(folder)],
        stdout=subprocess.PIPE if "stdout" in closed else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "VOICEFLOW_LOG_LEVEL": "debug"},
    )
    for name in closed:
        getattr(process, name).close()
    assert process.wait(SECONDS) in {0, 1}
    assert states(folder) == {"accepted": calls}
    assert len(set(eight.rang)) == len(eight.rang) == calls


def test_hang_ups_stop_once_and_are_ignored_where_they_were(folder: Path) -> None:
    """Three of them, as a shell and the kernel send them: only another signal stops at once."""
    code = """
import os, signal, sys, anyio
from voiceflow_worker.cli.opening import signals_to
async def main():
    heard = []
    async with signals_to(heard.append):
        for sent in (signal.SIGHUP, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), sent)
            for _ in range(5): await anyio.sleep(0.01)
        with anyio.move_on_after(30):
            while len(heard) < int(sys.argv[1]): await anyio.sleep(0.01)
    print(heard)
if sys.argv[1] == "1": signal.signal(signal.SIGHUP, signal.SIG_IGN)
anyio.run(main)
"""
    for count, heard in ("2", "[1, 2]"), ("1", "[1]"):
        ended = subprocess.run([sys.executable, "-c", code, count], capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == heard
