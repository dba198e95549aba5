"""Steps that a store may take in one trip: a claim of records and then reads; a look at records and then an enqueue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, runtime_checkable

from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.core.ports.store import Enqueued, Records
from voiceflow_worker.model.jobs.job import Job


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


@runtime_checkable
class OneTripEnqueue(Protocol):
    """Jobs that can usually be enqueued in the trip in which records that forbid them are looked for."""

    async def enqueue_unless(
        self, jobs: Sequence[Job], *, namespace: str, keys: Sequence[str], now: datetime
    ) -> Sequence[Enqueued] | None:
        """Enqueue jobs as `Jobs.enqueue` does, unless the namespace has a record with one of these keys.

        If it has one, or if one trip cannot ensure that it has none, stores nothing and returns None.
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
