"""Two records of one job: from a store and a journal file, or from a backup and the file that it replaces.

The record with the further state of the job is taken whole. If each record has something that the other lacks, their
histories have parted, and the job is in doubt. A POST is identified by its number and the time at which it began. A
journal file has the job as it was just before its newest POST left.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, Note, NoteKind, Post
from voiceflow_worker.model.jobs.lifecycle import ended, into_doubt, unless_placed
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED
from voiceflow_worker.model.reports.verdict import VerdictKind

REASON = "the store was rolled back; this POST may have been placed"
PARTED = "two copies of the store have different histories of this call, so it may have been placed"

_WAITS = frozenset({JobState.QUEUED, JobState.LEASED})
_WEIGHT = {
    None: 0,
    VerdictKind.UNKNOWN: 1,
    VerdictKind.NOT_PLACED: 2,
    VerdictKind.PLACED: 3,
    VerdictKind.REFUSED: 4,
    VerdictKind.NOT_SENT: 4,
    VerdictKind.TURNED_AWAY: 4,
    VerdictKind.CREATED: 5,
}
"""The weight of each verdict. An answer to the POST outweighs the log and people, and CREATED outweighs all others."""


def is_forgotten(journalled: Job, stored: Job) -> bool:
    """Whether the job in the store lacks the newest POST of the journalled job."""
    post = journalled.posts[-1]
    known = stored.post(post.number)
    if known is None:
        # A POST that is missing before later ones sent nothing, and was dropped.
        return stored.post_count < post.number
    return known.began_at != post.began_at and not _is_noted(post, stored.notes)


def remembered(job: Job, journalled: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job with the forgotten POSTs of the journalled job; in doubt if one of them may have rung.

    Returns `job` itself if the newest POST of the journalled job is not missing.
    """
    if not is_forgotten(journalled, job):
        return job
    known = further(job, journalled, at=at, policy=policy, reason=REASON)
    # The same call may have been enqueued again since, and then has the unique key.
    return replace(made_again(known, at=at, policy=policy), unique_key=job.unique_key)


def made_again(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """A job from a journal file, to be stored again: in doubt if its state is `sending`, else unchanged."""
    if job.state is not JobState.SENDING:
        return job
    return into_doubt(job, at=at, reason=REASON, policy=policy)


def further(kept: Job, other: Job, *, at: datetime, policy: CallPolicy, reason: str = PARTED) -> Job:
    """The further record of a job, unchanged; `kept` if neither is further.

    If both records have the same POSTs and notes, an ended job is further than an open one, and an open one is further
    than a waiting one. If each record has a POST, evidence or a note that the other lacks, the job has all POSTs and
    notes of both, and is in doubt for `reason`. If no POST is open, the job ends, or waits if it waits in both records.
    """
    count = max(kept.post_count, other.post_count)
    posts, incidents = _posts_of_both(kept, other, at=at)
    notes = _notes_of_both(kept, other)
    whole = [each for each in (kept, other) if (each.post_count, each.posts, each.notes) == (count, posts, notes)]
    if whole and not incidents:
        return max(whole, key=_distance)
    newest = max(kept, other, key=lambda each: (each.redials, each.post_count))
    job = replace(
        max(kept, other, key=lambda each: (_distance(each), each.redials)),
        post_count=count,
        # An order to redial in one history was given without the outcomes of the other.
        posts=tuple(post if post.outcome is None else replace(post, outcome_known_at=at) for post in posts),
        redials=newest.redials,
        place=newest.place,
        notes=(*notes, *incidents),
    )
    if job.open_post is not None:
        # A redial that was granted and has no POST yet is granted again, or not, when the doubt is settled.
        made = max(posts, key=lambda post: (post.redial, post.number))
        return into_doubt(replace(job, redials=made.redial, place=made.place), at=at, reason=reason, policy=policy)
    if any(job.status_of(post) in REACHED for post in posts):
        return ended(job, JobState.COMPLETED, at=at, reason=None, policy=policy)
    if job.state in _WAITS or job.state.is_final:
        return job
    return ended(job, unless_placed(job, JobState.FAILED), at=at, reason=reason, policy=policy)


def _distance(job: Job) -> int:
    return 0 if job.state in _WAITS else 2 if job.state.is_final else 1


def _is_noted(post: Post, notes: tuple[Note, ...]) -> bool:
    """Whether a note names this POST as one of two POSTs with one number."""
    begun = post.began_at.isoformat()
    return any(note.kind is NoteKind.RANG_TWICE and begun in note.text for note in notes)


def _posts_of_both(kept: Job, other: Job, *, at: datetime) -> tuple[tuple[Post, ...], tuple[Note, ...]]:
    """The POSTs of both records, and a note for each number with two POSTs that may both have rung."""
    posts: list[Post] = []
    incidents: list[Note] = []
    for number in sorted({post.number for post in (*kept.posts, *other.posts)}):
        one, two = kept.post(number), other.post(number)
        if one is None or two is None:
            post, count = (one, other.post_count) if two is None else (two, kept.post_count)
            # A POST that is missing before later ones sent nothing, and was dropped.
            if post is not None and (number > count or post.may_have_rung):
                posts.append(post)
            continue
        is_noted = _is_noted(two, kept.notes), _is_noted(one, other.notes)
        is_same = one.began_at == two.began_at and is_noted[0] is is_noted[1]
        strength = partial(_strength, job=kept, is_same=is_same)
        best, less = (two, one) if strength(two) > strength(one) else (one, two)
        if is_same or less.may_have_rung:
            # Rows of 8x8's log for either POST must match the one that stays: evidence names only the number.
            best = replace(
                best, began_at=min(one.began_at, two.began_at), valid_until=max(one.valid_until, two.valid_until)
            )
        if one.began_at != two.began_at and not any(is_noted) and less.may_have_rung:
            incidents.append(_rang_twice(one, two, at=at))
        posts.append(best)
    return tuple(posts), tuple(incidents)


def _strength(post: Post, job: Job, *, is_same: bool) -> tuple[object, ...]:
    """Orders two records of one POST number. Of two different POSTs, an open one outweighs an unanswered one."""
    status = job.status_of(post)
    return (
        status in REACHED,
        status in OPT_OUTS,
        post.is_open and not is_same,
        post.outcome is not None and post.outcome.was_placed,
        _WEIGHT[post.verdict],
        post.outcome is not None,
        post.session_id is not None,
        len(post.presses),
        post.charge is not None,
    )


def _notes_of_both(kept: Job, other: Job) -> tuple[Note, ...]:
    more, fewer = (other.notes, kept.notes) if len(other.notes) > len(kept.notes) else (kept.notes, other.notes)
    added = [note for note in fewer if note not in more]
    return tuple(sorted((*more, *added), key=lambda note: note.at)) if added else more


def _rang_twice(one: Post, other: Post, *, at: datetime) -> Note:
    first, second = sorted((one.began_at, other.began_at))
    text = (
        f"POST {one.number} was begun at {first.isoformat()}; the store was rolled back, and the POST was "
        f"begun again at {second.isoformat()}: this person may have been called twice"
    )
    return Note(at=at, kind=NoteKind.RANG_TWICE, text=text)
