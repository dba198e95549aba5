"""The differences between a call that is asked for and the stored call of its key: what rings, and when.

What was asked is compared, not what was computed from it: a span gives another end whenever it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from msgspec.json import encode

from voiceflow_worker.model.jobs.job import ENDED_UNSENT, Job, JobState, ReasonKind

_ADDRESSES = ("source", "destination")


def differences(asked: Job, stands: Job) -> tuple[str, ...]:
    """Return the names of the fields in which a stored call differs from what is asked; of a tombstone, its digest."""
    return tuple(_differences(asked, stands))


def _differences(asked: Job, stands: Job) -> Iterator[str]:
    # Behind a point, the digest has that of a request to the HTTP API, which compares requests.
    if asked.body_digest.partition(".")[0] != stands.digest.partition(".")[0]:
        named = [name for name in (*_ADDRESSES, "further_numbers") if getattr(asked, name) != getattr(stands, name)]
        if not stands.body or not named or _text(asked.body) != _text(stands.body):
            named.append("text")
        yield from named
    if not stands.body:  # a tombstone
        return
    for name, mine, other in zip(_TERMS, _terms(asked), _terms(stands), strict=True):
        is_unsaid = name == "valid_until" and mine is None  # then that of the stored call stays
        if mine != other and not is_unsaid and not (name == "time_zone" and None in {asked.window, stands.window}):
            yield name


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


def _text(body: str) -> object:
    """Return a body without its numbers."""
    try:
        found = json.loads(body)
        for action in found["callflow"]:
            for name in _ADDRESSES:
                action.get("params", {}).pop(name, None)
    except (ValueError, LookupError, AttributeError, TypeError):
        return body
    return found


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
