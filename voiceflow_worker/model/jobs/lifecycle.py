"""The moves of a job, as pure functions: each takes a job and returns the job after the move, or raises.

No function reads a clock, a store or a setting. A call cannot be taken back, and the 8x8 API has no idempotency key. So
once a byte of a POST may have left (`sending`), only evidence moves the job, never time (RFC 9110 §9.2.2).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from voiceflow_worker.errors import IllegalMoveError, TooEarlyError, TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import (
    Job,
    JobState,
    Note,
    NoteKind,
    Post,
    ReasonKind,
    again_key,
)
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource
from voiceflow_worker.model.reports.outcome import BODY_CODES, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.printable import checked_text
from voiceflow_worker.model.text.wording import in_words

S = JobState


class MoveName(StrEnum):
    """A move of a job. Its value ends the sentence "it cannot …"."""

    LEASE = "be leased"
    RELEASE = "be put back"
    BEGIN = "be sent"
    DOUBT = "be put in doubt"
    GIVE_UP_WAITING = "stop waiting for its summary"
    CHECK_AGAIN = "wait for further evidence"
    EXPIRE = "expire"
    CANCEL = "be cancelled"
    EDIT = "be changed"
    RESOLVE = "be resolved"
    REDIAL = "be redialled"


MOVES: dict[MoveName, frozenset[JobState]] = {
    MoveName.LEASE: frozenset({S.QUEUED}),
    MoveName.RELEASE: frozenset({S.LEASED}),
    MoveName.BEGIN: frozenset({S.LEASED}),
    MoveName.DOUBT: frozenset({S.SENDING}),
    MoveName.GIVE_UP_WAITING: frozenset({S.SUBMITTED}),
    MoveName.CHECK_AGAIN: frozenset({S.IN_DOUBT}),
    MoveName.EXPIRE: frozenset({S.QUEUED, S.LEASED}),
    MoveName.CANCEL: frozenset({S.QUEUED, S.LEASED}),
    MoveName.EDIT: frozenset({S.QUEUED, S.LEASED}),
    MoveName.RESOLVE: frozenset({S.IN_DOUBT}),
    MoveName.REDIAL: frozenset({S.COMPLETED, S.UNREACHED, S.FAILED, S.EXPIRED, S.CANCELLED, S.ACCEPTED}),
}
"""The states in which each move may start. Answers and summaries (`evidence`) are accepted in every state."""

KEPT_POSTS = {VerdictKind.NOT_SENT: 10, VerdictKind.TURNED_AWAY: 50}
"""The most POSTs without a placed call that a job keeps, by kind of verdict, so that a long outage adds no more."""

CHECK_AGAIN = timedelta(days=1)
"""The time after which a job is due again if its calling window never opens, or is unknown here."""


def lease(job: Job, *, worker_id: str, until: datetime) -> Job:
    """Give a queued job to a worker. After `until` the job is queued again."""
    require(job, MoveName.LEASE)
    return replace(job, state=S.LEASED, worker_id=worker_id, due_at=until)


RETRIES_FIRST = timedelta(minutes=1)
"""The time after its first return in which a call that waits again and again is leased before those never tried."""


def release(
    job: Job,
    *,
    at: datetime,
    due_at: datetime | None = None,
    reason: str | None = None,
    kind: ReasonKind | None = None,
) -> Job:
    """Put a leased job back into the queue; nothing was sent for it. See `returned`."""
    require(job, MoveName.RELEASE)
    return returned(job, at=at, due_at=due_at, reason=reason, kind=kind)


def returned(
    job: Job,
    *,
    at: datetime,
    due_at: datetime | None = None,
    held_until: datetime | None = None,
    reason: str | None,
    kind: ReasonKind | None = None,
) -> Job:
    """Return a job that a worker had to the queue, where it keeps its place: nobody was called.

    With a new `due_at`, it is leased before the calls that were never tried, if it is due within a minute of its first
    return, or when the hold of the queue ends (`held_until`). A call that waits for its window, or for its person's
    limit, was not due: it gets a new place.
    """
    due = min(job.first_due, at) if due_at is None else due_at
    if not job.may_ring(at=at):
        due = max(due, at)
    opens = in_its_window(job, due)
    queued = replace(
        job, state=S.QUEUED, worker_id=None, due_at=opens, active_until=None, reason=reason, reason_kind=kind
    )
    if opens > due or kind is ReasonKind.MAX_PER_PERSON:
        return with_new_place(queued)
    since = job.returned_at or at
    goes_first = due <= max(since + RETRIES_FIRST, held_until or since)
    return replace(queued, returned_at=since, goes_first=goes_first)


def with_new_place(job: Job) -> Job:
    """Return a job that waits, in a new place among those that are due."""
    return replace(job, first_due_at=job.due_at, returned_at=None, goes_first=False)


def valid_until_of_post(job: Job, *, at: datetime, policy: CallPolicy) -> datetime:
    """Return the `validUntil` of a POST that is made ready now. After it, 8x8 drops the POST (-1015, -2007).

    It is the earliest of the end of the submit window, of the job's validity and of its calling window.
    """
    ends = (at + policy.submit_window, job.valid_until, job.closes(at=at))
    earliest = min(end for end in ends if end is not None)
    # A request has milliseconds (YYYY-MM-DDTHH:MM:SS.SSSZ). The time is never rounded up, or the call could come late.
    return earliest.replace(microsecond=earliest.microsecond // 1000 * 1000)


def begin(
    job: Job, *, at: datetime, lease_until: datetime, policy: CallPolicy, valid_until: datetime | None = None
) -> Job:
    """Journal the next POST, before its first byte leaves: from now on only evidence moves the job.

    `valid_until` is that of the POST if it is ready already.
    """
    require(job, MoveName.BEGIN)
    number = job.post_count + 1
    valid_until = valid_until or valid_until_of_post(job, at=at, policy=policy)
    post = Post(
        number=number,
        client_request_id=job.request_id(number),
        began_at=at,
        valid_until=valid_until,
        redial=job.redials,
        place=job.place,
    )
    return replace(
        job,
        state=S.SENDING,
        due_at=lease_until,
        active_until=valid_until + policy.ringing,
        post_count=number,
        posts=(*job.posts, post),
        reason=None,
        reason_kind=None,
    )


def doubt(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """Put a job in doubt, to wait for evidence: its POST may have left, and the result is unknown."""
    require(job, MoveName.DOUBT)
    return into_doubt(job, at=at, reason=reason, policy=policy)


def into_doubt(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """Return the job in doubt, counted as active until its POST can no longer ring."""
    post = job.open_post
    return replace(
        job,
        state=S.IN_DOUBT,
        worker_id=None,
        due_at=at + policy.first_check,
        active_until=post.valid_until + policy.ringing if post else None,
        reason=reason,
        reason_kind=None,
    )


def give_up_waiting(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """End a job whose summary did not come by its deadline: the call was placed, and its end is unknown."""
    require(job, MoveName.GIVE_UP_WAITING)
    return ended(job, S.ACCEPTED, at=at, reason="no summary came by its deadline", policy=policy)


def check_again(job: Job, *, at: datetime, policy: CallPolicy, reason: str | None = None) -> Job:
    """Look for evidence again later, at doubling intervals. A missing summary proves nothing.

    `reason`, if given, replaces the reason of the job. A doubt that is too old (`is_old_doubt`) ends as `accepted`: it
    counts as placed, so no phone rings again for it.
    """
    require(job, MoveName.CHECK_AGAIN)
    post = job.open_post
    if is_old_doubt(job, at=at, policy=policy):
        days = policy.doubt_kept.days
        return ended(job, S.ACCEPTED, at=at, reason=f"{OLD_DOUBT} within {days} days", policy=policy)
    age = at - post.began_at if post else policy.first_check
    due_at = at + max(policy.first_check, min(age, policy.longest_check))
    return replace(job, due_at=due_at, reason=job.reason if reason is None else reason)


OLD_DOUBT = "it counts as placed, because nobody resolved the doubt"


def is_old_doubt(job: Job, *, at: datetime, policy: CallPolicy) -> bool:
    """Return whether a job has been in doubt for longer than the policy keeps doubts."""
    post = job.open_post
    return job.state is S.IN_DOUBT and post is not None and at >= post.began_at + policy.doubt_kept


def expire(job: Job, *, at: datetime, policy: CallPolicy, reason: str | None = None) -> Job:
    """End a job whose validity ended before it was sent, or for another reason."""
    require(job, MoveName.EXPIRE)
    state = unless_placed(job, S.EXPIRED)
    again = "its next number could be called" if job.place else "the redial"
    before = "it could be sent" if state is S.EXPIRED else again
    if job.window is not None and job.valid_until is not None and job.due_at >= job.valid_until:
        before = f"its calling window opened ({job.window})"
    return ended(job, state, at=at, reason=reason or f"its validity ended before {before}", policy=policy)


def cancel(job: Job, *, at: datetime, reason: str, policy: CallPolicy, kind: ReasonKind | None = None) -> Job:
    """Cancel a job that was not sent yet. Raises `TooLateError` if its POST may have left, or it has ended."""
    if job.state not in MOVES[MoveName.CANCEL]:
        remedy = (
            "the call has ended" if job.state.is_final else "the request may have left, and a call cannot be taken back"
        )
        raise TooLateError(job.id, state=job.state.value, move=MoveName.CANCEL, remedy=remedy)
    after = noted(job, NoteKind.CANCELLED, reason, at=at)
    return ended(after, unless_placed(job, S.CANCELLED), at=at, reason=reason, policy=policy, kind=kind)


def end_unreadable(job: Job, *, at: datetime, reason: str, policy: CallPolicy) -> Job:
    """End a job of which only the head is known. If its POST may have left, it counts as placed: none follows."""
    said = f"{reason}; its record could not be read"
    is_unsent = job.state in MOVES[MoveName.CANCEL]
    before = replace(job, created_at=min(job.created_at, at))  # its head has the time at which it is due instead
    after = noted(before, NoteKind.CANCELLED, said, at=at)
    said = said if is_unsent else f"{said}, so it counts as placed"
    return ended(after, S.CANCELLED if is_unsent else S.ACCEPTED, at=at, reason=said, policy=policy)


def resolve(
    job: Job,
    *,
    placed: bool,
    at: datetime,
    recorded_at: datetime,
    note: str,
    policy: CallPolicy,
    number: int | None = None,
) -> Job:
    """Settle a job in doubt by the decision of a person.

    "Placed" ends the job as `accepted`; a late summary still settles it. "Not placed" puts the job back in the queue,
    unless another POST settles it; it raises `TooEarlyError` until `recorded_at` is later than the `validUntil` of the
    POST plus the clock skew. `recorded_at` is the Date header of a fresh answer of 8x8, or else the store's clock.
    `number` is the POST that the person judged. Raises IllegalMoveError if another POST is in doubt.
    """
    require(job, MoveName.RESOLVE)
    post = job.open_post
    if post is None:  # pragma: no cover - a job in doubt has an open POST by construction
        raise IllegalMoveError(job.id, state=job.state.value, move="be resolved without a POST in doubt")
    if number is not None and post.number != number:
        remedy = f"POST {post.number}, begun at {in_words(post.began_at)}, is in doubt now; look for it at 8x8"
        raise IllegalMoveError(
            job.id, state=job.state.value, move=f"{MoveName.RESOLVE} by POST {number}", remedy=remedy
        )
    if not placed:
        until = post.valid_until + policy.clock_skew
        if recorded_at <= until:
            raise TooEarlyError(job.id, state=job.state.value, until=until)
    verdict = VerdictKind.PLACED if placed else VerdictKind.NOT_PLACED
    known = with_post(job, replace(post, verdict=verdict, answered_at=post.answered_at or at, message=note))
    known = noted(known, NoteKind.RESOLVED, note, at=at)
    if placed:
        return ended(known, S.ACCEPTED, at=at, reason=f"resolved as placed: {note}", policy=policy)
    again = requeued(known, due_at=at, reason=f"resolved as not placed: {note}")
    return by_other_post(known, at=at, policy=policy) or again


def redial(
    job: Job,
    *,
    at: datetime,
    note: str,
    force: bool = False,
    number: int | None = None,
    not_before: datetime | None = None,
) -> Job:
    """Queue a job for another call to the person's first number, at the request of a person.

    A `completed` or `accepted` job needs `force`. `number` is the number of the newest POST that the person saw, or 0
    for none: IllegalMoveError is raised if another is the newest.
    """
    refused = partial(IllegalMoveError, job.id, state=job.state.value, move=MoveName.REDIAL)
    if job.state in {S.IN_DOUBT, S.SUBMITTED, S.SENDING}:
        raise refused(remedy="wait for its outcome; while it is in doubt, a person can resolve it")
    require(job, MoveName.REDIAL)
    if job.again is not None:
        key = again_key(job.unique_key or "", job.again)
        raise refused(remedy=f"it was made again as the call with the key {key}; redial that one")
    if not job.source:  # only its head is known (`end_unreadable`)
        raise refused(remedy="its record could not be read, so its calling window is not known; enqueue a new call")
    if number is not None and job.post_count != number:
        newest = f"POST {job.post_count} is now the newest" if job.post_count else "it has no POST"
        raise IllegalMoveError(
            job.id,
            state=job.state.value,
            move=f"{MoveName.REDIAL} after POST {number}",
            remedy=f"{newest}; look at the call first",
        )
    if job.state in {S.COMPLETED, S.ACCEPTED} and not force:
        raise refused(remedy="the person was called; force the redial to call again (`--force`)")
    due_at = at if not_before is None else max(at, not_before)
    if job.is_expired(at=due_at):
        passes = "has passed" if job.is_expired(at=at) else "ends before that"
        raise refused(remedy=f"its validity {passes}; enqueue a new call")
    if job.rings_from(at=due_at) is None:
        remedy = f"its calling window ({job.window}) does not open again before its validity ends; enqueue a new call"
        raise refused(remedy=remedy)
    after = noted(job, NoteKind.REDIALLED, note, at=at)
    # A redial counts from its first POST on. One that ended without a POST rang nobody, and this one takes its place.
    redials = job.redials + any(post.redial == job.redials for post in job.posts)
    after = replace(after, redials=redials, place=0, failures=0, missed_windows=0)
    return requeued(after, due_at=due_at, reason=note)


def made_again(job: Job, number: int, *, at: datetime) -> Job:
    """Return an ended job with a note that it was made again, as the call whose key ends in this number."""
    return noted(job, NoteKind.MADE_AGAIN, str(number), at=at)


def noted(job: Job, kind: NoteKind, text: str, *, at: datetime) -> Job:
    """Return the job with the note of a person. Raises InvalidInputError for a text that no store can keep."""
    checked_text(f"the note for call {job.id}", text)
    return replace(job, notes=(*job.notes, Note(at=at, kind=kind, text=text)))


def submitted(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after its call was placed: it waits for a summary, or, without webhooks, ends as `accepted`.

    A job that has ended does not wait: it ends as `accepted` too, and gets no further call.
    """
    if job.state is S.ACCEPTED:
        return job
    if job.state.is_final:
        reason = f"its call was placed after all; not called again: its end as {job.state.value} was reported before"
        return ended(job, S.ACCEPTED, at=at, reason=reason, policy=policy)
    if policy.outcomes is OutcomeSource.NONE:
        return ended(job, S.ACCEPTED, at=at, reason=None, policy=policy)
    deadline = at + policy.summary_deadline
    return replace(
        job,
        state=S.SUBMITTED,
        worker_id=None,
        due_at=deadline,
        active_until=deadline,
        reason=None,
        reason_kind=None,
        failures=0,
    )


