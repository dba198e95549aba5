from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import url_of
from voiceflow_worker.cli.progress import meter

# Shows a meter, and logs beside it, as a command on a terminal does.
ON_A_TERMINAL = """
import structlog, sys
from voiceflow_worker.cli.logs import log_to_stderr
from voiceflow_worker.cli.progress import meter

log_to_stderr(form="console", level="info")
with meter("calling") as shown:
    shown(3, 12, "3 of 12 [calls]")
    structlog.get_logger("test").warning("something happened", why="[bold]because[/bold]")
    print("the answer")
    shown(12, 12, "12 of 12 [calls]")
"""


def on_a_terminal(command: list[str], folder: Path) -> tuple[str, str]:
    """What a command writes to stdout, a pipe, and to stderr, a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=follower, env=environment) as process:
        os.close(follower)
        told = b""
        while True:
            try:
                told += os.read(leader, 65536)
            except OSError:  # how Linux says that nobody is at the other end any more
                break
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(leader)
    assert process.returncode == 0, told
    return out, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.decode())


def test_a_terminal_gets_a_bar_and_logs_above_it(tmp_path: Path) -> None:
    out, told = on_a_terminal([sys.executable, "-c", ON_A_TERMINAL], tmp_path)
    assert out == "the answer\n"
    assert "calling" in told
    assert "100%" in told
    assert "12 of 12 [calls]" in told
    assert "something happened" in told
    assert "[bold]because[/bold]" in told


@pytest.mark.beside
def test_progress_stays_off_a_stdout_that_carries_json(tmp_path: Path) -> None:
    path = tmp_path / "march.csv"
    path.write_text("destination\n+6587654321\n")
    command = [
        sys.executable,
        "-m",
        "voiceflow_worker",
        "enqueue",
        str(path),
        "--say",
        "Hello",
        "--source",
        "+6531234567",
    ]
    options = ["--voice-profile", "en-IE-EmilyNeural", "--json", "--store", url_of(tmp_path)]
    out, told = on_a_terminal([*command, *options], tmp_path)
    assert out.startswith('{"batch_id": "march"')
    assert out.count("\n") == 1
    assert "enqueuing march.csv" in told


def test_the_remaining_time_is_not_told_while_nothing_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 9.0, 12.0])
    monkeypatch.setattr("voiceflow_worker.cli.progress.time.monotonic", lambda: next(times))
    with meter("draining") as shown:
        for done in (1, 3, 3, 3, 5):
            shown(done, 10, f"{done} of 10 calls")
    told = capsys.readouterr().err.splitlines()
    assert [" left)" in line for line in told] == [True, False, False, True], told


def test_elsewhere_it_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 2.9, 3.0, 3.1, 5.9, 6.5])
    monkeypatch.setattr("voiceflow_worker.cli.progress.time.monotonic", lambda: next(times))
    with meter("calling") as shown:
        for done in range(6):
            shown(done, 10, f"{done} of 10 calls")
    assert capsys.readouterr().err == (
        "calling: 2 of 10 calls (20 %, about 8 s left)\ncalling: 5 of 10 calls (50 %, about 6 s left)\n"
    )
