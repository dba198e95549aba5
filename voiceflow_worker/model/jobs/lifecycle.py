"""The moves of a job, as pure functions: each takes a job and returns the job after the move, or raises.

`MOVES` is the whole table. No function here reads a clock, a store or a setting: time and policy are arguments. The two
facts behind the rules: a phone that rang cannot be un-rung, and the 8x8 API has no idempotency key. So once a byte of a
POST may have left (`sending`), only evidence moves the job, never time (RFC 9110 §9.2.2: a client must not retry a
non-idempotent request unless it knows that the original was never applied).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from voiceflow_worker.errors import IllegalMoveError, Remedy, TooEarlyError, TooLateError
from voiceflow_worker.model.jobs.backoff import spread
from voiceflow_worker.model.jobs.job import (
    Job,
    JobState,
    Note,
    NoteKind,
    Post,
)
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.moment import in_words

S = JobState


class MoveName(StrEnum):
    """What can happen to a job."""

    LEASE = "lease"
    RELEASE = "release"
    BEGIN = "begin"
    DOUBT = "doubt"
    GIVE_UP_WAITING = "give up waiting"
    LOOK_AGAIN = "look again"
    EXPIRE = "expire"
    CANCEL = "cancel"
    FAIL = "fail"
    RESOLVE = "resolve"
    REDIAL = "redial"


MOVES: dict[MoveName, frozenset[JobState]] = {
    MoveName.LEASE: frozenset({S.QUEUED}),
    MoveName.RELEASE: frozenset({S.LEASED}),
    MoveName.BEGIN: frozenset({S.LEASED}),
    MoveName.DOUBT: frozenset({S.SENDING}),
    MoveName.GIVE_UP_WAITING: frozenset({S.SUBMITTED}),
    MoveName.LOOK_AGAIN: frozenset({S.IN_DOUBT}),
    MoveName.EXPIRE: frozenset({S.QUEUED, S.LEASED}),
    MoveName.CANCEL: frozenset({S.QUEUED, S.LEASED}),
    MoveName.FAIL: frozenset({S.QUEUED, S.LEASED}),
    MoveName.RESOLVE: frozenset({S.IN_DOUBT}),
    MoveName.REDIAL: frozenset({S.COMPLETED, S.UNREACHED, S.FAILED, S.EXPIRED, S.CANCELLED, S.ACCEPTED}),
}
"""From which states each deliberate move may start. What answers and summaries do stands in `evidence`: they are facts,
not wishes, and are taken in every state."""

KEPT_POSTS = {VerdictKind.NOT_SENT: 10, VerdictKind.TURNED_AWAY: 50}
"""How many POSTs a job keeps that sent nothing, or were turned away unread: an outage of hours, or a day of 429s, must
not grow the record without end."""

LOOK_AGAIN = timedelta(days=1)
"""When to look again at a job whose calling window does not open, or cannot be told here."""


def lease(job: Job, *, worker_id: str, until: datetime) -> Job:
    """Give a queued job to a worker. Nothing is sent yet; past `until` the job is queued again."""
    _require(job, MoveName.LEASE)
    return replace(job, state=S.LEASED, worker_id=worker_id, due_at=until)


def release(job: Job, *, due_at: datetime, reason: str | None = None) -> Job:
    """Put a leased job back: nothing was sent for it. Outside its calling window it is due when that opens."""
    _require(job, MoveName.RELEASE)
    return replace(job, state=S.QUEUED, worker_id=None, due_at=_in_its_window(job, due_at), reason=reason)


def begin(
    job: Job, *, at: datetime, lease_until: datetime, policy: CallPolicy, not_after: datetime | None = None
) -> Job:
    """Journal the next POST, before its first byte: from here on only evidence moves the job.

    The POST's own `validUntil` is the job's, or the end of the submit window if that comes first: what is late dies at
    8x8 (-1015, -2007), so that a doubt has an end. It is committed with the journal. Its calling window may end it
    earlier, and `not_after`: when the lock of the number ends that this POST needs.
    """
    _require(job, MoveName.BEGIN)
    number = job.post_count + 1
    ends = (at + policy.submit_window, job.valid_until, not_after, job.closes(at=at))
    valid_until = min(end for end in ends if end is not None)
    # The wire has milliseconds (YYYY-MM-DDTHH:MM:SS.SSSZ): cut, never rounded up, or the call could come late.
    valid_until = valid_until.replace(microsecond=valid_until.microsecond // 1000 * 1000)
    post = Post(
        number=number,
        client_request_id=job.request_id(number),
        began_at=at,
        valid_until=valid_until,
        redial=job.redials,
    )
    return replace(
        job,
        state=S.SENDING,
        due_at=lease_until,
        active_until=valid_until + policy.ringing,
        post_count=number,
        posts=(*job.posts, post),
        reason=None,
    )


def doubt(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """A POST may have left and nobody knows what came of it: wait for evidence."""
    _require(job, MoveName.DOUBT)
    return into_doubt(job, at=at, reason=reason, policy=policy)


def into_doubt(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """The job in doubt, counted as active until its POST can no longer ring."""
    post = job.open_post
    return replace(
        job,
        state=S.IN_DOUBT,
        worker_id=None,
        due_at=at + policy.first_look,
        active_until=post.valid_until + policy.ringing if post else None,
        reason=reason,
    )


def give_up_waiting(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """No summary came by its deadline: the call was certainly placed, and nobody told how it ended."""
    _require(job, MoveName.GIVE_UP_WAITING)
    return ended(job, S.ACCEPTED, at=at, reason="no summary came by its deadline", policy=policy)


def look_again(job: Job, *, at: datetime, policy: CallPolicy, reason: str | None = None) -> Job:
    """No evidence yet: look again later, at doubling intervals. A missing summary proves nothing by itself.

    `reason` says what was found instead of evidence; without, the one that stands is kept.
    """
    _require(job, MoveName.LOOK_AGAIN)
    post = job.open_post
    age = at - post.began_at if post else policy.first_look
    due_at = at + max(policy.first_look, min(age, policy.longest_look))
    return replace(job, due_at=due_at, reason=job.reason if reason is None else reason)


def expire(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """End a job whose time has passed before it was sent.

    One that was placed before ends as `unreached`, or as `accepted` if no summary told the end of that call.
    """
    _require(job, MoveName.EXPIRE)
    state = unless_placed(job, S.EXPIRED)
    before = "it could be sent" if state is S.EXPIRED else "the redial"
    if job.window is not None and job.valid_until is not None and job.due_at >= job.valid_until:
        before = f"its calling window opened ({job.window})"
    return ended(job, state, at=at, reason=f"its validity ended before {before}", policy=policy)


def cancel(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """Take a job back.

    Raises `TooLateError` once the call may have left. One that was placed before ends as `unreached`, or as `accepted`
    if no summary told the end of that call.
    """
    if job.state not in MOVES[MoveName.CANCEL]:
        remedy = (
            "the job has ended"
            if job.state.is_final
            else "the call may have left, and a phone that rang cannot be un-rung"
        )
        raise TooLateError(job.id, state=job.state.value, move="be cancelled", remedy=remedy)
    noted = replace(job, notes=(*job.notes, Note(at=at, kind=NoteKind.CANCELLED, text=reason)))
    return ended(noted, unless_placed(job, S.CANCELLED), at=at, reason=reason, policy=policy)


def fail(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """End a job that cannot be sent at all (its stored body is no longer acceptable)."""
    _require(job, MoveName.FAIL)
    return ended(job, S.FAILED, at=at, reason=reason, policy=policy)


def resolve(job: Job, *, placed: bool, at: datetime, witnessed: datetime, note: str, policy: CallPolicy) -> Job:
    """A person says whether the call in doubt was placed.

    "Placed" ends the job as `accepted`; a late summary still settles it. "Not placed" puts it back in the queue, and
    may be said only once the `validUntil` that the POST carried, plus the clock skew, has passed by `witnessed`: the
    Date header of a fresh answer of 8x8, or else the store's clock. Raises `TooEarlyError` before that. If another POST
    of the attempt turned out to have been placed meanwhile, the job goes by that one.
    """
    _require(job, MoveName.RESOLVE)
    post = job.open_post
    if post is None:  # pragma: no cover - a job in doubt has an open POST by construction
        raise IllegalMoveError(job.id, state=job.state.value, move="be resolved without a POST in doubt")
    if not placed:
        until = post.valid_until + policy.clock_skew
        if witnessed <= until:
            raise TooEarlyError(job.id, state=job.state.value, until=until)
    verdict = VerdictKind.PLACED if placed else VerdictKind.NOT_PLACED
    known = with_post(job, replace(post, verdict=verdict, answered_at=post.answered_at or at, message=note))
    known = replace(known, notes=(*known.notes, Note(at=at, kind=NoteKind.RESOLVED, text=note)))
    if placed:
        return ended(known, S.ACCEPTED, at=at, reason=f"resolved as placed: {note}", policy=policy)
    earlier = known.placed_post
    if earlier is not None:
        return by_placed_post(known, earlier, at=at, policy=policy)
    return requeued(known, due_at=at, reason=f"resolved as not placed: {note}")


def redial(job: Job, *, at: datetime, note: str, force: bool = False) -> Job:
    """A person asks to call again: a new POST of the same job. `completed` and `accepted` need `force`."""
    if job.state in {S.IN_DOUBT, S.SUBMITTED, S.SENDING}:
        raise IllegalMoveError(
            job.id, state=job.state.value, move="be redialled", remedy="wait for its outcome, or resolve it first"
        )
    _require(job, MoveName.REDIAL)
    if job.state in {S.COMPLETED, S.ACCEPTED} and not force:
        raise IllegalMoveError(
            job.id,
            state=job.state.value,
            move="be redialled",
            remedy=f"the person was called; {Remedy.FORCE_REDIAL}",
        )
    if job.is_expired(at=at):
        raise IllegalMoveError(
            job.id, state=job.state.value, move="be redialled", remedy="its validity has passed; enqueue a new call"
        )
    opens = job.opens(at=at)
    if opens is None or job.is_expired(at=opens):
        remedy = f"its calling window ({job.window}) does not open again before its validity ends; enqueue a new call"
        raise IllegalMoveError(job.id, state=job.state.value, move="be redialled", remedy=remedy)
    noted = replace(job, notes=(*job.notes, Note(at=at, kind=NoteKind.REDIALLED, text=note)))
    # A call that was cancelled before it was sent has not used up what it was granted.
    redials = job.redials + any(post.redial == job.redials for post in job.posts)
    return requeued(replace(noted, redials=redials, failures=0, missed_windows=0), due_at=at, reason=note)


def submitted(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job of a placed call: its summary is waited for, or, where nobody listens for one, this is the end."""
    if policy.outcomes is OutcomeSource.NONE:
        return ended(job, S.ACCEPTED, at=at, reason=None, policy=policy)
    deadline = at + policy.summary_deadline
    return replace(
        job, state=S.SUBMITTED, worker_id=None, due_at=deadline, active_until=deadline, reason=None, failures=0
    )


