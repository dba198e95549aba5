"""Identifiers: job ids, revisions, worker ids, and the rules for names."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from datetime import datetime
from itertools import product

from ulid import ULID, base32

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import QUEUE_NAME

_ENDS = ["".join(pair) for pair in product(base32.ENCODE, repeat=2)]
"""All pairs of characters with which a ULID can end, in the order of the ULIDs."""
_READER = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_queue(name: str) -> str:
    """The name of a queue, if it is `[a-z0-9][a-z0-9-]{0,15}`. Otherwise raises `InvalidInputError`.

    With a name this short, a job id with a POST number fits into the 50 characters of a `clientRequestId`.
    """
    if not QUEUE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a valid queue name: use 1 to 16 lower-case letters, digits and hyphens, beginning with a "
            "letter or digit"
        )
    return name


def checked_reader(name: str) -> str:
    """The name of a consumer or hook, if it is 1 to 64 letters, digits, `.`, `_` and `-`.

    Otherwise raises `InvalidInputError`.
    """
    if not _READER.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a valid name of a consumer or hook: use 1 to 64 letters, digits, ., _ and -"
        )
    return name


def new_job_ids(queue: str, count: int, *, at: datetime) -> list[str]:
    """New job ids `<queue>.<ulid>`, in growing order, so that the jobs of a file keep the order of its rows."""
    # The start is random (79 bits). The library's ULIDs of one millisecond are consecutive: if ids were counted up from
    # such a ULID, the next use of this function would return some of them again.
    first = (int(at.timestamp() * 1000) << 80) + secrets.randbits(79)
    last = first + count - 1
    ids: list[str] = []
    # 1,024 ids in a row differ only in their last two characters: the others are encoded once.
    for block in range(first >> 10, (last >> 10) + 1):
        beginning = f"{queue}.{ULID.from_int(block << 10)}"[:-2]
        start = block << 10
        ids += [beginning + end for end in _ENDS[max(first - start, 0) : last - start + 1]]
    return ids


def first_ulid(at: datetime) -> str:
    """A ULID that is smaller than those of all jobs made at this time or later."""
    return str(ULID.from_int(max(int(at.timestamp() * 1000), 0) << 80))


def new_revision() -> str:
    """A unique token for one move. A store that already has this token has committed the move."""
    return os.urandom(8).hex()


def new_revisions(count: int) -> list[str]:
    """Revisions like those of `new_revision`, `count` of them, made together because that is faster."""
    together = secrets.token_hex(8 * count)
    return [together[start : start + 16] for start in range(0, len(together), 16)]


def keyed_digest(store_id: str, text: str) -> str:
    """A digest of a text, keyed with the id of its store: 32 hexadecimal digits.

    It keeps what the store must know of a person who was erased (`core/erasures.py`).
    """
    return hashlib.blake2b(text.encode(), key=store_id.encode()[:64], digest_size=16).hexdigest()


def new_worker_id() -> str:
    """A new id for a worker: the host, the process id and a random part."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"


def job_of(client_request_id: str) -> tuple[str, int] | None:
    """The job id and POST number in a `clientRequestId`; None for an id of another program."""
    job_id, _, number = client_request_id.rpartition(".")
    queue, _, _ulid = job_id.partition(".")
    if not (number.isascii() and number.isdigit()) or len(number) > 6 or not QUEUE_NAME.fullmatch(queue) or not _ulid:
        return None
    return job_id, int(number)


def queue_of(job_id: str) -> str:
    """The queue in a job id."""
    return job_id.partition(".")[0]
