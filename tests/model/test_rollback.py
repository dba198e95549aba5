"""Two records of one job: from a store that was rolled back, and from the journal files of workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plain_jobs import MINUTE, NOW, POLICY, a_job, begun
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind, RedialPolicy
from voiceflow_worker.model.jobs.rollback import is_forgotten, with_lost_posts
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

S = JobState
CREATED = Verdict(kind=VerdictKind.CREATED, message="created", session_id="s-1")
TURNED_AWAY = Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests")
REFUSED = Verdict(kind=VerdictKind.REFUSED, message="refused", code=-1002)
UNKNOWN = Verdict(kind=VerdictKind.UNKNOWN, message="no answer came")
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY", session_id="s-1")
COMPLETED = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", session_id="s-1")
REDIAL = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=30 * MINUTE)


def after(job: Job, verdict: Verdict, number: int = 1) -> Job:
    return answered(job, number, verdict, at=NOW, policy=POLICY)


def ended(job: Job, outcome: Outcome, number: int = 1) -> Job:
    return summarised(job, number, outcome, at=NOW, policy=POLICY)


def not_placed(job: Job) -> Job:
    doubted = job if job.state is S.IN_DOUBT else lifecycle.doubt(job, at=NOW, reason="lost", policy=POLICY)
    return lifecycle.resolve(
        doubted, placed=False, at=NOW, recorded_at=NOW + timedelta(days=1), note="not in the log", policy=POLICY
    )


def known(stored: Job, journalled: Job) -> Job:
    """The stored job with what the journal file knows."""
    return with_lost_posts(stored, journalled, at=NOW + 60 * MINUTE, policy=POLICY)


STEPS = st.lists(
    st.sampled_from(["send", "created", "turned away", "refused", "unknown", "busy", "completed", "not placed"]),
    max_size=6,
)


def lived(job: Job, steps: list[str], *, at: datetime) -> Job:
    verdicts = {"created": CREATED, "turned away": TURNED_AWAY, "refused": REFUSED, "unknown": UNKNOWN}
    for step in steps:
        if step == "send" and job.state is S.QUEUED:
            job = begun(job, at=at + job.post_count * MINUTE)
        elif step in verdicts and job.posts:
            job = after(job, verdicts[step], job.post_count)
        elif step in {"busy", "completed"} and job.posts:
            job = ended(job, BUSY if step == "busy" else COMPLETED, job.post_count)
        elif step == "not placed" and job.state is S.SENDING:
            job = not_placed(job)
    return job


@given(shared=STEPS, ours=STEPS, theirs=STEPS, apart=st.booleans())
def test_no_call_that_the_store_or_a_worker_may_have_made_is_made_again_without_a_person(
    shared: list[str], ours: list[str], theirs: list[str], apart: bool
) -> None:
    start = lived(a_job(redial=REDIAL), shared, at=NOW)
    stored = lived(start, ours, at=NOW)
    before = lived(start, theirs, at=NOW + MINUTE / 2 if apart else NOW)
    if before.state is not S.QUEUED:
        return
    journalled = begun(before, at=(NOW + MINUTE / 2 if apart else NOW) + before.post_count * MINUTE)
    job = known(stored, journalled)
    if not is_forgotten(journalled, stored):
        assert job is stored
        return
    assert job.post_count == max(stored.post_count, journalled.post_count)
    assert job.state not in {S.QUEUED, S.LEASED, S.SENDING, S.SUBMITTED}
    for record in (stored, journalled):
        for post in record.posts:
            stands = job.post(post.number)
            is_reported = any(post.began_at.isoformat() in note.text for note in job.notes)
            assert not post.was_placed or is_reported or (stands is not None and stands.may_have_rung)
        assert set(record.notes) <= set(job.notes)
    assert known(job, journalled) is job
    if any("lost it" in note.text for note in job.notes):
        granted = job.redials
        for post in job.posts:
            job = after(job, TURNED_AWAY, post.number)
        assert job.state not in {S.QUEUED, S.LEASED} or job.redials > granted


@pytest.mark.parametrize("end", ["reached", "waits"])
def test_a_call_that_the_store_sent_again_ends_or_is_in_doubt_and_says_that_it_may_have_rung_twice(end: str) -> None:
    journalled = begun(a_job(redial=REDIAL))
    again = after(begun(a_job(redial=REDIAL), at=NOW + MINUTE), CREATED)
    assert known(again, journalled).state is S.IN_DOUBT
    job = known(ended(again, COMPLETED if end == "reached" else BUSY), journalled)
    assert job.state is (S.COMPLETED if end == "reached" else S.UNREACHED)
    assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]


def test_a_call_that_the_store_has_cancelled_is_in_doubt_and_stays_cancelled() -> None:
    cancelled = lifecycle.cancel(a_job(), at=NOW, reason="no need", policy=POLICY)
    job = known(cancelled, begun(a_job()))
    assert (job.state, [note.kind for note in job.notes]) == (S.IN_DOUBT, [NoteKind.CANCELLED])
    assert not_placed(job).state is S.CANCELLED


def begun_after(seconds: int) -> Job:
    """The job as a worker's journal tells of it: its first POST began so many seconds after the hour."""
    return begun(a_job(), at=NOW + timedelta(seconds=seconds))


def test_two_posts_of_one_number_are_noted_once_whichever_journal_is_read_first() -> None:
    for stored, order in product([0, 30], list(permutations((0, 1, 2)))):
        journals = [begun_after(0), begun_after(30), begun_after(0)]
        job = begun_after(stored)
        for place in (*order, *order):
            job = with_lost_posts(job, journals[place], at=NOW, policy=POLICY)
        assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]
        assert not any(is_forgotten(told, job) for told in journals)
        third = begun_after(60)
        assert is_forgotten(third, job)
        assert not is_forgotten(third, with_lost_posts(job, third, at=NOW, policy=POLICY))


def test_a_forgotten_redial_is_in_doubt_with_the_earlier_outcome() -> None:
    first = after(begun(a_job(redial=REDIAL)), CREATED)
    journalled = begun(ended(first, BUSY), at=NOW + MINUTE)
    for stored in (a_job(redial=REDIAL), begun(a_job(redial=REDIAL)), first):
        job = with_lost_posts(stored, journalled, at=NOW, policy=POLICY)
        assert (job.state, job.redials, job.posts) == (S.IN_DOUBT, 1, journalled.posts)


def test_what_the_store_alone_knows_is_kept() -> None:
    journalled = begun(ended(after(begun(a_job(redial=REDIAL)), CREATED), BUSY), at=NOW + MINUTE)
    stored = lifecycle.redial(
        ended(begun(replace(a_job(), unique_key="order-1")), COMPLETED), at=NOW, note="again", force=True
    )
    job = with_lost_posts(stored, journalled, at=NOW, policy=POLICY)
    assert (job.state, job.unique_key, job.posts[0].outcome) == (S.IN_DOUBT, "order-1", COMPLETED)
    assert job.notes == stored.notes
