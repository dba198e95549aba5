"""Waits for the outcomes of single calls. The waiters of one process share each read of the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.errors import JobNotFoundError, OutcomeTimeoutError, StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job, JobState

LOOK_EVERY = timedelta(milliseconds=200)
LOOKING_SHARE = 0.2
"""The largest share of the time that reads may take. A long read for many waiters is followed by a long pause."""
LOOK_LIMIT = 2.0
"""Seconds after which a read without an answer is given up, as if the store were unavailable. A time-out can be late by
this much."""

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(slots=True, eq=False)
class _Waiter:
    job_id: str
    timeout: timedelta | None
    deadline: float | None
    woken: anyio.Event = field(default_factory=anyio.Event)
    state: JobState | None = None
    job: Job | None = None
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self.job is not None or self.error is not None

    def end(self, *, job: Job | None = None, error: Exception | None = None) -> None:
        self.job, self.error = job, error
        self.woken.set()


class OutcomeWatch:
    """Waits for calls of one store to end. There is no background task: one waiter at a time reads for all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[_Waiter, None] = {}
        self._is_led = False

    async def wait(self, job_id: str, *, timeout: timedelta | None = None) -> Job:  # noqa: ASYNC109 - a promise of its own error
        """Wait until the job has ended, and return it. Raises `OutcomeTimeoutError` and `JobNotFoundError`."""
        now = self._store.clock.monotonic()
        mine = _Waiter(job_id, timeout, None if timeout is None else now + timeout.total_seconds())
        self._waiting[mine] = None
        try:
            while not mine.is_over:
                if self._is_led:
                    await mine.woken.wait()
                    if not mine.is_over:
                        mine.woken = anyio.Event()
                else:
                    await self._lead(mine)
        finally:
            self._waiting.pop(mine, None)
            self._hand_on()
        if mine.error is not None:
            raise mine.error
        if mine.job is None:  # pragma: no cover - a waiter is over with one or the other
            raise AssertionError("a wait ended without a job and without an error")
        return mine.job

    async def _lead(self, mine: _Waiter) -> None:
        clock = self._store.clock
        self._is_led = True
        try:
            while True:
                began = clock.monotonic()
                # Shielded: a look for all waiters must not end because one of them is cancelled.
                with anyio.move_on_after(LOOK_LIMIT, shield=True):
                    await self._look()
                now = clock.monotonic()
                self._time_out(now)
                if mine.is_over:
                    return
                pause = max(LOOK_EVERY.total_seconds(), (now - began) * (1 / LOOKING_SHARE - 1))
                nearest = min((each.deadline for each in self._waiting if each.deadline is not None), default=None)
                await clock.sleep(pause if nearest is None else max(min(pause, nearest - now), 0.001))
        finally:
            self._is_led = False

    async def _look(self) -> None:
        waiting = [each for each in self._waiting if not each.is_over]
        try:
            found = await read_each(self._store, list({each.job_id for each in waiting}))
        except StoreUnavailableError as error:
            _log.debug("the store is unavailable; still waiting for outcomes", waiters=len(waiting), error=str(error))
            return
        except Exception as error:  # noqa: BLE001 - waiting does not help: all waiters get it
            for each in waiting:
                each.end(error=error)
            return
        for each in waiting:
            job = found.jobs.get(each.job_id)
            if each.job_id in found.unreadable:
                each.end(error=found.unreadable[each.job_id])
            elif job is None:
                each.end(error=JobNotFoundError(each.job_id))
            elif job.state.is_final:
                each.end(job=job)
            else:
                each.state = job.state

    def _time_out(self, now: float) -> None:
        for each in self._waiting:
            if each.deadline is not None and each.timeout is not None and each.deadline <= now and not each.is_over:
                state = None if each.state is None else each.state.value
                each.end(error=OutcomeTimeoutError(each.job_id, state=state, waited=each.timeout))

    def _hand_on(self) -> None:
        """Wake the first waiter, which then reads the store for all waiters."""
        if self._is_led:
            return
        for each in self._waiting:
            if not each.is_over:
                each.woken.set()
                return
