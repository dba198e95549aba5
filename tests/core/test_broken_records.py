"""Calls whose body or record in the store is damaged: each is told and ended, and the others are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

import anyio
import pytest

from tests.support.everyday import combinations
from tests.support.stores import DURABLE, EVERY
from tests.support.voices import ScriptedVoice
from tests.support.workers import damaged, enqueued, spoilt, states, worker_for
from voiceflow_worker import Job, Store, open_store
from voiceflow_worker.core.ports.reads import Read
from voiceflow_worker.errors import UnreadableRecordError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.reporting.status import MOST_CHECKED, unreadable_calls

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


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_a_call_that_cannot_be_read_is_counted_and_stops_no_drain(live_store: Store) -> None:
    bad = await damaged(live_store, spoilt)
    queue = await enqueued(live_store, 0)
    assert (await unreadable_calls(live_store, "default")).count == 1
    voice = ScriptedVoice()
    options = {"lease": timedelta(seconds=2)}
    with anyio.fail_after(30):
        await worker_for(live_store, voice, options=options).drain()
    assert len(voice.placed) == 2
    status = await queue.status()
    assert (status.unreadable.count, status.unreadable.is_exact) == (1, True)
    assert bad.id in status.unreadable.example
    with pytest.raises(UnreadableRecordError, match="damaged"):
        await queue.cancel(bad.id)


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_what_is_read_to_count_them_is_bounded(live_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await damaged(live_store, spoilt, calls=2 * MOST_CHECKED)
    asked: list[object] = []
    read = live_store.jobs

    async def counted(wanted: Read, *, now: datetime) -> Sequence[Job]:
        found = await read(wanted, now=now)
        asked.append(len(found))
        return found

    monkeypatch.setattr(live_store, "jobs", counted)
    found = await unreadable_calls(live_store, "default")
    assert (asked, found.in_words()) == ([MOST_CHECKED - 1], "at least 1 call cannot be read")
