"""Commands as processes of their own: their ports, and what the sandbox takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Spawned


@pytest.mark.slow
def test_a_port_that_is_taken_is_reported(folder: Path) -> None:
    with Spawned(["serve", "--port", "0"], folder) as first:
        port = first.wait_for("ready on").split("127.0.0.1:")[1].split("/")[0]
        with Spawned(["serve", "--port", port], folder) as second:
            ended = second.end()
        assert first.stop().code == 0
    assert ended.code == 1
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that uses this port" in ended.err
    )
    assert "Traceback" not in ended.err
