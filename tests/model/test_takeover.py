"""Two records of one job, from two copies of a store: the record that stands afterwards has the evidence of both."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, NoteKind, Post, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import remembered
from voiceflow_worker.model.jobs.takeover import further
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

S = JobState
NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = CallPolicy()
CREATED = Verdict(kind=VerdictKind.CREATED, message="created", session_id="s-1")
TURNED_AWAY = Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests")
REFUSED = Verdict(kind=VerdictKind.REFUSED, message="refused", code=-1002)
UNKNOWN = Verdict(kind=VerdictKind.UNKNOWN, message="no answer came")


def outcome(status: SessionStatus) -> Outcome:
    return Outcome(status=status, status_text=status.value, session_id="s-1")


BUSY, COMPLETED = outcome(SessionStatus.BUSY), outcome(SessionStatus.COMPLETED)
REDIAL = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=30 * MINUTE)


def queued(*, redial: RedialPolicy | None = None) -> Job:
    return Job(
        id="q.01",
        queue="q",
        state=S.QUEUED,
        due_at=NOW,
        destination="+6587654321",
        body="{}",
        body_digest="d",
        source="+6531234567",
        created_at=NOW,
        redial=redial,
    )


def sent(job: Job, *, at: datetime = NOW) -> Job:
    leased = lifecycle.lease(job, worker_id="w", until=at + MINUTE)
    return lifecycle.begin(leased, at=at, lease_until=at + MINUTE, policy=POLICY)


def after(job: Job, verdict: Verdict, number: int = 1) -> Job:
    return answered(job, number, verdict, at=NOW, policy=POLICY)


def ended(job: Job, outcome: Outcome, number: int = 1) -> Job:
    return summarised(job, number, outcome, at=NOW, policy=POLICY)


def both(kept: Job, other: Job) -> Job:
    """The record of both copies, which is the same call whichever of them is the backup."""
    merged, turned = (further(*pair, at=NOW, policy=POLICY) for pair in ((kept, other), (other, kept)))
    assert (merged.state, merged.active_until, evidence(merged)) == (
        turned.state,
        turned.active_until,
        evidence(turned),
    )
    return merged


def evidence(job: Job) -> list[tuple[int, VerdictKind | None, Outcome | None, str | None]]:
    return [(post.number, post.verdict, post.outcome, post.session_id) for post in job.posts]


def not_placed(job: Job) -> Job:
    doubted = lifecycle.doubt(job, at=NOW, reason="lost", policy=POLICY)
    return lifecycle.resolve(
        doubted, placed=False, at=NOW, witnessed=NOW + timedelta(days=1), note="not in the log", policy=POLICY
    )


# -- one history: the record with more evidence ------------------------------------------------------------------------


def test_a_redial_that_a_busy_line_granted_after_the_backup_is_kept() -> None:
    backup = after(sent(queued(redial=REDIAL)), CREATED)
    replaced = ended(backup, BUSY)
    assert both(backup, replaced) is replaced
    assert (replaced.state, replaced.redials) == (S.QUEUED, 1)


def test_a_call_that_was_turned_away_after_the_backup_waits_again() -> None:
    backup = sent(queued())
    replaced = after(backup, TURNED_AWAY)
    assert both(backup, replaced) is replaced
    assert replaced.state is S.QUEUED


def test_a_record_that_could_be_sent_again_never_replaces_one_that_ended_with_the_same_evidence() -> None:
    waits = after(sent(queued()), TURNED_AWAY)
    expired = lifecycle.expire(waits, at=NOW, policy=POLICY)
    assert both(waits, expired) is expired


def test_a_record_that_tells_nothing_new_changes_nothing() -> None:
    job = after(sent(queued()), CREATED)
    assert further(job, replace(job), at=NOW, policy=POLICY) is job


# -- two histories: the evidence of both -------------------------------------------------------------------------------


def test_a_summary_that_one_copy_has_ends_a_call_that_waits_in_the_other() -> None:
    posted = sent(queued())
    waits = after(sent(not_placed(posted)), TURNED_AWAY, 2)
    merged = both(ended(after(posted, CREATED), COMPLETED), waits)
    assert merged.state is S.COMPLETED
    assert [post.verdict for post in merged.posts] == [VerdictKind.CREATED, VerdictKind.TURNED_AWAY]


def test_an_answer_that_one_copy_has_places_a_call_that_waits_in_the_other() -> None:
    posted = sent(queued())
    merged = both(after(posted, CREATED), after(sent(not_placed(posted)), TURNED_AWAY, 2))
    assert (merged.state, merged.session_id) == (S.SUBMITTED, "s-1")


def test_a_call_that_was_turned_away_in_one_copy_is_not_in_doubt_in_the_other() -> None:
    posted = sent(queued())
    pressed = KeyPress(at=NOW, menu="m", digits="1")
    doubted = after(posted, UNKNOWN)
    doubted = replace(doubted, posts=(replace(doubted.posts[0], presses=(pressed,)),))
    merged = both(after(posted, TURNED_AWAY), doubted)
    assert (merged.state, merged.posts[0].presses) == (S.QUEUED, (pressed,))


def test_a_refusal_that_one_copy_has_ends_a_call_that_is_in_doubt_in_the_other() -> None:
    posted = sent(queued())
    doubted = lifecycle.doubt(posted, at=NOW, reason="lost", policy=POLICY)
    doubted = replace(doubted, posts=(replace(doubted.posts[0], presses=(KeyPress(at=NOW, menu="m", digits="1"),)),))
    assert both(after(posted, REFUSED), doubted).state is S.FAILED


def test_a_call_that_somebody_cancelled_in_one_copy_is_not_sent_by_the_other() -> None:
    waits = after(sent(queued()), TURNED_AWAY)
    cancelled = lifecycle.cancel(queued(), at=NOW, reason="no need", policy=POLICY)
    merged = both(cancelled, waits)
    assert merged.state is S.CANCELLED
    assert [note.kind for note in merged.notes] == [NoteKind.CANCELLED]
    assert evidence(merged) == evidence(waits)


# -- one number for two POSTs ------------------------------------------------------------------------------------------


def test_two_posts_of_one_number_keep_the_outcome_of_the_other_one() -> None:
    ours = after(sent(queued()), CREATED)
    theirs = ended(after(sent(queued(), at=NOW + MINUTE), CREATED), COMPLETED)
    merged = both(ours, theirs)
    assert (merged.state, merged.outcome) == (S.COMPLETED, COMPLETED)
    assert [note.kind for note in merged.notes] == [NoteKind.RANG_TWICE]
    assert merged.posts[0].began_at == NOW


def test_a_post_that_spans_two_in_one_copy_spans_them_in_the_other() -> None:
    first, second = sent(queued()), sent(queued(), at=NOW + MINUTE)
    spans = remembered(first, second, at=NOW, policy=POLICY)
    assert spans.posts[0].valid_until == second.posts[0].valid_until
    for each in (first, second, after(first, UNKNOWN), after(second, UNKNOWN)):
        post = both(each, spans).posts[0]
        assert (post.began_at, post.valid_until) == (first.posts[0].began_at, second.posts[0].valid_until)


def test_a_call_that_was_begun_twice_is_counted_as_open_until_neither_post_can_ring() -> None:
    first, second = sent(queued()), sent(queued(), at=NOW + MINUTE)
    until = second.active_until
    assert first.active_until is not None
    assert until == first.active_until + MINUTE
    spans = remembered(first, second, at=NOW, policy=POLICY)
    assert spans.active_until == until
    assert remembered(second, first, at=NOW, policy=POLICY).active_until == until
    assert remembered(ended(first, COMPLETED), second, at=NOW, policy=POLICY).active_until is None
    for each in (first, after(first, UNKNOWN)):
        assert both(each, second).active_until == until
        assert both(each, spans).active_until == until


def test_an_older_post_that_began_twice_is_noted_too() -> None:
    ours = after(sent(queued()), CREATED)
    theirs = after(sent(not_placed(sent(queued(), at=NOW + MINUTE))), CREATED, 2)
    assert NoteKind.RANG_TWICE in {note.kind for note in both(ours, after(theirs, CREATED)).notes}


def test_a_post_that_may_have_rung_puts_a_call_in_doubt_that_waits_in_the_other_copy() -> None:
    ours = after(sent(queued()), TURNED_AWAY)
    theirs = sent(queued(), at=NOW + MINUTE)
    assert both(ours, lifecycle.doubt(theirs, at=NOW, reason="lost", policy=POLICY)).state is S.IN_DOUBT


def test_two_posts_of_one_attempt_are_noted_if_one_copy_learned_late_that_the_first_was_placed() -> None:
    turned_away = after(sent(queued(), at=NOW + MINUTE), TURNED_AWAY)
    for theirs in (after(turned_away, CREATED), ended(turned_away, BUSY), ended(turned_away, COMPLETED)):
        merged = both(after(sent(after(sent(queued()), TURNED_AWAY)), CREATED, 2), theirs)
        assert [note.kind for note in merged.notes] == [NoteKind.RANG_TWICE]
        assert "POSTs 1 and 2" in merged.notes[0].text


def test_an_answered_call_of_one_copy_ends_a_job_that_reached_nobody_in_the_other() -> None:
    reached = ended(after(sent(queued(), at=NOW + MINUTE), TURNED_AWAY), COMPLETED)
    unreached = ended(sent(after(sent(queued()), TURNED_AWAY)), BUSY, 2)
    assert unreached.state is S.UNREACHED
    assert both(reached, unreached).state is S.COMPLETED


# -- whatever the two copies went through ------------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["send", "created", "turned away", "refused", "unknown", "busy", "completed", "not placed"]),
    max_size=6,
)


def lived(job: Job, steps: list[str], *, at: datetime) -> Job:
    verdicts = {"created": CREATED, "turned away": TURNED_AWAY, "refused": REFUSED, "unknown": UNKNOWN}
    for step in steps:
        if step == "send" and job.state is S.QUEUED:
            job = sent(job, at=at + job.post_count * MINUTE)
        elif step in verdicts and job.posts:
            job = after(job, verdicts[step], job.post_count)
        elif step in {"busy", "completed"} and job.posts:
            job = ended(job, BUSY if step == "busy" else COMPLETED, job.post_count)
        elif step == "not placed" and job.state is S.SENDING:
            job = not_placed(job)
    return job


@given(shared=STEPS, ours=STEPS, theirs=STEPS, apart=st.booleans())
def test_no_evidence_of_either_record_is_lost(
    shared: list[str], ours: list[str], theirs: list[str], apart: bool
) -> None:
    start = lived(queued(redial=REDIAL), shared, at=NOW)
    kept = lived(start, ours, at=NOW)
    other = lived(start, theirs, at=NOW + MINUTE / 2 if apart else NOW)
    merged = further(kept, other, at=NOW, policy=POLICY)
    assert merged.post_count == max(kept.post_count, other.post_count)
    for record in (kept, other):
        for post in record.posts:
            stands = merged.post(post.number)
            assert stands is not None
            assert post.outcome is None or stands.outcome is not None
            assert not post.may_have_rung or stands.may_have_rung or stands.verdict is not None
            assert not post.was_placed or stands.was_placed
    assert set(kept.notes) <= set(merged.notes)
    waits = merged.state in {S.QUEUED, S.LEASED}
    assert not (waits and any(is_unsettled(post, merged) for post in merged.posts))
    assert further(merged, other, at=NOW, policy=POLICY) is merged


def is_unsettled(post: Post, job: Job) -> bool:
    return post.is_open and post.redial == job.redials


def test_a_person_who_answered_is_not_called_again_because_a_later_post_was_resolved() -> None:
    again = sent(not_placed(sent(queued())))
    answered_once = ended(lifecycle.doubt(again, at=NOW, reason="killed", policy=POLICY), COMPLETED)
    assert both(answered_once, not_placed(again)).state is S.COMPLETED


def test_of_two_sessions_of_one_number_the_answered_one_counts() -> None:
    one = ended(sent(queued(redial=REDIAL), at=NOW + MINUTE), COMPLETED)
    other = after(sent(ended(sent(queued(redial=REDIAL)), replace(BUSY, session_id="s-2"))), TURNED_AWAY, 2)
    assert both(one, other).state is S.COMPLETED


@pytest.mark.parametrize("first", SessionStatus)
@pytest.mark.parametrize("second", SessionStatus)
def test_a_further_summary_that_one_copy_has_counts_in_both(first: SessionStatus, second: SessionStatus) -> None:
    for redial in (None, REDIAL):
        once = ended(after(sent(queued(redial=redial)), CREATED), outcome(first))
        twice = ended(once, outcome(second))
        merged = both(once, twice)
        assert (merged.state, merged.outcome) == (twice.state, twice.outcome)
