"""A server that answers nobody: a process keeps to its connections, says so, and goes on when answers come again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.postgres import PostgresServer, connected
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import enqueued, in_state, worker_for
from voiceflow_worker import JobState, open_store
from voiceflow_worker.backends.postgres import connection
from voiceflow_worker.backends.postgres.database import MOST_CONNECTIONS
from voiceflow_worker.backends.running import unanswered
from voiceflow_worker.core.base.round_trips import EVERY

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'voiceflow-worker'"
PROCESSES = 2
OF_A_PROCESS = MOST_CONNECTIONS + 1
"""One of them listens."""


@contextmanager
def watched(server: PostgresServer, *, freezes: bool) -> Generator[list[int]]:
    """How many connections of ours the server had at each look while the block ran. It may freeze each of them."""
    over = threading.Event()
    counts: list[int] = []
    frozen: set[int] = set()

    def look() -> None:
        while not over.wait(0.05):
            pids = {pid for (pid,) in server.ask(_OURS)}
            counts.append(len(pids))
            for pid in (pids - frozen) if freezes else ():
                os.kill(pid, signal.SIGSTOP)
                frozen.add(pid)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield counts
    finally:
        over.set()
        looking.join()
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("freezes", [True, False], ids=["frozen processes", "a lock"])
async def test_connections_do_not_pile_up_while_statements_get_no_answer(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, *, freezes: bool
) -> None:
    """Two stores, each as a process has one, under work; and afterwards all is sent, once."""
    monkeypatch.setattr(connection, "ANSWER_WITHIN", 0.5)
    voice = ScriptedVoice()
    async with AsyncExitStack() as opened, anyio.create_task_group() as group:
        stores = [await opened.enter_async_context(open_store(own_server.url(), advises=False)) for _ in range(2)]
        workers = [worker_for(store, voice) for store in stores]
        await enqueued(stores[0], 1)
        for worker in workers:
            group.start_soon(worker.run)
        await in_state(stores[0], JobState.ACCEPTED, 1)
        began = anyio.current_time()
        with capture_logs() as logs, watched(own_server, freezes=freezes) as counts:
            if freezes:
                await anyio.sleep(8)
                assert 1 <= len(unanswered) <= PROCESSES * OF_A_PROCESS
            else:
                with connected(own_server.url()) as blocking:
                    blocking.execute("BEGIN; LOCK TABLE voiceflow.jobs IN ACCESS EXCLUSIVE MODE")
                    await anyio.sleep(8)
                    blocking.execute("ROLLBACK")
        await until(lambda: not unanswered)
        assert max(counts) <= PROCESSES * OF_A_PROCESS
        waits = [log for log in logs if log["event"] == "a process waits for its connections, and opens no more"]
        assert len(waits) <= PROCESSES * (1 + (anyio.current_time() - began) // EVERY)
        assert waits or not freezes
        monkeypatch.undo()
        await enqueued(stores[0], 3, first=1)
        await in_state(stores[0], JobState.ACCEPTED, 4)
        for worker in workers:
            worker.stop()
    assert len(voice.placed) == 4
