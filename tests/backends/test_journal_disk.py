"""The disk of a journal file: it may be slow, and the file may be deleted or moved while its worker runs."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.contract.suite import sample_job
from voiceflow_worker.backends import local_journal
from voiceflow_worker.backends import waiting as disk_speed
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.errors import StoreReadOnlyError

pytestmark = pytest.mark.anyio


HERE, THREAD = True, False
QUICK = [0.0005] * 10


@pytest.mark.parametrize(
    ("takes", "written"),
    [
        (QUICK, [HERE] * 10),
        ([*QUICK, 0.005, *QUICK], [HERE] * 21),  # a single hitch
        ([0.3, *QUICK], [HERE, *[THREAD] * 10]),
        ([0.02, *QUICK], [HERE, *[THREAD] * 10]),
        ([0.004] * 10, [*[HERE] * 6, *[THREAD] * 4]),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
async def test_a_slow_disk_does_not_hold_up_the_event_loop_again(
    takes: Sequence[float], written: Sequence[bool], fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, synced, looked = threading.get_ident(), list[bool](), list[bool]()
    sync, same, now = os.fdatasync, os.path.samestat, 1000.0

    def noted(fd: int) -> None:
        nonlocal now
        now += takes[len(synced)]
        synced.append(threading.get_ident() == here)
        if fails:
            raise OSError("Input/output error")
        sync(fd)

    def noted_look(one: os.stat_result, other: os.stat_result) -> bool:
        looked.append(threading.get_ident() == here)
        return same(one, other)

    monkeypatch.setattr(os.path, "samestat", noted_look)
    monkeypatch.setattr(os, "fdatasync", noted)
    for timed in (local_journal, disk_speed):
        monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: now))
    file = await JournalFiles(tmp_path).begin("reminders", "worker")
    for _ in takes:
        with pytest.raises(StoreReadOnlyError) if fails else nullcontext():
            await file.append([sample_job()])
    file.close()
    if fails:  # each time, a new file begins, which takes longer than an entry
        assert synced == [HERE, *[THREAD] * (len(takes) - 1)]
        assert looked == [HERE]
    else:
        assert synced == looked == written


async def test_a_disk_that_was_slow_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, synced, now = threading.get_ident(), list[bool](), 1000.0
    sync = os.fdatasync

    def noted(fd: int) -> None:
        nonlocal now
        now += 0.0005 if synced else 0.02
        synced.append(threading.get_ident() == here)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    for timed in (local_journal, disk_speed):
        monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: now))
    file = await JournalFiles(tmp_path).begin("reminders", "worker")
    for pause in [0, 0, 0, disk_speed.SLOW_FOR, 0]:
        now += pause
        await file.append([sample_job()])
    file.close()
    assert synced == [HERE, THREAD, THREAD, HERE, HERE]


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
    file = await journals.begin("reminders", "worker")
    await file.append([sample_job(1)])
    file.record_committed([True])
    goes(folder)
    await file.append([sample_job(2)])
    file.record_committed([True])
    found = [
        job.id for each in await journals.files("reminders") for job in await journals.entries("reminders", each.name)
    ]
    file.close()
    assert sample_job(2).id in found
    assert synced == [THREAD] * 4, "each new file and its folder"


async def test_a_judgement_that_was_cut_off_does_not_spoil_the_next_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = JournalFiles(tmp_path)
    file = await journals.begin("reminders", "worker")
    await file.append([sample_job(1)])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        file.record_committed([True])
    await file.append([sample_job(2)])
    file.record_committed([True])
    found = [
        job.id for each in await journals.files("reminders") for job in await journals.entries("reminders", each.name)
    ]
    file.close()
    assert sorted(found) == [sample_job(1).id, sample_job(2).id]


@pytest.mark.parametrize("done", list(product([False, True], repeat=4)))
async def test_the_newest_committed_entry_of_a_file_is_told(done: tuple[bool, ...], tmp_path: Path) -> None:
    """By it, a guard finds a store that lost only the last of the calls that were sent together."""
    journals = JournalFiles(tmp_path)
    file = await journals.begin("reminders", "worker")
    await file.append([sample_job(9)])
    file.record_committed([True])
    await file.append([sample_job(place) for place in range(4)])
    file.record_committed(done)
    [told] = await journals.files("reminders")
    file.close()
    assert told.newest_committed is not None
    assert told.newest_committed.id == sample_job(max((place for place in range(4) if done[place]), default=9)).id
