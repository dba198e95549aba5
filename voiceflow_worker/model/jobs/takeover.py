"""The merge of two records of one job, from two copies of a store, into one record with the evidence of both."""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.evidence import answered, summarised, with_further
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind, Post
from voiceflow_worker.model.jobs.lifecycle import by_placed_post, ended, into_doubt, requeued, unless_placed, with_post
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import REASON, is_noted, merged, spanning, with_merged
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED
from voiceflow_worker.model.reports.verdict import GATEWAY_VERDICTS, Verdict

S = JobState

_WAITS = frozenset({S.QUEUED, S.LEASED})
_NOT_CALLED = _WAITS | {S.FAILED, S.EXPIRED, S.CANCELLED}


def was_ever_moved_on(job: Job) -> bool:
    """Whether a POST of the job was ever begun, or the job has ended."""
    return job.post_count > 0 or job.state not in _WAITS


def further(kept: Job, other: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """One record of a job with the evidence of two records, `kept` and `other`.

    A record that has all the evidence of the other is returned unchanged. If both have the same evidence, the record
    that is further along in its life is returned: a job that could be sent again never replaces a job that could not.
    If each has evidence that the other lacks, the record that is further along gets the evidence of the other. If the
    records have two different POSTs with the same number and both may have rung, a note says so.
    """
    adds, lacks = _adds(other, kept), _adds(kept, other)
    is_further = _distance(other) > _distance(kept)
    if adds and lacks:
        base, rest = (other, kept) if is_further else (kept, other)
        return _with_evidence_of(base, rest, at=at, policy=policy)
    return other if adds or (is_further and not lacks) else kept


def _adds(job: Job, known: Job) -> bool:
    """Whether `job` has evidence that `known` lacks."""
    return (
        job.post_count > known.post_count
        or not set(job.notes) <= set(known.notes)
        or any(_is_news(post, known) for post in job.posts)
    )


def _is_news(post: Post, job: Job) -> bool:
    known = job.post(post.number)
    if known is None:
        return post.may_have_rung  # a POST that sent nothing may have been dropped
    if not _is_same(known, post, job):
        return post.may_have_rung
    return _says_more(post, known, job) or merged(known, post) != known


def _says_more(post: Post, known: Post, job: Job) -> bool:
    """Whether two records of a POST both have an outcome, and that of `post` outweighs that of `known`.

    An answered call outweighs an unanswered one. If both were answered, or neither, an opt-out outweighs.
    """
    if known.outcome is None or post.outcome is None:
        return False
    ours, theirs = known.outcome.status_of(job.destination), post.outcome.status_of(job.destination)
    return (theirs in REACHED, theirs in OPT_OUTS) > (ours in REACHED, ours in OPT_OUTS)


def _is_same(known: Post, post: Post, job: Job) -> bool:
    """Whether the records count as one POST: both began at one time, or the job has a note about the two."""
    return known.began_at == post.began_at or is_noted(job, known, post)


def _distance(job: Job) -> tuple[int, int]:
    return job.post_count, 0 if job.state in _WAITS else 2 if job.state.is_final else 1


def _with_evidence_of(job: Job, other: Job, *, at: datetime, policy: CallPolicy) -> Job:
    notes = tuple(note for note in other.notes if note not in job.notes)
    for post in other.posts:
        job = _with_post_of(job, post, at=at, policy=policy)
    job = replace(job, notes=(*job.notes, *(note for note in notes if note not in job.notes)))
    job = _settled(job, at=at, policy=policy)
    if notes and notes[-1].kind is NoteKind.CANCELLED and job.state in _WAITS:
        return ended(job, unless_placed(job, S.CANCELLED), at=at, reason=notes[-1].text, policy=policy)
    return job


def _with_post_of(job: Job, post: Post, *, at: datetime, policy: CallPolicy) -> Job:
    """The job with the evidence of `post`, which comes from the other record of the job."""
    known = job.post(post.number)
    if known is None or not (_is_same(known, post, job) or known.may_have_rung):
        return with_further(job, post, at=at, policy=policy) if post.may_have_rung else job
    if not _is_same(known, post, job):
        if not post.may_have_rung:
            return job
        job = spanning(job, known, post, at=at, policy=policy)
        known = job.post(post.number) or known
    if _says_more(post, known, job):
        known = replace(known, outcome=None)
        job = with_post(job, known)
    both = merged(known, post)
    if both.verdict is not None and both.verdict is not known.verdict and both.verdict in GATEWAY_VERDICTS:
        verdict = Verdict(kind=both.verdict, message=both.message or "", code=both.code, session_id=both.session_id)
        job = answered(job, post.number, verdict, at=both.answered_at or at, policy=policy)
    job = with_merged(job, replace(both, outcome=known.outcome), policy=policy)
    if both.outcome is not None:
        job = summarised(job, post.number, both.outcome, at=at, policy=policy)
    return job


def _settled(job: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The job in a state that its POSTs allow. It is not sent again if a POST of this attempt may have rung."""
    current = job.open_post
    if job.state in _NOT_CALLED:
        earlier = job.settling_post
        if earlier is not None:
            return by_placed_post(job, earlier, at=at, policy=policy)
        if current is not None and current.redial == job.redials:
            return into_doubt(job, at=at, reason=REASON, policy=policy)
    elif job.state in {S.SENDING, S.IN_DOUBT}:
        if current is not None and current.was_placed:
            return by_placed_post(job, current, at=at, policy=policy)
        if current is None and job.settling_post is not None:
            return by_placed_post(job, job.settling_post, at=at, policy=policy)
        if current is None:
            return requeued(job, due_at=at, reason=job.posts[-1].message)
    return job
