"""The explorer is no proof unless it notices: each of these breaks one rule, and must be found by the shortest way."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.explorer.scene import FAR, REAL, Rules, Scene
from tests.explorer.search import Report, explore
from voiceflow_worker.model.jobs import evidence, lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

TWICE = "rang twice"
RESENT = "although a POST of this attempt may have rung"
LATE = "never late"
LOST = "never lost"
DROPPED = "evidence is never dropped"
CROWDED = "one open call per number"

TWO_CALLS = Scene(jobs=2, posts=2, copies=0, busy=False, lost_replies=False)


def found(scene: Scene, rules: Rules) -> Report:
    report = explore(scene, rules, most=400_000)
    assert report.broken is not None, f"the broken rule went unnoticed: {report}"
    return report


def rings_twice(scene: Scene, rules: Rules) -> Report:
    """A broken rule that makes a phone ring twice: found first as the state that would send it again."""
    report = found(scene, rules)
    assert RESENT in str(report.broken)
    return report


def test_the_explorer_finds_that_a_sweep_sends_again_what_was_sending() -> None:
    def requeue(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
        return lifecycle.requeued(job, due_at=at, reason=reason)

    rings_twice(Scene(), replace(REAL, overdue_sending=requeue))


def test_the_explorer_finds_that_a_read_timeout_sends_again() -> None:
    report = found(Scene(), replace(REAL, timeout=VerdictKind.NOT_SENT))
    assert TWICE in str(report.broken)
    assert sum("RINGS" in line for line in report.trace) == 2


def test_the_explorer_finds_that_not_placed_was_said_while_the_call_could_still_ring() -> None:
    def resolve_at_once(
        job: Job, *, placed: bool, at: datetime, witnessed: datetime, note: str, policy: CallPolicy
    ) -> Job:
        later = witnessed + timedelta(days=1)
        return lifecycle.resolve(job, placed=placed, at=at, witnessed=later, note=note, policy=policy)

    report = found(Scene(resolves=1, refusals=False), replace(REAL, resolve=resolve_at_once))
    assert TWICE in str(report.broken)


def test_the_explorer_finds_that_a_clock_that_jumped_opened_the_door() -> None:
    report = found(Scene(resolves=1, jumps=(FAR,), refusals=False), replace(REAL, witness="worker A"))
    assert TWICE in str(report.broken)


def test_the_explorer_finds_that_no_evidence_was_taken_for_evidence_of_nothing() -> None:
    def requeue_when_it_can_ring_no_more(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
        post = job.open_post
        if post is None or at <= post.valid_until + policy.clock_skew:
            return job
        missing = lifecycle.with_post(job, replace(post, verdict=VerdictKind.NOT_PLACED))
        return lifecycle.requeued(missing, due_at=at, reason="no row found")

    report = found(Scene(), replace(REAL, overdue_doubt=requeue_when_it_can_ring_no_more))
    assert TWICE in str(report.broken)


def test_the_explorer_finds_that_a_second_summary_counted() -> None:
    def last_wins(job: Job, number: int, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
        forgot = tuple(replace(post, outcome=None) if post.number == number else post for post in job.posts)
        return evidence.summarised(replace(job, posts=forgot), number, outcome, at=at, policy=policy)

    report = found(Scene(redials=1, copies=2), replace(REAL, summarised=last_wins))
    assert "the same evidence twice changed a job" in str(report.broken)


def test_the_explorer_finds_that_evidence_was_only_taken_while_sending() -> None:
    def only_while_sending(job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy) -> Job:
        if job.state is not JobState.SENDING:
            return job
        return evidence.answered(job, number, verdict, at=at, policy=policy)

    assert DROPPED in str(found(Scene(), replace(REAL, answered=only_while_sending)).broken)


def test_the_explorer_finds_that_created_did_not_stop_a_queued_job() -> None:
    def recorded_only(job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy) -> Job:
        known = evidence.answered(job, number, verdict, at=at, policy=policy)
        return replace(job, posts=known.posts) if job.state is JobState.QUEUED and known is not job else known

    rings_twice(Scene(resolves=1), replace(REAL, answered=recorded_only))


def test_the_explorer_finds_that_a_newer_post_that_was_not_sent_hid_an_older_one_that_was_placed() -> None:
    def forgetful(job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy) -> Job:
        known = evidence.answered(job, number, verdict, at=at, policy=policy)
        if verdict.kind is VerdictKind.NOT_SENT and job.state is JobState.SENDING and known is not job:
            return lifecycle.requeued(known, due_at=at, reason=None)
        return known

    rings_twice(Scene(resolves=1), replace(REAL, answered=forgetful))


def test_the_explorer_finds_that_the_wire_carried_no_validity_of_the_job() -> None:
    def begin_without_the_jobs_own(job: Job, *, at: datetime, lease_until: datetime, policy: CallPolicy) -> Job:
        begun = lifecycle.begin(replace(job, valid_until=None), at=at, lease_until=lease_until, policy=policy)
        return replace(begun, valid_until=job.valid_until)

    report = found(Scene(valid_for=1), replace(REAL, begin=begin_without_the_jobs_own))
    assert LATE in str(report.broken)


def test_the_explorer_finds_that_a_call_was_cancelled_on_its_way() -> None:
    def cancel_anything(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
        return lifecycle.ended(job, JobState.CANCELLED, at=at, reason=reason, policy=policy)

    report = found(Scene(cancels=1), replace(REAL, cancel=cancel_anything))
    assert "cancelled although one of its POSTs may have rung" in str(report.broken)


def test_the_explorer_finds_that_a_placed_call_expired_with_its_redial() -> None:
    def expire(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
        return lifecycle.ended(job, JobState.EXPIRED, at=at, reason="", policy=policy)

    report = found(Scene(valid_for=3, calls_again=1, refusals=False), replace(REAL, expire=expire))
    assert "expired although one of its POSTs may have rung" in str(report.broken)


def test_the_explorer_finds_that_nobody_swept_a_state() -> None:
    def look_away(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
        return job

    report = found(Scene(kills=True), replace(REAL, overdue_sending=look_away))
    assert LOST in str(report.broken)


def test_the_explorer_finds_that_a_submitted_call_waited_for_ever() -> None:
    def wait_on(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
        return replace(job, due_at=at + policy.summary_deadline)

    report = found(Scene(), replace(REAL, overdue_submitted=wait_on))
    assert LOST in str(report.broken)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(replace(REAL, locks=False), id="without locks on numbers"),
        pytest.param(replace(REAL, lock_names_the_post=False), id="a lock given back late takes that of a newer POST"),
        pytest.param(replace(REAL, journal_at_lock=False), id="a POST that is valid for longer than its lock"),
    ],
)
def test_the_explorer_finds_that_two_calls_ring_at_one_number(rules: Rules) -> None:
    assert CROWDED in str(found(TWO_CALLS, rules).broken)


def test_a_trace_tells_the_way_in_sentences_from_the_beginning() -> None:
    report = found(Scene(), replace(REAL, timeout=VerdictKind.NOT_SENT))
    assert report.trace[0].startswith("worker A leases the job")
    assert report.trace[-1] == f"here: {report.broken}"
    assert str(report.broken) in str(report)
