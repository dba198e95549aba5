"""What distinguishes a call that is asked for from the stored call of its key: all that decides what rings, and when.

What was asked is compared, not what was computed from it: a validity that a span gives ends at another time whenever it
is asked for, and is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from voiceflow_worker.model.jobs.job import Job, JobState

_ADDRESSES = ("source", "destination")


def differences(asked: Job, stands: Job) -> tuple[str, ...]:
    """The names of the fields in which a stored call is not as it is asked for now; none if it is the same.

    Of a call that was deleted, only the digest is known.
    """
    return tuple(_differences(asked, stands))


def _differences(asked: Job, stands: Job) -> Iterator[str]:
    # Behind a point, the digest has that of a request to the HTTP API, which compares requests.
    if asked.body_digest.partition(".")[0] != stands.body_digest.partition(".")[0]:
        named = [name for name in (*_ADDRESSES, "further_numbers") if getattr(asked, name) != getattr(stands, name)]
        if not stands.body or not named or _text(asked.body) != _text(stands.body):
            named.append("text")
        yield from named
    if not stands.body:  # a tombstone
        return
    for name in ("not_before", "window", "priority", "redial", "menu"):
        if getattr(asked, name) != getattr(stands, name):
            yield name
    if asked.validity != stands.validity or (asked.validity is None and asked.valid_until != stands.valid_until):
        yield "valid_until"
    if asked.window is not None and stands.window is not None and asked.time_zone != stands.time_zone:
        yield "time_zone"


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


def waits(job: Job) -> bool:
    """Whether a call may be replaced by another: it waits, and nobody can have been called for it."""
    return (job.state is JobState.QUEUED or job.state is JobState.LEASED) and not job.attempt