def by_placed_post(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    """The job by a POST that was placed, once a later one of the same attempt turned out not to have been.

    Sending it again would call the person a second time, and knowingly so.
    """
    if post.outcome is None:
        return submitted(job, at=at, policy=policy)
    return by_outcome(job, post.outcome, at=at, policy=policy)


_NOT_REACHED = frozenset(
    {
        SessionStatus.NO_ANSWER,
        SessionStatus.BUSY,
        SessionStatus.CANCELED,
        SessionStatus.UNSUBSCRIBED_CONTACT,
    }
)


def by_outcome(job: Job, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """The job after a session that ended so: called again if its redial policy says so and it has not ended yet.

    A redial that could not leave before the validity ends is not granted.
    """
    status = outcome.status_of(job.destination)
    # Two POSTs of one attempt that both rang are an incident; calling a person a third time who answered is worse.
    reached_before = status not in REACHED and any(
        post.redial == job.redials and post.outcome is not None and post.outcome.status_of(job.destination) in REACHED
        for post in job.posts
    )
    may_redial = not reached_before and (not job.state.is_final or job.state is S.ACCEPTED)
    wanted = redial_at(job, outcome, at=at) if may_redial else None
    again = job.opens(at=wanted) if wanted is not None else None
    if again is not None and not job.is_expired(at=again):
        redialled = replace(job, redials=job.redials + 1, failures=0, missed_windows=0)
        return requeued(redialled, due_at=again, reason=f"redial after {_wording(job, outcome)}")
    if status in REACHED or reached_before:
        return ended(job, S.COMPLETED, at=at, reason=None, policy=policy)
    reason = _wording(job, outcome)
    if status not in _NOT_REACHED and outcome.message:
        reason = f"{reason}: {outcome.message}"
    if wanted is not None:
        reason = f"{reason}; not called again: {_why_not(job, again)}"
    return ended(job, S.UNREACHED if status in _NOT_REACHED else S.FAILED, at=at, reason=reason, policy=policy)


def _wording(job: Job, outcome: Outcome) -> str:
    """The status of the call to the person, as the service spelled it where it is that of the session."""
    same = outcome.status_of(job.destination) is outcome.status
    return outcome.status_text if same else outcome.text_of(job.destination)


def redial_at(job: Job, outcome: Outcome, *, at: datetime) -> datetime | None:
    """When the job's redial policy calls again after this outcome; None if it does not.

    Whether the calling window is open then, and the job still valid, is another question. Who asked to be left alone
    is not called again, whatever the policy says.
    """
    plan = job.redial
    if plan is None or outcome.status_of(job.destination) not in plan.on - OPT_OUTS or job.redials >= plan.limit:
        return None
    try:
        wait: timedelta = plan.after * plan.factor**job.redials
        return at + wait * (1 + plan.jitter * (2 * spread(f"{job.id}/redial/{job.redials}") - 1))
    except (OverflowError, ValueError):
        return None  # beyond the year 9999: never. Raised, it would keep the summary itself from being taken.


def _why_not(job: Job, again: datetime | None) -> str:
    """Why a redial that the policy wants is not made."""
    if again is None:
        return f"its calling window ({job.window}) does not open any more"
    return f"its validity ends at {in_words(job.valid_until or again)}, and its turn would come at {in_words(again)}"


def unless_placed(job: Job, state: JobState) -> JobState:
    """How a job ends that is not sent any more: `state` (expired or cancelled) only if none of its POSTs was placed."""
    if job.has_outcome:
        return S.UNREACHED
    return S.ACCEPTED if any(post.was_placed for post in job.posts) else state


def ended(job: Job, state: JobState, *, at: datetime, reason: str | None, policy: CallPolicy) -> Job:
    """The job in a final state, to be pruned once the retention has passed."""
    return replace(job, state=state, worker_id=None, due_at=at + policy.retention, active_until=None, reason=reason)


def requeued(job: Job, *, due_at: datetime, reason: str | None) -> Job:
    """The job waiting again: for `due_at`, or for the opening of its calling window after that."""
    due_at = _in_its_window(job, due_at)
    return replace(job, state=S.QUEUED, worker_id=None, due_at=due_at, active_until=None, reason=reason)


def _in_its_window(job: Job, due_at: datetime) -> datetime:
    return job.opens(at=due_at) or due_at + LOOK_AGAIN


def with_post(job: Job, post: Post) -> Job:
    """The job with one of its POSTs replaced, and the oldest that sent nothing dropped beyond those worth keeping."""
    posts = tuple(post if old.number == post.number else old for old in job.posts)
    kept = KEPT_POSTS.get(post.verdict) if post.verdict is not None else None
    if kept is not None and len(posts) > kept:
        alike = [p.number for p in posts if p.verdict is post.verdict and p.outcome is None]
        dropped = set(alike[: max(len(alike) - kept, 0)])
        posts = tuple(p for p in posts if p.number not in dropped)
    return replace(job, posts=posts)


def _require(job: Job, move: MoveName) -> None:
    if job.state not in MOVES[move]:
        raise IllegalMoveError(job.id, state=job.state.value, move=move.value)
