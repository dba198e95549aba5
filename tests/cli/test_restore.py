"""`voiceflow backup` and `voiceflow restore`: a backup takes the place of a store, and nobody is called twice by it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import apsw
import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, states, url_of
from tests.support.flows import number
from tests.support.killed import at_work, sent_and_killed
from voiceflow_worker import Job, open_store
from voiceflow_worker.backends.sqlite.backups import back_up

COUNT = 12


@pytest.fixture(autouse=True)
def _store(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))


def backed_up(voiceflow: Program) -> Path:
    """The backup of a store with calls that wait."""
    enqueued(voiceflow.folder, COUNT)
    assert voiceflow("backup", "copy.db").code == 0
    return voiceflow.folder / "copy.db"


async def rung(voiceflow: Program) -> list[str]:
    """Which numbers ring when a worker begins, and sends what is due until nothing is left."""
    url = url_of(voiceflow.folder)
    async with open_store(url) as store, at_work(store) as engine:
        found: list[Job] = []
        while sent := await engine.send():
            found += sent
        return [job.destination for job in found]


def rung_after_resume(voiceflow: Program) -> Counter[str]:
    """Which numbers ring when somebody resumes the queue and a worker sends what is due."""
    assert voiceflow("resume").code == 0
    return Counter(asyncio.run(rung(voiceflow)))


def numbers(*places: int) -> Counter[str]:
    return Counter(number(place) for place in places)


def files_of(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


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


# -- what was sent after the backup ------------------------------------------------------------------------------------


def test_nobody_is_called_again_who_was_called_after_the_backup(voiceflow: Program) -> None:
    backed_up(voiceflow)
    sent_and_killed(voiceflow.folder / "calls.db", 5)
    ended = voiceflow("restore", "copy.db", "--json")
    assert ended.code == 0, ended.err
    told = ended.document
    assert (told["calls"], told["held"]) == (COUNT, ["default"])
    assert put_aside(voiceflow.folder) == ["", "-shm", "-wal"]
    assert asyncio.run(rung(voiceflow)) == [], "the queue is held"
    assert states(voiceflow.folder) == {"queued": COUNT - 5, "in_doubt": 5}
    assert rung_after_resume(voiceflow) == numbers(*range(5, COUNT))


def test_every_queue_is_held_and_says_what_is_missing_and_why_it_was_held_before(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, COUNT)
    assert voiceflow("hold", "--queue", "other", "--note", "wrong texts").code == 0
    assert voiceflow("backup", "copy.db").code == 0
    ended = voiceflow("restore", "copy.db", "--json")
    assert ended.document["held"] == ["default", "other"]
    (held,) = voiceflow("status", "--json").document["holds"]
    assert held["reason"].startswith("restored from a backup of ")
    assert "Opt-outs and other orders that stop calls, of the last 7 days, are carried out again" in held["reason"]
    (other,) = voiceflow("status", "--json", "--queue", "other").document["holds"]
    assert "wrong texts" in other["reason"]
    assert "restored from a backup" in other["reason"]
    (line,) = [
        each for each in map(json.loads, voiceflow("doctor", "--json").out.splitlines()) if each["check"] == "holds"
    ]
    assert line["level"] == "failure"
    assert "add opt-outs that are missing" in line["remedy"]


# -- files that cannot be read -----------------------------------------------------------------------------------------


def no_store_any_more(path: Path) -> None:
    path.write_bytes(b"no store any more\n" * 1000)
    path.with_name("calls.db-wal").write_bytes(b"nor its log\n" * 1000)


@pytest.mark.parametrize("spoil", [no_store_any_more, damage_the_last_pages])
def test_a_damaged_file_is_moved_aside_as_it_is(voiceflow: Program, spoil: Callable[[Path], None]) -> None:
    backed_up(voiceflow)
    path = voiceflow.folder / "calls.db"
    sent_and_killed(path, 5)
    spoil(path)
    kept = {end: each.read_bytes() for end in ("", "-wal") if (each := path.with_name(f"calls.db{end}")).exists()}
    assert voiceflow("restore", "copy.db").code == 0
    aside = next(each for each in voiceflow.folder.glob("calls.db.before-restore-*Z"))
    assert {end: aside.with_name(aside.name + end).read_bytes() for end in kept} == kept
    assert states(voiceflow.folder) == {"queued": COUNT}
    assert asyncio.run(rung(voiceflow)) == []
    assert states(voiceflow.folder) == {"queued": COUNT - 5, "in_doubt": 5}


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
    before = files_of(voiceflow.folder)
    ended = voiceflow("restore", "copy.db")
    assert ended.code == 3
    assert str(copy) in ended.err
    assert files_of(voiceflow.folder) == before


# -- who is still there ------------------------------------------------------------------------------------------------


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
            if each.is_file():
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


def asked(path: Path, statement: str) -> object:
    db = apsw.Connection(str(path))
    try:
        return db.execute(statement).fetchall()[0][0]
    finally:
        db.close()


def test_a_store_that_is_being_written_is_copied_as_it_was_at_one_moment(tmp_path: Path) -> None:
    """A writer in another connection must neither be seen half nor make the copying begin anew."""
    enqueued(tmp_path, 300)
    path, ready, stop = tmp_path / "calls.db", threading.Event(), threading.Event()

    def write() -> None:
        db = apsw.Connection(str(path))
        count = 0
        while not stop.is_set() and count < 20_000:
            # Two rows that are always equal between two commits.
            count += 1
            rows = [("pair", "a", str(count)), ("pair", "b", str(count))]
            with db:
                db.executemany(
                    "INSERT OR REPLACE INTO records (namespace, grp, member, value) VALUES (?, ?, '', ?)", rows
                )
            ready.set()
        db.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ready.wait(30)
        for place in range(5):
            copy = tmp_path / f"copy-{place}.db"
            back_up(path, copy, now=datetime.now(UTC))
            assert asked(copy, "SELECT count(DISTINCT value) FROM records WHERE namespace = 'pair'") == 1
            assert asked(copy, "PRAGMA integrity_check") == "ok"
    finally:
        stop.set()
        writer.join(30)


def test_what_is_there_is_replaced_only_when_asked(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, 2)
    copy = voiceflow.folder / "copy.db"
    copy.write_text("something precious")
    refused = voiceflow("backup", "copy.db")
    assert (refused.code, copy.read_text()) == (2, "something precious")
    assert "--force" in refused.err
    assert voiceflow("backup", "copy.db", "--force").code == 0
    assert asked(copy, "SELECT count(*) FROM jobs") == 2
