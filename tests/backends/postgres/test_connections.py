"""How many connections workers and receivers use, and 200 workers behind a pooler before a server that has few.

`python -m tests.backends.postgres.test_connections URL WORKERS FILE` is a process with so many workers, which note in
the file whom they call.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from tests.support.postgres import Pooler, PostgresServer
from tests.support.processes import Process
from tests.support.stage import stage
from tests.support.voices import created
from tests.support.waiting import wait_until
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

MOST = 4
"""The connections of a process with one store: three for statements, and one that listens."""
WORKERS, PROCESSES = 200, 8
CALLS = 1000
MAX_CONNECTIONS = 100


class Noting:
    """A voice that notes whom it calls."""

    def __init__(self, file: int) -> None:
        self._file = file

    async def place(self, placement: Placement, *, progress: PostProgress, now: object) -> Verdict:  # noqa: ARG002
        progress.may_have_been_sent = True
        os.write(self._file, f"{json.loads(placement.body)['callflow'][0]['params']['destination']}\n".encode())
        await anyio.sleep(0.05)  # the time that 8x8 takes to answer
        return created(f"session-{placement.client_request_id}")


async def work(url: str, workers: int, file: int) -> None:
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        for _ in range(workers):
            store = await stack.enter_async_context(open_store(url))
            group.start_soon(worker_for(store, Noting(file), concurrency=4).run)
        sys.stdout.write("at work\n")
        sys.stdout.flush()


@contextmanager
def counted(server: PostgresServer) -> Iterator[Counter[str]]:
    """The most connections that each application had at once while the block ran."""
    most: Counter[str] = Counter()
    over = threading.Event()
    names = "SELECT application_name, count(*) FROM pg_stat_activity WHERE client_port IS NOT NULL GROUP BY 1"

    def look() -> None:
        while not over.wait(0.02):
            for name, count in server.ask(names):
                most[name] = max(most[name], count)

    looks = threading.Thread(target=look)
    looks.start()
    try:
        yield most
    finally:
        over.set()
        looks.join()


@pytest.mark.slow
def test_a_worker_and_a_receiver_have_at_most_four_connections_each(own_server: PostgresServer, tmp_path: Path) -> None:
    with stage(tmp_path, store=own_server.url(), speed=1000) as on, counted(own_server) as most:
        on.env["PGAPPNAME"] = "a person"
        on.campaign(300)
        on.env["PGAPPNAME"] = "the worker"
        with on.worker("--rate", "unlimited", "--concurrency", "50"):
            on.env["PGAPPNAME"] = "a person"
            wait_until(lambda: len(on.rang()) == 300, "all calls")
            wait_until(lambda: not {"queued", "leased", "sending", "submitted"} & on.states().keys(), "the summaries")
    assert 1 <= most["the worker"] <= MOST, most
    assert 1 <= most["voiceflow-worker"] <= MOST, most  # the receiver


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_two_hundred_workers_behind_a_pooler_share_a_server_with_a_hundred_connections(tmp_path: Path) -> None:
    server = PostgresServer(f"max_connections={MAX_CONNECTIONS}")
    pooler = Pooler(server, f"default_pool_size = {MAX_CONNECTIONS - 20}")
    file = tmp_path / "called"
    file.touch()
    try:
        server.start()
        pooler.start()
        with counted(server) as most, ExitStack() as started:
            arguments = [pooler.url(connect_timeout="30"), str(WORKERS // PROCESSES), str(file)]
            module = "tests.backends.postgres.test_connections"
            processes = [Process(*arguments, module=module) for _ in range(PROCESSES)]
            for process in processes:
                started.callback(process.end)
            for process in processes:
                process.wait_for("at work")
            anyio.run(enqueue_and_wait, pooler.url(connect_timeout="30"))
        assert sum(most.values()) < MAX_CONNECTIONS, most
    finally:
        pooler.close()
        server.close()
    assert set(Counter(file.read_text(encoding="ascii").split()).values()) == {1}
    assert len(file.read_text(encoding="ascii").splitlines()) == CALLS


async def enqueue_and_wait(url: str) -> None:
    async with open_store(url) as store:
        queue = await enqueued(store, CALLS)
        with anyio.fail_after(300):
            while await states(queue) != {"accepted": CALLS}:  # noqa: ASYNC110 - other processes tell nobody
                await anyio.sleep(0.2)  # between two looks at what other processes do


if __name__ == "__main__":
    anyio.run(work, sys.argv[1], int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND))
