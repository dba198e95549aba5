"""Stores that are missing, locked, replaced or damaged: what commands say, and what they leave alone."""

from __future__ import annotations

import inspect
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import apsw
import pytest

from tests.cli.running import Program, Spawned
from tests.cli.stored import enqueued, url_of
from tests.support.killed import sent_and_killed
from tests.support.redis_server import standalone
from tests.support.workers import damaged, spoilt
from voiceflow_worker import Job, open_store
from voiceflow_worker.cli.program import program

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


def test_a_redis_with_slower_settings_is_reported_by_commands_that_add_calls_and_by_the_doctor(
    voiceflow: Program, tmp_path: Path
) -> None:
    (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
    call = ["people.csv", "--say", "Hello", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567"]
    server = standalone(tmp_path / "redis").start()
    try:
        server.ask("CONFIG", "SET", "appendfsync", "everysec")
        has_waitaof = server.version >= (7, 2)
        concern = "waits for up to a second" if has_waitaof else "the last two seconds of writes may be lost"
        enqueued = voiceflow("enqueue", *call, "--store", server.url)
        assert (enqueued.code, enqueued.err.count(concern)) == (0, 1)
        for command in (["status"], ["report"], ["calls", "list"], ["hold"], ["status", "--all"]):
            looked = voiceflow(*command, "--store", server.url)
            assert (looked.code, concern in looked.err) == (0, False)
        found = voiceflow("doctor", "--store", server.url)
        assert (found.out + found.err).count(concern) == 1
    finally:
        server.kill()


EIGHT = {"VOICEFLOW_API_KEY": "key-1", "VOICEFLOW_SUB_ACCOUNT": "acme", "VOICEFLOW_BASE_URL": "http://127.0.0.1:1"}
LOCK = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def frozen_writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds SQLite's write lock and is stopped."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["worker", "--drain"], ["serve", "--port", "0"]], ids=["worker", "serve"])
def test_a_store_that_a_frozen_process_has_locked_is_waited_for(voiceflow: Program, command: list[str]) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    assert voiceflow("hold", "--store", url_of(folder)).code == 0
    options = [*command, "--store", url_of(folder), "--wait-for-store", "60s"]
    with frozen_writer(folder / "calls.db") as frozen, Spawned(options, folder, EIGHT) as waiting:
        assert "up to 60 s" in waiting.wait_for("is locked: another process is writing to it")
        frozen.kill()
        if command[0] == "worker":
            assert waiting.end().code == 1  # the hold stopped it
        else:
            waiting.wait_for("is ready")
            assert waiting.stop().code == 0


@pytest.mark.parametrize(
    "command", [["hold"], pytest.param(["suppress", "add", "+6587654321"], marks=pytest.mark.slow)], ids=" ".join
)
def test_an_order_waits_for_the_lock_too(voiceflow: Program, command: list[str]) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    options = [*command, "--store", url_of(folder), "--wait-for-store", "60s"]
    with frozen_writer(folder / "calls.db") as frozen, Spawned(options, folder) as waiting:
        assert "up_to=60" in waiting.wait_for("the store is locked by another process; waiting")
        frozen.kill()
        assert waiting.end().code == 0


@pytest.mark.slow
def test_after_the_wait_it_is_exit_code_3_and_reading_needs_no_wait(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    began = time.monotonic()
    with frozen_writer(folder / "calls.db"):
        for command in (["worker", "--drain"], ["hold"]):
            with Spawned([*command, "--store", url_of(folder), "--wait-for-store", "0"], folder, EIGHT) as spawned:
                ended = spawned.end()
            assert ended.code == 3, ended.err
            assert "locked" in ended.err
            assert "trying again" not in ended.err
        assert voiceflow("status", "--store", url_of(folder)).code == 0
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_at_once(voiceflow: Program) -> None:
    folder = voiceflow.folder
    enqueued(folder, 1)
    options = ["worker", "--store", url_of(folder), "--wait-for-store", "1h"]
    with frozen_writer(folder / "calls.db"), Spawned(options, folder, EIGHT) as waiting:
        waiting.wait_for("trying again for up to 3600 s")
        waiting.press(signal.SIGINT)
        assert waiting.end().code == 130


def test_a_slip_of_the_pen_is_reported_at_once(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICEFLOW_WAIT_FOR_STORE")
    began = time.monotonic()
    assert voiceflow("status", "--store", "sqlite:///cals.db").code == 3
    ended = voiceflow("status", "--store", "sqlite:///none/calls.db")
    assert ended.code == 3
    assert f"the directory {voiceflow.folder / 'none'} does not exist" in ended.err
    assert "trying again" not in ended.err
    assert time.monotonic() - began < 10


def test_a_wrong_password_ends_at_once(voiceflow: Program, tmp_path: Path) -> None:
    server = standalone(tmp_path / "redis").start()
    try:
        server.ask("CONFIG", "SET", "requirepass", "right")
        for store in (server.url, server.url.replace("//", "//:wrong@")):
            began = time.monotonic()
            ended = voiceflow("status", "--store", store, "--wait-for-store", "60s")
            assert ended.code == 3
            assert "refuses this user" in ended.err
            assert "trying again" not in ended.err
            assert time.monotonic() - began < 30
    finally:
        server.kill()


@pytest.mark.slow
def test_a_receiver_ends(voiceflow: Program) -> None:
    folder: Path = voiceflow.folder
    enqueued(folder, 1)
    with Spawned(["serve", "--port", "0", "--store", url_of(folder)], folder) as receiver:
        receiver.wait_for("is ready")
        (folder / "calls.db").unlink()
        ended = receiver.end()
    assert ended.code == 3, ended.err
    assert "was removed while this process had it open" in ended.err
    assert not (folder / "calls.db").exists()


COMMANDS = [
    ["status"], ["report"], ["report", "--batch", "march"], ["hold"], ["resume"], ["reconcile"], ["calls", "list"],
    ["calls", "show", "default.1"], ["calls", "cancel", "default.1"], ["calls", "cancel", "--batch", "march"],
    ["calls", "redial", "default.1"], ["calls", "resolve", "default.1", "--placed", "--note", "x"],
    ["suppress", "add", "+6587654321"], ["suppress", "remove", "+6587654321"], ["suppress", "list"],
    ["suppress", "import", "numbers.csv"],
    ["audit"], ["forget", "+6587654321", "--yes"],
    ["status", "--all"], ["batches"],
    ["rate"], ["rate", "5"],
    ["backup", "copy.db"], ["enqueue", "people.csv", "--say", "Hello", "--voice-profile", "en-US-JennyNeural",
     "--source", "+6531234567"], ["worker", "--drain"], ["serve", "--port", "0"],
]  # fmt: skip
"""Every command with a `--store` but `doctor`, which tells of it among other things, `demo`, `call` and `restore`."""
MAKING = {"enqueue", "worker", "serve", "suppress add", "suppress import"}
"""Make a store of a file that is empty."""


def files_of(store: Path) -> dict[str, bytes]:
    """The files of a store that are not made anew each time it is opened."""
    files = (each for each in store.parent.glob(f"{store.name}*") if each.is_file() and "-shm" not in each.name)
    return {each.name: each.read_bytes() for each in files}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4096 * 4096])


def junk_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 6 * 4096] = b"\xff" * (3 * 4096)
    path.write_bytes(content)


def without_a_table(path: Path) -> None:
    by_hand(path, "DROP TABLE bodies")


def of_another_application(path: Path) -> None:
    path.unlink()
    by_hand(path, "CREATE TABLE customers (name)")


def of_a_newer_version(path: Path) -> None:
    by_hand(path, "PRAGMA user_version = 99")


def empty_with_a_log(path: Path) -> None:
    sent_and_killed(path, 2)
    path.write_bytes(b"")


def a_backup_under_the_log_of_the_killed_process(path: Path) -> None:
    """The way back that the documentation told until now."""
    backup = path.with_name("backup.db")
    by_hand(path, f"VACUUM INTO '{backup}'")
    sent_and_killed(path, 20)
    shutil.copy(backup, path)


def by_hand(path: Path, statement: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(statement)
    db.close()


KINDS = [
    cut_short, junk_pages, without_a_table, of_another_application, of_a_newer_version, empty_with_a_log,
    a_backup_under_the_log_of_the_killed_process,
]  # fmt: skip


@pytest.fixture
def inputs(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
    (voiceflow.folder / "numbers.csv").write_text("number\n+6587654321\n")


@pytest.mark.usefixtures("inputs")
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_so_and_changes_nothing(voiceflow: Program, kind: Callable[[Path], None]) -> None:
    enqueued(voiceflow.folder, 60, batch="march")
    path = voiceflow.folder / "calls.db"
    kind(path)
    kept = files_of(path)
    wrong: list[str] = []
    for command in COMMANDS:
        ended = voiceflow(*command)
        if ended.code != 3 or ended.out or str(path) not in ended.err or "Traceback" in ended.err:
            wrong.append(f"{' '.join(command)}: {ended}")
        found = files_of(path)
        if {name: text for name, text in found.items() if text} != {name: text for name, text in kept.items() if text}:
            wrong.append(f"{' '.join(command)} changed the files")
            break
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("inputs")
def test_an_empty_file_is_not_a_store_to_readers(voiceflow: Program) -> None:
    path = voiceflow.folder / "calls.db"
    for command in COMMANDS:
        if " ".join(command[:2]) in MAKING or command[0] in MAKING:
            continue
        path.write_bytes(b"")
        ended = voiceflow(*command)
        assert (ended.code, ended.out) == (3, ""), command
        assert "is empty. If there was a store in it before" in ended.err
        assert path.read_bytes() == b""


STORE = {"store", "common"}
"""Parameters of commands that open a store."""


def test_no_command_is_left_out_here() -> None:
    found: set[str] = set()
    app = program()
    for name in app:
        group = app[name]
        if group.default_command is not None and STORE & set(inspect.signature(group.default_command).parameters):
            found.add(name)
        found |= {
            f"{name} {inner}"
            for inner in group
            if (command := group[inner].default_command) is not None
            and STORE & set(inspect.signature(command).parameters)
        }
    tried = {" ".join(command[:2]) for command in COMMANDS} | {command[0] for command in COMMANDS}
    assert found - tried == {"call", "demo", "doctor", "restore"}


def test_commands_name_what_cannot_be_read(voiceflow: Program, store_url: str) -> None:
    async def prepare() -> Job:
        async with open_store(store_url) as store:
            return await damaged(store, spoilt)

    bad = anyio.run(prepare)
    assert "1 call cannot be read, and nothing happens to them: " in voiceflow("status", "--store", store_url).out
    told = voiceflow("doctor", "--store", store_url)
    assert "1 call cannot be read" in told.out
    assert told.code == 1
    cancelled = voiceflow("calls", "cancel", bad.id, "--store", store_url)
    assert cancelled.code == 0
    assert "its record could not be read" in cancelled.out
