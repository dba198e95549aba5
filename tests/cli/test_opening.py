from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.support.redis_server import standalone

LOOKING = [
    ["status"], ["report"], ["hold"], ["resume"], ["reconcile"], ["calls", "list"], ["calls", "show", "default.1"],
    ["calls", "cancel", "default.1"], ["calls", "cancel", "--batch", "march", "--yes"],
    ["calls", "redial", "default.1"], ["calls", "resolve", "default.1", "--placed", "--note", "x"],
]  # fmt: skip


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_a_command_that_only_looks_makes_no_store(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    ended = voiceflow(*command, "--store", "sqlite:///cals.db")
    assert (ended.code, ended.out) == (3, "")
    assert f"there is no store {voiceflow.folder / 'cals.db'}" in ended.err
    assert list(voiceflow.folder.iterdir()) == []


def test_a_redis_that_may_forget_is_reported_by_commands_that_add_calls_and_by_the_doctor(
    voiceflow: Program, tmp_path: Path
) -> None:
    concern = "the last two seconds of writes may be lost"
    (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
    call = ["people.csv", "--say", "Hello", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567"]
    server = standalone(tmp_path / "redis").start()
    try:
        server.ask("CONFIG", "SET", "appendfsync", "everysec")
        enqueued = voiceflow("enqueue", *call, "--store", server.url)
        assert (enqueued.code, enqueued.err.count(concern)) == (0, 1)
        for command in (["status"], ["report"], ["calls", "list"], ["hold"], ["queues"]):
            looked = voiceflow(*command, "--store", server.url)
            assert (looked.code, concern in looked.err) == (0, False)
        found = voiceflow("doctor", "--store", server.url)
        assert (found.out + found.err).count(concern) == 1
    finally:
        server.kill()
