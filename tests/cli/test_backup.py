"""`voiceflow backup`: one state of a store that is in use, whole, checked, under its name only when it is finished."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from tests.cli.running import Program
from tests.cli.stored import enqueued, url_of
from tests.support.killed import sent_and_killed
from voiceflow_worker.backends.sqlite.backups import back_up


@pytest.fixture(autouse=True)
def _store(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))


def asked(path: Path, statement: str) -> object:
    db = apsw.Connection(str(path))
    try:
        return db.execute(statement).fetchall()[0][0]
    finally:
        db.close()


def test_a_backup_is_one_sound_file_for_its_owner_alone(voiceflow: Program) -> None:
    enqueued(voiceflow.folder, 12)
    sent_and_killed(voiceflow.folder / "calls.db", 5)  # what is in the log alone belongs to it
    ended = voiceflow("backup", "copy.db", "--json")
    copy = voiceflow.folder / "copy.db"
    assert ended.code == 0, ended.err
    assert ended.document["calls"] == 12
    assert ended.document["bytes"] == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert asked(copy, "PRAGMA integrity_check") == "ok"
    assert asked(copy, "SELECT count(*) FROM jobs WHERE state = 'submitted'") == 5
    ours = {f"calls.db{end}" for end in ("", "-wal", "-shm", ".journals")}
    assert {each.name for each in voiceflow.folder.iterdir()} <= {*ours, "copy.db"}


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
        steps: list[int] = []
        for place in range(5):
            copy = tmp_path / f"copy-{place}.db"
            back_up(path, copy, now=datetime.now(UTC), progress=lambda done, _: steps.append(done))
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
