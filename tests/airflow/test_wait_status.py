"""The status of a call for the task that waits for it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider.calls.waiting import Goal, WaitedCalls, WaitStatus
from tests.support.flows import flow
from voiceflow_worker import CallQueue, Job, JobState, open_store
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.types import Post

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WAITED = WaitedCalls(goal=Goal.OUTCOME, sends=True, doubt_timeout=timedelta(minutes=15))


def job(state: JobState, due: float = 0, **more: Any) -> Job:
    """A job in this state, which is due in so many seconds."""
    return Job(
        id="default.01J", queue="default", state=state, due_at=NOW + timedelta(seconds=due), destination="+6587654321",
        body="{}", body_digest="d", source="+6531234567", created_at=NOW - timedelta(hours=1), **more,
    )  # fmt: skip


def status(*jobs: Job, goal: Goal = Goal.OUTCOME, now: datetime = NOW) -> WaitStatus:
    return dataclasses.replace(WAITED, goal=goal).status_of(jobs, now=now)


def test_a_call_is_overdue_after_a_grace_and_due_a_moment_before_its_time() -> None:
    for state in (JobState.LEASED, JobState.SENDING, JobState.SUBMITTED):
        assert [status(job(state, due)).overdue for due in (-9, -10)] == [0, 1]
    taken = [status(job(JobState.SUBMITTED, -3600), goal=goal) for goal in (Goal.ACCEPTED, Goal.OUTCOME)]
    assert [(each.overdue, WAITED.is_over(each)) for each in taken] == [(0, True), (1, False)]
    queued = (job(JobState.QUEUED, due) for due in (0, 10, 60))
    counted = status(*queued, job(JobState.LEASED), job(JobState.SENDING))
    assert (counted.total, counted.unsent, counted.ended) == (5, 4, 0)


@pytest.mark.anyio
async def test_a_call_of_a_batch_that_is_leased_while_it_is_counted_is_not_taken_for_one_that_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await queue.enqueue(flow(), batch="b")

        async def counted(*given: Any, **more: Any) -> Any:
            found, now = await count_states(*given, **more), store.clock.now()
            await store.lease(queue.name, worker_id="w", limit=1, until=now + timedelta(minutes=1), now=now)
            return found

        monkeypatch.setattr("airflow_provider.calls.waiting.count_states", counted)
        assert (await WaitedCalls(batch_id="b").status(queue)).unsent


def test_the_patience_with_a_doubt_counts_from_its_post_and_not_from_the_task() -> None:
    began = NOW - timedelta(minutes=15)
    post = Post(number=1, client_request_id="x.1", began_at=began, valid_until=NOW + timedelta(minutes=1))
    doubted = job(JobState.IN_DOUBT, 60, posts=(post,))
    assert WAITED.is_over(status(doubted))
    assert not WAITED.is_over(status(doubted, now=NOW - timedelta(seconds=1)))
