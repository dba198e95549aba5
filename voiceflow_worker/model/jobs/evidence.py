"""Evidence about a job: answers to its POSTs, session summaries, and rows of the log export.

Evidence is never refused and never dropped: every function accepts the job in any state and returns it with the
evidence added. Repeated evidence changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Note, NoteKind, Post
from voiceflow_worker.model.jobs.lifecycle import (
    by_other_post,
    by_outcome,
    ended,
    into_doubt,
    release,
    returned,
    submitted,
    unless_placed,
    was_cancelled,
    with_post,
)
from voiceflow_worker.model.jobs.policy import CallPolicy, backoff
from voiceflow_worker.model.reports.outcome import MISSED_WINDOW_CODES, CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, TRUNK_FULL
from voiceflow_worker.model.reports.verdict import NOBODY_CALLED, NotSentCause, Verdict, VerdictKind

S = JobState

_CONCLUSIVE = NOBODY_CALLED | {VerdictKind.CREATED}
_ON_THIS_SIDE = frozenset({NotSentCause.HELD, NotSentCause.MISSED_SLOT, NotSentCause.STOPPED, NotSentCause.STORE_AWAY})
"""Causes after which the call is tried again without a backoff."""
_OPEN = frozenset({S.SENDING, S.SUBMITTED, S.IN_DOUBT, S.ACCEPTED})


def answered(
    job: Job, number: int, verdict: Verdict, *, at: datetime, policy: CallPolicy, held_until: datetime | None = None
) -> Job:
    """Return the job after the answer to POST `number`.

    A conclusive answer settles the job while this is its open POST, even a job in doubt. CREATED is accepted in every
    state, if the POST has no outcome. `held_until` is when the queue opens after a verdict that holds it.
    """
    post = _recorded(job, number, evidence="answer")
    if not _is_news(post, verdict.kind):
        if post.session_id is None and verdict.session_id is not None:
            # A later summary may contain only the session id.
            return with_post(job, replace(post, session_id=verdict.session_id))
        return job
    known = replace(
        post,
        verdict=verdict.kind if verdict.kind in _CONCLUSIVE else VerdictKind.UNKNOWN,
        answered_at=at,
        session_id=_session_after(post, verdict),
        code=verdict.code,
        message=verdict.message,
    )
    match verdict.kind:
        case VerdictKind.CREATED:
            return _created(job, known, at=at, policy=policy)
        case VerdictKind.REFUSED | VerdictKind.NOT_SENT | VerdictKind.TURNED_AWAY:
            return _not_placed(job, known, verdict, at=at, policy=policy, held_until=held_until)
        case _:
            return _unknown(job, known, at=at, policy=policy)


def not_begun(job: Job, entry: Job, verdict: Verdict, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after its worker gave up a journal entry that may have been stored.

    `entry` is the job as that entry has it; no byte of its POST left. The same number may be that of another worker's
    POST, so the entry is recognised by its time. If it was not stored, the job is released, so that the entry cannot be
    stored later.
    """
    ours = entry.posts[-1]
    post = job.post(ours.number)
    if post is not None and post.began_at == ours.began_at:
        return answered(job, ours.number, verdict, at=at, policy=policy)
    if post is None and job.state is S.LEASED and job.worker_id == entry.worker_id:
        return release(job, at=at, reason=verdict.message)
    return job


def _recorded(job: Job, number: int, *, evidence: str) -> Post:
    post = job.post(number)
    if post is None:
        move = f"take the {evidence} of its POST {number}: no such POST is recorded"
        raise IllegalMoveError(job.id, state=job.state.value, move=move)
    return post


def _session_after(post: Post, verdict: Verdict) -> str | None:
    """Return the session of an answered POST. The answer outweighs a session that was matched by numbers and times."""
    matched = post.verdict is VerdictKind.PLACED and post.outcome is None
    if matched and (verdict.session_id is not None or verdict.kind is not VerdictKind.CREATED):
        return verdict.session_id
    return post.session_id or verdict.session_id


def _is_news(post: Post, kind: VerdictKind) -> bool:
    """Return whether an answer adds evidence about its POST. CREATED outweighs every other answer."""
    match kind:
        case VerdictKind.CREATED:
            return post.verdict is not VerdictKind.CREATED
        case VerdictKind.REFUSED | VerdictKind.NOT_SENT | VerdictKind.TURNED_AWAY:
            return post.verdict not in _CONCLUSIVE
        case _:
            return post.verdict is None


