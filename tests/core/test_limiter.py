"""A worker whose client waits for a limiter: what was held meanwhile does not leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest

from tests.gateway.misbehaving import CREATED
from tests.support.flows import flow
from voiceflow_worker import CallQueue, VoiceClient, Worker, open_store
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio


class Limiter:
    """Does something while a call waits for its turn."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._meanwhile = meanwhile

    async def acquire(self) -> None:
        await self._meanwhile()


@pytest.mark.parametrize("batch_held", [None, "people", "others"])
async def test_a_call_that_is_held_while_it_waits_stays_queued(batch_held: str | None) -> None:
    arrived = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal arrived
        arrived += 1
        return httpx.Response(200, content=CREATED)

    async def hold() -> None:
        await queue.hold(batch_id=batch_held, reason="the text is wrong")

    async with open_store("memory://") as store:
        queue = CallQueue(store)
        job = await queue.enqueue(flow("+6587654321"), batch_id="people")
        client = VoiceClient(
            "key",
            "sub",
            base_url="http://127.0.0.1:1",
            transport=httpx.MockTransport(answer),
            limiter=Limiter(hold),
        )
        async with client:
            with anyio.fail_after(60):
                result = await Worker(store, client, rate=None).drain()
        job = await queue.get(job.id)
    if batch_held == "others":
        assert (arrived, job.state) == (1, JobState.SUBMITTED)
    else:
        assert (arrived, job.state) == (0, JobState.QUEUED)
        assert "the text is wrong" in (job.reason or ""), result
