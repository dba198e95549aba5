"""Two records of one job, from two copies of a store, or from a store and the journal files of workers."""

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
from voiceflow_worker.model.jobs.rollback import is_forgotten, longer, with_lost_posts
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


def both(one: Job, two: Job) -> Job:
    """The record of both copies: the state is the same whichever of them is the backup."""
    found, turned = (longer(*pair, at=NOW + 60 * MINUTE, policy=POLICY) for pair in ((one, two), (two, one)))
    assert (found.state, found.open_post) == (turned.state, turned.open_post)
    return found


# -- one history: the further record is taken whole --------------------------------------------------------------------

WAITS = after(begun(a_job()), TURNED_AWAY)
DOUBTED = after(begun(a_job()), UNKNOWN)
PLACED = after(begun(a_job(redial=REDIAL)), CREATED)


def test_the_further_of_two_records_is_taken_whole() -> None:
    for earlier, later in [
        (a_job(), begun(a_job())),
        (begun(a_job()), WAITS),
        (begun(a_job()), DOUBTED),
        (DOUBTED, after(DOUBTED, CREATED)),
        (DOUBTED, not_placed(DOUBTED)),
        (PLACED, ended(PLACED, BUSY)),
        (PLACED, ended(PLACED, COMPLETED)),
        (WAITS, begun(WAITS, at=NOW + MINUTE)),
        (WAITS, lifecycle.expire(WAITS, at=NOW, policy=POLICY)),
        (a_job(), lifecycle.cancel(a_job(), at=NOW, reason="no need", policy=POLICY)),
    ]:
        assert longer(earlier, later, at=NOW, policy=POLICY) is later
        assert longer(later, earlier, at=NOW, policy=POLICY) is later
        assert longer(later, replace(later), at=NOW, policy=POLICY) is later


def test_posts_that_sent_nothing_and_were_dropped_since_are_not_missed() -> None:
    job = WAITS
    while len(job.posts) == job.post_count:
        job = after(begun(job), TURNED_AWAY, job.post_count + 1)
    assert longer(WAITS, job, at=NOW, policy=POLICY) is job
    assert longer(job, WAITS, at=NOW, policy=POLICY) is job


# -- two histories: the longer one, in doubt or at its end -------------------------------------------------------------


def test_a_call_that_both_copies_sent_is_in_doubt_and_says_that_it_may_have_rung_twice() -> None:
    ours = after(begun(a_job()), CREATED)
    theirs = after(begun(a_job(), at=NOW + MINUTE), UNKNOWN)
    job = both(ours, theirs)
    assert (job.state, [note.kind for note in job.notes]) == (S.IN_DOUBT, [NoteKind.RANG_TWICE])
    assert longer(job, theirs, at=NOW, policy=POLICY) is job
    assert not_placed(job).state is S.ACCEPTED, "it may have rung by the other POST"


@pytest.mark.parametrize("numbers", [(), ("+6581111112",)])
def test_no_further_call_is_made_while_a_post_that_the_longer_record_lacks_may_ring(numbers: tuple[str, ...]) -> None:
    asked = a_job(redial=REDIAL, further_numbers=numbers)
    waits = ended(after(begun(asked, at=NOW + MINUTE), CREATED), BUSY)
    assert waits.state is S.QUEUED
    job = both(waits, begun(asked))
    assert (job.state, [note.kind for note in job.notes]) == (S.UNREACHED, [NoteKind.RANG_TWICE])
    assert both(WAITS, begun(a_job(), at=NOW + MINUTE)).state is S.ACCEPTED


def test_a_call_that_was_cancelled_in_one_copy_is_not_sent_by_the_other() -> None:
    cancelled = lifecycle.cancel(a_job(), at=NOW, reason="no need", policy=POLICY)
    job = both(cancelled, WAITS)
    assert (job.state, [note.kind for note in job.notes]) == (S.CANCELLED, [NoteKind.CANCELLED])
    doubted = both(cancelled, DOUBTED)
    assert (doubted.state, not_placed(doubted).state) == (S.IN_DOUBT, S.CANCELLED)


@pytest.mark.parametrize("asked_again", [False, True])
def test_whoever_answered_in_one_copy_is_not_called_again_after_the_doubt_of_the_other(asked_again: bool) -> None:
    first = after(begun(a_job()), CREATED)
    reached = ended(first, COMPLETED)
    busy = ended(first, BUSY)
    later = lifecycle.redial(busy, at=NOW + MINUTE, note="again") if asked_again else not_placed(begun(a_job()))
    job = both(reached, after(begun(later, at=NOW + 2 * MINUTE), UNKNOWN, 2))
    assert job.state is S.IN_DOUBT
    assert not_placed(job).state is S.COMPLETED


def test_whoever_answered_the_other_post_of_one_number_is_not_called_again() -> None:
    reached = ended(after(begun(a_job(redial=REDIAL)), CREATED), COMPLETED)
    for theirs in (UNKNOWN, CREATED, TURNED_AWAY):
        assert both(reached, after(begun(a_job(redial=REDIAL), at=NOW + MINUTE), theirs)).state is S.COMPLETED
    assert both(reached, ended(begun(a_job(redial=REDIAL), at=NOW + MINUTE), BUSY)).state is S.COMPLETED


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
def test_no_call_that_either_copy_may_have_made_is_made_again_without_a_person(
    shared: list[str], ours: list[str], theirs: list[str], apart: bool
) -> None:
    start = lived(a_job(redial=REDIAL), shared, at=NOW)
    kept = lived(start, ours, at=NOW)
    other = lived(start, theirs, at=NOW + MINUTE / 2 if apart else NOW)
    at = NOW + 60 * MINUTE
    job = longer(kept, other, at=at, policy=POLICY)
    assert job.post_count == max(kept.post_count, other.post_count)
    for record in (kept, other):
        for post in record.posts:
            stands = job.post(post.number)
            assert stands is not None
            is_reported = any(post.began_at.isoformat() in note.text for note in job.notes)
            assert not post.was_placed or stands.may_have_rung or is_reported
        assert set(record.notes) <= set(job.notes)
    assert longer(job, other, at=at, policy=POLICY) is job
    assert longer(job, kept, at=at, policy=POLICY) is job
    assert job.state not in {S.SENDING, S.SUBMITTED, S.IN_DOUBT} or job.open_post is not None
    assert not (job.state is S.QUEUED and any(post.is_open and post.redial == job.redials for post in job.posts))
    if any("lost it" in note.text for note in job.notes):
        granted = job.redials
        for post in job.posts:
            job = after(job, TURNED_AWAY, post.number)
        assert job.state not in {S.QUEUED, S.LEASED} or job.redials > granted


# -- a store and the journal files -------------------------------------------------------------------------------------


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
