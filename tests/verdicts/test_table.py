"""Every row of the verdict table, end to end: a real worker, a real socket, a store in a file."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.verdicts.conftest import BACKENDS, ON_TRIO, Ground
from tests.verdicts.playing import (
    POLICY,
    assert_hold,
    call,
    closed_gates,
    drained,
    mended,
    one_post,
    only_job,
    queue_of,
)
from tests.verdicts.table import ROWS, Hold, Row, Wait
from voiceflow_worker import Job, JobState
from voiceflow_worker.core.settling.settle import Settler, SummaryResult
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio


FIRST = [next(row for row in ROWS if row.verdict is verdict) for verdict in {row.verdict: None for row in ROWS}]
"""One row for each verdict: no store and no event loop looks at the answer that a verdict comes from."""
WHOLE = {"sqlite-asyncio": ROWS, "memory-trio": [row for row in ROWS if row in FIRST or row.posts == 0]}
"""All rows once, and on httpx's pool those of which nothing arrived; the other stores are in the whole set."""
EACH = [
    pytest.param(backend, row, id=f"{backend}-{row.name}", marks=() if backend in WHOLE else pytest.mark.slow)
    for backend in (*BACKENDS, *ON_TRIO)
    for row in WHOLE.get(backend, FIRST)
    if row.loop is None
] + [pytest.param(f"memory-{row.loop}", row, id=f"memory-{row.loop}-{row.name}") for row in ROWS if row.loop]


@pytest.mark.parametrize(("backend", "row"), EACH, indirect=["backend"])
async def test_each_way_a_post_ends_has_its_state_its_hold_and_its_number_of_posts(ground: Ground, row: Row) -> None:
    queue = queue_of(ground)
    enqueued = await queue.enqueue(call(says=row.says), valid_for=row.valid_for)
    with row.scene() as scene:
        await (drained if row.again else one_post)(ground, scene)
        arrived = scene.posts()
    job = await only_job(ground)
    gates = await closed_gates(ground)
    assert (job.id, job.state) == (enqueued.id, row.state), job
    assert arrived == row.posts
    assert job.attempt == row.attempt
    assert job.post_count == (row.posts if row.again else 1)
    last = job.posts[-1]
    assert (last.verdict, last.code) == (row.verdict, row.code)
    assert_hold(gates, row.hold)
    if row.state is JobState.QUEUED:
        assert_due(job, row.wait, gates, place=enqueued.due_at)
    await and_then(ground, row, job)


def assert_due(job: Job, wait: Wait, gates: list[Gate], *, place: datetime) -> None:
    answered_at = job.posts[-1].answered_at
    assert answered_at is not None
    match wait:
        case Wait.NOW:
            assert job.due_at == place, "it keeps its place in the queue"
        case Wait.BACKOFF:
            pause = backoff(1, first=POLICY.first_backoff, longest=POLICY.longest_backoff, seed=job.id)
            assert job.due_at - answered_at == pause
        case Wait.HOLD:
            assert job.due_at == gates[0].until


async def and_then(ground: Ground, row: Row, job: Job) -> None:
    """What another worker makes of it when 8x8 is well again: sent once if it was not placed, else never."""
    if row.state is JobState.QUEUED and row.hold is Hold.UNTIL_OPENED:
        result, posts = await mended(ground)
        assert (result.stopped_by_hold, posts) == (True, 0)
        await queue_of(ground).resume()
    if row.state is JobState.QUEUED:
        if not row.resent:
            return
        _, posts = await mended(ground)
        after = await only_job(ground)
        assert (posts, after.state, after.attempt) == (1, JobState.SUBMITTED, 1)
        assert after.posts[-1].began_at >= job.due_at
        return
    before = await only_job(ground)
    await Sweeper(ground.store, queue="default", policy=POLICY).sweep()
    assert (await only_job(ground) != before) == (row.state is JobState.IN_DOUBT), "a doubt is looked at again"
    assert (await mended(ground))[1] == 0
    assert (await only_job(ground)).state is row.state
    if row.state is JobState.IN_DOUBT:
        await its_summary_settles_it(ground, job)


async def its_summary_settles_it(ground: Ground, job: Job) -> None:
    summary = SessionSummary(
        session_id="session-of-it",
        status=SessionStatus.COMPLETED,
        status_text="COMPLETED",
        client_request_id=f"{job.id}.1",
    )
    assert await Settler(ground.store, POLICY).summary(summary) is SummaryResult.SETTLED
    assert (await only_job(ground)).state is JobState.COMPLETED
    assert (await mended(ground))[1] == 0


def test_the_table_has_a_row_for_every_verdict_and_no_name_twice() -> None:
    assert {row.verdict for row in ROWS} == set(VerdictKind) - {VerdictKind.PLACED, VerdictKind.NOT_PLACED}
    assert len({row.name for row in ROWS}) == len(ROWS)
