"""Two records of one job, from two copies of a store, or from a store and the journal files of workers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plain_jobs import MINUTE, NOW, POLICY, a_job, begun
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_log import window_of
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind, RedialPolicy
from voiceflow_worker.model.jobs.rollback import further, is_forgotten, remembered
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
    """The record of both copies: the state and the open POST are the same whichever of them is the backup."""
    found, turned = (further(*pair, at=NOW + 60 * MINUTE, policy=POLICY) for pair in ((one, two), (two, one)))
    assert (found.state, found.active_until) == (turned.state, turned.active_until)
    assert (found.open_post is None) is (turned.open_post is None)
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
        assert further(earlier, later, at=NOW, policy=POLICY) is later
        assert further(later, earlier, at=NOW, policy=POLICY) is later
        assert further(later, replace(later), at=NOW, policy=POLICY) is later


def test_posts_that_sent_nothing_and_were_dropped_since_are_not_missed() -> None:
    job = WAITS
    while len(job.posts) == job.post_count:
        job = after(begun(job), TURNED_AWAY, job.post_count + 1)
    assert further(WAITS, job, at=NOW, policy=POLICY) is job
    assert further(job, WAITS, at=NOW, policy=POLICY) is job


# -- two histories: a doubt --------------------------------------------------------------------------------------------


def test_a_call_that_both_copies_sent_is_in_doubt_and_says_that_it_may_have_rung_twice() -> None:
    ours = after(begun(a_job()), CREATED)
    theirs = after(begun(a_job(), at=NOW + MINUTE), UNKNOWN)
    job = both(ours, theirs)
    assert (job.state, [note.kind for note in job.notes]) == (S.IN_DOUBT, [NoteKind.RANG_TWICE])
    assert job.open_post is not None
    assert (job.open_post.began_at, job.open_post.valid_until) == (NOW, theirs.posts[0].valid_until)
    assert further(job, theirs, at=NOW, policy=POLICY) is job


def test_a_call_that_waits_in_one_copy_after_a_redial_is_in_doubt_if_the_other_sent_it() -> None:
    busy = ended(PLACED, BUSY)
    theirs = after(begun(a_job(redial=REDIAL), at=NOW + MINUTE), UNKNOWN)
    assert both(busy, theirs).state is S.IN_DOUBT


def test_redials_of_one_copy_count_in_the_doubt() -> None:
    redialled = after(begun(ended(PLACED, BUSY), at=NOW + MINUTE), UNKNOWN, 2)
    unreached = ended(begun(a_job(redial=REDIAL), at=NOW + 2 * MINUTE), replace(BUSY, status=SessionStatus.NO_ANSWER))
    job = both(redialled, unreached)
    assert job.state is S.IN_DOUBT
    assert ended(job, BUSY, 2).state is S.UNREACHED


@pytest.mark.parametrize("redials_made", [0, 1])
@pytest.mark.parametrize("numbers", [(), ("+6581111112", "+6581111113", "+6581111114")])
def test_a_redial_that_was_granted_and_not_made_is_granted_once_when_the_doubt_is_settled(
    redials_made: int, numbers: tuple[str, ...]
) -> None:
    """A worker's file has a POST that the store never had; meanwhile the store's own POST ended, and was redialled."""
    asked = a_job(redial=replace(REDIAL, limit=3), further_numbers=numbers)
    stored = asked
    for number in range(1, redials_made + 2):
        stored = ended(after(begun(stored, at=NOW + number * MINUTE), CREATED, number), BUSY, number)
    assert (stored.state, stored.redials) == (S.QUEUED, redials_made + 1)
    doubted = both(stored, begun(asked))
    assert (doubted.state, doubted.redials) == (S.IN_DOUBT, redials_made)
    settled = ended(doubted, BUSY, 1)
    assert (settled.state, settled.redials, settled.place) == (S.QUEUED, redials_made + 1, stored.place)


def test_a_call_that_was_cancelled_in_one_copy_is_not_sent_by_the_other() -> None:
    cancelled = lifecycle.cancel(a_job(), at=NOW, reason="no need", policy=POLICY)
    job = both(cancelled, WAITS)
    assert (job.state, [note.kind for note in job.notes]) == (S.CANCELLED, [NoteKind.CANCELLED])


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


def test_a_person_who_resolves_one_of_two_open_posts_does_not_send_the_call_while_the_other_is_open() -> None:
    ours = after(begun(WAITS, at=NOW + MINUTE), UNKNOWN, 2)
    job = both(ours, after(begun(a_job(), at=NOW + 2 * MINUTE), UNKNOWN))
    assert [post.number for post in job.posts if post.is_open] == [1, 2]
    once = not_placed(job)
    assert once.state is S.IN_DOUBT
    assert not_placed(once).state is S.QUEUED


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
    job = further(kept, other, at=NOW, policy=POLICY)
    assert job.post_count == max(kept.post_count, other.post_count)
    for record in (kept, other):
        for post in record.posts:
            stands = job.post(post.number)
            assert stands is not None
            assert not post.was_placed or stands.may_have_rung
        assert set(record.notes) <= set(job.notes)
    assert job.state not in {S.SENDING, S.SUBMITTED, S.IN_DOUBT} or job.open_post is not None
    assert not (job.state is S.QUEUED and any(post.is_open and post.redial == job.redials for post in job.posts))
    assert further(job, other, at=NOW, policy=POLICY) is job
    assert further(job, kept, at=NOW, policy=POLICY) is job


# -- a store and the journal files -------------------------------------------------------------------------------------


def begun_after(seconds: int) -> Job:
    """The job as a worker's journal tells of it: its first POST began so many seconds after the hour."""
    return begun(a_job(), at=NOW + timedelta(seconds=seconds))


def test_two_posts_of_one_number_are_noted_once_whichever_journal_is_read_first() -> None:
    for stored, order in product([0, 30], list(permutations((0, 1, 2)))):
        journals = [begun_after(0), begun_after(30), begun_after(0)]
        job = begun_after(stored)
        for place in (*order, *order):
            job = remembered(job, journals[place], at=NOW, policy=POLICY)
        assert [note.kind for note in job.notes] == [NoteKind.RANG_TWICE]
        assert job.posts[0].began_at == NOW
        window = window_of(job.posts[0], skew=timedelta(0))
        assert all(window.holds(told.posts[0].valid_until) for told in journals)
        assert not any(is_forgotten(told, job) for told in journals)
        third = begun_after(60)
        assert is_forgotten(third, job)
        assert not is_forgotten(third, remembered(job, third, at=NOW, policy=POLICY))


def test_a_forgotten_redial_is_in_doubt_with_the_earlier_outcome() -> None:
    first = after(begun(a_job(redial=REDIAL)), CREATED)
    journalled = begun(ended(first, BUSY), at=NOW + MINUTE)
    for stored in (a_job(redial=REDIAL), begun(a_job(redial=REDIAL)), first):
        job = remembered(stored, journalled, at=NOW, policy=POLICY)
        assert (job.state, job.redials, job.posts) == (S.IN_DOUBT, 1, journalled.posts)


def test_what_the_store_alone_knows_is_kept() -> None:
    journalled = begun(ended(after(begun(a_job(redial=REDIAL)), CREATED), BUSY), at=NOW + MINUTE)
    stored = lifecycle.redial(
        ended(begun(replace(a_job(), unique_key="order-1")), COMPLETED), at=NOW, note="again", force=True
    )
    job = remembered(stored, journalled, at=NOW, policy=POLICY)
    assert (job.state, job.unique_key, job.posts[0].outcome) == (S.IN_DOUBT, "order-1", COMPLETED)
    assert job.notes == stored.notes
