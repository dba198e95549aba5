"""Journals of several workers, applied to a job whose store was set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from voiceflow_worker.model.jobs.call_log import window_of
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind, Post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import is_forgotten, remembered

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
POLICY = CallPolicy()


def begun(seconds: int) -> Job:
    """The job as a worker's journal tells of it: its first POST began so many seconds after the hour."""
    at = NOW + timedelta(seconds=seconds)
    post = Post(number=1, client_request_id="default.1.1", began_at=at, valid_until=at + timedelta(minutes=2))
    return Job(
        id="default.1",
        queue="default",
        state=JobState.SENDING,
        due_at=at,
        destination="+6587654321",
        source="+6531234567",
        body="{}",
        body_digest="x",
        created_at=NOW,
        post_count=1,
        posts=(post,),
    )


@pytest.mark.parametrize("stored", [0, 30])
@pytest.mark.parametrize("order", list(permutations((0, 1, 2))))
def test_two_posts_of_one_number_are_noted_once_whichever_journal_is_read_first(
    order: tuple[int, ...], stored: int
) -> None:
    journals = [begun(0), begun(30), begun(0)]
    job = begun(stored)
    for place in (*order, *order):
        job = remembered(job, journals[place], at=NOW, policy=POLICY)
    assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]
    assert job.posts[0].began_at == NOW
    window = window_of(job.posts[0], skew=timedelta(0))
    assert all(window.holds(told.posts[0].valid_until) for told in journals)
    assert not any(is_forgotten(told, job) for told in journals)


def test_a_third_post_of_that_number_is_noted_too() -> None:
    job = remembered(remembered(begun(0), begun(30), at=NOW, policy=POLICY), begun(60), at=NOW, policy=POLICY)
    assert len(job.notes) == 2


def test_what_is_noted_changes_nothing_any_more() -> None:
    job = remembered(begun(0), begun(30), at=NOW, policy=POLICY)
    assert remembered(job, begun(30), at=NOW, policy=POLICY) is job
    assert is_forgotten(begun(45), job)
