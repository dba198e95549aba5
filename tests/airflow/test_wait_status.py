"""The status of a call for the task that waits for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider.calls.waiting.status import Goal, WaitOptions, WaitStatus, status_of
from airflow_provider.calls.waiting.threshold import CompletionThreshold
from voiceflow_worker import Job, JobState, Post

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OPTIONS = WaitOptions(goal=Goal.OUTCOME, sends=True, patience=timedelta(minutes=15))


def job(state: JobState, *, due: timedelta = timedelta(0)) -> Job:
    return Job(
        id="default.01J",
        queue="default",
        state=state,
        due_at=NOW + due,
        destination="+6587654321",
        body="{}",
        body_digest="d",
        source="+6531234567",
        created_at=NOW - timedelta(hours=1),
    )


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_a_call_that_has_ended_is_over(state: JobState) -> None:
    assert status_of(job(state), OPTIONS, now=NOW) is WaitStatus.OVER


def test_an_accepted_call_is_over_only_for_the_goal_accepted() -> None:
    taken = job(JobState.SUBMITTED, due=timedelta(hours=1))
    assert status_of(taken, OPTIONS, now=NOW) is WaitStatus.WAITING
    assert status_of(taken, replace(OPTIONS, goal=Goal.ACCEPTED), now=NOW) is WaitStatus.OVER


def test_a_summary_that_never_came_is_overdue_after_a_grace() -> None:
    assert status_of(job(JobState.SUBMITTED, due=-timedelta(seconds=9)), OPTIONS, now=NOW) is WaitStatus.WAITING
    assert status_of(job(JobState.SUBMITTED, due=-timedelta(seconds=10)), OPTIONS, now=NOW) is WaitStatus.OVERDUE


def test_a_due_call_is_unsent_only_for_the_task_that_sends() -> None:
    assert status_of(job(JobState.QUEUED), OPTIONS, now=NOW) is WaitStatus.UNSENT
    assert status_of(job(JobState.QUEUED), replace(OPTIONS, sends=False), now=NOW) is WaitStatus.WAITING
    assert status_of(job(JobState.QUEUED, due=timedelta(minutes=1)), OPTIONS, now=NOW) is WaitStatus.WAITING


def test_the_patience_with_a_doubt_counts_from_its_post_and_not_from_the_task() -> None:
    post = Post(
        number=1, client_request_id="x.1", began_at=NOW - timedelta(minutes=15), valid_until=NOW + timedelta(minutes=1)
    )
    doubted = replace(job(JobState.IN_DOUBT, due=timedelta(minutes=1)), posts=(post,))
    assert status_of(doubted, OPTIONS, now=NOW) is WaitStatus.DOUBTFUL
    assert status_of(doubted, OPTIONS, now=NOW - timedelta(seconds=1)) is WaitStatus.WAITING


@pytest.mark.parametrize(
    ("expected", "ended", "total", "reached"),
    [
        (None, 9, 10, False),
        (None, 10, 10, True),
        ({"at_least": 3}, 2, 10, False),
        ({"at_least": 3}, 3, 10, True),
        ({"at_least": 30}, 10, 10, True),
        ({"ratio": 0.1}, 2, 30, False),
        ({"ratio": 0.1}, 3, 30, True),
        ({"ratio": 0.8}, 7, 9, False),
        ({"ratio": 0.8}, 8, 9, True),
    ],
)
def test_a_threshold_is_reached_at_its_number_or_share(
    expected: dict[str, float] | None, ended: int, total: int, reached: bool
) -> None:
    assert CompletionThreshold.of(expected).is_reached(ended, total) is reached


@pytest.mark.parametrize("expected", [{"at_least": 0}, {"ratio": 0}, {"ratio": 1.1}, {"at_least": 1, "ratio": 0.5}])
def test_an_impossible_threshold_is_refused(expected: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at_least|ratio"):
        CompletionThreshold.of(expected)
