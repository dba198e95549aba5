"""The reason why a call did not reach its person, in words."""

from __future__ import annotations

from voiceflow_worker.model.jobs.call_json import counted_reason, sip_code_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import (
    SESSION_STATUSES,
    SIP_CODES,
    SessionStatus,
    api_code,
    session_error,
)
from voiceflow_worker.model.reports.verdict import VerdictKind


def why_nobody_was_reached(job: Job) -> str | None:
    """Return why an ended call did not reach its person, in words; None if it did, or if that is not known."""
    outcome, post = job.outcome, job.last_post
    if job.state is JobState.CANCELLED:
        return f"cancelled: {counted_reason(job)}"
    if job.state is JobState.EXPIRED:
        return "its time was over before it could be called"
    if job.state not in {JobState.UNREACHED, JobState.FAILED}:
        return None
    if post is not None and post.verdict is VerdictKind.REFUSED:
        return "refused by 8x8" if post.code is None else f"refused by 8x8: {api_code(post.code).meaning}"
    if outcome is None:
        return job.reason or "no reason is known"
    if (sip_code := sip_code_of(job)) is not None and sip_code in SIP_CODES:
        return SIP_CODES[sip_code].meaning
    status = job.outcome_status
    if status is not None and (outcome.code is None or status in {SessionStatus.NO_ANSWER, SessionStatus.BUSY}):
        return SESSION_STATUSES[status].meaning
    return outcome.status_text if outcome.code is None else session_error(outcome.code).meaning
