"""More connections than there are descriptors: strangers who hold them, and summaries that all come at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from tests.bench.webhooks import seed, settled
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
def receiver(url: str, log: Path, *, descriptors: int) -> Iterator[int]:
    """`voiceflow serve` with so few descriptors, and no way to get more; gives its port."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *SERVE],
            env={**clean, "VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET},
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        wait_until(lambda: process.poll() is not None or "/webhooks" in log.read_text(), log.read_text)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/webhooks", log.read_text())
        assert found is not None, log.read_text()
        yield int(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@dataclass
class Probe(threading.Thread):
    """Asks for /healthz on a new connection, again and again."""

    port: int
    failed: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as asked:
                    asked.sendall(HEALTHZ)
                    status = asked.recv(4096).split(b" ")[1:2]
                if status != [b"200"]:
                    self.failed.append(f"status {status}")
            except OSError as error:
                self.failed.append(repr(error))

    __hash__ = threading.Thread.__hash__


@pytest.mark.alone
def test_strangers_and_many_summaries_at_once_keep_nobody_out(url: str, tmp_path: Path) -> None:
    posts = anyio.run(seed, url, 600)
    log = tmp_path / "log"
    with receiver(url, log, descriptors=256) as port:
        probe = Probe(port)
        probe.start()
        ended = subprocess.run(
            [sys.executable, "-m", "tests.webhooks.flooding"],
            input=json.dumps({"port": port, "secret": SECRET, "rounds": 30, "half_open": 400, "posts": posts}) + "\n",
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=300,
            check=False,
        )
        probe.over.set()
        probe.join(30)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert set(told["tries"]) <= {"200", "503"}, told
    assert told["left"] == 0, told
    assert not probe.failed, "each answer within 20 s"
    assert log.stat().st_size < MEGABYTE
    assert anyio.run(settled, url) == 600
