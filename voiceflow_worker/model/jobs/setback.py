"""Recovery, from a worker's journal file, of POSTs that a store forgot when it was set back.

The journal file has the job as it was just before its newest POST left. A store that was not set back has that POST, or
has dropped it after many later POSTs. POST numbers only grow. A POST is identified by its number and the time it began.
"""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState, Note, NoteKind, Post
from voiceflow_worker.model.jobs.lifecycle import into_doubt, with_post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.verdict import VerdictKind

REASON = "the store was set back; this POST may have been placed"

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
    if stored.post_count < post.number:
        return True
    known = stored.post(post.number)
    if known is not None and is_noted(stored, known, post):
        return False
    # A missing POST is one of many that sent nothing, and was dropped. A POST that began at another time was made by a
    # worker that did not know the journalled POST.
    return known is not None and known.began_at != post.began_at


def remembered(job: Job, journalled: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job with the POSTs of the journalled job added; in doubt if one of them may have rung.

    What the journalled job knows of earlier POSTs, and its notes, are added too. Returns `job` itself if no POST is
    missing.
    """
    if not is_forgotten(journalled, job):
        return job
    *earlier, post = journalled.posts
    for each in earlier:
        job = _with_earlier(job, each, at=at, policy=policy)
    notes = (*job.notes, *(note for note in journalled.notes if note not in job.notes))
    job = replace(job, notes=tuple(sorted(notes, key=lambda note: note.at)))
    known = job.post(post.number)
    if known is None:
        missing = tuple(each for each in journalled.posts if each.number > job.post_count)
        knows = replace(
            job,
            posts=(*job.posts, *missing),
            post_count=journalled.post_count,
            redials=max(job.redials, journalled.redials),
        )
        return into_doubt(knows, at=at, reason=REASON, policy=policy)
    if not known.may_have_rung:
        return into_doubt(with_post(job, post), at=at, reason=REASON, policy=policy)
    return spanning(job, known, post, at=at, policy=policy)


def _with_earlier(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    """The job with the evidence of a POST before the newest one. A missing POST is left out."""
    known = job.post(post.number)
    if known is None or is_noted(job, known, post):
        return job
    if known.began_at == post.began_at:
        return with_post(job, merged(known, post))
    if not (known.may_have_rung and post.may_have_rung):
        return with_post(job, post) if post.may_have_rung else job
    return spanning(job, known, post, at=at, policy=policy)


def is_noted(job: Job, known: Post, post: Post) -> bool:
    """Whether a note of the job says that these are two POSTs with the same POST number."""
    return any(note.text == _twice(known, post) for note in job.notes)


def spanning(job: Job, known: Post, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    """The job after two POSTs with one POST number, `known` and `post`, were merged into one, with a note about them.

    They are merged because evidence names only the POST number, and can belong to either of them. The merged POST has
    the earlier beginning and the later end of validity, so that rows of 8x8's log for both match it.
    """
    merged = with_merged(job, lasting(known, post), policy=policy)
    note = Note(at=at, kind=NoteKind.RANG_TWICE, text=_twice(known, post))
    return replace(merged, notes=(*merged.notes, note))


def lasting(known: Post, post: Post) -> Post:
    """The POST `known`, with the times of both: from the earlier beginning to the later end of the validity."""
    return replace(
        known, began_at=min(known.began_at, post.began_at), valid_until=max(known.valid_until, post.valid_until)
    )


def merged(known: Post, post: Post) -> Post:
    """One POST with the evidence of both its records. The outcome in `known` is kept, if there is one."""
    best, less = (post, known) if _WEIGHT[post.verdict] > _WEIGHT[known.verdict] else (known, post)
    # An answer that nobody was called outweighs a session that was matched to the POST.
    is_denied = less.verdict is VerdictKind.PLACED and not best.was_placed
    return replace(
        lasting(known, post),
        verdict=best.verdict,
        answered_at=best.answered_at,
        code=best.code,
        message=best.message,
        session_id=best.session_id or (None if is_denied else less.session_id),
        outcome=known.outcome or post.outcome,
        outcome_known_at=max(filter(None, (known.outcome_known_at, post.outcome_known_at)), default=None),
        presses=(*known.presses, *(press for press in post.presses if press not in known.presses)),
        charge=known.charge or post.charge,
    )


def with_merged(job: Job, post: Post, *, policy: CallPolicy) -> Job:
    """The job with a merged POST. An open call is counted as active until that POST can no longer ring."""
    known = with_post(job, post)
    silent_from = post.valid_until + policy.ringing
    if job.active_until is None or not post.may_have_rung or job.active_until >= silent_from:
        return known
    return replace(known, active_until=silent_from)


def _twice(one: Post, other: Post) -> str:
    """The text of the note on two POSTs with the same POST number. It is the same in either order of the POSTs."""
    first, second = sorted((one.began_at, other.began_at))
    return (
        f"POST {one.number} was begun at {first.isoformat()}; the store was set back, and the POST was begun again at "
        f"{second.isoformat()}: this person may have been called twice"
    )


def made_again(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """A job from a journal file, to be stored again: in doubt if its state is `sending`, else unchanged."""
    if job.state is not JobState.SENDING:
        return job
    return into_doubt(job, at=at, reason=REASON, policy=policy)
