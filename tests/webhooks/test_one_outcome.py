"""A summary that comes five times, before the answer of its own POST, or again after a crash: one outcome."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from tests.support.engine import Engine
from tests.support.voices import GatedVoice
from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET, posting
from tests.webhooks.test_payload_forms import named, now, submitted
from voiceflow_worker.core.ports import EventKind, Store
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.webhooks import receiver_app

pytestmark = pytest.mark.anyio


async def endings(store: Store, job: Job) -> int:
    """How often hooks and streams are told that the call has ended."""
    events = await store.jobs.events("default")
    return sum(event.job_id == job.id and event.kind is EventKind.ENDED for event in events)


async def test_a_summary_that_comes_five_times_at_once_is_one_outcome(store: Store) -> None:
    job = await submitted(store)
    answers: Counter[int] = Counter()
    # Two receivers, as behind a load balancer.
    async with (
        posting(receiver_app(store, secret=SECRET)) as one,
        posting(receiver_app(store, secret=SECRET)) as other,
        anyio.create_task_group() as group,
    ):

        async def send(place: int) -> None:
            answer = await (one, other)[place % 2].send(whole(named(job)))
            answers[answer.status_code] += 1

        for place in range(5):
            group.start_soon(send, place)
    assert answers == {200: 5}
    ended = await now(store, job)
    assert ended.state is JobState.COMPLETED
    assert len(ended.posts) == 1
    assert ended.notes == ()
    assert await endings(store, job) == 1


@pytest.mark.parametrize("with_client_request_id", [True, False])
async def test_a_summary_before_the_answer_of_its_own_post_is_one_outcome(
    store: Store, *, with_client_request_id: bool
) -> None:
    voice = GatedVoice(bytes_left=True)
    engine = Engine(store, voice)
    job = await engine.enqueue()
    async with posting(receiver_app(store, secret=SECRET)) as sender, anyio.create_task_group() as group:
        group.start_soon(engine.send)
        await voice.reached(1)
        call = Call(f"{job.id}.1", f"session-{job.id}.1")
        summary = whole(call) if with_client_request_id else whole(call, clientRequestId=None)
        for _ in range(5):
            assert (await sender.send(summary)).status_code == 200
        assert voice.placed == [], "8x8 has not answered yet"
        voice.open.set()
    if not with_client_request_id:
        await engine.settler.apply_all_parked()  # as the sweep does
    ended = await now(store, job)
    assert ended.state is JobState.COMPLETED
    assert ended.session_id == call.session_id
    assert len(ended.posts) == 1
    assert ended.notes == ()
    assert await endings(store, job) == 1
