"""Session summaries that one core takes, and the time that their senders wait.

Run with `./dev bench-webhooks`. A real `voiceflow serve`, bound to one core, settles calls that wait for their
summaries in a real store (SQLite, and Redis with `appendfsync always`). First as many as it can take, counted by the
second of its own processor time; then half of what is wanted of it, on a schedule, for the answer times. Prints medians
of several runs: a machine that is shared makes single runs worthless.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from bench.throughput import environment, store
from tests.contract.samples import add_jobs
from tests.support.flows import SOURCE, number
from voiceflow_worker import open_store
from voiceflow_worker.core.base.identity import new_job_ids, new_revision
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.writes import NUMBER, SESSION
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.evidence import answered
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.lifecycle import begin, lease
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

WANTED = {"sqlite": 1000, "redis": 2000}
"""Summaries a second on one core."""
SECRET = "Bearer of-the-bench-of-calls"
PATH = "/webhooks/8x8"
TICKS = os.sysconf("SC_CLK_TCK")

Posts = list[tuple[str, str]]
"""The client request id and the session of each call that waits for its summary."""


def waiting_call(job_id: str, place: int) -> Job:
    """A call as a worker leaves it: accepted by 8x8, waiting for its summary."""
    now, policy = datetime.now(UTC), CallPolicy()
    body = (
        f'{{"callflow":[{{"action":"makeCall","params":{{"source":"{SOURCE}","destination":"{number(place)}"}}}},'
        '{"action":"say","params":{"text":"Hello, we expect you at 10:30.","voiceProfile":"en-IE-EmilyNeural"}}]}'
    )
    job = Job(
        id=job_id,
        queue="default",
        state=JobState.QUEUED,
        due_at=now,
        revision=new_revision(),
        batch_id="july",
        destination=number(place),
        unique_key=f"july-{place}",
        body=body,
        body_digest=f"{place:064x}",
        source=SOURCE,
        created_at=now,
    )
    job = lease(job, worker_id="worker-1", until=now + timedelta(minutes=1))
    job = begin(job, at=now, lease_until=now + timedelta(minutes=1), policy=policy)
    verdict = Verdict(kind=VerdictKind.CREATED, message="Created", code=1, session_id=f"s-{job_id}", http_status=200)
    return replace(answered(job, 1, verdict, at=now, policy=policy), revision=new_revision())


async def seed(url: str, count: int) -> Posts:
    """Put calls that wait for their summaries into the store, with all that a worker leaves behind beside them."""
    async with open_store(url) as store:
        now = store.clock.now()
        jobs = [waiting_call(job_id, place) for place, job_id in enumerate(new_job_ids("default", count, at=now))]
        for start in range(0, count, 1000):
            part = jobs[start : start + 1000]
            await add_jobs(store, part, now=now)
            await text_records(store, SESSION).put({f"s-{job.id}": f"{job.id}.1" for job in part})
            locks = {job.destination: f"{job.id}.1" for job in part}
            await text_records(store, NUMBER).put(locks, until=now + timedelta(minutes=10))
    return [(f"{job.id}.1", f"s-{job.id}") for job in jobs]


async def settled(url: str) -> int:
    """How many calls are completed."""
    async with open_store(url) as store:
        return (await count_states(store, "default"))[JobState.COMPLETED]


class Receiver:
    """`voiceflow serve` as a process, of another `build` if its folder is given."""

    def __init__(self, url: str, *, core: int | None, build: Path | None = None) -> None:
        told = {"VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET, "VOICEFLOW_LOG_LEVEL": "info"}
        self.process = subprocess.Popen(
            [build / ".venv/bin/python" if build else sys.executable, "-m", "voiceflow_worker", "serve", "--port", "0"],
            cwd=build,
            env=environment() | told,
            stderr=subprocess.PIPE,
            text=True,
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                # Its log is read: a full pipe would stop it.
                self._log = threading.Thread(target=self.process.stderr.read)
                self._log.start()
                return
        raise SystemExit("voiceflow serve did not start")

    def cpu_seconds(self) -> float:
        """Processor time, in user and system mode, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._log.join()
        self.process.wait()


@contextlib.contextmanager
def generator(core: int | None) -> Iterator[subprocess.Popen[str]]:
    """The process that sends."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.webhook_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield process
        assert process.stdin is not None
        process.stdin.close()


def load(process: subprocess.Popen[str], **orders: Any) -> dict[str, Any]:
    """Have a load sent; all must be taken."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"path": PATH, "secret": SECRET, **orders}) + "\n")
    process.stdin.flush()
    result: dict[str, Any] = json.loads(process.stdout.readline())
    if set(result["statuses"]) != {"200"}:
        raise SystemExit(f"not all were taken: {result['statuses']}")
    return result


def one_run(kind: str, url: str, wanted: argparse.Namespace) -> dict[str, float]:
    """One store, one receiver, both loads."""
    half = WANTED[kind] / 2
    scheduled = int(half * wanted.seconds)
    posts = anyio.run(seed, url, 200 + wanted.summaries + scheduled)
    first, measured, timed = posts[:200], posts[200 : 200 + wanted.summaries], posts[200 + wanted.summaries :]
    cores = sorted(os.sched_getaffinity(0))
    own, others = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    receiver = Receiver(url, core=own)
    try:
        with generator(others) as process:
            orders = {"port": receiver.port, "connections": wanted.connections}
            load(process, posts=first, rate=None, **orders)  # what is only done once is not what is measured
            began = receiver.cpu_seconds()
            closed = load(process, posts=measured, rate=None, **orders)
            ended = receiver.cpu_seconds()
            opened = load(process, posts=timed, rate=half, **orders)
    finally:
        receiver.end()
    if (done := anyio.run(settled, url)) != len(posts):
        raise SystemExit(f"{done} of {len(posts)} calls were settled")
    latencies = opened["latencies"]
    return {
        f"{kind} summaries/cpu s": wanted.summaries / (ended - began),
        f"{kind} summaries/s": wanted.summaries / closed["seconds"],
        f"{kind} p50 ms at {half:.0f}/s": latencies[len(latencies) // 2] * 1000,
        f"{kind} p99 ms at {half:.0f}/s": latencies[len(latencies) * 99 // 100] * 1000,
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=[*WANTED, "both"], default="both")
    parser.add_argument("--summaries", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the scheduled load lasts")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    wanted = parser.parse_args()
    for kind in WANTED if wanted.store == "both" else [wanted.store]:
        results = []
        for _ in range(wanted.runs):
            with store(kind) as url:
                results.append(one_run(kind, url, wanted))
        for figure in results[0]:
            values = [result[figure] for result in results]
            print(f"{figure:28} median {statistics.median(values):8.1f}   of {[round(each, 1) for each in values]}")  # noqa: T201


if __name__ == "__main__":
    main()
