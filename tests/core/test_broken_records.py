"""Calls whose body or record in the store is damaged: each is told and ended, and the others are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from tests.support.everyday import combinations
from tests.support.stores import EVERY
from tests.support.voices import ScriptedVoice
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import Job, Store, open_store
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Edit, Write
from voiceflow_worker.model.copying import replace

pytestmark = pytest.mark.anyio

BODIES = [
    "", "{", "[]", "null", "5", '"text"', "{}", '{"callflow": []}', '{"callflow": {}}', '{"callflow": [5, null]}',
    '{"callflow": [{"action": "say"}]}', '{"callflow": [{"action": "makeCall"}]}',
    '{"callflow": [{"action": "makeCall", "params": []}]}',
    '{"callflow": [{"action": "makeCall", "params": {"source": "+6531230001", "destination": 5}}]}',
    ' {"callflow": [{"action": "makeCall", "params": {"destination": "+6531230001"}}]} ',
]  # fmt: skip


@pytest.fixture(params=EVERY)
async def live_store(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> AsyncIterator[Store]:
    """A store with the clock of this machine, for workers that run."""
    async with open_store(fresh_url(request.param)) as opened:
        yield opened


async def damaged(store: Store, change: Callable[[Job], Job], *, calls: int = 3) -> Job:
    """The second of so many calls, after it was damaged in the store."""
    await enqueued(store, calls)
    job = (await find_jobs(store, Listing(queue="default", limit=None)))[1]
    bad = change(job)
    await store.write(BulkWrite(writes=(Write(change=Edit(job.revision, bad)),)), now=store.clock.now())
    return bad


@pytest.mark.parametrize(("live_store", "body"), combinations(EVERY, BODIES), indirect=["live_store"])
async def test_a_call_whose_body_is_broken_ends_with_its_reason_and_the_others_are_sent(
    live_store: Store, body: str
) -> None:
    bad = await damaged(live_store, lambda job: replace(job, revision="x", body=body))
    voice = ScriptedVoice()
    with anyio.fail_after(20):
        await worker_for(live_store, voice).drain()
    assert len(voice.placed) == 2
    queue = await enqueued(live_store, 0)
    assert await states(queue) == {"accepted": 2, "failed": 1}
    assert "its body in the store is broken" in ((await queue.get(bad.id)).reason or "")
