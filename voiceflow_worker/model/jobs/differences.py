"""The differences between a call that is asked for and the stored call of its key: what rings, and when.

What was asked is compared, not what was computed from it: a span gives another end whenever it is asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from msgspec.json import encode

from voiceflow_worker.model.jobs.job import ENDED_UNSENT, Job, JobState, ReasonKind

_ADDRESSES = ("source", "destination", "further_numbers")


def differences(asked: Job, stored: Job) -> tuple[str, ...]:
    """Return the names of the fields in which a stored call differs from what is asked; of a tombstone, its digest."""
    found: list[str] = []
    # Behind a point, the digest has that of a request to the HTTP API, which compares requests.
    if asked.body_digest.partition(".")[0] != stored.digest.partition(".")[0]:
        found = [name for name in _ADDRESSES if getattr(asked, name) != getattr(stored, name)] or ["text"]
    for name, mine, other in zip(_TERMS, _terms(asked), _terms(stored), strict=True) if stored.body else ():
        is_unsaid = name == "valid_until" and mine is None  # then that of the stored call stays
        if mine != other and not is_unsaid and not (name == "time_zone" and None in {asked.window, stored.window}):
            found.append(name)
    return tuple(found)


_TERMS = ("not_before", "window", "priority", "redial", "menu", "valid_until", "time_zone")


def _terms(job: Job) -> tuple[object, ...]:
    zone = None if job.window is None else job.time_zone
    begins = None if job.not_before is None or job.not_before <= job.created_at else job.not_before
    return (
        begins, job.window, job.priority, job.redial, job.menu, job.validity or job.valid_until, zone,
    )  # fmt: skip


def terms_of(job: Job) -> bytes:
    """Return all that `differences` compares beside the digest of the body."""
    times = (each.astimezone(UTC) if isinstance(each, datetime) else each for each in _terms(job))
    return encode(tuple(times), order="deterministic")


def asked_digest(job: Job) -> str:
    """Return the digest of all that a call was asked for with, before it was changed."""
    if job.edits is not None:
        return job.edits.made
    return sha256(b"\n".join((job.body_digest.partition(".")[0].encode(), terms_of(job)))).hexdigest()


def is_changeable(job: Job) -> bool:
    """Return whether a call may be changed: it waits, and has no POST."""
    return (job.state is JobState.QUEUED or job.state is JobState.LEASED) and not job.post_count


def ended_without_ring(job: Job) -> bool:
    """Return whether a call has ended, and no phone can have rung for it."""
    return job.state in ENDED_UNSENT and not job.may_call


def can_still_ring(job: Job) -> bool:
    """Return whether a call may still be begun for a job: it waits, or may be called again."""
    if job.ends_because is not None:
        return False
    if job.state is JobState.SUBMITTED:
        has_redial = job.redial is not None and job.rounds < job.redial.limit
        return has_redial or job.place < len(job.further_numbers)
    return not job.state.is_final


def is_cancelled_for_good(job: Job) -> bool:
    """Return whether a person has cancelled the job: no list calls that person again."""
    return job.state is JobState.CANCELLED and job.reason_kind in {None, ReasonKind.BY_PERSON}
