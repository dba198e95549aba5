"""Every form of a session summary settles its call, through HTTP, in every store; so do repeated and early ones."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, unknown
from tests.webhooks.payload_forms import FORMS, Call, Form, whole
from tests.webhooks.receiving import Sender, posting, receiver_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio


async def submitted(store: Store, *, answered: bool = True) -> Job:
    """A call that waits for its summary; or one whose POST was not answered."""
    engine = Engine(store, ScriptedVoice() if answered else ScriptedVoice(answer=lambda _: unknown()))
    await engine.enqueue()
    (job,) = await engine.send()
    return job


def named(job: Job) -> Call:
    (post,) = job.posts
    return Call(post.client_request_id, post.session_id or f"session-{post.client_request_id}")


async def now(store: Store, job: Job) -> Job:
    return (await get_jobs(store, [job.id]))[job.id]


async def count_of(sender: Sender, result: str) -> float:
    return await sender.metric(f'summaries_total{{result="{result}"}}')


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_every_form_of_a_summary_settles_its_call_once(store: Store, form: Form) -> None:
    job = await submitted(store)
    event = form.event(named(job))
    async with posting(receiver_of(store).app) as sender:
        for _ in range(3):
            assert (await sender.send(event)).status_code == 200
        assert await count_of(sender, "settled") == 1
        assert await count_of(sender, "repeated") == 2
    ended = await now(store, job)
    assert ended.state is form.state
    outcome = ended.posts[0].outcome
    assert outcome is not None
    assert {name: getattr(outcome, name) for name in form.outcome} == dict(form.outcome)
    assert len(outcome.legs) == form.legs
    assert len(ended.posts) == 1


async def test_the_legs_and_their_quality_are_kept(store: Store) -> None:
    job = await submitted(store)
    async with posting(receiver_of(store).app) as sender:
        await sender.send(whole(named(job)))
    outcome = (await now(store, job)).outcome
    assert outcome is not None
    (leg,) = outcome.legs
    assert (leg.seconds, leg.mos, leg.packet_loss_rate, leg.jitter_ms) == (13.0, 4.5, 0.02, 20.0)
    assert (leg.source, leg.destination, leg.status) == ("+6531234567", "+6587654321", "COMPLETED")


@pytest.mark.parametrize(
    "call",
    [
        Call("default.01JB3W8Z5Q7X9V2K4M6N8P0R2T.1", "nobodys"),
        Call("order-42.7", "nobodys"),
        Call("other.01JB3W8Z5Q7X9V2K4M6N8P0R2T.999999", ""),
    ],
)
async def test_summaries_of_calls_that_this_store_does_not_know_are_counted(store: Store, call: Call) -> None:
    async with posting(receiver_of(store).app) as sender:
        assert (await sender.send(whole(call))).status_code == 200
        assert await count_of(sender, "unknown") == 1
        assert await sender.metric('answers_total{status="200"}') == 1
