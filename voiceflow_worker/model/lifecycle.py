"""The moves of a job, as pure functions: each takes a job and returns the job after the move, or raises.

`MOVES` is the whole table. No function here reads a clock, a store or a setting: time and policy are arguments. The two
facts behind the rules: a phone that rang cannot be un-rung, and the 8x8 API has no idempotency key. So once a byte of a
POST may have left (`sending`), only evidence moves the job, never time (RFC 9110 §9.2.2: a client must not retry a
non-idempotent request unless it knows that the original was never applied).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from voiceflow_worker.errors import IllegalMoveError, TooEarlyError, TooLateError
from voiceflow_worker.model.job import Job, JobState, Note, NoteKind, Post, PostVerdict
from voiceflow_worker.model.policy import CallPolicy

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

KEPT_UNSENT_POSTS = 10
"""How many POSTs that sent nothing a job keeps: an outage of hours must not grow the record without end."""


def lease(job: Job, *, worker_id: str, until: datetime) -> Job:
    """Give a queued job to a worker. Nothing is sent yet; past `until` the job is queued again."""
    _require(job, MoveName.LEASE)
    return replace(job, state=S.LEASED, worker_id=worker_id, due_at=until)


def release(job: Job, *, due_at: datetime, reason: str | None = None) -> Job:
    """Put a leased job back: nothing was sent for it."""
    _require(job, MoveName.RELEASE)
    return replace(job, state=S.QUEUED, worker_id=None, due_at=due_at, reason=reason)


def begin(job: Job, *, at: datetime, lease_until: datetime, policy: CallPolicy) -> Job:
    """Journal the next POST, before its first byte: from here on only evidence moves the job.

    The POST's own `validUntil` is the job's, or the end of the submit window if that comes first: what is late dies at
    8x8 (-1015, -2007), so that a doubt has an end. It is committed with the journal.
    """
    _require(job, MoveName.BEGIN)
    number = job.post_count + 1
    window_end = at + policy.submit_window
    valid_until = window_end if job.valid_until is None else min(job.valid_until, window_end)
    # The wire has milliseconds (YYYY-MM-DDTHH:MM:SS.SSSZ): cut, never rounded up, or the call could come late.
    valid_until = valid_until.replace(microsecond=valid_until.microsecond // 1000 * 1000)
    post = Post(
        number=number,
        client_request_id=f"{job.id}.{number}",
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


def look_again(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """No evidence yet: look again later, at doubling intervals. A missing summary proves nothing by itself."""
    _require(job, MoveName.LOOK_AGAIN)
    post = job.open_post
    age = at - post.began_at if post else policy.first_look
    return replace(job, due_at=at + max(policy.first_look, min(age, policy.longest_look)))


def expire(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """End a job whose time has passed before it was sent. One that has an outcome ends as `unreached`."""
    _require(job, MoveName.EXPIRE)
    if job.has_outcome:
        return ended(job, S.UNREACHED, at=at, reason="its validity ended before the redial", policy=policy)
    return ended(job, S.EXPIRED, at=at, reason="its validity ended before it could be sent", policy=policy)


def cancel(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """Take a job back.

    Raises `TooLateError` once the call may have left. One that has an outcome ends as `unreached`.
    """
    if job.state not in MOVES[MoveName.CANCEL]:
        remedy = (
            "the job has ended"
            if job.state.is_final
            else "the call may have left, and a phone that rang cannot be un-rung"
        )
        raise TooLateError(job.id, state=job.state.value, move="be cancelled", remedy=remedy)
    state = S.UNREACHED if job.has_outcome else S.CANCELLED
    noted = replace(job, notes=(*job.notes, Note(at=at, kind=NoteKind.CANCELLED, text=reason)))
    return ended(noted, state, at=at, reason=reason, policy=policy)


def fail(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """End a job that cannot be sent at all (its stored body is no longer acceptable)."""
    _require(job, MoveName.FAIL)
    return ended(job, S.FAILED, at=at, reason=reason, policy=policy)


def resolve(job: Job, *, placed: bool, at: datetime, witnessed: datetime, note: str, policy: CallPolicy) -> Job:
    """A person says whether the call in doubt was placed.

    "Placed" ends the job as `accepted`; a late summary still settles it. "Not placed" puts it back in the queue, and
    may be said only once the `validUntil` that the POST carried, plus the clock skew, has passed by `witnessed`: the
    Date header of a fresh answer of 8x8, or else the store's clock. Raises `TooEarlyError` before that.
    """
    _require(job, MoveName.RESOLVE)
    post = job.open_post
    if post is None:  # pragma: no cover - a job in doubt has an open POST by construction
        raise IllegalMoveError(job.id, state=job.state.value, move="be resolved without a POST in doubt")
    if not placed:
        until = post.valid_until + policy.clock_skew
        if witnessed <= until:
            raise TooEarlyError(job.id, state=job.state.value, until=until)
    verdict = PostVerdict.PLACED if placed else PostVerdict.NOT_PLACED
    known = with_post(job, replace(post, verdict=verdict, answered_at=post.answered_at or at, message=note))
    known = replace(known, notes=(*known.notes, Note(at=at, kind=NoteKind.RESOLVED, text=note)))
    if placed:
        return ended(known, S.ACCEPTED, at=at, reason=f"resolved as placed: {note}", policy=policy)
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
            remedy="the person was called; pass --force to call again",
        )
    if job.is_expired(at=at):
        raise IllegalMoveError(
            job.id, state=job.state.value, move="be redialled", remedy="its validity has passed; enqueue a new call"
        )
    noted = replace(job, redials=job.redials + 1, notes=(*job.notes, Note(at=at, kind=NoteKind.REDIALLED, text=note)))
    return requeued(noted, due_at=at, reason=note)


def ended(job: Job, state: JobState, *, at: datetime, reason: str | None, policy: CallPolicy) -> Job:
    """The job in a final state, to be pruned once the retention has passed."""
    return replace(job, state=state, worker_id=None, due_at=at + policy.retention, active_until=None, reason=reason)


def requeued(job: Job, *, due_at: datetime, reason: str | None) -> Job:
    """The job waiting again."""
    return replace(job, state=S.QUEUED, worker_id=None, due_at=due_at, active_until=None, reason=reason)


def with_post(job: Job, post: Post) -> Job:
    """The job with one of its POSTs replaced, and the oldest that sent nothing dropped beyond those worth keeping."""
    posts = tuple(post if old.number == post.number else old for old in job.posts)
    unsent = [p.number for p in posts if p.verdict is PostVerdict.NOT_SENT and p.outcome is None]
    dropped = set(unsent[: max(len(unsent) - KEPT_UNSENT_POSTS, 0)])
    return replace(job, posts=tuple(p for p in posts if p.number not in dropped))


def _require(job: Job, move: MoveName) -> None:
    if job.state not in MOVES[move]:
        raise IllegalMoveError(job.id, state=job.state.value, move=move.value)
