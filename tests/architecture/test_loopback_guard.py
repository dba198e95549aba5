"""The guard in tests/conftest.py that keeps tests on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# 192.0.2.0/24 and example.com are for documentation (RFC 5737, RFC 2606): nobody is called, should the guard fail.
TESTS_THAT_TRY = """
import socket
from contextlib import suppress

import anyio
import pytest


@pytest.mark.anyio
async def test_reaching_an_outside_address_is_refused():
    with pytest.raises(Exception):
        await anyio.connect_tcp("192.0.2.1", 9)


def test_an_attempt_is_reported_where_its_error_is_swallowed():
    with suppress(Exception), socket.socket() as outside:
        outside.connect(("192.0.2.1", 9))


def test_a_name_is_not_looked_up():
    with suppress(Exception):
        socket.getaddrinfo("example.com", 443)


def test_loopback_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        socket.create_connection(server.getsockname()[:2]).close()
"""


def test_a_test_that_tries_to_leave_this_machine_fails_even_when_the_error_is_swallowed(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_leaving.py").write_text(TESTS_THAT_TRY)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir=.", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # A test whose own part passes and whose guard then fails counts as passed and as an error, hence 4 and 3.
    assert "4 passed, 3 errors" in run.stdout, run.stdout + run.stderr
    assert run.stdout.count("tests stay on this machine") >= 3
