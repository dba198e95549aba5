"""`voiceflow restore`: a backup in the place of a store, so that nobody is called again who was called since."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, states, url_of, within
from tests.contract.samples import delete
from tests.support.engine import Engine
from tests.support.everyday import combinations
from tests.support.flows import number
from tests.support.killed import sent_and_killed
from tests.support.voices import ScriptedVoice
from voiceflow_worker.core.rollback import remember_pruned
from voiceflow_worker.core.suppression import SuppressionList

COUNT = 12


@pytest.fixture(autouse=True)
def _store(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))


def backed_up(voiceflow: Program) -> Path:
    """The backup of a store with calls that wait."""
    enqueued(voiceflow.folder, COUNT)
    assert voiceflow("backup", "copy.db").code == 0
    return voiceflow.folder / "copy.db"


def rung_after_resume(voiceflow: Program) -> Counter[str]:
    """Which numbers ring when somebody opens the queue and a worker sends what is due."""
    assert voiceflow("resume").code == 0
    rang: list[str] = []

    async def work(engine: Engine) -> None:
        rang.extend([job.destination for job in await engine.send()])

    for _ in range(3):
        within(voiceflow.folder, work, voice=ScriptedVoice())
    return Counter(rang)


def numbers(*places: int) -> Counter[str]:
    return Counter(number(place) for place in places)


def put_aside(folder: Path) -> list[str]:
    return sorted(each.name.partition(".before-restore-")[2][16:] for each in folder.glob("*.before-restore-*"))


def damage(path: Path, *, first: int, last: int) -> None:
    """Overwrite pages, counted from 0, as a failing disk would."""
    content = bytearray(path.read_bytes())
    content[first * 4096 : last * 4096] = b"\xff" * ((last - first) * 4096)
    path.write_bytes(content)


def damage_the_last_pages(path: Path) -> None:
    asked(path, "SELECT count(*) FROM jobs")  # whoever closes the store last moves the log into the file
    pages = path.stat().st_size // 4096
    damage(path, first=pages - 4, last=pages)


def damage_a_row(path: Path) -> None:
    asked(path, "UPDATE jobs SET record = 'junk' WHERE state = 'submitted' AND number = 5")


def asked(path: Path, statement: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(statement).fetchall()
    db.close()


# -- what was sent after the backup ------------------------------------------------------------------------------------


def test_nobody_is_called_again_who_was_called_after_the_backup(voiceflow: Program) -> None:
    backed_up(voiceflow)
    sent_and_killed(voiceflow.folder / "calls.db", 5)
    ended = voiceflow("restore", "copy.db", "--json")
    assert ended.code == 0, ended.err
    told = ended.document
    assert told["taken_over"] == {"advanced": 5, "in_doubt": 0, "added": 0, "cancelled": 0, "was_read": True}
    assert (told["calls"], told["waiting"], told["held"]) == (COUNT, COUNT - 5, ["default"])
    assert states(voiceflow.folder) == {"queued": COUNT - 5, "submitted": 5}
    assert put_aside(voiceflow.folder) == ["", "-shm", "-wal"]
    assert rung_after_resume(voiceflow) == numbers(*range(5, COUNT))


async def sends_nothing(engine: Engine) -> None:
    assert await engine.send() == []


def test_what_was_only_enqueued_after_the_backup_is_kept(voiceflow: Program) -> None:
    backed_up(voiceflow)
    enqueued(voiceflow.folder, COUNT + 3)
    sent_and_killed(voiceflow.folder / "calls.db", COUNT + 1)
    told = voiceflow("restore", "copy.db", "--json").document["taken_over"]
    assert told == {"advanced": COUNT, "in_doubt": 0, "added": 3, "cancelled": 0, "was_read": True}
    assert rung_after_resume(voiceflow) == numbers(COUNT + 1, COUNT + 2)


async def ended_and_deleted(engine: Engine) -> None:
    """Two calls are sent, end, and are deleted after their retention, as the sweep does it."""
    now = engine.store.clock.now()
    for job in await engine.send():
        if job.destination in {number(0), number(COUNT)}:
            await engine.summarise(job)
            ended = await engine.queue.get(job.id)
            await remember_pruned(engine.store, [ended], now=now, policy=engine.policy)
            assert await delete(engine.store, [ended], keep_keys_until=now + engine.policy.key_retention) == [True]


@pytest.mark.parametrize("newer", ["the backup", "the file in place"])
def test_a_call_that_had_ended_and_was_deleted_in_one_file_is_not_made_by_the_other(
    voiceflow: Program, newer: str
) -> None:
    within(voiceflow.folder, lambda engine: engine.enqueue(number(COUNT)))  # without a unique key
    monday = backed_up(voiceflow)
    within(voiceflow.folder, ended_and_deleted)
    name = "copy.db"
    if newer == "the backup":
        name = "tuesday.db"
        assert voiceflow("backup", name).code == 0
        for each in voiceflow.folder.glob("calls.db*"):
            each.unlink()
        (voiceflow.folder / "calls.db").write_bytes(monday.read_bytes())
    assert voiceflow("restore", name, "--json").document["taken_over"]["cancelled"] == 2
    assert not {number(0), number(COUNT)} & set(rung_after_resume(voiceflow))


def test_a_call_that_both_files_have_under_two_ids_rings_once(voiceflow: Program) -> None:
    """The store was lost, and the same campaign was enqueued into an empty one."""
    backed_up(voiceflow)
    for each in voiceflow.folder.glob("calls.db*"):
        each.unlink()
    enqueued(voiceflow.folder, COUNT + 1)
    told = voiceflow("restore", "copy.db", "--json").document["taken_over"]
    assert (told["added"], told["cancelled"]) == (COUNT + 1, COUNT)
    assert rung_after_resume(voiceflow) == numbers(*range(COUNT + 1))


def test_whoever_was_taken_off_or_opted_out_after_the_backup_is_not_called(voiceflow: Program) -> None:
    backed_up(voiceflow)

    async def work(engine: Engine) -> None:
        first, second = (await engine.queue.find(limit=None))[:2]
        await engine.queue.cancel(first.id)
        await SuppressionList(engine.store).add(second.destination, reason="asked to be left alone")

    within(voiceflow.folder, work)
    assert voiceflow("restore", "copy.db").code == 0
    assert rung_after_resume(voiceflow) == numbers(*range(2, COUNT))


def test_calls_that_two_copies_sent_on_their_own_are_in_doubt_and_say_that_they_may_have_rung_twice(
    voiceflow: Program,
) -> None:
    monday = backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    sent_and_killed(path, 5)
    assert voiceflow("backup", "tuesday.db").code == 0
    for each in ("calls.db", "calls.db-wal", "calls.db-shm"):
        (voiceflow.folder / each).unlink(missing_ok=True)
    path.write_bytes(monday.read_bytes())
    sent_and_killed(path, 3)  # by hand, without a hold: these ring again
    told = voiceflow("restore", "tuesday.db", "--json").document["taken_over"]
    assert (told["advanced"], told["in_doubt"]) == (0, 3)
    assert states(voiceflow.folder) == {"queued": COUNT - 5, "in_doubt": 3, "submitted": 2}
    (held,) = voiceflow("status", "--json").document["holds"]
    assert "voiceflow calls list --state in_doubt" in held["reason"]

    async def work(engine: Engine) -> list[str]:
        return [note.kind.value for job in await engine.queue.find(limit=None) for note in job.notes]

    assert within(voiceflow.folder, work) == ["rang_twice"] * 3
    assert rung_after_resume(voiceflow) == numbers(*range(5, COUNT))


def test_readers_of_outcomes_miss_nothing_and_begin_nowhere_anew(voiceflow: Program) -> None:
    backed_up(voiceflow)

    async def work(engine: Engine) -> int:
        for job in await engine.send():
            await engine.summarise(job)
        return (await engine.store.events("default", limit=10_000))[-1].sequence

    last = within(voiceflow.folder, work)
    assert voiceflow("restore", "copy.db").code == 0

    async def later(engine: Engine) -> tuple[int, int]:
        kept = (await engine.store.events("default", limit=10_000))[-1].sequence
        await engine.queue.cancel((await engine.enqueue()).id)
        return kept, (await engine.store.events("default", limit=10_000))[-1].sequence

    assert within(voiceflow.folder, later) == (last, last + 1)


# -- files that cannot be read -----------------------------------------------------------------------------------------


def test_an_unreadable_file_is_moved_aside_and_nothing_is_sent_until_somebody_looked(voiceflow: Program) -> None:
    backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    path.write_bytes(b"no store any more\n" * 1000)
    path.with_name("calls.db-wal").write_bytes(log := b"nor its log\n" * 1000)
    ended = voiceflow("restore", "copy.db", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["taken_over"]["was_read"] is False
    (held,) = voiceflow("status", "--json").document["holds"]
    assert "could not be read" in held["reason"]
    assert "cancel those that were made" in held["reason"]
    assert states(voiceflow.folder) == {"queued": COUNT}
    (aside,) = voiceflow.folder.glob("calls.db.before-restore-*-wal")
    assert aside.read_bytes() == log


@pytest.mark.parametrize("spoil", [damage_the_last_pages, damage_a_row])
def test_nothing_is_taken_over_from_a_damaged_file_and_the_hold_says_so(
    voiceflow: Program, spoil: Callable[[Path], None]
) -> None:
    backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    sent_and_killed(path, 5)
    spoil(path)
    ended = voiceflow("restore", "copy.db", "--json")
    assert ended.code == 0, ended.err
    taken = {"advanced": 0, "in_doubt": 0, "added": 0, "cancelled": 0, "was_read": False}
    assert ended.document["taken_over"] == taken
    assert states(voiceflow.folder) == {"queued": COUNT}
    (held,) = voiceflow("status", "--json").document["holds"]
    assert "could not be read" in held["reason"]
    within(voiceflow.folder, sends_nothing)


def test_a_store_that_is_gone_altogether_is_put_back_and_held(voiceflow: Program) -> None:
    backed_up(voiceflow)
    (voiceflow.folder / "calls.db").unlink()
    ended = voiceflow("restore", "copy.db")
    assert ended.code == 0
    assert f"there was no store {voiceflow.folder / 'calls.db'} before" in ended.out
    assert "there was no store to compare it with" in ended.out
    assert "damaged" not in ended.out
    assert states(voiceflow.folder) == {"queued": COUNT}
    (held,) = voiceflow("status", "--json").document["holds"]
    assert "no store to compare" in held["reason"]


@pytest.mark.parametrize("kind", ["cut short", "junk", "of another application", "newer", "empty"])
def test_a_backup_that_is_none_changes_nothing(voiceflow: Program, kind: str) -> None:
    copy = backed_up(voiceflow)
    sent_and_killed(voiceflow.folder / "calls.db", 5)
    match kind:
        case "cut short":
            copy.write_bytes(copy.read_bytes()[: 10 * 4096])
        case "junk":
            damage(copy, first=4, last=12)
        case "of another application":
            copy.unlink()
            db = apsw.Connection(str(copy))
            db.execute("CREATE TABLE customers (name)")
            db.close()
        case "newer":
            db = apsw.Connection(str(copy))
            db.execute("PRAGMA user_version = 99")
            db.close()
        case _:
            copy.write_bytes(b"")
    before = {each.name: each.read_bytes() for each in voiceflow.folder.glob("calls.db*")}
    ended = voiceflow("restore", "copy.db")
    assert ended.code == 3
    assert str(copy) in ended.err
    assert {each.name: each.read_bytes() for each in voiceflow.folder.glob("calls.db*")} == before
    assert sorted(each.name for each in voiceflow.folder.iterdir()) == sorted([*before, "copy.db"])


def test_a_plain_copy_with_its_log_is_a_backup_too(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, COUNT)
    path = voiceflow.folder / "calls.db"
    sent_and_killed(path, 5)
    for name in ("calls.db", "calls.db-wal"):
        (voiceflow.folder / name.replace("calls", "plain")).write_bytes((voiceflow.folder / name).read_bytes())
    for name in ("calls.db", "calls.db-wal", "calls.db-shm"):
        (voiceflow.folder / name).unlink()
    ended = voiceflow("restore", "plain.db", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["made_at"] is None
    assert states(voiceflow.folder) == {"queued": COUNT - 5, "submitted": 5}
    assert (voiceflow.folder / "plain.db-wal").stat().st_size > 0


# -- who is still there ------------------------------------------------------------------------------------------------

HOLD_OPEN = """
import sys
from pathlib import Path
from voiceflow_worker.backends.sqlite.opening import open_reader
kind, path = sys.argv[1:]
held = open(path, "rb") if kind == "file" else open_reader(Path(path))
if kind == "store":
    held.rows("SELECT count(*) FROM jobs")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("kind", "frozen"), combinations(["store", "file"], [False, True]))
