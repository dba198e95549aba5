"""The disk of a journal file: a quick one is awaited at once, a slow one in another thread."""

from __future__ import annotations

import os
import threading
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
    here, synced = threading.get_ident(), list[bool]()
    sync = os.fdatasync

    def noted(fd: int) -> None:
        synced.append(threading.get_ident() == here)
        if fails:
            raise OSError("Input/output error")
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    monkeypatch.setattr(witness, "QUICK", -1.0 if is_slow else 60.0)
    file = await JournalFiles(tmp_path).begin("reminders", "worker", retention=timedelta(days=1))
    for _ in range(3):
        with pytest.raises(StoreReadOnlyError) if fails else nullcontext():
            await file.append([sample_job()])
    file.close()
    assert synced == ([True, False, False] if is_slow else [True, True, True])