def by_placed_post(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job as settled by `post`, which placed a call: to send again would call the person twice."""
    if post.outcome is None:
        return submitted(job, at=at, policy=policy)
    return by_outcome(job, post, post.outcome, at=at, policy=policy)


def by_other_post(job: Job, *, at: datetime, policy: CallPolicy) -> Job | None:
    """Return a job whose newest POST placed no call, as another POST settles it; None if it may be sent again.

    If another POST of this attempt may have rung, the job is in doubt. If somebody cancelled it meanwhile, or the
    person may have been called twice, it ends. (Each needs a rollback of the store.)
    """
    if job.settling_post is not None:
        return by_placed_post(job, job.settling_post, at=at, policy=policy)
    post = job.open_post
    if job.state.is_final:
        return None
    if post is None or post.redial != job.redials:
        if was_cancelled(job):
            return ended(job, unless_placed(job, S.CANCELLED), at=at, reason="it was cancelled before", policy=policy)
        newest = job.posts[-1]
        if any(note.kind is NoteKind.RANG_TWICE and note.at >= newest.began_at for note in job.notes):
            return ended(job, S.ACCEPTED, at=at, reason="this person may have been called twice", policy=policy)
        return None
    return into_doubt(job, at=at, reason=f"POST {post.number} may have been placed too", policy=policy)


_NEXT_NUMBER_AFTER = frozenset({SessionStatus.NO_ANSWER, SessionStatus.BUSY})
_NOT_REACHED = frozenset(
    {SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.CANCELED, SessionStatus.UNSUBSCRIBED_CONTACT}
)


def by_outcome(job: Job, post: Post, outcome: Outcome, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job after an outcome of the session of `post`: queued again for a granted call, else ended.

    The next call is to the person's next number if this one was busy or did not answer; after the last, the redial
    policy may grant another round. A job that has ended gets no further call, because its end was reported. A body that
    failed at 8x8 (`BODY_CODES`) would fail again.
    """
    status = outcome.status_of(job.number_of(post))
    # The summary of an earlier POST may come late, after the job was sent again.
    conclusive = {job.status_of(each) for each in job.conclusive_posts}
    is_over = bool(conclusive & OPT_OUTS) or (status not in REACHED and bool(conclusive))
    may_redial = not is_over and not was_cancelled(job) and (not job.state.is_final or job.state is S.ACCEPTED)
    wording = _wording(job, post, outcome)
    place, wanted, why = 0, None, f"redial after {wording}"
    if may_redial and status in _NEXT_NUMBER_AFTER and post.place < len(job.further_numbers):
        place, wanted, why = post.place + 1, at, f"the person's next number, after {wording}"
    elif may_redial:
        wanted = redial_at(job, status, at=at)
    is_broken = outcome.code in BODY_CODES
    again = job.rings_from(at=wanted) if wanted is not None and not is_broken else None
    if again is not None and not job.state.is_final:
        redialled = replace(job, redials=job.redials + 1, place=place, failures=0, missed_windows=0)
        return requeued(redialled, due_at=again, reason=why)
    if status in REACHED or conclusive & REACHED:
        return ended(job, S.COMPLETED, at=at, reason=None, policy=policy)
    reason = wording
    if status not in _NOT_REACHED and outcome.message:
        reason = f"{reason}: {outcome.message}"
    if wanted is not None:
        why = "its end as accepted was reported before" if job.state is S.ACCEPTED else _why_not(job, wanted)
        why = f"the same call would fail again ({outcome.code})" if is_broken else why
        reason = f"{reason}; not called again: {why}"
    return ended(job, S.UNREACHED if status in _NOT_REACHED else S.FAILED, at=at, reason=reason, policy=policy)


def was_cancelled(job: Job) -> bool:
    """Return whether a person cancelled the job and has not redialled it. Late evidence then grants no redial."""
    orders = [note.kind for note in job.notes if note.kind in {NoteKind.CANCELLED, NoteKind.REDIALLED}]
    return bool(orders) and orders[-1] is NoteKind.CANCELLED


def _wording(job: Job, post: Post, outcome: Outcome) -> str:
    """Return the status of the call to the person, in 8x8's spelling if it is that of the session."""
    number = job.number_of(post)
    same = outcome.status_of(number) is outcome.status
    return outcome.status_text if same else outcome.text_of(number)


def redial_at(job: Job, status: SessionStatus | None, *, at: datetime) -> datetime | None:
    """Return the time of the redial that the policy grants after this status; None if it grants none."""
    plan = job.redial
    if plan is None or status is None or status not in plan.on - OPT_OUTS or job.rounds >= plan.limit:
        return None
    try:
        return at + plan.wait(status)
    except OverflowError:
        return None  # beyond the year 9999. An error here would reject the summary.


def _why_not(job: Job, wanted: datetime) -> str:
    """Return the reason why the next call is not made at the wanted time or later."""
    again = job.opens(at=wanted)
    if again is None:
        return f"its calling window ({job.window}) does not open any more"
    return f"the next call would be at {in_words(again)}, but its validity ends at {in_words(job.valid_until or again)}"


def unless_placed(job: Job, state: JobState) -> JobState:
    """Return the final state of a job that will not be sent again: `state`, unless one of its POSTs was placed."""
    if job.has_outcome:
        return S.UNREACHED
    return S.ACCEPTED if any(post.was_placed for post in job.posts) else state


def ended(
    job: Job,
    state: JobState,
    *,
    at: datetime,
    reason: str | None,
    policy: CallPolicy,
    kind: ReasonKind | None = None,
) -> Job:
    """Return the job in a final state, to be pruned once the retention has passed."""
    return replace(
        job, state=state, worker_id=None, due_at=at + policy.retention, active_until=None, reason=reason,
        reason_kind=kind,
    )  # fmt: skip


def requeued(job: Job, *, due_at: datetime, reason: str | None) -> Job:
    """Return the job in the queue for another call, due at `due_at`, or when its window opens after that."""
    due_at = in_its_window(job, due_at)
    queued = replace(
        job, state=S.QUEUED, worker_id=None, due_at=due_at, active_until=None, reason=reason, reason_kind=None
    )
    return with_new_place(queued)


def in_its_window(job: Job, due_at: datetime) -> datetime:
    """Return when a job that is due at this time may ring: when its window opens."""
    return job.opens(at=due_at) or due_at + CHECK_AGAIN


def with_post(job: Job, post: Post) -> Job:
    """Return the job with one of its POSTs replaced, without the oldest that placed no call (`KEPT_POSTS`)."""
    posts = tuple(post if old.number == post.number else old for old in job.posts)
    kept = KEPT_POSTS.get(post.verdict) if post.verdict is not None else None
    if kept is not None and len(posts) > kept:
        alike = [p.number for p in posts if p.verdict is post.verdict and p.outcome is None]
        dropped = set(alike[: max(len(alike) - kept, 0)])
        posts = tuple(p for p in posts if p.number not in dropped)
    return replace(job, posts=posts)


def require(job: Job, move: MoveName) -> None:
    """Raise `IllegalMoveError` if the job is in a state in which this move cannot start."""
    if job.state not in MOVES[move]:
        raise IllegalMoveError(job.id, state=job.state.value, move=move)
