"""The bytes of a POST: what the caller spelled, and two keys of the POST."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.stores import BACKENDS, running
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS, worker_for
from voiceflow_worker import CallFlow, CallQueue, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.gateway.wire import body_of
from voiceflow_worker.model.flows.callflow import EncodedBody, body_digest

pytestmark = pytest.mark.anyio


store = running(*BACKENDS)


def body(destination: str, source: str, **more: object) -> dict[str, Any]:
    call = {"action": "makeCall", "params": {"source": source, "destination": destination}}
    say = {"action": "say", "params": {"text": "Grüße", "voiceProfile": "en-IE-EmilyNeural", "speed": 1.0}}
    return {"callflow": [call, say], **more}


async def posted(store: Store, given: dict[str, Any], **options: Any) -> tuple[Job, dict[str, Any]]:
    """The job of a body, and what its POST carried."""
    queue, voice = CallQueue(store, policy=NO_WEBHOOKS), ScriptedVoice()
    job = await queue.enqueue(CallFlow.parse(given), **options)
    await worker_for(store, voice).drain()
    assert (await queue.get(job.id)).state is JobState.ACCEPTED
    [(_, placement)] = voice.placed
    return job, orjson.loads(body_of(placement))


@pytest.mark.parametrize("plus", ["", "+"])
async def test_numbers_leave_as_the_caller_spelled_them(store: Store, plus: str) -> None:
    given = body(f"{plus}6587654321", f"{plus}6531234567")
    job, sent = await posted(store, given)
    assert sent.pop("clientRequestId") == f"{job.id}.1"
    assert sent.pop("validUntil")
    assert sent == given
    assert job.destination == "+6587654321"


@pytest.mark.parametrize(
    ("own", "named", "sent"),
    [
        (None, "september", "september"),
        ("theirs", None, "theirs"),
        ("theirs", "ours", "ours"),
        (None, 'a "quoted" \\ name', 'a "quoted" \\ name'),
        (None, "août", None),
        (None, None, None),
    ],
)
async def test_the_batch_of_the_call_is_sent(
    store: Store, own: str | None, named: str | None, sent: str | None
) -> None:
    given = body("+6587654321", "+6531234567", **({} if own is None else {"clientBatchId": own}))
    job, posted_body = await posted(store, given, batch_id=named)
    assert (job.batch_id, posted_body.get("clientBatchId")) == (named or own, sent)


def test_the_same_call_spelled_in_two_ways_has_one_digest() -> None:
    spelled = [body("6587654321", "+6531234567"), body("+6587654321", "6531234567", clientBatchId="b")]
    first, second = (body_digest(EncodedBody.of(CallFlow.parse(each)).canonical) for each in spelled)
    assert first == second
