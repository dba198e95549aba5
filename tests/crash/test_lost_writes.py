"""The disk of the journal files loses what was written and not synced: what nobody can prove is in doubt."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from signal import Signals

import pytest

from tests.crash.fault_injection import FaultInjection

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS, CALLS, LIFE, CONCURRENCY = 6, 30, 10, 8
"""How often the disk fails, the calls for each time, and how many of them are sent before it does."""
_SHUTDOWN, _WITHOUT_LOG = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: the volume is gone, and so is what was not synced."""


@contextmanager
def volume(image: Path, room: Path) -> Iterator[None]:
    """A file system of its own, in a file."""
    if subprocess.run(["mount", "-o", "loop", image, room], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", room], check=True)


def detached(room: Path) -> None:
    """The volume is detached by force."""
    folder = os.open(room, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
    finally:
        os.close(folder)


def newest(room: Path) -> Path:
    return max((path for path in room.rglob("*.journal")), key=lambda path: path.stat().st_mtime_ns)


def cut(room: Path) -> None:
    """The last 40 bytes of the journal file are lost."""
    file = newest(room)
    os.truncate(file, file.stat().st_size - 40)


def zeros(room: Path) -> None:
    """The end of the journal file was allocated, and never written."""
    with newest(room).open("ab") as file:
        file.write(bytes(200))


@pytest.mark.parametrize("loss", [None, cut, zeros], ids=["detached", "cut", "zeros"])
def test_what_a_journal_has_lost_of_calls_that_had_left_is_in_doubt_and_rings_nobody_twice(
    tmp_path: Path, loss: Callable[[Path], None] | None
) -> None:
    image, room = tmp_path / "volume", tmp_path / "state"
    room.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 32_000_000)
    if subprocess.run(["mkfs.ext4", "-q", image], check=False, capture_output=True).returncode:
        pytest.skip("there is no mkfs.ext4 here")
    with FaultInjection(f"sqlite:///{tmp_path / 'calls.db'}", tmp_path).running() as lab:
        lab.enqueue(ROUNDS * CALLS)
        lab.summaries(after=5)  # the next worker knows nothing of a call but what the files and the page say
        lab.faults({"fault": "delay", "seconds": 0.2, "times": None})
        for number in range(ROUNDS):
            with volume(image, room):
                worker = lab.worker(concurrency=CONCURRENCY, rate=60, lease=timedelta(seconds=2), state_dir=room)
                lab.wait_for_posts((number + 1) * LIFE)
                if loss is None:
                    detached(room)
                worker.end(Signals.SIGKILL)
                if loss is not None:
                    loss(room)
        with volume(image, room):
            lab.drain(state_dir=room)
            judgement = lab.accept()
        assert judgement.rang == ROUNDS * CALLS - len(judgement.open_doubts)
        assert judgement.unanswered >= ROUNDS, "calls were on their way each time"
