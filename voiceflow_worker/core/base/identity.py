"""Identifiers and names: job ids, revisions, worker ids; the rules for names, and the queues and batches of a store."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.base.record_set import RecordSet, text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Mode, Page, Put
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import QUEUE_NAME

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""What a ULID is written with: the base 32 of Crockford, which keeps the order of the numbers."""
_OF_RFC_4648 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _LETTERS.encode())
_ENDS = ["".join(pair) for pair in product(_LETTERS, repeat=2)]
"""All pairs of characters with which a ULID can end, in the order of the ULIDs."""
_last = [0]
"""The last ULID of this process, as a number."""
_READER = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_queue(name: str) -> str:
    """Return the name of a queue, if it is `[a-z0-9][a-z0-9-]{0,15}`. Otherwise raises `InvalidInputError`.

    With a name this short, a job id with a POST number fits into the 50 characters of a `clientRequestId`.
    """
    if not QUEUE_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a valid queue name: use 1 to 16 lower-case letters, digits and hyphens, beginning with a "
            "letter or digit"
        )
    return name


def checked_reader(name: str) -> str:
    """Return the name of a consumer, if it is 1 to 64 letters, digits, `.`, `_` and `-`.

    Otherwise raises `InvalidInputError`.
    """
    if not _READER.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not a valid name of a consumer: use 1 to 64 letters, digits, ., _ and -")
    return name


def new_job_ids(queue: str, count: int, *, at: datetime) -> list[str]:
    """Return new job ids `<queue>.<ulid>`, in growing order, so that the jobs of a file keep the order of its rows.

    Those that a process makes one after the other within a millisecond grow too.
    """
    # A start is random (79 bits), or a random step (48 bits) behind the last one: no other process makes these ids.
    first = (int(at.timestamp() * 1000) << 80) + secrets.randbits(79)
    if first >> 80 == _last[0] >> 80:
        first = _last[0] + 1 + secrets.randbits(48)
    _last[0] = last = first + count - 1
    ids: list[str] = []
    # 1,024 ids in a row differ only in their last two characters: the others are encoded once.
    for block in range(first >> 10, (last >> 10) + 1):
        beginning = f"{queue}.{_ulid(block << 10)}"[:-2]
        start = block << 10
        ids += [beginning + end for end in _ENDS[max(first - start, 0) : last - start + 1]]
    return ids


def _ulid(value: int) -> str:
    """Return the 26 characters of a ULID (128 bits), of which the first has three bits."""
    return base64.b32encode(value.to_bytes(20))[6:].translate(_OF_RFC_4648).decode()


def new_revision() -> str:
    """Return a unique token for one move. A store that already has this token has committed the move."""
    return os.urandom(8).hex()


def new_revisions(count: int) -> list[str]:
    """Revisions like those of `new_revision`, `count` of them, made together because that is faster."""
    together = secrets.token_hex(8 * count)
    return [together[start : start + 16] for start in range(0, len(together), 16)]


def keyed_digest(store_id: str, text: str) -> str:
    """Return a digest of a text, keyed with the id of its store: 32 hexadecimal digits.

    It keeps what the store must know of a person who was erased (`core/retention.py`).
    """
    digest = _keyed(store_id).copy()
    digest.update(text.encode())
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _keyed(store_id: str) -> hashlib.blake2b:
    return hashlib.blake2b(key=store_id.encode()[:64], digest_size=16)


