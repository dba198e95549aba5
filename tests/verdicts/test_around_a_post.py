"""The rows of the verdict table that no answer shows: before the POST, and beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
from anyio import to_thread

from tests.gateway.misbehaving import LONGEST, MisbehavingServer
from tests.support.flows import number
from tests.support.waiting import until
from tests.verdicts.conftest import Ground
from tests.verdicts.playing import (
    OPTIONS,
    WITHIN,
    call,
    closed_gates,
    mended,
    only_job,
    queue_of,
    worker_on,
)
from tests.verdicts.scenes import SOON, Scene, never_accepts, stalls_after_the_body, well_behaved
from voiceflow_worker import CallRequest, JobState, Worker
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio
MOMENT = timedelta(milliseconds=100)


# -- before the POST ---------------------------------------------------------------------------------------------------


async def test_one_whose_validity_passes_while_it_waits_for_its_turn_expires_without_a_post(ground: Ground) -> None:
    """At 5 calls a second the second of two has its turn 200 ms after the first, and is valid for half of that."""
    queue = queue_of(ground)
    await queue.enqueue(call(number(1)))
    with well_behaved() as scene:
        async with scene.client() as client:
            first = await queue.find()
            late = await queue.enqueue(call(number(2)), valid_for=MOMENT)
            worker = Worker(
                ground.store, client, rate=5, options=OPTIONS, call_log=None, local_journal=ground.local_journal
            )
            with anyio.fail_after(WITHIN):
                await worker.drain()
        assert scene.posts() == 1
    assert (await queue.get(first[0].id)).state is JobState.SUBMITTED
    after = await queue.get(late.id)
    assert (after.state, after.post_count, after.attempt) == (JobState.EXPIRED, 0, 0)


# -- beside the POST ---------------------------------------------------------------------------------------------------


async def test_no_connection_from_the_pool_sends_nothing_and_is_tried_again(ground: Ground) -> None:
    """Two calls for a client that has one connection, which an answer that never comes keeps busy."""
    queue = queue_of(ground)
    jobs = await queue.enqueue_many([CallRequest(flow=call(number(place))) for place in range(2)])
    with MisbehavingServer(stalls_after_the_body) as server:
        options = {"concurrency": 1, "connect": SOON}
        async with Scene(server.url, options=options).client() as client, anyio.create_task_group() as group:
            worker = worker_on(ground, client)
            group.start_soon(worker.run)

            async def one_is_over() -> bool:
                found = (await get_jobs(ground.store, [each.job.id for each in jobs])).values()
                return any(post.verdict for job in found for post in job.posts)

            await until(one_is_over)
            await until(lambda: bool(server.posts))
            # Twice: at once. The other POST is still waiting for its answer.
            worker.stop()
            worker.stop()
        assert len(server.posts) == 1
    states = {job.state: job for job in await queue.find(limit=None)}
    assert set(states) == {JobState.IN_DOUBT, JobState.QUEUED}
    assert {post.verdict for post in states[JobState.QUEUED].posts} == {VerdictKind.NOT_SENT}
    assert (states[JobState.QUEUED].attempt, states[JobState.IN_DOUBT].attempt) == (0, 1)
    assert await closed_gates(ground) == []
    assert (await mended(ground))[1] == 1
    assert (await queue.get(states[JobState.IN_DOUBT].id)).state is JobState.IN_DOUBT


async def test_cancelled_with_a_post_on_its_way_it_is_in_doubt(ground: Ground) -> None:
    await queue_of(ground).enqueue(call())
    with MisbehavingServer(stalls_after_the_body) as server:

        async def post_arrives() -> None:
            assert await to_thread.run_sync(server.seen.wait, LONGEST)

        await stopped_at_once(ground, Scene(server.url), post_arrives)
        assert len(server.posts) == 1
    job = await only_job(ground)
    assert (job.state, job.attempt, job.posts[-1].verdict) == (JobState.IN_DOUBT, 1, VerdictKind.UNKNOWN)
    assert (await mended(ground))[1] == 0


async def test_cancelled_before_it_has_a_connection_it_is_queued_again(ground: Ground) -> None:
    await queue_of(ground).enqueue(call())
    with never_accepts() as scene:

        async def is_taken() -> bool:
            # A call connects before its journal entry.
            return (await only_job(ground)).state is JobState.LEASED

        await stopped_at_once(ground, Scene(scene.url), lambda: until(is_taken))
    job = await only_job(ground)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    assert {post.verdict for post in job.posts} <= {VerdictKind.NOT_SENT}
    assert (await mended(ground))[1] == 1
    assert (await only_job(ground)).state is JobState.SUBMITTED


async def stopped_at_once(ground: Ground, scene: Scene, when: Callable[[], Awaitable[None]]) -> None:
    """Run a worker and tell it twice to stop at a moment of its POST: it gives the POST up."""
    async with scene.client() as client, anyio.create_task_group() as group:
        worker = worker_on(ground, client)
        group.start_soon(worker.run)
        await when()
        worker.stop()
        worker.stop()
