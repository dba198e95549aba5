"""Several real processes on one file: none starves, no change is lost, and a killed one takes nothing with it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_jobs
from voiceflow_worker.core.ports import Query

pytestmark = pytest.mark.anyio
HAMMER = Path(__file__).with_name("hammer.py")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has opened the store and waits for its sign to begin."""
    process = subprocess.Popen(
        [sys.executable, str(HAMMER), url, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "."},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()


def finish(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let them work at the same time, and give the lines that each printed."""
    begin(*processes)
    told = [process.communicate(timeout=100)[0].split("\n")[:-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return told


@pytest.mark.slow
async def test_processes_never_lease_the_same_job(url: str) -> None:
    async with open_store(url) as store:
        await store.jobs.enqueue(sample_jobs(600), now=NOW)
        told = finish([start(url, "lease", f"process-{number}") for number in range(3)])
        leased = [job_id for lines in told for job_id in lines]
        assert sorted(leased) == [job.id for job in sample_jobs(600)]


@pytest.mark.alone
async def test_a_killed_process_takes_nothing_that_was_answered(url: str, tmp_path: Path) -> None:
    """`kill -9` at random moments; what was answered before is there, and the file is sound."""
    answered: dict[str, str] = {}
    chance = random.Random(20260105)
    for run in range(6):
        process = start(url, "write", f"run-{run}")
        begin(process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randrange(20, 200))]
        process.kill()
        lines += process.stdout.readlines()  # not `communicate`, which skips what was read ahead
        process.communicate(timeout=30)
        for line in lines:
            job_id, revision = line.split()
            answered[job_id] = revision
        async with open_store(url) as store:
            found = {job.id: job for job in await store.jobs.find(Query(queue=QUEUE, limit=None))}
        assert answered.keys() <= found.keys()
        # One commit more than was answered may have been made: its answer was on the way.
        later = [job_id for job_id, revision in answered.items() if found[job_id].revision != revision]
        assert len(later) <= run + 1
        assert len(found) - len(answered) <= run + 1
        for job in found.values():
            assert job.body == f'{{"number":{int(job.id.rpartition(".")[2])}}}'
    database = apsw.Connection(str(tmp_path / "calls.db"))
    assert database.pragma("integrity_check") == "ok"
    assert database.execute("SELECT count(*) FROM jobs LEFT JOIN bodies USING (number) WHERE body IS NULL").get == 0
    database.close()
