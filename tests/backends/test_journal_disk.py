"""The disk of a journal file: it may be slow, and the file may be deleted or moved while its worker runs."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.suite import sample_job
from tests.support.voices import ScriptedVoice
from tests.support.workers import enqueued, worker_with_files
from voiceflow_worker import open_store
from voiceflow_worker.backends import disk
from voiceflow_worker.backends.local_journal import JournalFiles, journal_folder
from voiceflow_worker.core.ports.outside import ORDERS
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import JournalFileError
from voiceflow_worker.settings import load_settings

pytestmark = pytest.mark.anyio


THREAD = False


async def test_the_event_loop_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, synced, sync = threading.get_ident(), list[bool](), os.fsync

    def noted(fd: int) -> None:
        synced.append(threading.get_ident() == here)
        sync(fd)

    file = await JournalFiles(tmp_path).begin("reminders", at=datetime.now(UTC))
    monkeypatch.setattr(os, "fsync", noted)
    await file.append([sample_job()], first=1)
    file.close()
    assert synced == [THREAD]


async def test_on_a_system_like_macos_a_worker_sends_and_orders_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no fdatasync, and its fsync leaves data in the cache of the disk. Not every file system has the other."""
    flushed: list[int] = []
    answer: OSError | None = None

    def fcntl_of_macos(fd: int, command: int) -> int:
        assert command == 51
        if answer is not None:
            raise answer
        flushed.append(fd)
        return 0

    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(disk, "_FULL", 51)
    monkeypatch.setattr("voiceflow_worker.backends.disk.fcntl.fcntl", fcntl_of_macos)
    for answer in (None, OSError(errno.ENOTSUP, "Operation not supported")):
        folder, voice = tmp_path / f"{answer is None}", ScriptedVoice()
        folder.mkdir()
        url = f"sqlite:///{folder / 'calls.db'}"
        settings = load_settings(store=url, state_dir=str(folder))
        async with open_store(url, settings=settings) as store:
            await enqueued(store, 2)
            await worker_with_files(store, voice, folder / "calls").drain()
            assert len(voice.placed) == 2
            await SuppressionList(store).add("+6587654321")
            assert (await JournalFiles(journal_folder(store, url, folder)).files(ORDERS, since=store.clock.now())) != []
    assert flushed
    file = await JournalFiles(tmp_path / "more").begin("reminders", at=datetime.now(UTC))
    answer = OSError(errno.EIO, "Input/output error")
    with pytest.raises(JournalFileError, match=r"cannot be written \(Input/output error\)"):
        await file.append([sample_job()], first=1)


async def test_a_look_while_an_append_is_under_way_begins_no_further_file(tmp_path: Path) -> None:
    """A worker leases, and looks whether it can write, while its entries are being written."""
    file = await JournalFiles(tmp_path).begin("reminders", at=datetime.now(UTC))
    written = file.append([sample_job()], first=1)
    await file.recover()
    await written
    file.close()
    assert len(await JournalFiles(tmp_path).files("reminders")) == 1


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder: Path) -> None:
    (path,) = folder.glob("*/*")
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    path.with_suffix(".copy").rename(path)


@pytest.mark.parametrize("goes", [deleted, moved, replaced])
async def test_entries_go_to_a_file_that_a_guard_finds_after_the_journal_is_gone(
    goes: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journals"
    here, synced, sync = threading.get_ident(), list[bool](), os.fsync

    def noted(fd: int) -> None:
        synced.append(threading.get_ident() == here)
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    journals = JournalFiles(folder)
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([sample_job(1)], first=1)
    file.record_committed([True])
    goes(folder)
    assert file.is_over(at=datetime.now(UTC))
    file.close()
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([sample_job(2)], first=2)
    file.record_committed([True])
    found = [job.id for each in await journals.files("reminders") for _, job in await journals.entries(each.name)]
    file.close()
    assert sample_job(2).id in found
    assert set(synced) == {THREAD}


async def test_a_judgement_that_was_cut_off_does_not_spoil_the_next_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = JournalFiles(tmp_path)
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([sample_job(1)], first=1)
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        file.record_committed([True])
    await file.append([sample_job(2)], first=2)
    file.record_committed([True])
    found = [job.id for each in await journals.files("reminders") for _, job in await journals.entries(each.name)]
    file.close()
    assert sorted(found) == [sample_job(1).id, sample_job(2).id]


async def test_what_a_killed_process_left_half_written_goes_with_the_old_files(tmp_path: Path) -> None:
    files, now = JournalFiles(tmp_path), datetime.now(UTC)
    (await files.begin("default", at=now)).close()
    old, new = (tmp_path / "default" / name for name in (".w.new", ".w-2.journal.new"))
    for path, age in ((old, 8), (new, 1)):
        path.write_bytes(b"half")
        os.utime(path, times=(now.timestamp(), (now - timedelta(days=age)).timestamp()))
    await files.prune("default", before=now - timedelta(days=7))
    assert [path.name for path in (tmp_path / "default").iterdir()] == [new.name]
