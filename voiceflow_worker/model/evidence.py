"""What evidence does to a job: the answer of a POST, and the summary of a session.

Evidence is a fact, so it is never refused and never dropped: every function here takes the job in any state and returns
the job that knows more. The same evidence twice changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.model.backoff import backoff, spread
from voiceflow_worker.model.job import (
    MISSED_WINDOW_CODES,
    Job,
    JobState,
    Note,
    NoteKind,
    Outcome,
    Post,
    PostVerdict,
)
from voiceflow_worker.model.lifecycle import ended, into_doubt, requeued, with_post
from voiceflow_worker.model.policy import CallPolicy, Outcomes
from voiceflow_worker.model.status import SessionStatus
from voiceflow_worker.model.verdict import Verdict, VerdictKind

S = JobState

_CONCLUSIVE = frozenset(
    {
        PostVerdict.CREATED,
        PostVerdict.REFUSED,
        PostVerdict.NOT_SENT,
        PostVerdict.TURNED_AWAY,
    }
)
_OPEN = frozenset({S.SENDING, S.SUBMITTED, S.IN_DOUBT, S.ACCEPTED})
_REACHED = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR}
)
_NOT_REACHED = frozenset(
    {
        SessionStatus.NO_ANSWER,
        SessionStatus.BUSY,
        SessionStatus.CANCELED,
        SessionStatus.UNSUBSCRIBED_CONTACT,
    }
)


def answered(
    job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy, held_until: datetime | None = None
) -> Job:
    """What the answer of POST `number` makes of the job.

    A conclusive answer settles the job while that POST is the open one, also out of doubt: a sweep may have doubted a
    slow POST that still ran. CREATED for a POST without an outcome is believed in every state. `held_until` is when the
    queue opens again after a verdict that holds it.
    """
    post = job.post(number)
    if post is None:
        raise IllegalMoveError(
            job.id, state=job.state.value, move=f"take the answer of its POST {number}: none is recorded"
        )
    if not _is_news(post, verdict.kind):
        if post.session_id is None and verdict.session_id is not None:
            # A later summary may name nothing but its session.
            return with_post(job, replace(post, session_id=verdict.session_id))
        return job
    known = replace(
        post,
        answered_at=at,
        session_id=post.session_id or verdict.session_id,
        code=verdict.code,
        message=verdict.message,
    )
    match verdict.kind:
        case VerdictKind.CREATED:
            return _created(job, replace(known, verdict=PostVerdict.CREATED), at=at, policy=policy)
        case VerdictKind.UNKNOWN:
            return _unknown(job, known, at=at, policy=policy)
        case VerdictKind.REFUSED | VerdictKind.NOT_SENT | VerdictKind.TURNED_AWAY:
            return _not_placed(job, known, verdict, at=at, policy=policy, held_until=held_until)


def _is_news(post: Post, kind: VerdictKind) -> bool:
    """Whether an answer adds to what is known of its POST. That the call was placed outweighs whatever was said before."""
    match kind:
        case VerdictKind.CREATED:
            return post.verdict is not PostVerdict.CREATED
        case VerdictKind.UNKNOWN:
            return post.verdict is None
        case VerdictKind.REFUSED | VerdictKind.NOT_SENT | VerdictKind.TURNED_AWAY:
            return post.verdict not in _CONCLUSIVE


def _created(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    after = with_post(job, post)
    if post.outcome is not None:
        return after
    newer = _newer_that_may_have_rung(job, post)
    if newer is not None:
        return _rang_twice(after, post, newer, at=at)
    if job.state in {S.ACCEPTED, S.SUBMITTED, S.COMPLETED, S.UNREACHED}:
        return after
    if policy.outcomes is Outcomes.NONE:
        return ended(after, S.ACCEPTED, at=at, reason=None, policy=policy)
    deadline = at + policy.summary_deadline
    return replace(
        after, state=S.SUBMITTED, worker_id=None, due_at=deadline, active_until=deadline, reason=None, failures=0
    )


def _unknown(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    after = with_post(job, replace(post, verdict=PostVerdict.UNKNOWN))
    if job.state is S.SENDING and post.outcome is None and _is_current(job, post):
        return into_doubt(after, at=at, reason=post.message or "the answer was not understood", policy=policy)
    return after


def _not_placed(
    job: Job, post: Post, verdict: Verdict, *, at: datetime, policy: CallPolicy, held_until: datetime | None
) -> Job:
    after = with_post(job, replace(post, verdict=PostVerdict(verdict.kind.value)))
    waits = job.state in {S.SENDING, S.IN_DOUBT} and _is_current(job, post)
    # A summary that says "placed" outweighs an answer that says it was not; so does one of a newer POST.
    if not waits or post.outcome is not None:
        return after
    if verdict.kind is VerdictKind.REFUSED:
        if verdict.code in MISSED_WINDOW_CODES:
            return _missed_window(after, verdict.code, at=at, policy=policy)
        return ended(after, S.FAILED, at=at, reason=verdict.message, policy=policy)
    if verdict.kind is VerdictKind.TURNED_AWAY:
        return requeued(replace(after, failures=0), due_at=held_until or at, reason=verdict.message)
    failures = job.failures + 1
    wait = backoff(failures, first=policy.first_backoff, longest=policy.longest_backoff, seed=job.id)
    return requeued(replace(after, failures=failures), due_at=max(at + wait, held_until or at), reason=verdict.message)


def _missed_window(job: Job, code: int | None, *, at: datetime, policy: CallPolicy) -> Job:
    """8x8 says that the POST came too late (-1015, -2007): nobody was called, and the attempt does not count."""
    if job.valid_until is None or job.is_expired(at=at):
        # The POST's validUntil is no promise of the user's; but without one, or past it, nothing says to try again.
        if job.has_outcome:
            return ended(
                job, S.UNREACHED, at=at, reason=f"its validity ended before the redial ({code})", policy=policy
            )
        return ended(job, S.EXPIRED, at=at, reason=f"8x8 says that its validity had passed ({code})", policy=policy)
    missed = job.missed_windows + 1
    counted = replace(job, missed_windows=missed)
    if missed > policy.missed_windows:
        return ended(
            counted,
            S.FAILED,
            at=at,
            reason=f"8x8 answered {code} (validity expired) {missed} times while the job is valid: compare the clocks",
            policy=policy,
        )
    wait = backoff(missed, first=policy.first_backoff, longest=policy.longest_backoff, seed=job.id)
    return requeued(counted, due_at=at + wait, reason=f"the submit window was missed ({code})")


def summarised(job: Job, number: int, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """What the summary of POST `number`'s session makes of the job.

    The first summary of a POST wins; one more for the same POST changes nothing (a repeated BUSY must not cancel the
    redial that it granted). One for an older POST settles the job only while no newer POST may have rung.
    """
    post = job.post(number)
    if post is None:
        raise IllegalMoveError(
            job.id, state=job.state.value, move=f"take the summary of its POST {number}: none is recorded"
        )
    if post.outcome is not None:
        return job
    known = replace(post, outcome=outcome, session_id=post.session_id or outcome.session_id)
    after = with_post(job, known)
    if job.state in {S.COMPLETED, S.UNREACHED} or _newer_that_may_have_rung(job, post) is not None:
        # The job has gone on without this POST. Where no redial stands between them, a person was called twice.
        other = next((p for p in reversed(job.posts) if p.number != number and p.may_have_rung), None)
        return _rang_twice(after, known, other, at=at) if other and outcome.was_placed else after
    if outcome.missed_its_window:
        waits = job.state in _OPEN and _is_current(job, post)
        return _missed_window(after, outcome.code, at=at, policy=policy) if waits else after
    return _outcome_reached(after, job.state, outcome, at=at, policy=policy)


def _outcome_reached(job: Job, was: JobState, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    may_redial = was not in {S.EXPIRED, S.CANCELLED, S.FAILED}
    again = redial_at(job, outcome, at=at) if may_redial else None
    if again is not None:
        redialled = replace(job, redials=job.redials + 1, failures=0)
        return requeued(redialled, due_at=again, reason=f"redial after {outcome.status_text}")
    if outcome.status in _REACHED:
        return ended(job, S.COMPLETED, at=at, reason=None, policy=policy)
    if outcome.status in _NOT_REACHED:
        return ended(job, S.UNREACHED, at=at, reason=outcome.status_text, policy=policy)
    reason = f"{outcome.status_text}: {outcome.message}" if outcome.message else outcome.status_text
    return ended(job, S.FAILED, at=at, reason=reason, policy=policy)


def redial_at(job: Job, outcome: Outcome, *, at: datetime) -> datetime | None:
    """When the job's redial policy calls again after this outcome; None if it does not."""
    plan = job.redial
    if plan is None or outcome.status not in plan.on or job.redials >= plan.limit:
        return None
    if outcome.status is SessionStatus.UNSUBSCRIBED_CONTACT:
        return None
    wait: timedelta = plan.after * plan.factor**job.redials
    due = at + wait * (1 + plan.jitter * (2 * spread(f"{job.id}/redial/{job.redials}") - 1))
    return None if job.is_expired(at=due) else due


def _is_current(job: Job, post: Post) -> bool:
    current = job.open_post
    return current is not None and current.number == post.number


def _newer_that_may_have_rung(job: Job, post: Post) -> Post | None:
    return next((newer for newer in reversed(job.posts) if newer.number > post.number and newer.may_have_rung), None)


def _rang_twice(job: Job, post: Post, other: Post, *, at: datetime) -> Job:
    if post.redial != other.redial:
        return job
    text = (
        f"POST {post.number} was placed, and POST {other.number} may have been too, with no redial between them: "
        "this person may have been called twice"
    )
    if any(note.kind is NoteKind.RANG_TWICE and note.text == text for note in job.notes):
        return job
    return replace(job, notes=(*job.notes, Note(at=at, kind=NoteKind.RANG_TWICE, text=text)))
