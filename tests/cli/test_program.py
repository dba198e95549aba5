from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Program, Spawned
from tests.cli.stored import completed, enqueued, url_of


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["calls", "resolve", "default.1", "--note", "x"], "--placed"),
        (["calls", "resolve", "default.1", "--placed", "--not-placed", "--note", "x"], "specified multiple times"),
        (["calls", "list", "--state", "nonsense"], '"in_doubt"'),
        (["check", "people.csv", "--tempate", "x"], "Unknown option: --tempate. Did you mean --template?\n"),
        (["check", "--qqq"], "voiceflow: --qqq is neither an option of this command nor a file: write ./--qqq for"),
        (["enqueue", "f.csv", "--not-before", "2026-11-20 09:00"], "has no time zone"),
        (
            ["--store", "sqlite:///calls.db", "status"],
            "--store stands before the command: write voiceflow COMMAND --store",
        ),
        (["--bogus"], "Unknown option: --bogus."),
        (["serve", "--port", "99999"], "Must be <= 65535"),
        (["sandbox", "--speed", "0"], "0 is not a speed"),
        (["sandbox", "--webhook", "ftp://example.com/x"], "give an http or https address"),
        (["serve", "--port", "http"], 'Invalid value for --port: "http" is not a whole number\n'),
        (["serve", "--notify", "crm"], "--notify (given directly): give an http or https address"),
        (["worker", "--rate", "fast"], "give calls per second"),
        (["status", "--queue", "Not A Name"], "--queue"),
        (["calls", "list", "--number", "somebody"], "'somebody' is not a phone number"),
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


def test_names_that_the_terminal_cannot_print_do_not_end_it(folder: Path) -> None:
    job = completed(folder, batch_id="Fr\u00fchling")
    arguments = ["calls", "show", job.id, "--store", url_of(folder)]
    with Spawned(arguments, folder, {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}) as process:
        ended = process.end()
    assert ended.code == 0, ended.err
    assert "Fr\\xfchling" in ended.out


def test_help_loads_nothing_that_is_heavy(folder: Path) -> None:
    heavy = {"apsw", "httpx", "pydantic", "starlette", "structlog", "uvicorn"}
    code = (
        "import sys; from voiceflow_worker.cli.program import program; program();"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
