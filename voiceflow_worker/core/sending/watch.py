"""A worker's watch over itself: calls are due, nothing keeps them back, and it sends none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from voiceflow_worker.core.base.reading import count_states, find_jobs, gates_at, limits_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Due, Waiting
from voiceflow_worker.errors import StoreError, VoiceflowError
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import in_words

EVERY = 2.5
"""Seconds between two looks."""
AFTER = 10.0
"""Seconds without progress after which a worker says that it does not know why it sends nothing."""
INTERVALS = 3
"""With a slow rate, it says so after this many of its intervals."""
_MOST = 100
"""The most due calls that are looked at, by due time."""
_OPEN = (JobState.LEASED, JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT)


class StalledError(VoiceflowError):
    """Raised when a worker sends nothing, and nothing explains why."""


class Watch:
    """Knows when a worker last went on, and looks whether it should have since.

    It goes on with each journal entry, and with each answer of the store that says why a call gets none. `is_busy` says
    whether the worker itself has a reason to send nothing: its places are taken, or something that it tells fails.
    """

    def __init__(self, store: Store, *, queue: str, batch_id: str | None, is_busy: Callable[[], bool]) -> None:
        self._store = store
        self._queue = queue
        self._due: Due | Waiting = Due(queue=queue, state=JobState.QUEUED, limit=_MOST)
        if batch_id is not None:
            self._due = Waiting(queue=queue, batch=batch_id, limit=_MOST)
        self._is_busy = is_busy
        self._progress: tuple[datetime, float] = self._now()
        self._since: float | None = None

    @property
    def quiet_for(self) -> float:
        """Seconds since the worker last went on."""
        return self._store.clock.monotonic() - self._progress[1]

    def note(self) -> None:
        """Note that the worker goes on."""
        self._progress, self._since = self._now(), None

    async def look(self, rate: float | None) -> None:
        """Raise StalledError if calls have been due for long, at this rate, and nothing keeps them back."""
        if self._since is None and self.quiet_for < EVERY:
            return
        try:
            is_idle = self._is_busy() or not await self._should_send()
        except StoreError:
            is_idle = True  # which the worker tells otherwise
        now = self._store.clock.monotonic()
        if is_idle:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= max(AFTER, INTERVALS / (rate or INTERVALS)) - EVERY:
            raise StalledError(f"last progress: {in_words(self._progress[0])}")

    async def _should_send(self) -> bool:
        now = self._store.clock.now()
        jobs = [job for job in await find_jobs(self._store, self._due) if job.due_at <= now and _may_leave(job, now)]
        return bool(jobs) and await self._is_free(jobs, now)

    async def _is_free(self, jobs: Iterable[Job], now: datetime) -> bool:
        """Whether neither a hold nor the limit of open calls keeps all of these calls back."""
        gates = await gates_at(self._store, self._queue, {None, *(job.batch_id for job in jobs)})
        closed = {batch for batch, gate in gates.items() if gate.is_closed(at=now)}
        free = [] if None in closed else [job for job in jobs if job.batch_id not in closed]
        limits = await limits_of(self._store, self._queue)
        if not free or limits is None or limits.max_active is None:
            return bool(free)
        states = await count_states(self._store, self._queue)
        return sum(states[state] for state in _OPEN) < limits.max_active

    def _now(self) -> tuple[datetime, float]:
        return self._store.clock.now(), self._store.clock.monotonic()


def _may_leave(job: Job, now: datetime) -> bool:
    """Whether a queued call is no staged one of an import (which has a `worker_id`), nor outside its window or time."""
    return job.worker_id is None and job.may_ring(at=now) and not job.is_expired(at=now)
