"""What distinguishes a call that is asked for from the stored call of its key: all that decides what rings, and when.

What was asked is compared, not what was computed from it: a validity that a span gives ends at another time whenever it
is asked for, and is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from msgspec.json import encode

from voiceflow_worker.model.jobs.job import ON_THE_WAY, Job, JobState, ReasonKind

_ADDRESSES = ("source", "destination")


def differences(asked: Job, stands: Job) -> tuple[str, ...]:
    """The names of the fields in which a stored call is not as it is asked for now; none if it is the same.

    Of a call that was deleted, only the digest is known.
    """
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
    return (
        job.not_before, job.window, job.priority, job.redial, job.menu, job.validity or job.valid_until, zone,
    )  # fmt: skip


def terms_of(job: Job) -> bytes:
    """All that `differences` compares beside the digest of the body: equal for calls that do not differ."""
    times = (each.astimezone(UTC) if isinstance(each, datetime) else each for each in _terms(job))
    return encode(tuple(times), order="deterministic")


def _text(body: str) -> object:
    """A body without its numbers."""
    try:
        found = json.loads(body)
        for action in found["callflow"]:
            for name in _ADDRESSES:
                action.get("params", {}).pop(name, None)
    except (ValueError, LookupError, AttributeError, TypeError):
        return body
    return found


def asked_digest(job: Job) -> str:
    """The digest of all that a call was asked for with, before it was changed."""
    if job.edits is not None:
        return job.edits.made
    return sha256(b"\n".join((job.body_digest.partition(".")[0].encode(), terms_of(job)))).hexdigest()


def is_changeable(job: Job) -> bool:
    """Whether a call that waits may be changed: nothing has left for it, or it waits for a redial."""
    return job.state is JobState.QUEUED or job.state is JobState.LEASED


def keeps_numbers(job: Job, asked: Job) -> bool:
    """Whether a call has the numbers that are asked for, or may get them: only while it has no POST.

    A POST keeps the place of its number, so that late evidence finds the number that rang.
    """
    return not job.post_count or (job.source, job.numbers) == (asked.source, asked.numbers)


def can_still_ring(job: Job) -> bool:
    """Whether a call may still be begun for a job: it waits, or is on its way, and may be called again."""
    if job.next_attempt is not None and job.next_attempt.body is None:
        return is_changeable(job)
    if job.state is JobState.SUBMITTED:
        has_redial = job.redial is not None and job.rounds < job.redial.limit
        return has_redial or job.place < len(job.further_numbers)
    return is_changeable(job) or job.state in ON_THE_WAY


class Asked(Protocol):
    """What is asked of a call, as far as it says whether a stored call may become that."""

    @property
    def source(self) -> str:
        """The number that calls."""
        ...

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the person."""
        ...

    @property
    def batch_id(self) -> str | None:
        """The batch."""
        ...


def may_become(stands: Job, asked: Asked) -> bool:
    """Whether a stored call is changed if somebody orders it: at once, or for its next attempt.

    In another batch it is then another call: only one that waits, and for which nobody was called, ends for that.
    """
    if stands.batch_id != asked.batch_id:
        return is_changeable(stands) and not stands.attempt
    is_same = (stands.source, stands.numbers) == (asked.source, asked.numbers)
    return is_changeable(stands) or (stands.state in ON_THE_WAY and is_same)


def is_cancelled_for_good(job: Job) -> bool:
    """Whether a person has cancelled the job, or a deleted one: nobody is called for it, whatever list they are in.

    A cancel without a kind counts as that of a person.
    """
    return job.state is JobState.CANCELLED and job.reason_kind in {None, ReasonKind.BY_PERSON}