def new_worker_id() -> str:
    """Return a new id for a worker: the host, the process id and a random part."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"


def job_of(client_request_id: str) -> tuple[str, int] | None:
    """Return the job id and POST number in a `clientRequestId`; None for an id of another program."""
    job_id, _, number = client_request_id.rpartition(".")
    queue, _, _ulid = job_id.partition(".")
    if not (number.isascii() and number.isdigit()) or len(number) > 6 or not QUEUE_NAME.fullmatch(queue) or not _ulid:
        return None
    return job_id, int(number)


def queue_of(job_id: str) -> str:
    """Return the queue in a job id."""
    return job_id.partition(".")[0]


QUEUES = "queue"


def queue_put(queue: str) -> Put:
    """Return the record of the name of a queue."""
    return Put(QUEUES, queue, "", None, Mode.KEEP)


class QueueNames:
    """The names of all queues that ever had a call, a worker or a hold. Names are never removed.

    The name of a queue is stored with its first call (`writes.enqueued`), and by each worker when it starts.
    """

    def __init__(self, store: Store) -> None:
        self._names = text_records(store, QUEUES)

    async def remember(self, queue: str) -> None:
        """Add the name of a queue."""
        await self._names.put({queue: ""})

    async def known(self) -> list[str]:
        """All names, sorted."""
        return [name for name, _ in await self._names.all()]


def accounts_of(store: Store) -> RecordSet[str]:
    """Return the accounts of 8x8 that the queues of a store belong to, by queue: see `core.queue_account`."""
    return text_records(store, "account")


BATCH = "batch-name"
"""Namespace of the names of batches, in the group of their queue. The value is the sort key of the batch by age."""
CAMPAIGNS, PROGRAMS = "batch-age", "program-batch-age"
"""Namespaces of batches by age, the newest first: those of campaigns, and those that programs make (single calls,
escalations, tasks). In the group of their queue, the member is a sort key and the name."""
BATCH_KEPT = timedelta(days=400)
"""How long the name of a batch is kept."""
LONGEST_NAMED = 200
"""The most characters of an unknown name that a sentence repeats."""
MOST_READ = 5000
"""The most names that are searched, the newest first."""
NAMES_AT_ONCE = 500
"""The names of one page, where they are searched."""
_LAST_MILLISECOND = 2**48


def batch_puts(queue: str, batch_id: str, *, at: datetime, is_campaign: bool) -> tuple[Put, Put]:
    """Return the records of the name of a batch and of its age. Only the first ones of a name count."""
    sort_key, ends = f"{_LAST_MILLISECOND - int(at.timestamp() * 1000):012x}", at + BATCH_KEPT
    by_age = CAMPAIGNS if is_campaign else PROGRAMS
    return (
        Put(BATCH, queue, sort_key, ends, Mode.KEEP, batch_id),
        Put(by_age, queue, "", ends, Mode.KEEP, f"{sort_key} {batch_id}"),
    )


class NamedBatch(NamedTuple):
    """The name of a batch, and its sort key in the list of batches, the newest first, for the next page."""

    sort_key: str
    name: str
    is_campaign: bool


class BatchNames:
    """The names of a queue's batches, which are stored with their calls.

    A name stays after the calls of its batch were deleted.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue

    async def page(
        self, *, after: str = "", limit: int = NAMES_AT_ONCE, of: Sequence[str] = (CAMPAIGNS, PROGRAMS)
    ) -> list[NamedBatch]:
        """Return a page of batches, the newest first, behind a sort key; nothing at the end.

        Batches without calls are included. `of` are the namespaces of those that are wanted.
        """
        now = self._store.clock.now()
        behind = (self._queue, after) if after else None
        wanted = {each: Page(group=self._queue, after=behind, limit=limit) for each in of}
        found = await self._store.records(wanted, now=now)
        by_age = [
            NamedBatch(record.member, record.member.partition(" ")[2], is_campaign=namespace == CAMPAIGNS)
            for namespace, records in found.items()
            for record in records
        ]
        page = sorted(by_age)[:limit]
        if not page:
            return []
        names = {BATCH: [(self._queue, each.name) for each in page]}
        sort_keys = {record.member: record.value for record in (await self._store.records(names, now=now))[BATCH]}
        # Two processes may have made a batch at once. The name has the sort key of the first.
        first = [each for each in page if each.sort_key.startswith(f"{sort_keys.get(each.name)} ")]
        if len(page) < limit or len(first) == limit:
            return first
        return first + await self.page(after=page[-1].sort_key, limit=limit - len(first), of=of)

    async def has_calls(self, batch_id: str) -> bool:
        """Return whether the queue has a call of this batch."""
        # By its counters, because a call that only a newer version can read is a call too.
        return any((await count_states(self._store, self._queue, batch_id=batch_id)).values())

    async def why_unknown(self, batch_id: str | None) -> str | None:
        """Return a sentence that the queue has no calls of this batch, with names like it as a hint.

        None if the batch has calls, or if `batch_id` is None, which is the whole queue.
        """
        if batch_id is None or await self.has_calls(batch_id):
            return None
        near = await self.near(batch_id)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "the id of a batch is the name that was given to it, or the name of its file without its extension"
        )
        name = f"{batch_id[:LONGEST_NAMED]}{'…' if len(batch_id) > LONGEST_NAMED else ''}"
        return f"batch {name} has no calls in queue {self._queue}; {hint}"

    async def require(self, batch_id: str | None) -> None:
        """Raise InvalidInputError for a batch without calls. The whole queue, None, is no batch."""
        if (unknown := await self.why_unknown(batch_id)) is not None:
            raise InvalidInputError(unknown)

    async def near(self, batch_id: str) -> list[str]:
        """Return the names most like this one, of batches that have calls: at most three, the most similar first."""
        spelled: dict[str, list[str]] = {}
        for each in await self.page(limit=MOST_READ):
            spelled.setdefault(each.name.casefold(), []).append(each.name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]
