"""The program as a whole: usage, exit codes, settings, pipes, terminals, memory."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from cyclopts import App

from tests.cli.running import Program, Spawned
from tests.cli.stored import completed, empty, enqueued, url_of
from tests.support.wrong_settings import WRONG
from voiceflow_worker.cli.opening import ending_in_time
from voiceflow_worker.cli.output import ExitCode, explained
from voiceflow_worker.cli.program import program
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
        (["check", "--qqq"], "voiceflow: --qqq is neither an option of this command nor a file: write ./--qqq for"),
        (["enqueue", "f.csv", "--not-before", "2026-11-20 09:00"], "has no time zone"),
        (
            ["--store", "sqlite:///calls.db", "status"],
            "--store stands before the command: write voiceflow COMMAND --store",
        ),
        (["--bogus"], "Unknown option: --bogus."),
        (["cancel", "--batch", "march"], "Unknown command: cancel. Did you mean `voiceflow calls cancel`?\n"),
        (["list"], "Did you mean `voiceflow calls list` or"),
        (["serve", "--port", "99999"], "Must be <= 65535"),
        (["sandbox", "--speed", "0"], "0 is not a speed"),
        (["sandbox", "--webhook", "ftp://example.com/x"], "give an http or https address"),
        (["serve", "--port", "http"], 'Invalid value for --port: "http" is not a whole number\n'),
        (["serve", "--notify", "crm"], "--notify (given directly): give an http or https address"),
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


@pytest.mark.slow
def test_names_that_the_terminal_cannot_print_do_not_end_it(folder: Path) -> None:
    job = completed(folder, batch_id="Fr\u00fchling")
    arguments = ["calls", "show", job.id, "--store", url_of(folder)]
    with Spawned(arguments, folder, {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}) as process:
        ended = process.end()
    assert ended.code == 0, ended.err
    assert "Fr\\xfchling" in ended.out


def test_one_command_installs_the_completion_of_a_shell(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(voiceflow.folder))
    monkeypatch.setenv("SHELL", "/bin/bash")
    (voiceflow.folder / ".bashrc").touch()
    assert voiceflow("--install-completion").code == 0
    typed = 'COMP_WORDS=(voiceflow calls resolve --pl); COMP_CWORD=3; _voiceflow; echo "${COMPREPLY[@]}"'
    shell = ["bash", "--norc", "-c", f'. "$HOME/.bashrc"; {typed}']
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == "--placed\n"


def test_help_loads_nothing_that_is_heavy(folder: Path) -> None:
    heavy = {"apsw", "httpx", "pydantic", "starlette", "structlog", "uvicorn"}
    code = (
        "import sys; from voiceflow_worker.cli.program import program; program();"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_command_loads_only_what_it_needs(folder: Path) -> None:
    code = (
        "import sys; from voiceflow_worker.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    account = {"VOICEFLOW_API_KEY": "k", "VOICEFLOW_SUB_ACCOUNT": "acme", "VOICEFLOW_BASE_URL": "http://127.0.0.1:9"}
    env = {**os.environ, **account, "VOICEFLOW_STORE": url_of(folder)}
    enqueued(folder, 0)
    loaded: dict[str, list[str]] = {}
    ours: dict[str, list[str]] = {}
    for command in ("--version", "hold", "worker --drain"):
        started = [sys.executable, "-c", code, *command.split()]
        run = subprocess.run(started, cwd=folder, env=env, capture_output=True, text=True, check=True)
        loaded[command] = run.stderr.strip().rpartition("\n")[2].split()
        ours[command] = [each for each in loaded[command] if each.startswith("voiceflow_worker.")]
    assert 0 < len(ours["--version"]) < 12
    assert 60 < len(ours["hold"]) < 92
    assert "voiceflow_worker.core.worker" in ours["worker --drain"]
    assert not {"uvicorn", "starlette", "click", "pygments"} & set(loaded["worker --drain"])
    for command, modules in ours.items():
        assert not [each for each in modules if "campaigns" in each], command
    unneeded = {
        "babel", "cyclopts.help", "httpx", "jinja2", "phonenumbers", "pygments", "rich.console", "rich.pretty",
    }  # fmt: skip
    assert {"apsw", "cyclopts", "structlog"} < set(loaded["hold"])
    assert not unneeded & set(loaded["hold"])


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


def test_the_worst_of_a_group_speaks_for_all() -> None:
    group = BaseExceptionGroup("x", [JobNotFoundError("default.1"), ExceptionGroup("y", [StoreUnavailableError("z")])])
    assert explained(group) == (ExitCode.OUT_OF_REACH, "the store cannot be used: z")


def test_a_group_with_a_bug_in_it_is_a_bug() -> None:
    assert explained(ExceptionGroup("x", [StoreUnavailableError("z"), ZeroDivisionError()])) is None


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


PROGRAM = """
import weakref
from voiceflow_worker.cli.opening import collect_less

