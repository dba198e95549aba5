"""Two records of one job: from a store and a journal file, or from a backup and the file that it replaces.

The longer record of the job is taken whole. If the shorter one has something that the longer one lacks, the store was
used before and after a rollback: the job is in doubt, or ends. A POST is identified by its number and the time at which
it began. A journal file has the job as it was just before its newest POST was sent.
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
PARTED = "two copies of the store have different histories of this call, so it may have been placed"

_WAITS = frozenset({JobState.QUEUED, JobState.LEASED})
_WEIGHT = {None: 0, VerdictKind.UNKNOWN: 1, VerdictKind.NOT_PLACED: 2, VerdictKind.PLACED: 3, VerdictKind.CREATED: 5}
"""The weight of each verdict; 4 if it is not here. An answer to the POST outweighs the log and people."""


def is_forgotten(journalled: Job, stored: Job) -> bool:
    """Whether the job in the store lacks the newest POST of the journalled job."""
    post = journalled.posts[-1]
    known = stored.post(post.number)
    if known is None:
        # A POST that is missing before later ones sent nothing, and was dropped.
        return stored.post_count < post.number
    return _is_lost(post, stored)


def with_lost_posts(job: Job, journalled: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job with the forgotten POSTs of the journalled job; in doubt if one of them may have rung.

    Returns `job` itself if the newest POST of the journalled job is not missing.
    """
    if not is_forgotten(journalled, job):
        return job
    known = longer(job, journalled, at=at, policy=policy, reason=REASON)
    # The same call may have been enqueued again since, and then has the unique key.
    return replace(restored(known, at=at, policy=policy), unique_key=job.unique_key)


def restored(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """A job from a journal file, to be restored: in doubt if its state is `sending`, else unchanged."""
    if job.state is not JobState.SENDING:
        return job
    return into_doubt(job, at=at, reason=REASON, policy=policy)


def longer(kept: Job, other: Job, *, at: datetime, policy: CallPolicy, reason: str = PARTED) -> Job:
    """The longer record of a job, unchanged; `kept` if neither is longer.

    If the shorter record has evidence, a note or a POST that the longer one lacks, the evidence and the notes are
    added, and a note reports the POST. The job is then in doubt for `reason`. If no POST is open, it ends, unless it
    waits in both records, and no POST is lost.
    """
    long, short = (other, kept) if _length(other) > _length(kept) else (kept, other)
    lost = [post for post in short.posts if _is_lost(post, long)]
    posts = tuple(_stronger(post, short.post(post.number), at=at) for post in long.posts)
    notes = [note for note in short.notes if note not in long.notes]
    if posts == long.posts and not notes and not lost:
        return long
    notes += [_rang_twice(post, at=at) for post in lost]
    job = replace(long, posts=posts, notes=tuple(sorted((*long.notes, *notes), key=lambda note: note.at)))
    if job.open_post is not None:
        return into_doubt(job, at=at, reason=reason, policy=policy)
    if any(job.status_of(post) in REACHED for post in (*posts, *lost)):
        return ended(job, JobState.COMPLETED, at=at, reason=None, policy=policy)
    if {long.state, short.state} <= _WAITS and not lost:
        return job
    state = next((each.state for each in (long, short) if each.state.is_final and not lost), JobState.ACCEPTED)
    return ended(job, unless_placed(job, state), at=at, reason=reason, policy=policy)


def _length(job: Job) -> tuple[object, ...]:
    """Orders two records of one job. If they have the same POSTs, an ended job is longer than an open one."""
    distance = 0 if job.state in _WAITS else 2 if job.state.is_final else 1
    return job.post_count, job.redials, len(job.notes), [_strength(post) for post in job.posts], distance


def _strength(post: Post) -> tuple[int, ...]:
    """Orders two records of one POST by the evidence in them."""
    was_placed = post.outcome is not None and post.outcome.was_placed
    is_conclusive = post.outcome is not None and post.outcome.status in REACHED | OPT_OUTS
    known = (post.outcome, post.session_id, post.charge, *post.presses)
    return is_conclusive, was_placed, _WEIGHT.get(post.verdict, 4), len(known) - known.count(None)


def _stronger(post: Post, other: Post | None, *, at: datetime) -> Post:
    """The record of a POST with more evidence; `post` if `other` is not a record of it."""
    if other is None or other.began_at != post.began_at or _strength(other) <= _strength(post):
        return post
    # An order to redial in the other record was given without this outcome.
    return other if other.outcome is None else replace(other, outcome_known_at=at)


def _is_lost(post: Post, job: Job) -> bool:
    """Whether a job lacks a POST that may have rung, and no note reports it."""
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
