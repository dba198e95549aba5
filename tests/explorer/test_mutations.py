"""The explorer is no proof unless it notices: each of these breaks one rule, and must be found by the shortest way."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.explorer.search import Report, explore
from tests.explorer.world import FAR, FULL, REAL, Rules, Scene
from tests.support.everyday import spread
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import evidence, lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

TWICE = "rang twice"
RESENT = "although a POST of this attempt may have rung"
MAY_HAVE_RUNG = "although one of its POSTs may have rung"


def requeue(job: Job, *, at: datetime, **_: Any) -> Job:
    return lifecycle.requeued(job, due_at=at, reason=None)


def resolve_at_once(job: Job, *, recorded_at: datetime, **more: Any) -> Job:
    return lifecycle.resolve(job, recorded_at=recorded_at + timedelta(days=1), **more)


def requeue_when_it_can_ring_no_more(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    post = job.open_post
    if post is None or at <= post.valid_until + policy.clock_skew:
        return job
    return requeue(lifecycle.with_post(job, replace(post, verdict=VerdictKind.NOT_PLACED)), at=at)


def last_wins(job: Job, number: int, outcome: Outcome, **more: Any) -> Job:
    forgot = tuple(replace(post, outcome=None) if post.number == number else post for post in job.posts)
    return evidence.summarised(replace(job, posts=forgot), number, outcome, **more)


def only_while_sending(job: Job, number: int, verdict: Verdict, **more: Any) -> Job:
    return evidence.answered(job, number, verdict, **more) if job.state is JobState.SENDING else job


def recorded_only(job: Job, number: int, verdict: Verdict, **more: Any) -> Job:
    known = evidence.answered(job, number, verdict, **more)
    return replace(job, posts=known.posts) if job.state is JobState.QUEUED and known is not job else known


def forgetful(job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy) -> Job:
    known = evidence.answered(job, number, verdict, at=at, policy=policy)
    was_not_sent = verdict.kind is VerdictKind.NOT_SENT and job.state is JobState.SENDING
    return requeue(known, at=at) if was_not_sent and known is not job else known


def goes_on_after_its_end(job: Job, number: int, verdict: Verdict, **more: Any) -> Job:
    is_late = job.state.is_final and verdict.kind is VerdictKind.CREATED
    return evidence.answered(replace(job, state=JobState.QUEUED) if is_late else job, number, verdict, **more)


def begin_without_its_validity(job: Job, **more: Any) -> Job:
    return replace(lifecycle.begin(replace(job, valid_until=None), **more), valid_until=job.valid_until)


def cancel_anything(job: Job, **more: Any) -> Job:
    return lifecycle.ended(job, JobState.CANCELLED, **more)


def expire_what_was_placed(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    return lifecycle.ended(job, JobState.EXPIRED, at=at, reason="", policy=policy)


def next_number_without_evidence(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    if job.place == len(job.further_numbers):
        return lifecycle.give_up_waiting(job, at=at, policy=policy)
    return lifecycle.requeued(replace(job, redials=job.redials + 1, place=job.place + 1), due_at=at, reason="")


def accept_at_the_deadline(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    return lifecycle.ended(job, JobState.ACCEPTED, at=at, reason="", policy=policy)


def called_back_each_time(job: Job, number: int, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    known = evidence.summarised(job, number, outcome, at=at, policy=policy)
    post = known.post(number)
    if known.state is not JobState.COMPLETED or known is job or post is None or not post.presses:
        return known
    return lifecycle.requeued(replace(known, redials=known.redials + 1), due_at=at, reason="")


def look_away(job: Job, **_: Any) -> Job:
    return job


def never_rang(job: Job, number: int, outcome: Outcome, **more: Any) -> Job:
    told = FULL if outcome.status is SessionStatus.BUSY else outcome
    return evidence.summarised(job, number, told, **more)


def wait_on(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    return replace(job, due_at=at + policy.summary_deadline)


BROKEN = {
    "a sweep sends again what was sending": (Scene(), Rules(overdue_sending=requeue), RESENT),
    "a read timeout sends again": (Scene(), Rules(timeout=VerdictKind.NOT_SENT), TWICE),
    "not placed is said while the call can still ring": (
        Scene(resolves=1, refusals=False), Rules(resolve=resolve_at_once), TWICE
    ),
    "a clock that jumped opens the door": (
        Scene(resolves=1, jumps=(FAR,), refusals=False), Rules(local_journal="worker A"), TWICE
    ),
    "no evidence is taken for evidence of nothing": (
        Scene(), Rules(overdue_doubt=requeue_when_it_can_ring_no_more), TWICE
    ),
    "a second summary counts": (
        Scene(redials=1, copies=2), Rules(summarised=last_wins), "the same evidence twice changed a job"
    ),
    "evidence is only taken while sending": (Scene(), Rules(answered=only_while_sending), "evidence is never dropped"),
    "created does not stop a queued job": (Scene(resolves=1), Rules(answered=recorded_only), RESENT),
    "a newer POST that was not sent hides an older one that was placed": (
        Scene(resolves=1), Rules(answered=forgetful), RESENT
    ),
    "a call that has ended goes on when it turns out to have been placed": (
        Scene(resolves=1, cancels=1, mistaken=True, refusals=False), Rules(answered=goes_on_after_its_end), "had ended"
    ),
    "the wire carries no validity of the job": (
        Scene(valid_for=1), Rules(begin=begin_without_its_validity), "never late"
    ),
    "a call is cancelled on its way": (Scene(cancels=1), Rules(cancel=cancel_anything), f"cancelled {MAY_HAVE_RUNG}"),
    "a placed call expires with its redial": (
        Scene(valid_for=3, calls_again=1, refusals=False),
        Rules(expire=expire_what_was_placed),
        f"expired {MAY_HAVE_RUNG}",
    ),
    "no summary is taken for no answer": (
        Scene(numbers=2), Rules(overdue_submitted=next_number_without_evidence), "nobody knows that 0 was busy"
    ),
    "what rang is taken for a call without a free line": (
        Scene(full=True, valid_for=4, refusals=False), Rules(summarised=never_rang), TWICE
    ),
    "a key press after the end of a call brings nothing": (
        Scene(asks=True, refusals=False), Rules(pressed=partial(evidence.with_press, goes_on=False)), "never lost"
    ),
    "without a summary nobody is called back": (
        Scene(asks=True, refusals=False), Rules(overdue_submitted=accept_at_the_deadline), "never lost"
    ),
    "whoever asks in the later call is called back again": (
        Scene(asks=True, refusals=False), Rules(summarised=called_back_each_time), "called back twice"
    ),
    "nobody sweeps a state": (Scene(), Rules(overdue_sending=look_away), "never lost"),
    "a submitted call waits for ever": (Scene(), Rules(overdue_submitted=wait_on), "never lost"),
}  # fmt: skip
"""Which rule is broken: the scene that shows it, the rules, and what the explorer says of it."""


def found(scene: Scene, rules: Rules) -> Report:
    report = explore(scene, rules, most=400_000)
    assert report.broken is not None, f"the broken rule went unnoticed: {report}"
    return report


@pytest.mark.parametrize(("scene", "rules", "told"), spread(BROKEN, every=5))
def test_the_explorer_finds_that_a_rule_is_broken(scene: Scene, rules: Rules, told: str) -> None:
    assert told in str(found(scene, rules).broken)


def test_a_trace_tells_the_way_in_sentences_from_the_beginning() -> None:
    report = found(Scene(), replace(REAL, timeout=VerdictKind.NOT_SENT))
    assert report.trace[0].startswith("worker A leases the job")
    assert sum("RINGS" in line for line in report.trace) == 2
    assert report.trace[-1] == f"here: {report.broken}"
    assert str(report.broken) in str(report)
