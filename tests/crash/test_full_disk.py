"""Files may not grow in mid-run: nothing rings twice, and the worker goes on by itself once they may."""

from __future__ import annotations

import resource
from datetime import timedelta
from pathlib import Path
from signal import Signals

import pytest

from tests.crash.children import Children
from tests.crash.fault_injection import FaultInjection

pytestmark = [pytest.mark.crash, pytest.mark.slow]

CALLS = 60


@pytest.mark.parametrize("kill", [False, True])
def test_files_that_may_not_grow_let_nothing_ring_twice_and_the_worker_goes_on_when_they_may(
    children: Children, tmp_path: Path, kill: bool
) -> None:
    with FaultInjection(children, f"sqlite:///{tmp_path / 'calls.db'}", tmp_path).running() as lab:
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
