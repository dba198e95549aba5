"""The program as a whole: usage, exit codes, settings, pipes, terminals, memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from cyclopts import App

from tests.cli.running import Program, Spawned
from tests.cli.stored import enqueued, url_of
from tests.support.wrong_settings import WRONG
from voiceflow_worker.cli.opening import ending_in_time
from voiceflow_worker.cli.output import ExitCode, explained
from voiceflow_worker.cli.program import COMMANDS, run
from voiceflow_worker.errors import (
    CallNotSentError,
    CallRefusedError,
    CampaignFileError,
    InvalidInputError,
    JobNotFoundError,
    StoreCorruptError,
    StoreUnavailableError,
    TooEarlyError,
    UnknownBackendError,
)


def test_a_look_or_a_stop_order_does_without_settings_that_are_wrong(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = enqueued(voiceflow.folder, batch="march")[0].id
    for name, value in WRONG.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    for command in (
        "hold", "status", "rate", "rate 5", "resume", "calls list", f"calls show {job}",
        "suppress add +6587654321", "suppress list", "suppress remove +6587654321", "batches",
        "audit", "report --batch march", "calls cancel --batch march --yes", "backup copy.db",
    ):  # fmt: skip
        ended = voiceflow(*command.split())
        assert ended.code == 0, f"{command}: {ended.err}"
        for name in WRONG:
            assert re.search(rf"warning: .*VOICEFLOW_{name}\b.*\(this command does without it\)", ended.err), command
    assert voiceflow("worker", "--drain").code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["calls", "resolve", "default.1", "--note", "x"], "--placed"),
        (["calls", "resolve", "default.1", "--placed", "--not-placed", "--note", "x"], "specified multiple times"),
        (["calls", "list", "--state", "nonsense"], '"in_doubt"'),
        (["check", "people.csv", "--tempate", "x"], "Unknown option: --tempate. Did you mean --template?\n"),
        (["check", "--qqq"], "Unknown option: --qqq."),
        (["enqeue", "people.csv"], 'Did you mean "enqueue"?'),
        (["enqueue", "f.csv", "--not-before", "2026-11-20 09:00"], "has no time zone"),
        (["calls", "lst"], 'Did you mean "list"?'),
        (["serve", "--port", "99999"], "Must be <= 65535"),
        (["sandbox", "--speed", "0"], "Must be > 0"),
        (["worker", "--rate", "fast"], "give calls per second"),
        (["status", "--queue", "Not A Name"], "--queue"),
        (["calls", "list", "--number", "somebody"], "'somebody' is not one phone number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_exits_2_with_a_sentence(voiceflow: Program, arguments: list[str], told: str) -> None:
    ended = voiceflow(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert list(voiceflow.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("store", "code", "told"),
    [
        ("nonsense://host/0", 2, "no backend is registered"),
        ("calls.db", 2, "sqlite:///calls.db"),
        ("sqlite:///no/such/folder/calls.db", 3, "no/such/folder"),
        ("sqlite:///no-store.db", 3, "is not a voiceflow store"),
    ],
)
def test_a_store_that_cannot_be_used_is_reported(voiceflow: Program, store: str, code: int, told: str) -> None:
    (voiceflow.folder / "no-store.db").write_text("this is a letter, not a database\n" * 100)
    ended = voiceflow("status", "--store", store)
    assert ended.code == code
    assert told in ended.err
    assert ended.out == ""


def test_store_and_queue_come_from_the_settings_too(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueued(voiceflow.folder, 3)
    monkeypatch.setenv("VOICEFLOW_STORE", "sqlite:///calls.db")
    monkeypatch.setenv("VOICEFLOW_QUEUE", "mine")
    assert voiceflow("status", "--json").document["queue"] == "mine"
    assert voiceflow("status", "--json", "--queue", "default").document["total"] == 3
    assert voiceflow("status", "--json", "--queue", "other").document["queue"] == "other"


def test_a_bug_is_not_hidden(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("voiceflow_worker.cli.doctor.settings_from", broken)
    with pytest.raises(ZeroDivisionError):
        voiceflow("config", "show")


def test_a_reader_that_has_seen_enough_ends_it_quietly(folder: Path) -> None:
    enqueued(folder, 300)  # more than a pipe takes
    listing = Spawned(["calls", "list", "--limit", "0", "--json", "--store", url_of(folder)], folder)
    command = [sys.executable, "-m", "voiceflow_worker", *map(str, listing.arguments)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


PROGRAM = [sys.executable, "-m", "voiceflow_worker"]


def test_help_loads_nothing_that_is_heavy(folder: Path) -> None:
    heavy = {"apsw", "httpx", "pydantic", "starlette", "structlog", "uvicorn"}
    code = (
        "import sys; from voiceflow_worker.cli.program import program; program();"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_fits_one_screen_and_begins_with_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def help_of(*command: str) -> str:
        assert run([*command, "--help"]) == 0
        return capsys.readouterr().out

    for group in ([], ["calls"], ["suppress"], ["ivr"], ["config"]):
        assert len(help_of(*group).splitlines()) <= 40
    for each in COMMANDS.values():
        for command in (name for name, function, _ in each if function):
            usage, _, rest = help_of(command).partition("For example:\n")
            assert len(usage.splitlines()) <= 5
            examples = rest.partition("\n\n")[0].splitlines()
            assert examples
            assert all(line.startswith("  ") for line in examples), f"{command}: an example is longer than a line"
    assert help_of("enqueue").count("  voiceflow enqueue ") >= 3


def test_an_expected_error_has_its_exit_code() -> None:
    for error, code in [
        (InvalidInputError("x"), 2),
        (CampaignFileError("x"), 2),
        (UnknownBackendError("x"), 2),
        (JobNotFoundError("default.1"), 1),
        (TooEarlyError("default.1", state="in_doubt", until=datetime(2026, 1, 1, tzinfo=UTC)), 1),
        (StoreUnavailableError("x"), 3),
        (StoreCorruptError("x"), 3),
        (CallNotSentError("x"), 3),
        (CallRefusedError("x", code=-1014), 1),
        (OSError(98, "Address already in use"), 1),
        (KeyboardInterrupt(), 130),
    ]:
        told = explained(error)
        assert told is not None
        assert told[0] == code


def test_an_error_nobody_expects_has_none() -> None:
    assert explained(ZeroDivisionError()) is None


def test_what_was_set_is_shown_with_its_place_and_the_rest_on_demand(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_RATE", "7")
    (voiceflow.folder / ".env").write_text("VOICEFLOW_QUEUE=reminders\n")
    assert [line["setting"] for line in voiceflow("config", "show", "--json").lines] == [
        "VOICEFLOW_QUEUE",
        "VOICEFLOW_WINDOW",  # which the fixtures set
        "VOICEFLOW_RATE",
        "VOICEFLOW_WAIT_FOR_STORE",  # which the fixtures set
    ]
    lines = voiceflow("config", "show", "--all", "--json").lines
    found = {line["setting"]: (line["value"], line["from"]) for line in lines}
    assert found["VOICEFLOW_RATE"] == ("7.0", "VOICEFLOW_RATE (the environment)")
    assert found["VOICEFLOW_QUEUE"] == ("reminders", "VOICEFLOW_QUEUE (.env)")
    assert found["VOICEFLOW_BURST"] == ("1", "the default")
    assert found["VOICEFLOW_LEASE"][0] == "60s"


def test_a_process_that_does_not_end_when_told_to_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = SimpleQueue[int]()
    monkeypatch.setattr(os, "_exit", ended.put)
    with ending_in_time() as within:
        within(0)
        assert ended.get(timeout=30) == 1
        within(0.05)
    with pytest.raises(Empty):
        ended.get(timeout=0.2)
    assert "has not ended within 0 s of its signal, and is ended now" in capsys.readouterr().err


"""What a command needs besides, by the first name of the argument."""
"""What makes a command end that would go on, or call somebody."""
"""What is right, and goes on for ever."""


def commands(app: App, *words: str) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            found = app[name]
            if found.default_command is not None:
                yield (*words, name), found
            yield from commands(found, *words, name)