def test_a_process_without_heartbeats_is_noticed(voiceflow: Program, kind: str, frozen: bool) -> None:
    backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    command = [sys.executable, "-c", HOLD_OPEN, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            if frozen:
                other.send_signal(signal.SIGSTOP)
            inode = path.stat().st_ino
            ended = voiceflow("restore", "copy.db")
            assert ended.code == 3
            assert f"in use by process {other.pid}" in ended.err
            assert path.stat().st_ino == inode
            assert put_aside(voiceflow.folder) == []
        finally:
            other.kill()
    assert voiceflow("restore", "copy.db").code == 0


# -- killed in the middle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readable", [True, False], ids=["a sound file", "a damaged file"])
def test_wherever_a_restore_is_cut_short_no_older_store_is_in_place(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """At each step that changes a name: what stands then is the whole old store, the whole new one, or none."""
    backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    sent_and_killed(path, 5)
    if not readable:
        damage(path, first=4, last=path.stat().st_size // 4096)
    kept = {name: (voiceflow.folder / name).read_bytes() for name in ("calls.db", "calls.db-wal")}
    finished = False
    for step in range(20):
        for each in voiceflow.folder.glob("*calls.db*"):
            each.unlink()
        for name, content in kept.items():
            (voiceflow.folder / name).write_bytes(content)
        with monkeypatch.context() as patched:
            cut_at_name_change(patched, step)
            code = voiceflow("restore", "copy.db").code
        finished = code == 0
        if finished:
            break
        if not path.exists():
            continue
        found = voiceflow("status", "--json")
        if found.code == 0:
            states = found.document["states"]
            assert states.get("submitted") == 5, f"step {step}: an older store is in place: {states}"
        else:
            assert not readable
            assert found.code == 3
    assert finished


def cut_at_name_change(patched: pytest.MonkeyPatch, step: int) -> None:
    """End the program at its n-th change of a file's name."""
    left = [step]

    def cut(real: Callable[..., object], *arguments: object, **options: object) -> object:
        if any(".db" in str(each) for each in arguments):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        return real(*arguments, **options)

    patched.setattr(os, "rename", partial(cut, os.rename))
    patched.setattr(os, "link", partial(cut, os.link))
