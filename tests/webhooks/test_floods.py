"""More connections than there are descriptors: strangers who hold them, and summaries that all come at once."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.bench.webhooks import seed, settled
from tests.support.processes import waited_for_a_processor
from tests.support.redis_server import standalone
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Basic c2VjcmV0"
MEGABYTE = 1_000_000
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n\r\n"

SERVE = (sys.executable, "-m", "voiceflow_worker", "serve", "--port", "0")


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'calls.db'}"
        return
    server = standalone(tmp_path / "redis").start()
    yield server.url
    server.kill()


@contextmanager
def receiver(
    url: str, log: Path, *, descriptors: int, env: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """`voiceflow serve` with so few descriptors, and no way to get more; gives its port and its process id."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *SERVE],
            env={**clean, "VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET, **(env or {})},
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        wait_until(lambda: process.poll() is not None or "/webhooks" in log.read_text(), log.read_text)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/webhooks", log.read_text())
        assert found is not None, log.read_text()
        yield int(found[1]), process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@dataclass
class Probe(threading.Thread):
    """Asks for /healthz on a new connection, again and again, and keeps how long the answers took.

    The time for which the kernel had no processor for the receiver, or for the one who asks, is not counted.
    """

    port: int
    pid: int
    took: list[float] = field(default_factory=list[float])
    failed: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            began, starved = time.monotonic(), waited_for_a_processor([self.pid, os.getpid()])
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as asked:
                    asked.sendall(HEALTHZ)
                    status = asked.recv(4096).split(b" ")[1:2]
                if status != [b"200"]:
                    self.failed.append(f"status {status}")
            except OSError as error:
                self.failed.append(repr(error))
            starved = waited_for_a_processor([self.pid, os.getpid()]) - starved
            self.took.append(time.monotonic() - began - starved)

    __hash__ = threading.Thread.__hash__


def flood(port: int, pid: int, **orders: Any) -> dict[str, Any]:
    """What came of a flood, told by the process that made it."""
    probe = Probe(port, pid)
    probe.start()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.webhooks.flooding"],
        input=json.dumps({"port": port, "secret": SECRET, "holding": 1.0, "rounds": 30, **orders}) + "\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    probe.over.set()
    probe.join(30)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return {
        **told,
        "slowest_healthz": max(probe.took),
        "healthz": len(probe.took),
        "failed_healthz": probe.failed,
    }


def judge(told: Mapping[str, Any], log: Path) -> None:
    assert set(told["tries"]) <= {"200", "503"}, told
    assert told["left"] == 0, told
    assert not told["failed_healthz"], told
    assert log.stat().st_size < MEGABYTE


@pytest.mark.alone
def test_strangers_and_many_summaries_at_once_keep_nobody_out(url: str, tmp_path: Path) -> None:
    posts = anyio.run(seed, url, 600)
    log = tmp_path / "log"
    with receiver(url, log, descriptors=256) as (port, pid):
        told = flood(port, pid, half_open=400, posts=posts)
    judge(told, log)
    assert told["slowest_healthz"] < 5, told
    assert anyio.run(settled, url) == 600


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_1500_half_open_connections_and_10000_summaries_at_once(url: str, tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 13_000:
        pytest.skip(f"the client needs 13,000 descriptors, and `ulimit -Hn` is {hard}")
    posts = anyio.run(seed, url, 10_000)
    log = tmp_path / "log"
    with receiver(url, log, descriptors=1024) as (port, pid):
        told = flood(port, pid, half_open=1500, posts=posts)
    sys.stdout.write(f"{json.dumps(told)} log: {log.stat().st_size} bytes\n")  # the figures: pytest -rP
    judge(told, log)
    assert told["slowest_healthz"] < 1, told
    assert anyio.run(settled, url) == 10_000
