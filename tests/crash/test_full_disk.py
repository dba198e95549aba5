"""Files may not grow in mid-run: nothing rings twice, and the worker goes on by itself once they may."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import Signals

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.support.postgres import connected
from voiceflow_worker.backends.store_url import path_of

pytestmark = [pytest.mark.crash, pytest.mark.slow]

CALLS = 60


@pytest.mark.parametrize("kill", [False, True])
def test_files_that_may_not_grow_let_nothing_ring_twice_and_the_worker_goes_on_when_they_may(
    tmp_path: Path, kill: bool
) -> None:
    with FaultInjection(f"sqlite:///{tmp_path / 'calls.db'}", tmp_path).running() as lab:
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


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_full_disk_under_the_journal_files_costs_the_store_nothing_and_no_call(
    tmp_path: Path, kind: str, fresh_url: Callable[[str], str]
) -> None:
    room, store = tmp_path / "state", fresh_url(kind)
    room.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", room], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        with FaultInjection(store, tmp_path).running() as lab:
            lab.enqueue(CALLS)
            lab.faults({"fault": "delay", "seconds": 0.02, "times": None})
            worker = lab.worker(drain=True, concurrency=4, lease=timedelta(seconds=2), state_dir=room)
            lab.wait_for_posts(8)
            with suppress(OSError), (room / "full").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            lab.wait_until(lambda: "the journal file was not written" in worker.log, "a worker that tells it")
            before, dead = written(store)
            time.sleep(10)  # what it does meanwhile is counted, not how long it takes
            after, dead_after = written(store)
            assert after < before + 500_000
            assert dead_after < dead + 100
            (room / "full").unlink()
            assert worker.wait() == 0, worker.log
            assert lab.accept().rang == CALLS
    finally:
        subprocess.run(["umount", room], check=True)


def written(store: str) -> tuple[int, int]:
    """The bytes that a store has written into its files or its log, and the rows that it left dead."""
    if store.startswith("sqlite"):
        path = path_of(store)
        return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")), 0
    with connected(store) as connection:
        found = connection.execute(
            "SELECT (pg_current_wal_lsn() - '0/0')::bigint, coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint "
            "FROM pg_stat_user_tables"
        ).fetchone()
    assert found is not None
    return found


def _limit(pid: int, longest_file: int) -> None:
    """How large the files of a process may grow: a disk that is full for this process alone."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest_file, hard))
