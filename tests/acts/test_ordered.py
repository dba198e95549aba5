"""Every act keeps who ordered it, and where; a start and a new rate are acts too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.flows import flow
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.acts import (
    Act,
    CancelBatch,
    CancelCall,
    Hold,
    Operator,
    Rate,
    Redial,
    Resume,
    Suppress,
    Unsuppress,
)
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.core.overview.batches import read_batch, read_batches
from voiceflow_worker.core.overview.ordered import Interface, ordered_on
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import JobError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store("memory://") as opened:
        yield opened


async def test_each_act_keeps_its_person_and_its_interface(store: Store) -> None:
    queue = CallQueue(store)
    job = await queue.enqueue(flow("+6587654321"), batch_id="march")
    who = Operator(store, CallPolicy(), name="Li", on=Interface.PAGES)
    acts: list[Act] = [
        Hold(operator=who, queue="default", batch="march", note="a wrong date"),
        Resume(operator=who, queue="default", batch="march"),
        Rate(operator=who, queue="default", rate=5.0),
        CancelCall(operator=who, call=job.id),
        Redial(operator=who, call=job.id),
        CancelBatch(operator=who, queue="default", batch="march"),
        Suppress(operator=who, numbers=["+6587654322"]),
        Unsuppress(operator=who, numbers=["+6587654322"]),
    ]
    for act in acts:
        await act.do()
    kept = [*reversed(await ordered_on(store, "default")), *reversed(await ordered_on(store, None))]
    assert [each.act for each in kept] == [
        "hold", "resume", "rate", "cancel", "redial", "cancel", "suppress", "unsuppress",
    ]  # fmt: skip
    assert {(each.by, each.on) for each in kept} == {("Li", "pages")}
    assert kept[0].note == "a wrong date"
    assert [each.act for each in await ordered_on(store, "default", call=job.id)] == ["redial", "cancel"]
    assert (await queue.status()).limits is not None
    (batch,) = await read_batches(store, "default")
    assert batch.ordered == (await read_batch(store, "default", "march")).ordered
    assert [each.act for each in batch.ordered] == ["cancel", "resume", "hold"]
    assert "hold by Li, pages: batch march is held" in batch.ordered[-1].in_words()


async def test_an_act_that_was_refused_is_not_kept_and_the_login_stands_for_a_name(store: Store) -> None:
    queue = CallQueue(store)
    job = await queue.enqueue(flow("+6587654321"))
    who = Operator(store, CallPolicy(), on=Interface.COMMAND, login="mary")
    with pytest.raises(JobError):
        await Redial(operator=who, call=job.id).do()
    done = await CancelCall(operator=who, call=job.id).do()
    assert "by a person" in done.said, "the call keeps a name that the person gave, and not a login"
    (kept,) = await ordered_on(store, "default")
    assert (kept.act, kept.by, kept.on) == ("cancel", "mary", "command")


async def test_a_start_keeps_who_ordered_it(store: Store) -> None:
    fields = {"say": "Hello", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "march"}
    campaign = Campaign.of({**fields, "rows": [{"destination": "+6587654321"}, {"destination": "+6587654322"}]})
    await campaign.start(CallQueue(store), by="Li", on=Interface.AIRFLOW)
    (kept,) = (await read_batch(store, "default", "march")).ordered
    assert (kept.act, kept.by, kept.on, kept.said) == ("start", "Li", "Airflow", "2 calls of 2 enqueued")
