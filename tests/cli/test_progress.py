from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import url_of

# Shows a meter, and logs beside it, as a command on a terminal does.


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


@pytest.mark.slow
def test_progress_stays_off_a_stdout_that_carries_json(tmp_path: Path) -> None:
    path = tmp_path / "march.csv"
    path.write_text("destination\n+6587654321\n")
    command = [sys.executable, "-m", "voiceflow_worker", "enqueue", str(path), "--say", "Hello"]
    options = ["--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural", "--json", "--store", url_of(tmp_path)]
    out, told = on_a_terminal([*command, *options], tmp_path)
    assert out.startswith('{"batch_id": "march"')
    assert out.count("\n") == 1
    assert "enqueuing march.csv" in told
