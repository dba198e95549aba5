"""Whatever is sent, the answer is 2xx or 4xx, and only summaries are settled.

Everyday some 2,000 bodies go through the whole receiver, and 300 into each real store. 100,000:

    .venv/bin/python -m pytest -m slow tests/webhooks/test_any_body.py
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from tests.webhooks.broken_bodies import body
from tests.webhooks.payload_forms import Call
from tests.webhooks.receiving import SECRET, Settling, other, posting, status_of, summary
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.webhooks import PATH, receiver_app

pytestmark = pytest.mark.anyio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
EVENTS = [
    summary(),
    summary(errorDetails={"errorCode": -2004, "errorMsg": "no coverage"}),
    other("CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, sipCode=200),
    other("CALL_STATUS", callStatus="RINGING", timestamp="2026-07-01T09:00:00Z"),
    other("CALL_RECORDING_STATUS", durationSeconds=12),
    other("VIRTUAL_NUMBER_UPDATE", virtualNumbers=[{"msisdn": "6531234567"}]),
]


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value, as the keys that lead to it."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An event with some of its values replaced, dropped or renamed, and perhaps cut or with a byte changed."""
    event: Any = json.loads(json.dumps(draw(st.sampled_from(EVENTS))))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(places(event)))
        if not path:
            continue
        within = event
        for key in path[:-1]:
            within = within[key]
        match draw(st.sampled_from(["replace", "drop", "rename"])):
            case "drop":
                del within[path[-1]]
            case "rename" if isinstance(within, dict):
                within[draw(st.text(max_size=12))] = within.pop(path[-1])
            case _:
                within[path[-1]] = draw(JSON)
    content = json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "byte"])):
        case "cut":
            return content[: draw(st.integers(0, len(content)))]
        case "byte":
            place = draw(st.integers(0, len(content) - 1))
            return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        case _:
            return content


@given(content=mutated() | st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
async def test_any_body_is_answered_with_200_or_400(content: bytes) -> None:
    settling = Settling()
    status = await status_of(content, settling)
    assert status in {200, 400}
    assert not settling.taken or status == 200


AT_ONCE = 20
"""Bodies of one seed: they come one after the other to the same receiver."""
GENEROUS = 60.0
"""Seconds for one answer: what takes longer hangs."""


async def calls_of(store: Store, count: int) -> list[Call]:
    """Calls in all states that a summary can meet: waiting for it, and in doubt."""
    answers = [unknown() if place % 3 == 0 else None for place in range(count)]
    voice = ScriptedVoice(answers=[answer for answer in answers if answer is not None])
    engine = Engine(store, voice)
    for place in range(count):
        await engine.enqueue(number(place))
    found: list[Call] = []
    for job in await engine.send():
        (post,) = job.posts
        found.append(Call(post.client_request_id, post.session_id or "session-of-nobody"))
    return found


async def answers_to(store: Store, seed: int, count: int) -> Counter[int]:
    """The statuses of `count` bodies made from a seed."""
    random = Random(seed)
    calls = await calls_of(store, 6)
    statuses: Counter[int] = Counter()
    app = receiver_app(store, secret=SECRET, registry=CollectorRegistry())
    async with posting(app) as sender:
        for _ in range(count):
            content, content_type = body(random, calls)
            with anyio.fail_after(GENEROUS):
                answer = await sender.client.post(PATH, content=content, headers={"Content-Type": content_type})
            assert answer.status_code in {200, 400, 413}, (seed, content[:2000])
            assert json.loads(answer.content) is not None
            statuses[answer.status_code] += 1
        # None of them has broken the receiver or its store: the next summary is taken.
        final = {**summary(clientRequestId=calls[0].client_request_id, sessionId=calls[0].session_id)}
        assert (await sender.send(final)).status_code == 200
    jobs = await store.jobs.get([call.client_request_id.rpartition(".")[0] for call in calls])
    assert {job.post_count for job in jobs.values()} == {1}
    assert jobs[calls[0].client_request_id.rpartition(".")[0]].state in {
        JobState.COMPLETED, JobState.UNREACHED, JobState.FAILED, JobState.EXPIRED,
    }  # fmt: skip
    return statuses


async def in_memory(seed: int, count: int) -> None:
    async with open_store("memory://") as store:
        await answers_to(store, seed, count)


@given(seed=st.integers(0, 2**63))
@settings(max_examples=100)
async def test_a_damaged_body_is_answered_with_200_or_4xx(seed: int) -> None:
    await in_memory(seed, AT_ONCE)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(seed=st.integers(0, 2**63))
@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
async def test_a_hundred_thousand_damaged_bodies_are_answered_with_200_or_4xx(seed: int) -> None:
    await in_memory(seed, 100)


@pytest.mark.parametrize("seed", [1, 2])
async def test_damaged_bodies_do_no_harm_to_any_store(store: Store, seed: int) -> None:
    statuses = await answers_to(store, seed, 150)
    assert statuses[200] > 30
    assert statuses[400] > 30
