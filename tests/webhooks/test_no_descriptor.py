"""With no file descriptor left, a receiver still settles calls: it opens nothing for it after its start."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import standalone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'calls.db'}"
        return
    server = standalone(tmp_path / "redis").start()
    yield server.url
    server.kill()


@pytest.mark.slow
def test_nothing_is_opened_after_the_start(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.webhooks.no_descriptor", url],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(json.loads(ended.stdout)) == {200}, ended.stderr
