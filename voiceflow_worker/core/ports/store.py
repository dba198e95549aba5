"""The older port of a store, in three small protocols.

A backend implements `Jobs`, `Control` and `Records`; jobs are changed by `write` of `core/store_port.py` alone. Every
method may raise `StoreUnavailableError`. It is then unknown whether anything has changed; calling it again is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from voiceflow_worker.core.store_port import Clock, Event, Limits, Query, Slots
from voiceflow_worker.core.store_port import Store as OneStore
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The result for one enqueued job. `job` is the job in the store, and `created` says whether it is new.

    If the job that owns the unique key was deleted, `job` is a tombstone, with only the id, state and times.
    """

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The job that owns a unique key; `body_digest` shows whether a call with this key has another body."""

    job_id: str
    body_digest: str
    state: JobState


class Jobs(Protocol):
    """The jobs of a store."""

    async def lease(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int,
        lease_for: timedelta,
        now: datetime,
        batch_id: str | None = None,
    ) -> Sequence[Job]:
        """Take at most `limit` due queued jobs for `worker_id`.

        The order is highest `priority`, then earliest `due_at`, then id. A job that a newer version wrote is left out,
        reported in the log, and queued again when its lease ends.

        The jobs are returned as `leased`, due at `now + lease_for`, with a new revision. Jobs whose `valid_until` has
        passed are left for the sweep. A closed gate of the queue or of a batch stops the leasing of its jobs. At most
        `max_active` calls are open at once: leased jobs, and jobs with a future `active_until`.
        """
        ...

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """The jobs with these ids; unknown ids are absent. Raises `StoreVersionError` if a newer version wrote one."""
        ...

    async def find(self, query: Query) -> Sequence[Job]:
        """The jobs of one queue that match all of `query`.

        A job that a newer version wrote is left out, and reported in the log.
        """
        ...

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        """The number of jobs in each state; every state is present. `due_before` is inclusive."""
        ...

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        """The totals of a queue or of a batch, kept by counters that change in the same step as the jobs.

        A deleted job stays in the totals of its batch, as `pruned`, until the last job of the batch is deleted.
        """
        ...

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        """The owners of these unique keys, tombstones included; free keys are absent."""
        ...

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """The events of a queue with a `sequence` above `after`, oldest first."""
        ...

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        """Delete events from before this time; returns their number."""
        ...

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the queue's count of changes differs from `seen`, at most until `until`. Returns the count.

        May return early. The count grows when a job is enqueued or comes back to `queued`, and when a gate or a limit
        is set. It is above 0, so a first call with `seen=0` returns at once. If the count has already changed since
        `seen` was returned, this returns at once too.
        """
        ...


class Control(Protocol):
    """Rates, gates and departure times of queues."""

    async def configure(self, queue: str, limits: Limits) -> None:
        """Set the queue's limits for all workers."""
        ...

    async def limits(self, queue: str) -> Limits | None:
        """The queue's limits; None if they were never set."""
        ...

    async def gates(self, queue: str) -> Sequence[Gate]:
        """The gates that are not open, of a queue and of its batches."""
        ...

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        """The gates of at most `limit` cancelled batches that have queued jobs."""
        ...

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        """Delete gates of batches without jobs; returns their number.

        Deletes only gates that were set before this time, and by then were cancelled, open, or past the end of a hold.
        """
        ...

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        """Take up to `wanted` departure times, none later than `now + horizon`, at the queue's rate and burst.

        No time is before `now`. A caller may give a `now` in the future. Times are shared by all workers (GCRA,
        `model.jobs.gcra`). An unlimited or unconfigured queue gives `wanted` times at `now`. If the clock was set back
        by more than ten seconds, the next departure is at most one interval of the rate after `now + horizon`.
        """
        ...


class Records(Protocol):
    """Small records in namespaces, each with a key, a value and an end.

    A record whose end is None is kept forever. A record whose end has passed is absent for every method.
    """

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> Mapping[str, str]:
        """Store each value whose key is absent; returns the value of every key afterwards.

        A stored value that equals the given value gets the new end.
        """
        ...

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        """Store values, and overwrite older ones."""
        ...

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        """The values of these keys; absent keys are left out."""
        ...

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        """One page of keys with this prefix, in order, and their values. `after` is the last key of the page before."""
        ...

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        """Delete the records of these keys.

        Deletes a record only if it has the given value. None stands for any value.
        """
        ...

    async def prune(self, *, now: datetime) -> int:
        """Delete records and tombstones that have expired; returns their number."""
        ...


class Store(Protocol):
    """An open store, made by `open_store`."""

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The jobs."""
        ...

    @property
    def control(self) -> Control:
        """Rates, gates, departure times."""
        ...

    @property
    def records(self) -> Records:
        """Small values with a time to live."""
        ...

    @property
    def domain(self) -> OneStore:
        """The same store by its nine methods."""
        ...

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        ...
