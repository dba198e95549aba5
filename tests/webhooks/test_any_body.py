"""Whatever is sent, the answer is 2xx or 4xx, and only summaries are settled.

Everyday some 1,000 bodies go through the whole receiver; `HYPOTHESIS_PROFILE=thorough` tries 100,000.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from tests.webhooks.broken_bodies import body
from tests.webhooks.payload_forms import Call
from tests.webhooks.receiving import SECRET, posting, summary
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.webhooks import PATH, receiver_app

pytestmark = pytest.mark.anyio

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


@given(seed=st.integers(0, 2**63))
async def test_a_damaged_body_is_answered_with_200_or_4xx(seed: int) -> None:
    async with open_store("memory://") as store:
        await answers_to(store, seed, AT_ONCE)


async def test_damaged_bodies_do_no_harm_to_a_file(store: Store) -> None:
    statuses = await answers_to(store, 1, 150)
    assert statuses[200] > 30
    assert statuses[400] > 30
