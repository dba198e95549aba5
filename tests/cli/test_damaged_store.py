"""A store that is damaged, or none, is exit code 3 and a sentence for every command: never "no calls" and exit 0."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of
from tests.support.killed import sent_and_killed
from voiceflow_worker.cli.program import program

COMMANDS = [
    ["status"], ["report"], ["report", "--batch", "march"], ["hold"], ["resume"], ["reconcile"], ["calls", "list"],
    ["calls", "show", "default.1"], ["calls", "cancel", "default.1"], ["calls", "cancel", "--batch", "march"],
    ["calls", "redial", "default.1"], ["calls", "resolve", "default.1", "--placed", "--note", "x"],
    ["suppress", "add", "+6587654321"], ["suppress", "remove", "+6587654321"], ["suppress", "list"],
    ["suppress", "import", "numbers.csv"],
    ["queues"], ["batches"], ["rate"], ["rate", "5"], ["watch"],
    ["backup", "copy.db"], ["enqueue", "people.csv", "--say", "Hello", "--voice-profile", "en-US-JennyNeural",
     "--source", "+6531234567"], ["worker", "--drain"], ["serve", "--port", "0"],
]  # fmt: skip
"""Every command with a `--store` but `doctor`, which tells of it among other things, `demo`, `call` and `restore`."""
MAKING = {"enqueue", "worker", "serve", "suppress add", "suppress import"}
"""Make a store of a file that is empty."""


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


@pytest.fixture(autouse=True)
def _inputs(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    (voiceflow.folder / "people.csv").write_text("destination\n+6587654321\n")
    (voiceflow.folder / "numbers.csv").write_text("number\n+6587654321\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_so_and_changes_nothing(voiceflow: Program, kind: Callable[[Path], None]) -> None:
    enqueued(voiceflow.folder, 60, batch_id="march")
    path = voiceflow.folder / "calls.db"
    kind(path)
    kept = {each.name: each.read_bytes() for each in voiceflow.folder.glob("calls.db*") if "-shm" not in each.name}
    wrong: list[str] = []
    for command in COMMANDS:
        ended = voiceflow(*command)
        if ended.code != 3 or ended.out or str(path) not in ended.err or "Traceback" in ended.err:
            wrong.append(f"{' '.join(command)}: {ended}")
        found = {each.name: each.read_bytes() for each in voiceflow.folder.glob("calls.db*") if "-shm" not in each.name}
        if {name: text for name, text in found.items() if text} != {name: text for name, text in kept.items() if text}:
            wrong.append(f"{' '.join(command)} changed the files")
            break
    assert not wrong, "\n".join(wrong)


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
