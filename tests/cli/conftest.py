"""Fixtures of the command-line tests: commands in this process and in their own, and a store with calls in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Ended, Program, Spawned
from tests.cli.stored import url_of, within
from tests.support.commands import assembled_once, logs_as_they_were
from tests.support.flows import SOURCE
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.queue_account import registered_addresses
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.account import WebhookTarget

__all__ = ["assembled_once", "logs_as_they_were"]


@pytest.fixture(autouse=True)
def _logs(logs_as_they_were: None) -> None:
    """Of every test."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a store that is not there, where that is not what a test is about."""
    monkeypatch.setenv("VOICEFLOW_WAIT_FOR_STORE", "0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory: no .env, no store of anybody."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voiceflow(folder: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    """The program, run in this process and in an empty directory."""
    return Program(folder, capfd)


SECRET = "Bearer of-news-of-calls-1"
MINE = "+6581234567"
LONG = {"ring_seconds": 3000, "outcome": "COMPLETED"}


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[EightByEight]:
    """A sandbox whose webhook leads nowhere until `receiving`, and settings that suit it."""
    sandbox = Sandbox(api_key="key-1", sub_accounts=["acme"], numbers=[SOURCE], speed=100)
    with running(sandbox) as found:
        found.settings(
            monkeypatch,
            STORE=url_of(folder),
            OUTCOMES="webhook",
            SOURCE=SOURCE,
            WEBHOOK_SECRET=SECRET,
            STATE_DIR=str(folder / "state"),
        )
        monkeypatch.setattr("voiceflow_worker.backends.health.LITTLE", 0)
        monkeypatch.setattr("voiceflow_worker.backends.health.TOO_LITTLE", 0)
        # A call that misses its send slot, as on a busy machine, waits for the next one, and tells so.
        monkeypatch.setattr("voiceflow_worker.core.sending.pacer.SLOT_TOLERANCE", timedelta(minutes=1))
        sandbox._account.hooks("acme")["VSS"] = WebhookTarget(
            url="http://127.0.0.1:9/webhooks/8x8", authorization=SECRET
        )
        yield found


@contextmanager
def receiving(eight: EightByEight, folder: Path) -> Iterator[Spawned]:
    with Spawned(["serve", "--port", "0", "--register", "http://127.0.0.1:9"], folder) as serve:
        url = serve.wait_for("ready on").partition("ready on ")[2].partition(",")[0]
        serve.wait_for("8x8 now sends VSS events")
        for kind in ("VSS", "VCS"):
            eight.sandbox._account.hooks("acme")[kind] = WebhookTarget(url=url, authorization=SECRET)
        within(folder, lambda engine: registered_addresses(engine.store).put({"VSS": url}))
        yield serve
        serve.stop()


def listens(folder: Path) -> None:
    """Somebody said that they listen, half a minute ago at most."""
    within(folder, lambda engine: Heartbeats(engine.store).receiver("somebody"))


def order(eight: EightByEight, what: str, *orders: dict[str, object]) -> None:
    assert httpx.post(f"{eight.url}/_sandbox/{what}", json=list(orders), trust_env=False).status_code == 200


def steps(ended: Ended) -> list[dict[str, Any]]:
    return [line for line in ended.lines if "step" in line]


def names(ended: Ended) -> list[str]:
    return [step["step"] for step in steps(ended)]
