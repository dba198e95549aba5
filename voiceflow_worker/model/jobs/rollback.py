"""Two records of one job: that of a store that was rolled back, and that of a journal file.

A journal file has the job as it was just before its newest POST was sent. If the store has fewer POSTs, that record is
taken, with what only the store knows. Else the store was also used after the rollback: the job stays in doubt, or ends.
"""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, Note, NoteKind, Post
from voiceflow_worker.model.jobs.lifecycle import ended, into_doubt, unless_placed
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED
from voiceflow_worker.model.reports.verdict import VerdictKind

REASON = "the store was rolled back; this POST may have been placed"
SEEN = "seen in the log of 8x8, and in no journal"
"""The message of a POST that the store has lost, and that only a row of the log shows (`seen_in_log`)."""
_WEIGHT = {None: 0, VerdictKind.UNKNOWN: 1, VerdictKind.NOT_PLACED: 2, VerdictKind.PLACED: 3, VerdictKind.CREATED: 5}
"""The weight of each verdict; 4 if it is not here. An answer to the POST outweighs the log and people."""


def is_forgotten(journalled: Job, stored: Job) -> bool:
    """Return whether the job in the store lacks the newest POST of the journalled job."""
    post = journalled.posts[-1]
    known = stored.post(post.number)
    if known is None:
        # A POST that is missing before later ones sent nothing, and was dropped.
        return stored.post_count < post.number
    return _is_lost(post, stored)


def with_lost_posts(job: Job, journalled: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """Return the job with the forgotten POSTs of the journalled job; in doubt if one of them may have rung."""
    if not is_forgotten(journalled, job):
        return job
    long, short = (journalled, job) if journalled.post_count > job.post_count else (job, journalled)
    lost = [post for post in short.posts if _is_lost(post, long)]
    posts = tuple(_stronger(post, short.post(post.number), at=at) for post in long.posts)
    notes = [*long.notes, *(note for note in short.notes if note not in long.notes)]
    notes = sorted([*notes, *(_rang_twice(post, at=at) for post in lost)], key=lambda note: note.at)
    # The same call may have been enqueued again since, and then has the unique key.
    known = replace(long, posts=posts, notes=tuple(notes), unique_key=job.unique_key)
    if known.open_post is not None:
        return into_doubt(known, at=at, reason=REASON, policy=policy)
    if any(known.status_of(post) in REACHED for post in (*posts, *lost)):
        return ended(known, JobState.COMPLETED, at=at, reason=None, policy=policy)
    return ended(known, unless_placed(known, JobState.ACCEPTED), at=at, reason=REASON, policy=policy)


def restored(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """Return a job from a journal file, to be restored: in doubt if its state is `sending`, else unchanged."""
    if job.state is not JobState.SENDING:
        return job
    return into_doubt(job, at=at, reason=REASON, policy=policy)


def seen_in_log(job: Job, *, row: str, began_at: datetime, place: int, at: datetime, policy: CallPolicy) -> Job:
    """Return a waiting job with the POST that it lacks, as a row of 8x8's log shows it: in doubt."""
    number = job.post_count + 1
    post = Post(
        number=number,
        client_request_id=job.request_id(number),
        began_at=began_at,
        valid_until=began_at + policy.submit_window,
        redial=job.redials,
        message=SEEN,
        place=place,
    )
    known = replace(job, post_count=number, posts=(*job.posts, post), place=place)
    reason = f"the store was put back, and the log of 8x8 shows a call: {row}. Look at it, and resolve the call"
    return into_doubt(known, at=at, reason=reason, policy=policy)


def _strength(post: Post) -> tuple[int, ...]:
    """Return the order of two records of one POST by the evidence in them."""
    was_placed = post.outcome is not None and post.outcome.was_placed
    is_conclusive = post.outcome is not None and post.outcome.status in REACHED | OPT_OUTS
    known = (post.outcome, post.session_id, *post.presses)
    return is_conclusive, was_placed, _WEIGHT.get(post.verdict, 4), len(known) - known.count(None)


def _stronger(post: Post, other: Post | None, *, at: datetime) -> Post:
    """Return the record of a POST with more evidence; `post` if `other` is not a record of it."""
    if other is None or other.began_at != post.began_at or _strength(other) <= _strength(post):
        return post
    # An order to redial in the other record was given without this outcome.
    return other if other.outcome is None else replace(other, outcome_known_at=at)


def _is_lost(post: Post, job: Job) -> bool:
    """Return whether a job lacks a POST that may have rung, and no note reports it."""
    known = job.post(post.number)
    begun = post.began_at.isoformat()
    is_noted = any(note.kind is NoteKind.RANG_TWICE and begun in note.text for note in job.notes)
    return post.may_have_rung and not is_noted and (known is None or known.began_at != post.began_at)


def _rang_twice(post: Post, *, at: datetime) -> Note:
    text = (
        f"POST {post.number} was begun at {post.began_at.isoformat()}; the store was rolled back, and lost it: "
        "this person may have been called twice"
    )
    return Note(at=at, kind=NoteKind.RANG_TWICE, text=text)
