"""Steps that a store may take in one trip: a claim and then reads; an enqueue or moves unless a record forbids them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Protocol, runtime_checkable

from voiceflow_worker.core.ports.moves import Move
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.core.ports.store import Records
from voiceflow_worker.model.jobs.job import Post


@dataclass(frozen=True, slots=True)
class Claimed:
    """The value of each claimed key after the claim, and the records that were `read` after it, by namespace."""

    standing: Mapping[str, str]
    read: Mapping[str, Mapping[str, str]]


@runtime_checkable
class OneTripClaims(Protocol):
    """Records that can usually be claimed and then read in one trip."""

    async def claim(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
        then_read: Mapping[str, Sequence[str]],
    ) -> Claimed | None:
        """Store each value whose key is absent, and then read records of other namespaces.

        Stores as `put_if_absent` does with `durably=False` and `keep_later_end=True`. `then_read` has the keys to read,
        by namespace. The reads see every change that any process stored before the claim. If one trip cannot ensure
        that, stores nothing and returns None.
        """
        ...


class Made(Enum):
    """Whether a move was made."""

    YES = "yes"
    STALE = "stale"
    """No: the job was changed by another writer."""
    NOT_FREE = "not free"
    """No: another owner has one of its locks, or there is a record that forbids it."""


@dataclass(frozen=True, slots=True)
class LockingMove:
    """A move, the keys of its locks, and the keys of the records that forbid it, by namespace.

    `owner` is the value of its locks.
    """

    move: Move
    owner: str
    locks: Sequence[str]
    forbidden_by: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class KnownPost:
    """A POST that the store certainly had, and the incarnation of the server that had it.

    `incarnation` is that of `Restartable.look`; None if the store cannot be restarted. Without a `post`, only the
    incarnation is known.
    """

    job_id: str
    post: Post | None
    incarnation: str | None


@runtime_checkable
class LockingCommit(Protocol):
    """Jobs whose moves can usually be made in one step with the locks on their numbers."""

    @property
    def can_commit_locking(self) -> bool:
        """Whether `commit_locking` can work now: False in a cluster, for example, where two servers have the parts."""
        ...

    async def commit_locking(
        self,
        moves: Sequence[LockingMove],
        *,
        namespace: str,
        expires_at: datetime,
        now: datetime,
        known: KnownPost | None,
    ) -> Sequence[Made] | None:
        """Make each move whose locks are free, and store its locks in this namespace, in one durable step.

        All jobs are of one queue. A move is made only if none of its locks has another owner, and no record forbids it.
        Of a move that is not made, nothing is stored. As with `commit`, a move that was made before counts as made. A
        lock that its owner already has keeps its end if that is later than `expires_at`.

        If the store does not have the `known` POST on a server of this incarnation, or cannot do all this in one step,
        no move is made, and None is returned. But if moves were made before, they still count as made.
        """
        ...


class Claims:
    """Claims on the records of one store, in one trip if the store can do it."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._in_one_trip = records if isinstance(records, OneTripClaims) else None

    async def claim(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
        then_read: Mapping[str, Sequence[str]],
    ) -> Claimed:
        """Claim records, and then read others. See `OneTripClaims.claim`."""
        if self._in_one_trip is not None:
            claimed = await self._in_one_trip.claim(
                namespace, values, expires_at=expires_at, now=now, then_read=then_read
            )
            if claimed is not None:
                return claimed
        standing = await self._records.put_if_absent(
            namespace, values, expires_at=expires_at, now=now, durably=False, keep_later_end=True
        )
        return Claimed(standing, await self.read(then_read, now=now))

    async def read(self, wanted: Mapping[str, Sequence[str]], *, now: datetime) -> Mapping[str, Mapping[str, str]]:
        """The records with these keys, by namespace."""
        found = await gather(*(partial(self._records.get, each, keys, now=now) for each, keys in wanted.items()))
        return dict(zip(wanted, found, strict=True))
