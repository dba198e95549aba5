"""The whole way: queue, worker and client call the sandbox, its summaries come to the receiver and settle the jobs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.support.flows import flow, number
from tests.support.stores import BACKENDS, url_for
from tests.webhooks.receiving import SECRET
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, JobState, VoiceClient, Worker, open_store
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders.faults import Fault, FaultKind
from voiceflow_worker.sandbox.orders.script import Script
from voiceflow_worker.webhooks import PATH, webhook_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("backend", BACKENDS)
async def test_each_call_rings_once_and_ends_as_its_summary_says(backend: str, tmp_path: Path) -> None:
    policy = CallPolicy()
    async with open_store(url_for(backend, tmp_path)) as store:
        receiver = webhook_app(Settler(store, policy), secret=SECRET, heartbeats=Heartbeats(store))
        async with serving(receiver) as address:
            sandbox = Sandbox(api_key="key", webhook=address.url + PATH, webhook_secret=SECRET, speed=1000)
            sandbox.scripts.add(Script(destination=number(0), outcome=SessionStatus.BUSY, duplicates=3))
            sandbox.scripts.add(Script(destination=number(1), outcome=SessionStatus.FAILED, error_code=-2004))
            sandbox.scripts.add(
                Script(destination=number(2), outcome=SessionStatus.COMPLETED, no_client_request_id=True)
            )
            sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED))
            sandbox.faults.add(Fault(fault=FaultKind.RESET, destination=number(3)))
            sandbox.faults.add(Fault(fault=FaultKind.THROTTLE, destination=number(4), retry_after=0))
            sandbox.faults.add(Fault(fault=FaultKind.STATUS, status=422, code=-1014, destination=number(5)))
            async with sandbox.running() as base_url:
                queue = CallQueue(store, policy=policy)
                jobs = await queue.enqueue_many(CallRequest(flow=flow(number(place))) for place in range(30))
                async with VoiceClient("key", "acme", base_url=base_url) as voice:
                    with anyio.fail_after(60):
                        await Worker(store, voice, rate=None, concurrency=10).drain()
                        await sandbox.idle()
                ended = [await queue.get(job.job.id) for job in jobs]
    assert Counter(job.state for job in ended) == {
        JobState.COMPLETED: 27,
        JobState.UNREACHED: 1,
        JobState.FAILED: 2,
    }
    assert (ended[0].state, ended[1].state, ended[5].state) == (JobState.UNREACHED, JobState.FAILED, JobState.FAILED)
    assert ended[1].outcome is not None
    assert ended[1].outcome.code == -2004
    assert ended[3].attempt == 1
    rang = Counter(entry.destination for entry in sandbox.ledger if entry.rang)
    assert set(rang.values()) == {1}
    assert len(rang) == 29
