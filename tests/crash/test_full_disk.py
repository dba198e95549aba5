"""The disk is full in mid-run: nothing rings twice, and the worker goes on by itself once there is room."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from signal import Signals

import pytest

from tests.crash.children import Children
from tests.crash.laboratory import Laboratory

pytestmark = [pytest.mark.crash, pytest.mark.slow]

CALLS = 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system; the log of the store takes 4 MB of it before SQLite moves it into the file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_lets_nothing_ring_twice_and_the_worker_goes_on_when_there_is_room(
    children: Children, tmp_path: Path, small_disk: Path
) -> None:
    with Laboratory(children, f"sqlite:///{small_disk / 'calls.db'}", tmp_path).running() as lab:
        lab.enqueue(CALLS)
        lab.faults({"fault": "delay", "seconds": 0.05, "times": None})
        worker = lab.worker(drain=True, concurrency=4)
        lab.wait_for_posts(8)
        ballast = small_disk / "ballast"
        _fill(ballast)
        lab.wait_until(lambda: "is full" in worker.log, "a worker that tells of the full disk")
        assert not worker.has_ended
        ballast.unlink()
        assert worker.wait() == 0, worker.log
        lab.drain()
        judgement = lab.accept()
        assert judgement.rang == CALLS - len(judgement.open_doubts)


@pytest.mark.parametrize("kill", [False, True])
def test_files_that_may_not_grow_let_nothing_ring_twice_and_the_worker_goes_on_when_they_may(
    children: Children, tmp_path: Path, kill: bool
) -> None:
    with Laboratory(children, f"sqlite:///{tmp_path / 'calls.db'}", tmp_path).running() as lab:
        lab.enqueue(CALLS)
        lab.faults({"fault": "delay", "seconds": 0.02, "times": None})
        worker = lab.worker(drain=True, concurrency=4, lease=timedelta(seconds=2))
        lab.wait_for_posts(8)
        _limit(worker.pid, 4096)
        lab.wait_until(lambda: "reading or writing the store" in worker.log, "a worker that tells that it cannot write")
        assert not worker.has_ended
        if kill:
            worker.end(Signals.SIGKILL)
        else:
            _limit(worker.pid, resource.RLIM_INFINITY)
            assert worker.wait() == 0, worker.log
        lab.drain()
        judgement = lab.accept()
        assert judgement.rang == CALLS - len(judgement.open_doubts)


def _limit(pid: int, longest_file: int) -> None:
    """How large the files of a process may grow: a disk that is full for this process alone."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest_file, hard))


def _fill(ballast: Path) -> None:
    """Write until nothing goes in any more."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
