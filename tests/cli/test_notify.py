"""`--notify URL`: a worker and a receiver tell the user's own system what became of calls, each once between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Program
from tests.support.processes import voiceflow as process
from tests.support.stage import stage
from voiceflow_worker.notify.webhook import verify_notification

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Crm(ThreadingHTTPServer):
    """A system of a user: takes everything, once it has seen that it was signed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Takes)
        self.told: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/calls?token=of-the-tests"


class _Takes(BaseHTTPRequestHandler):
    server: Crm

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append(dict(verify_notification(SECRET, self.headers.items(), body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def crm() -> Iterator[Crm]:
    with Crm() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_drain_ends_when_everything_was_told(tmp_path: Path, crm: Crm) -> None:
    """Worker and receiver share the store and the address; one of them tells each outcome."""
    with stage(tmp_path, notify_url=crm.url, notify_secret=SECRET) as on:
        on.campaign(20)
        done = process("worker", "--drain", "--rate", "unlimited", env=on.env)
        assert done.wait() == 0, done.told
        assert "are sent to 127.0.0.1" in done.told
        assert "token" not in done.told
        assert SECRET not in done.told
        calls = {call["id"]: call for call in on.calls()}
    assert sorted(told["data"]["id"] for told in crm.told) == sorted(calls)
    assert len({told["id"] for told in crm.told}) == 20
    for told in crm.told:
        assert told["type"] == "call.ended"
        assert told["state"] == calls[told["data"]["id"]]["state"]
        assert told["data"]["outcome"] is not None


@pytest.mark.parametrize("command", [("worker",), ("serve", "--port", "0")])
def test_a_missing_secret_is_reported_before_anything_is_opened(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "any")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "demo")
    ended = voiceflow(*command, "--notify", "https://crm.example.com/calls")
    assert ended.code == 2
    assert "set VOICEFLOW_NOTIFY_SECRET" in ended.err
    assert not list(voiceflow.folder.iterdir())


def test_a_bad_secret_and_a_bad_address_are_reported_without_showing_them(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_NOTIFY_SECRET", "hunter2")
    ended = voiceflow("serve", "--port", "0", "--notify", "https://crm.example.com/calls")
    assert (ended.code, "hunter2" in ended.err) == (2, False)
    assert "24 to 64 bytes in base64" in ended.err
    ended = voiceflow("serve", "--port", "0", "--notify", "https://me:hunter2@crm.example.com")
    assert (ended.code, "hunter2" in ended.err) == (2, False)
    monkeypatch.setenv("VOICEFLOW_NOTIFY_URL", "https://crm.example.com/calls?token=hunter2")
    shown = voiceflow("config", "show")
    assert "https://crm.example.com/calls?(hidden)" in shown.out
    assert "hunter2" not in shown.out + shown.err
