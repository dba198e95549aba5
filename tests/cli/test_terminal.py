"""A terminal that is closed, readers that go away, streams that fail: calls in flight are finished, or it is told."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import TIMEOUT
from tests.cli.stored import enqueued, states, url_of
from tests.support.waiting import wait_until
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Fault, FaultKind

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


def in_shell(
    folder: Path, streams: str, *command: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    words = [*before, sys.executable, "-m", "voiceflow_worker", *command, "--store", url_of(folder)]
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {streams}', "bash", *words]
    return subprocess.run(shell, cwd=folder, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">/dev/full 2>&1", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | true"])
def test_a_log_that_cannot_be_written_ends_no_worker_and_no_call(
    streams: str, folder: Path, eight: EightByEight
) -> None:
    enqueued(folder, 20)
    assert in_shell(folder, streams, "worker", "--drain", "--rate", "99").returncode == 0
    assert states(folder) == {"accepted": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [(">/dev/full", 1, "No space left on device"), (">&-", 0, ""), ("| true", 1, ""), ("--json >&-", 0, "")],
)
def test_a_command_says_that_its_output_cannot_be_written(streams: str, code: int, told: str, folder: Path) -> None:
    enqueued(folder, 20)
    ended = in_shell(folder, streams, "calls", "list")
    assert (ended.returncode, ended.stderr.removeprefix("voiceflow: ").strip()) == (code, told)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["worker", "serve"])
def test_too_few_descriptors_are_named_in_a_line(command: str, folder: Path, eight: EightByEight) -> None:
    ended = in_shell(folder, "", command, before=("prlimit", "--nofile=40"))
    assert ended.returncode == 2
    assert "may have only 40 files open" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    """`voiceflow` at a terminal of 100 by 40, as the leader of its session, as in an ssh window."""

    def __init__(self, arguments: Sequence[str], folder: Path, *, nohup: bool = False) -> None:
        self._window, inside = pty.openpty()

        def at_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "voiceflow_worker", *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
            preexec_fn=at_terminal,  # noqa: PLW1509
        )
        os.close(inside)
        self._drawn = b""
        self._closing = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.close()

    def _read(self) -> None:
        with suppress(OSError):
            while not self._closing:  # a window that somebody reads from stays open
                if select.select([self._window], [], [], 0.05)[0]:
                    self._drawn += os.read(self._window, 65536)

    @property
    def shown(self) -> str:
        """What was drawn."""
        return _ESCAPES.sub("", self._drawn.decode(errors="replace"))

    def shows(self, *texts: str) -> str:
        """Wait until all of these texts were drawn; gives what was drawn."""
        wait_until(lambda: all(text in self.shown for text in texts), lambda: f"{texts} in {self.shown}")
        return self.shown

    def close(self) -> None:
        """Close the window: the kernel sends SIGHUP, and whoever writes to the terminal gets EIO."""
        self._closing = True
        self._reader.join()
        os.close(self._window)

    def end(self) -> int:
        """Wait until the program ends."""
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
