"""The disk of a journal file: it may be slow, and the file may be deleted or moved while its worker runs."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest

from voiceflow_worker.backends import witness
from voiceflow_worker.backends.contract import sample_job
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.errors import StoreReadOnlyError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("is_slow", "fails"), [(False, False), (True, False), (True, True)])
async def test_a_slow_disk_does_not_hold_up_the_event_loop_again(
    is_slow: bool, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, synced, looked = threading.get_ident(), list[bool](), list[bool]()
    sync, same = os.fdatasync, os.path.samestat

    def noted(fd: int) -> None:
        synced.append(threading.get_ident() == here)
        if fails:
            raise OSError("Input/output error")
        sync(fd)

    def noted_look(one: os.stat_result, other: os.stat_result) -> bool:
        looked.append(threading.get_ident() == here)
        return same(one, other)

    monkeypatch.setattr(os.path, "samestat", noted_look)
    monkeypatch.setattr(os, "fdatasync", noted)
    monkeypatch.setattr(witness, "QUICK", -1.0 if is_slow else 60.0)
    file = await JournalFiles(tmp_path).begin("reminders", "worker", retention=timedelta(days=1))
    for _ in range(3):
        with pytest.raises(StoreReadOnlyError) if fails else nullcontext():
            await file.append([sample_job()])
    file.close()
    assert synced == ([True, False, False] if is_slow else [True, True, True])
    assert looked == (synced[:1] if fails else synced)  # after a failure, a new file begins in any case


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
    goes: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "journals"
    journals = JournalFiles(folder)
    file = await journals.begin("reminders", "worker", retention=timedelta(days=1))
    await file.append([sample_job(1)])
    file.judge([True])
    goes(folder)
    await file.append([sample_job(2)])
    file.judge([True])
    found = [
        job.id for each in await journals.files("reminders") for job in await journals.entries("reminders", each.name)
    ]
    file.close()
    assert sample_job(2).id in found
