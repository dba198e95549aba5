from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.cli.stored import empty, enqueued
from tests.support.redis_server import standalone
from voiceflow_worker.backends.sqlite.file.nearby import stores_near

LOOKING = [
    ["status"], ["report"], ["hold"], ["resume"], ["reconcile"], ["calls", "list"], ["calls", "show", "default.1"],
    ["calls", "cancel", "default.1"], ["calls", "cancel", "--batch", "march"], ["calls", "redial", "default.1"],
    ["calls", "resolve", "default.1", "--placed", "--note", "x"],
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


def test_stores_that_are_near_are_named_the_likeliest_first(voiceflow: Program) -> None:
    empty(voiceflow.folder)  # calls.db
    (voiceflow.folder / "archive.db").write_bytes((voiceflow.folder / "calls.db").read_bytes())
    (voiceflow.folder / "letters.db").write_text("this is a letter, not a store\n" * 100)
    (voiceflow.folder / "people.csv").write_text("destination\n")
    err = voiceflow("status", "--store", "sqlite:///cals.db").err
    assert f"Stores nearby: {voiceflow.folder / 'calls.db'}, {voiceflow.folder / 'archive.db'}. Name a store" in err


def test_where_the_name_came_from_is_reported(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", "file:///calls.db")
    assert f"{voiceflow.folder / 'calls.db'} (VOICEFLOW_STORE (the environment)), and" in voiceflow("status").err


def test_a_store_that_is_there_is_opened_and_left_in_place(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, 2)
    assert voiceflow("status", "--json", "--store", "sqlite:///calls.db").document["total"] == 2


def test_a_folder_that_cannot_be_listed_has_no_stores_near(tmp_path: Path) -> None:
    assert stores_near(tmp_path / "no" / "such" / "calls.db") == ()
