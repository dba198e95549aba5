"""Names for things: job ids, revisions, worker ids."""

from __future__ import annotations

import os
import re
import secrets
import socket
from datetime import datetime

from ulid import ULID

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.names import QUEUE_NAME

_READER = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_queue(name: str) -> str:
    """The queue's name, if it is one.

    `[a-z0-9][a-z0-9-]{0,15}`, so that a job id with its POST number fits the 50 characters of a `clientRequestId`.
    Raises `InvalidInputError`.
    """
    if not QUEUE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is no name for a queue: use 1 to 16 small letters, digits and hyphens, no hyphen first"
        )
    return name


def checked_reader(name: str) -> str:
    """The name of a consumer or hook, if it is one: letters, digits, `.`, `_` and `-`, 64 at most.

    Raises `InvalidInputError`.
    """
    if not _READER.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is no name for a consumer or a hook: use 1 to 64 letters, digits, ., _ and -"
        )
    return name


def new_job_ids(queue: str, count: int, *, at: datetime) -> list[str]:
    """Ids `<queue>.<ulid>` in growing order, so that jobs of one file keep its order."""
    # A start of our own, with 79 random bits: the library's own ULIDs of one millisecond follow one another, and those
    # that we count up from the first would be given again by the next call.
    first = (int(at.timestamp() * 1000) << 80) + secrets.randbits(79)
    return [f"{queue}.{ULID.from_int(first + place)}" for place in range(count)]


def new_revision() -> str:
    """A token that no other writer makes: a store that already holds it has committed this very move."""
    return secrets.token_hex(8)


def new_worker_id() -> str:
    """Who leases: host, process and a random part, readable for people."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"


def job_of(client_request_id: str) -> tuple[str, int] | None:
    """The job id and POST number in a `clientRequestId` of ours; None for anybody else's."""
    job_id, _, number = client_request_id.rpartition(".")
    queue, _, _ulid = job_id.partition(".")
    if not number.isdigit() or len(number) > 6 or not QUEUE_NAME.fullmatch(queue) or not _ulid:
        return None
    return job_id, int(number)


def queue_of(job_id: str) -> str:
    """The queue in a job id."""
    return job_id.partition(".")[0]
