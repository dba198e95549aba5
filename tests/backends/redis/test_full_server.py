"""A whole worker on a Redis that becomes full: it sends nothing until there is room, and nobody twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.flows import flow, number
from tests.support.redis_server import RedisServer
from tests.support.voices import ScriptedVoice, created
from tests.support.waiting import until
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, JobState, Worker, WorkerOptions, open_store
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import StoreReadOnlyError
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
CALLS = 200


@pytest.mark.slow
async def test_a_worker_waits_for_room_and_then_sends_the_rest(own_server: RedisServer, tmp_path: Path) -> None:
    filled: list[bool] = []

    def answer(placement: Placement) -> Verdict:
        if len(voice.placed) >= 20 and not filled:
            filled.append(True)
            own_server.ask("CONFIG", "SET", "maxmemory", "1")
        return created(f"session-{placement.client_request_id}")

    voice = ScriptedVoice(answer)
    async with open_store(own_server.url) as store, anyio.create_task_group() as group:
        queue = CallQueue(store, policy=POLICY)
        await queue.enqueue_many(CallRequest(flow=flow(number(place))) for place in range(CALLS))
        witness = JournalFiles(tmp_path / "journals")
        options = WorkerOptions(policy=POLICY, lease=timedelta(seconds=3))
        worker = Worker(store, voice, rate=None, concurrency=10, options=options, witness=witness)
        with capture_logs() as logs:
            group.start_soon(worker.run)
            # Both the calls that it has leased and the heartbeat find no room: from here on nothing can be journalled.
            await until(lambda: any("heartbeat" in line["event"] for line in logs))
        sent = len(voice.placed)
        assert 20 <= sent < CALLS
        assert any("maxmemory" in line.get("error", "") for line in logs)
        with pytest.raises(StoreReadOnlyError, match="maxmemory"):
            await queue.enqueue(flow(number(CALLS)))
        own_server.ask("CONFIG", "SET", "maxmemory", "0")

        async def is_done() -> bool:
            return (await store.jobs.count("default"))[JobState.ACCEPTED] == CALLS

        await until(is_done)
        worker.stop()
    assert Counter(voice.client_request_ids).most_common(1)[0][1] == 1
    assert len(voice.placed) == CALLS
