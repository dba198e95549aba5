"""Questions that stood open while the call went on: an answer about one POST does not count for the next."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx
import pytest

from tests.console.signing_in import Form, confirmed, receiver, signed_in
from tests.console.stored_calls import ended, in_doubt
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, JobState, SessionStatus, Store, open_store
from voiceflow_worker.backends.contract.samples import ManualClock

pytestmark = pytest.mark.anyio

NOT_PLACED = {"verdict": "not-placed", "note": "not in the portal"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def memory(clock: ManualClock) -> AsyncGenerator[Store]:
    async with open_store("memory://", clock=clock) as opened:
        yield opened


async def question(client: httpx.AsyncClient, address: str) -> Form:
    """The form of a question that somebody leaves open."""
    asked = await client.get(address)
    assert asked.status_code == 200
    return Form(asked.text)


async def test_a_verdict_about_one_post_does_not_settle_the_doubt_about_the_next(
    memory: Store, clock: ManualClock
) -> None:
    engine, (doubt,) = await in_doubt(memory)
    clock.advance(timedelta(minutes=5))
    address = f"/ui/act/resolve?call={doubt.id}"
    async with signed_in(receiver(memory)) as client:
        left_open = await question(client, address)
        assert (await confirmed(client, address, **NOT_PLACED)).status_code == 303
        (again,) = await engine.send()
        assert (again.state, again.post_count) == (JobState.IN_DOUBT, 2)
        clock.advance(timedelta(minutes=5))
        refused = await client.post("/ui/act/resolve", data=left_open.values(**NOT_PLACED))
        assert (refused.status_code, "POST 2, begun at" in refused.text) == (409, True)
        assert (await CallQueue(memory).get(doubt.id)).state is JobState.IN_DOUBT
        now_shown = Form(refused.text).values(**NOT_PLACED)
        assert (await client.post("/ui/act/resolve", data=now_shown)).status_code == 303
    assert (await CallQueue(memory).get(doubt.id)).state is JobState.QUEUED


async def test_two_people_who_ask_for_one_redial_redial_once(memory: Store) -> None:
    busy = await ended(memory)
    address = f"/ui/act/redial?call={busy.id}"
    async with signed_in(receiver(memory)) as client:
        left_open = await question(client, address)
        assert (await confirmed(client, address)).status_code == 303
        engine = Engine(memory, ScriptedVoice())
        (again,) = await engine.send()
        await engine.summarise(again, SessionStatus.BUSY)
        refused = await client.post("/ui/act/redial", data=left_open.values())
        assert (refused.status_code, "POST 2 is now the newest" in refused.text) == (409, True)
        assert (await CallQueue(memory).get(busy.id)).state is JobState.UNREACHED
        assert (await client.post("/ui/act/redial", data=Form(refused.text).values())).status_code == 303
    assert (await CallQueue(memory).get(busy.id)).state is JobState.QUEUED
