"""Half a surrogate pair, which no store can keep, is refused with a sentence wherever a text enters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.flows import flow, number
from voiceflow_worker import CallFlowError, CallQueue, CallRequest, InvalidInputError, Store
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.core.ports.record_set import text_records

pytestmark = pytest.mark.anyio

HALF = "a\ud800b"
SENTENCE = r"has half a surrogate pair \(U\+D800\) at character 2, which no store can keep; remove it"


@pytest.fixture
def queue(store: Store) -> CallQueue:
    return CallQueue(store)


@pytest.mark.parametrize("field", ["unique_key", "batch_id", "time_zone", "menu"])
async def test_a_call_with_it_is_refused_and_the_sentence_names_the_field_and_the_call(
    queue: CallQueue, field: str
) -> None:
    given: dict[str, Any] = {field: HALF}
    with pytest.raises(CallFlowError, match=f"{field} {SENTENCE}"):
        await queue.enqueue(flow(), **given)
    good = CallRequest(flow=flow(number(1)))
    with pytest.raises(CallFlowError, match=f"call 1: {field} {SENTENCE}"):
        await queue.enqueue_many([good, CallRequest(flow=flow(number(2)), **given)])
    assert await queue.find() == []


async def test_the_other_calls_of_a_campaign_are_enqueued(queue: CallQueue) -> None:
    calls = [
        CheckedCall.of(CallRequest(flow=flow(number(place)), unique_key=key))
        for place, key in enumerate(("one", HALF, "three"))
    ]
    first, bad, third = await queue.admitter.admit(calls)
    assert [finding.column for finding in bad.findings] == ["unique_key"]
    assert (first.is_new, third.is_new) == (True, True)
    assert [job.unique_key for job in await queue.find()] == ["one", "three"]


ORDERS: Mapping[str, tuple[str, Callable[[CallQueue], Awaitable[object]]]] = {
    "a hold for a reason": ("the reason for queue default", lambda queue: queue.hold(reason=HALF)),
    "a cancelled batch": ("the batch id", lambda queue: queue.cancel_batch(HALF)),
    "a suppression": (
        "the reason of a suppression",
        lambda queue: SuppressionList(queue.store).add(number(1), reason=HALF),
    ),
    "a search by key": ("unique_key", lambda queue: queue.find(unique_key=HALF)),
}


@pytest.mark.parametrize("what", ORDERS)
async def test_an_order_with_it_is_refused_and_changes_nothing(queue: CallQueue, what: str) -> None:
    begins, order = ORDERS[what]
    with pytest.raises(InvalidInputError, match=f"{begins} {SENTENCE}"):
        await order(queue)
    assert list(await gates_of(queue.store, queue.name)) == []
    assert list(await SuppressionList(queue.store).scan()) == []


async def test_a_note_with_it_is_refused_and_the_sentence_names_the_job(engine: Engine) -> None:
    queued = await engine.queue.enqueue(flow(number(1)))
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.cancel(queued.id, reason=HALF)
    await engine.queue.cancel(queued.id)
    with pytest.raises(InvalidInputError, match=f"the note for call {queued.id} {SENTENCE}"):
        await engine.queue.redial(queued.id, note=HALF)
    assert [note.text for note in (await engine.queue.get(queued.id)).notes] == ["cancelled by a person"]


async def test_a_store_refuses_it_in_every_other_text_and_goes_on(store: Store) -> None:
    queue = CallQueue(store)
    if store.url != "memory://":
        with pytest.raises(InvalidInputError, match="which no store can keep"):
            await text_records(store, "x").put({"key": HALF})
        with pytest.raises(InvalidInputError, match="which no store can keep"):
            await queue.get(f"default.{HALF}")
    await text_records(store, "x").put({"key": "value"})
    assert await text_records(store, "x").get(["key"]) == {"key": "value"}
    assert (await queue.enqueue(flow())).state == "queued"