class Connection:
    def __init__(self):
        self.itself = self

collect_less()
connections = [Connection() for _ in range(30_000)]  # enough to be looked at once while they are open
first = weakref.ref(connections[0])
connections.clear()
others = [[] for _ in range(400_000)]
print("freed" if first() is None else "kept")
"""


def test_closed_connections_are_freed_before_they_fill_the_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "freed"


# Shows a meter, and logs beside it, as a command on a terminal does.


def on_a_terminal(command: list[str], folder: Path) -> tuple[str, str]:
    """What a command writes to stdout, a pipe, and to stderr, a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=follower, env=environment) as process:
        os.close(follower)
        told = b""
        while True:
            try:
                told += os.read(leader, 65536)
            except OSError:  # how Linux says that nobody is at the other end any more
                break
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(leader)
    assert process.returncode == 0, told
    return out, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.decode())


@pytest.mark.slow
def test_progress_stays_off_a_stdout_that_carries_json(tmp_path: Path) -> None:
    path = tmp_path / "march.csv"
    path.write_text("destination\n+6587654321\n")
    command = [sys.executable, "-m", "voiceflow_worker", "enqueue", str(path), "--say", "Hello"]
    options = ["--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural", "--json", "--store", url_of(tmp_path)]
    out, told = on_a_terminal([*command, *options], tmp_path)
    assert out.startswith('{"batch_id": "march"')
    assert out.count("\n") == 1
    assert "enqueuing march.csv" in told


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


VALUES = (
    "", " ", "-1", "0", "x", "nan", "1e999", "9" * 40, "x" * 3000, "a\udcffb", "\u202e", "2030-13-45", "+65", "{{",
    "..", "%00", "99999999999d", "::", "=", "a\nb", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
)  # fmt: skip
NEEDED = {
    "FILE": ["people.csv"], "NUMBER": ["+6587654321"], "ID": ["default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"],
    "MODULE:MENU": ["menus:main"], "--note": ["--note", "seen"], "--placed": ["--placed"],
    "--say": ["--say", "Hello"],
}  # fmt: skip
"""What a command needs besides, by the first name of the argument."""
ENDS = {
    "worker": ["--drain"], "serve": ["--host", "host.invalid"], "sandbox": ["--host", "host.invalid"],
    "demo": ["--store", "nowhere://"], "call": ["--store", "nowhere://"],
}  # fmt: skip
"""What makes a command end that would go on, or call somebody."""
LISTENS = {("sandbox", "--host", value) for value in ("", "0", "::")}
"""What is right, and goes on for ever."""
BARE = ("Traceback", "TypeError", "AttributeError", "KeyError", "IndexError", "NoneType", "UnicodeEncodeError")


def commands(app: App, *words: str) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            found = app[name]
            if found.default_command is not None:
                yield (*words, name), found
            yield from commands(found, *words, name)


@cache
def cases() -> list[list[str]]:
    """The words of each command with each odd value of each option and argument."""
    found: list[list[str]] = []
    for words, app in commands(program()):
        arguments = [each for each in app.assemble_argument_collection() if each.names and each.names[0] != "*"]
        for odd in arguments:
            name = odd.names[0]
            needed = [
                word
                for each in arguments
                if each is not odd and each.required
                for word in NEEDED.get(each.names[0], ())
            ]
            ending = ENDS.get(words[0], [])
            given = [] if name in ending[:1] else ending
            values = [value for value in VALUES if (words[0], name, value) not in LISTENS]
            for value in values if odd.hint is not bool else ():
                option = [f"{name}={value}"] if name.startswith("-") else ["--", value]
                found.append([*words, *given, *needed, *option])
    return found


def tried(voiceflow: Program, some: list[list[str]]) -> list[str]:
    """What was wrong with the answers to these commands."""
    store = empty(voiceflow.folder)
    (voiceflow.folder / ".env").write_text(f"VOICEFLOW_STORE={store}\n")
    wrong: list[str] = []
    for command in some:
        (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
        try:
            ended = voiceflow(*command)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this looks for
            wrong.append(f"{command}: {type(error).__name__}: {error}")
            continue
        if ended.code not in {0, 1, 2, 3} or any(bare in ended.err for bare in BARE):
            wrong.append(f"{command}: {ended}")
        elif ended.code == 2 and not (ended.err + ended.out).strip():
            wrong.append(f"{command}: no sentence")
    return wrong


def test_an_odd_value_of_an_option_is_told_in_a_sentence(voiceflow: Program) -> None:
    wrong = tried(voiceflow, cases()[:: 64 * len(VALUES) + 1])
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(8))
def test_every_odd_value_of_every_option_is_told_in_a_sentence(voiceflow: Program, part: int) -> None:
    wrong = tried(voiceflow, cases()[part::8])
    assert not wrong, "\n".join(wrong)