def _created(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    after = with_post(job, post)
    if post.outcome is not None:
        return after
    beside = _other_of_its_attempt(job, post)
    if beside is not None:
        after = _rang_twice(after, post, beside, at=at)
    has_its_end = job.state is S.COMPLETED and beside is not None
    has_gone_on = job.state not in {S.QUEUED, S.LEASED} and _newer_that_may_have_rung(job, post)
    if job.state is S.SUBMITTED or has_its_end or has_gone_on:
        return after
    return submitted(after, at=at, policy=policy)


def _unknown(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    after = with_post(job, post)
    if job.state is S.SENDING and post.outcome is None and _is_current(job, post):
        return into_doubt(after, at=at, reason=post.message or "the answer was not understood", policy=policy)
    return after


def _not_placed(
    job: Job, post: Post, verdict: Verdict, *, at: datetime, policy: CallPolicy, held_until: datetime | None
) -> Job:
    after = with_post(job, post)
    # A summary of a placed call outweighs an answer that nobody was called. So does evidence about a newer POST.
    if job.state not in _OPEN or not _is_current(job, post) or post.outcome is not None:
        return after
    other = by_other_post(after, at=at, policy=policy)
    if other is not None:
        return other
    if job.state is S.ACCEPTED:
        # A person has resolved the job as placed, perhaps after a call of their own. That decision stays.
        return after
    if verdict.kind is VerdictKind.REFUSED:
        if verdict.code in MISSED_WINDOW_CODES:
            return _missed_window(after, verdict.code, at=at, policy=policy)
        return ended(after, S.FAILED, at=at, reason=verdict.message, policy=policy)
    if verdict.cause is NotSentCause.BROKEN_BODY:
        return ended(after, S.FAILED, at=at, reason=verdict.message, policy=policy)
    if verdict.kind is VerdictKind.TURNED_AWAY:
        after = replace(after, failures=0)
    if verdict.kind is VerdictKind.TURNED_AWAY or verdict.cause in _ON_THIS_SIDE:
        return returned(after, at=at, due_at=held_until, held_until=held_until, reason=verdict.message)
    failures = job.failures + 1
    wait = backoff(failures, first=policy.first_backoff, longest=policy.longest_backoff, seed=job.id)
    due_at = max(at + wait, held_until or at)
    return returned(replace(after, failures=failures), at=at, due_at=due_at, reason=verdict.message)


def _missed_window(job: Job, code: int | None, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after 8x8 refused the POST as too late (-1015, -2007). Nobody was called."""
    other = by_other_post(job, at=at, policy=policy)
    if other is not None:
        return other
    if job.state.is_final:
        # Nobody was called, but its end was reported, so that no further call may follow.
        reason = (
            f"8x8 says that its validity had passed ({code}); not called again: its end as accepted was reported before"
        )
        return ended(job, unless_placed(job, S.EXPIRED), at=at, reason=reason, policy=policy)
    if (job.valid_until is None and job.window is None) or job.is_expired(at=at):
        # With a validity that still lasts, or with a calling window, the job would be tried again.
        state = unless_placed(job, S.EXPIRED)
        ends = "8x8 says that its validity had passed" if state is S.EXPIRED else "its validity ended before the redial"
        return ended(job, state, at=at, reason=f"{ends} ({code})", policy=policy)
    missed = job.missed_windows + 1
    counted = replace(job, missed_windows=missed)
    if missed > policy.missed_windows:
        return ended(
            counted,
            S.FAILED,
            at=at,
            reason=f"8x8 answered {code} (validity expired) {missed} times while the call was still valid: check the "
            "clock of this machine",
            policy=policy,
        )
    wait = backoff(missed, first=policy.first_backoff, longest=policy.longest_backoff, seed=job.id)
    return returned(counted, at=at, due_at=at + wait, reason=f"the POST came too late for its validUntil ({code})")


def _met_full_trunk(job: Job, post: Post, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after 8x8 had no free line for it (-2010).

    It is sent again while its own validity lasts, as often as a call that missed its window; else its outcome ends it.
    Lines become free as calls end, so it waits for longer than after other failures: 5 s at first.
    """
    other = by_other_post(job, at=at, policy=policy)
    if other is not None:
        return other
    missed = job.missed_windows + 1
    is_valid = (job.valid_until is not None or job.window is not None) and not was_cancelled(job)
    first, longest = policy.longest_backoff / 2, 6 * policy.longest_backoff
    due_at = at + backoff(missed, first=first, longest=longest, seed=job.id)
    is_over = job.state.is_final or missed > policy.missed_windows or job.rings_from(at=due_at) is None
    if is_over or not is_valid:
        return by_outcome(job, post, outcome, at=at, policy=policy)
    counted = replace(job, missed_windows=missed)
    return returned(counted, at=at, due_at=due_at, reason=f"8x8 had no free line for it ({TRUNK_FULL})")


def summarised(job: Job, number: int, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after the summary of the session of POST `number`.

    Only the first summary of a POST counts, or a repeated BUSY would cancel the redial of the first. A later one counts
    if it brings an opt-out, or if the person has answered and the job has no known end. A session that missed its
    window, or had no free line, is no first one, because another session of the POST may have rung. A summary of an
    older POST settles the job if no newer one may have rung, or if the person has answered and the job waits. After a
    redial that was requested since, only an answered call or an opt-out settles the job.
    """
    post = _recorded(job, number, evidence="summary")
    if post.outcome is not None and (post.outcome.was_placed or not outcome.was_placed):
        return _summarised_again(job, post, outcome, at=at, policy=policy)
    if outcome.met_a_full_trunk and (post.presses or post.bridged):
        outcome = replace(outcome, rang=True)
    matched = post.verdict is VerdictKind.PLACED
    session_id = outcome.session_id or post.session_id if matched else post.session_id or outcome.session_id
    known = _with_outcome(job, replace(post, session_id=session_id), outcome, at=at)
    after = with_post(job, known)
    is_current = job.state in _OPEN and _is_current(job, post)
    if outcome.missed_its_window:
        return _missed_window(after, outcome.code, at=at, policy=policy) if is_current else after
    if outcome.met_a_full_trunk:
        return _met_full_trunk(after, known, outcome, at=at, policy=policy) if is_current else after
    beside = _other_of_its_attempt(job, post)
    if beside is not None:
        after = _rang_twice(after, known, beside, at=at)
    has_its_end = job.state in {S.COMPLETED, S.UNREACHED} and beside is not None
    newer = _newer_that_may_have_rung(job, post)
    has_gone_on = has_its_end or newer is not None
    # A person who answered or opted out is not called again, whatever the result of a newer POST.
    waits = job.state in {S.QUEUED, S.LEASED} or (job.state in {S.UNREACHED, S.FAILED} and beside is not None)
    status = outcome.status_of(job.number_of(post))
    # A person or a policy has requested another attempt since, which is made if the earlier one reached nobody.
    asked_again = job.state in {S.QUEUED, S.LEASED} and post.redial < job.redials
    if asked_again and status not in REACHED | OPT_OUTS:
        return after
    if is_current and newer is not None and newer.outcome is not None and status not in REACHED | OPT_OUTS:
        # Of two histories, the one that went on says which number comes next.
        return by_outcome(after, newer, newer.outcome, at=at, policy=policy)
    if is_current or not has_gone_on or (waits and status in REACHED | OPT_OUTS):
        return by_outcome(after, known, outcome, at=at, policy=policy)
    return after


def _summarised_again(job: Job, post: Post, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after another summary of a POST that has an outcome.

    One POST can have two sessions, if something between this machine and 8x8 repeats a request: one may be answered,
    and the other BUSY. A summary may also come after the log of 8x8 was read.
    """
    before, status = job.status_of(post), outcome.status_of(job.number_of(post))
    waits = job.state in {S.QUEUED, S.LEASED}
    opts_out = status in (OPT_OUTS & REACHED if before in REACHED else OPT_OUTS) and before not in OPT_OUTS
    goes_on = not job.state.is_final or job.state is S.ACCEPTED
    answers = goes_on and status in REACHED and before not in REACHED | OPT_OUTS
    if not (opts_out or answers):
        return job
    after = with_post(job, _with_outcome(job, post, outcome, at=at))
    newer = _newer_that_may_have_rung(job, post)
    is_the_end = newer is None or (newer.redial == post.redial and status in REACHED)
    has_ended = job.state in {S.COMPLETED, S.UNREACHED, S.FAILED} and is_the_end
    return by_outcome(after, post, outcome, at=at, policy=policy) if waits or has_ended else after


def _with_outcome(job: Job, post: Post, outcome: Outcome, *, at: datetime) -> Post:
    """Return the POST with this outcome, and with the time at which it became known, if a person redialled since."""
    redialled_at = job.redialled_at
    is_late = redialled_at is not None and redialled_at >= post.began_at
    return replace(post, outcome=outcome, outcome_known_at=at if is_late else post.outcome_known_at)


def found_placed(
    job: Job,
    number: int,
    *,
    session_id: str,
    outcome: Outcome | None,
    at: datetime,
    policy: CallPolicy,
) -> Job:
    """Return the job after a session in 8x8's log was matched to POST `number`: the call was placed.

    An `outcome` from the log settles the job as a summary does. The match is by numbers and times, so an answer to this
    POST overrides it: a refusal, or another session.
    """
    post = _recorded(job, number, evidence="session")
    if post.verdict in NOBODY_CALLED or post.session_id not in {None, session_id}:
        return job
    is_news = post.verdict not in {VerdictKind.CREATED, VerdictKind.PLACED}
    known = replace(post, session_id=session_id)
    if is_news and post.outcome is None:
        known = replace(
            known, verdict=VerdictKind.PLACED, answered_at=post.answered_at or at, message="found in the log of 8x8"
        )
    if outcome is not None and post.outcome is None:
        return summarised(with_post(job, known), number, outcome, at=at, policy=policy)
    if known == post:
        return job
    if is_news and post.outcome is None:
        return _created(job, known, at=at, policy=policy)
    return with_post(job, known)


def failed_with(job: Job, number: int, legs: Sequence[CallLeg]) -> Job:
    """Return the job with the SIP codes of these legs in the outcome of POST `number`. Its state stays as it is."""
    post = job.post(number)
    if post is None or post.outcome is None or (known := post.outcome.with_sip_codes(legs)) == post.outcome:
        return job
    return with_post(job, replace(post, outcome=known))


def session_of(post: Post) -> str | None:
    """Return the session of a POST, by its answer or by its summary."""
    return post.session_id or (post.outcome.session_id if post.outcome is not None else None)


MOST_PRESSES = 200
"""The most key presses that are kept of one POST, or of a call without a job."""


def with_press(job: Job, number: int | None, press: KeyPress) -> Job:
    """Return the job with a key press added to its POST `number`, unless it has it, or `MOST_PRESSES` others."""
    post = None if number is None else job.post(number)
    if post is None or has_press(post.presses, press) or len(post.presses) >= MOST_PRESSES:
        return job
    presses = tuple(sorted((*post.presses, press), key=lambda each: each.at))
    return with_post(job, replace(post, presses=presses))


def has_press(presses: tuple[KeyPress, ...], press: KeyPress) -> bool:
    """Return whether a key press is among these."""
    return any(each == press if press.event_id is None else each.event_id == press.event_id for each in presses)


def mismatched(job: Job, number: int, *, session_id: str, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after evidence that its POST `number` was matched to the session of another call.

    This POST is no longer known to be placed, so the job is in doubt again.
    """
    post = job.post(number)
    if post is None or post.verdict is not VerdictKind.PLACED or post.session_id != session_id or post.outcome:
        return job
    message = "the session that was matched to this POST belongs to another call"
    after = with_post(job, replace(post, verdict=VerdictKind.UNKNOWN, session_id=None, message=message))
    if job.state is S.SUBMITTED and _is_current(job, post):
        return into_doubt(after, at=at, reason=message, policy=policy)
    return after


def _is_current(job: Job, post: Post) -> bool:
    current = job.open_post
    return current is not None and current.number == post.number


def _newer_that_may_have_rung(job: Job, post: Post) -> Post | None:
    return next((newer for newer in reversed(job.posts) if newer.number > post.number and newer.may_have_rung), None)


def _other_of_its_attempt(job: Job, post: Post) -> Post | None:
    """Return the newest other POST of the same attempt, without a redial between, that may have rung."""
    return next(
        (
            other
            for other in reversed(job.posts)
            if other.number != post.number and other.redial == post.redial and other.may_have_rung
        ),
        None,
    )


def _rang_twice(job: Job, post: Post, other: Post, *, at: datetime) -> Job:
    first, second = sorted((post.number, other.number))
    text = (
        f"POSTs {first} and {second} may both have made the phone ring, with no redial between them: "
        "this person may have been called twice"
    )
    if any(note.kind is NoteKind.RANG_TWICE and note.text == text for note in job.notes):
        return job
    return replace(job, notes=(*job.notes, Note(at=at, kind=NoteKind.RANG_TWICE, text=text)))
