"""Journals of several workers, applied to a job whose store was set back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from voiceflow_worker.model.jobs.call_log import window_of
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Note, NoteKind, Post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import is_forgotten, remembered
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

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


BEGUN = begun(0).posts[0]
ANSWERED = replace(BEGUN, verdict=VerdictKind.CREATED, session_id="s-1", answered_at=NOW + timedelta(seconds=1), code=1)
ENDED = replace(
    ANSWERED,
    outcome=Outcome(status=SessionStatus.NO_ANSWER, status_text="NO_ANSWER", ended_at=NOW + timedelta(seconds=20)),
    presses=(KeyPress(at=NOW + timedelta(seconds=9), menu="main", digits="1"),),
)
REDIALLED = Note(at=NOW + timedelta(seconds=25), kind=NoteKind.REDIALLED, text="once more")


def redialled() -> Job:
    """The job as a worker's journal tells of it: the first POST has its outcome, and a second one has begun."""
    job = begun(0)
    second = replace(job.posts[0], number=2, client_request_id="default.1.2", began_at=NOW + timedelta(seconds=30))
    return replace(job, post_count=2, redials=1, posts=(ENDED, replace(second, redial=1)), notes=(REDIALLED,))


@pytest.mark.parametrize("known", [BEGUN, ANSWERED, ENDED], ids=["begun", "answered", "ended"])
def test_the_evidence_of_earlier_posts_is_known_again(known: Post) -> None:
    journalled = redialled()
    stored = replace(begun(0), state=JobState.SUBMITTED, posts=(known,))
    job = remembered(stored, journalled, at=NOW, policy=POLICY)
    assert (job.state, job.redials) == (JobState.IN_DOUBT, 1)
    assert (job.posts, job.notes) == (journalled.posts, journalled.notes)
    assert job.open_post == journalled.posts[1]


def test_what_the_store_alone_knows_of_earlier_posts_is_kept() -> None:
    cancelled = Note(at=NOW + timedelta(seconds=10), kind=NoteKind.CANCELLED, text="by a person")
    stored = replace(begun(0), posts=(ENDED,), notes=(cancelled,))
    journalled = replace(redialled(), posts=(BEGUN, redialled().posts[1]))
    job = remembered(stored, journalled, at=NOW, policy=POLICY)
    assert job.posts == (ENDED, journalled.posts[1])
    assert job.notes == (cancelled, REDIALLED)


def test_an_earlier_post_that_was_begun_twice_is_noted() -> None:
    journalled, stored = redialled(), begun(40)
    job = remembered(stored, journalled, at=NOW + timedelta(minutes=1), policy=POLICY)
    assert [note.kind for note in job.notes] == [NoteKind.REDIALLED, NoteKind.RANG_TWICE]
    assert [post.began_at for post in job.posts] == [NOW, NOW + timedelta(seconds=30)]
