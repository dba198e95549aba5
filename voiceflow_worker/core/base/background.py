"""The background tasks of a process, such as a sweep or a heartbeat.

A task that fails is logged, and begins again. A task that only one of many processes may do has a lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

import anyio
import structlog

from voiceflow_worker.core.base.identity import new_worker_id
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Condition, Drop, Put, Result, Same, Write
from voiceflow_worker.errors import StoreError, VoiceflowError
from voiceflow_worker.model.text.wording import in_words

_log = structlog.get_logger("voiceflow.background")

LONGEST_PAUSE = 30.0
"""The longest pause, in seconds, before a task that fails again and again begins again. It grows from 1 s."""
TRIED_AGAIN = 5.0
"""The longest pause, in seconds, before a step is taken again that a fault of the store kept from being taken."""
SHOWN = 60.0
"""Seconds for which the failure of a task is shown that has begun again and gives no other sign of its health."""


class Task(StrEnum):
    """What a worker does: its value is what has not happened when it fails, its name the label of metrics."""

    CALL_LOG = "the log of 8x8 was not read"
    CANCELLED = "calls of cancelled batches were not ended"
    DOUBTS = "calls in doubt were not checked again"
    EARLY_SUMMARIES = "summaries that came before their answers were not applied"
    ENDED_LEASES = "calls whose lease has ended were not queued again"
    EXPIRED = "calls that are no longer valid were not ended"
    HEARTBEAT = "the heartbeat was not stored"
    HOLD = "a hold that an answer of 8x8 asks for was not stored"
    JOURNAL = "journal entries of calls were not stored, and the calls are not sent now"
    JOURNAL_FILE = "the journal file was not written"
    LEASE = "calls were not taken from the queue"
    OVERDUE_SUMMARIES = "calls with an overdue summary were not ended"
    PREPARE = "leased calls were not prepared, and are not sent"
    REQUEUE = "calls were not requeued before their leases end"
    RETENTION = "old calls were not deleted"
    ROLLBACK = "the store was not checked for lost calls"
    SEND = "a call was not sent, or its answer not read"
    STOPPED_WORKERS = "calls whose lease has ended while they were sent were not put in doubt"
    SWEEP = "overdue calls were not settled"
    VERDICT = "the verdict of a POST was not stored"


def fault_in_words(since: datetime, error: str) -> str:
    """Return how a failure is reported everywhere: its beginning, and the last error."""
    return f"since {in_words(since)}: {error}"


Fault = Callable[[str, Exception], object]
"""Called with what failed, and the error because of which."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str
    since: datetime
    shown_until: float


class BackgroundTasks:
    """Runs background tasks, and knows which of them fail. No error of a task reaches the others.

    A task is named by what has not happened when it fails, such as `the heartbeat was not stored`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._failures: dict[str, _Failure] = {}
        self.count: Counter[str] = Counter()
        """The number of failures of each task."""
        self._log_limit = RateLimitedLog(monotonic=clock.monotonic)

    @property
    def failing(self) -> Mapping[str, str]:
        """Tasks that fail now, each with the beginning and its last error."""
        now = self._clock.monotonic()
        return {
            task: fault_in_words(each.since, each.error)
            for task, each in self._failures.items()
            if now < each.shown_until
        }

    async def run_periodically(
        self, task: str, step: Callable[[], Awaitable[object]], *, every: float | Callable[[], float]
    ) -> None:
        """Take a step, pause for `every` seconds, and begin again, for ever. The pause is longer after failures.

        After a fault of the store, a step that is seldom taken is tried again soon: else the fault would be shown for
        long after it is over.
        """
        failures = 0
        with self._runs(task):
            while True:
                try:
                    await step()
                except Exception as error:  # noqa: BLE001 - no task ends the process
                    failures += 1
                    usual = every() if callable(every) else every
                    usual = min(usual, TRIED_AGAIN) if isinstance(error, StoreError) else usual
                    pause = max(usual, self.failed(task, error, failures=failures))
                else:
                    failures, pause = 0, every() if callable(every) else every
                    self._failures.pop(task, None)
                await self._clock.sleep(pause)

    def repeated(
        self, task: str, step: Callable[[], Awaitable[object]], *, every: float | Callable[[], float]
    ) -> AbstractAsyncContextManager[None]:
        """Return a context in which a step is taken again and again (`run_periodically`)."""
        return beside(partial(self.run_periodically, task, step, every=every))

    async def run(self, task: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do some work to its end, and begin it again when it fails."""
        failures = 0
        with self._runs(task):
            while True:
                began = self._clock.monotonic()
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - no task ends the process
                    failures = 1 if self._clock.monotonic() - began > SHOWN else failures + 1
                    pause = max(1.0, self.failed(task, error, failures=failures, shown_for=SHOWN))
                    await self._clock.sleep(pause)
                else:
                    return

    def failed(self, task: str, error: Exception, *, failures: int = 1, shown_for: float = float("inf")) -> float:
        """Note a failure, and log it; returns the seconds to wait after so many failures in a row."""
        is_known = isinstance(error, VoiceflowError)
        self.count[task] += 1
        shown = f"{error}" if is_known else f"{type(error).__name__}: {error}"
        if isinstance(error, StoreError):
            shown = f"{error.in_public}; the log of the process says more"
        now, known = self._clock.monotonic(), self._failures.get(task)
        since = known.since if known is not None and now < known.shown_until else self._clock.now()
        self._failures[task] = _Failure(shown, since, now + shown_for)
        # A store that is away is one cause for all tasks.
        repeated = self._log_limit.admit(str(error) if isinstance(error, StoreError) else (task, str(error)))
        if repeated is not None:
            more = {"left_out": repeated} if repeated else {}
            _log.warning(
                f"{task}; trying again later", error=str(error), failures=failures, exc_info=not is_known, **more
            )
        return 0.0 if is_known else min(2.0 ** min(failures - 1, 10), LONGEST_PAUSE)

    def mark_healthy(self, *tasks: str) -> None:
        """Note that tasks work again."""
        for task in tasks:
            self._failures.pop(task, None)

    @contextmanager
    def _runs(self, task: str) -> Generator[None]:
        self._running[task] += 1
        _RUNNING.add(self)
        try:
            yield
        finally:
            self._running[task] -= 1
            if not +self._running:
                _RUNNING.discard(self)


@asynccontextmanager
async def beside(*works: Callable[[], Coroutine[Any, Any, object]]) -> AsyncGenerator[None]:
    """Do this beside the block, and cut it off at the end. An error of the block is raised as it came."""
    failed: Exception | None = None
    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(work)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, and not in a group
            failed = error
        group.cancel_scope.cancel()
    if failed is not None:
        raise failed


_RUNNING: set[BackgroundTasks] = set()


def failing_here() -> dict[str, str]:
    """Return the tasks of this process that fail now, each with the beginning and its last error."""
    return {task: error for running in _RUNNING for task, error in running.failing.items()}


LEASES = "lease"
LEASE_LENGTH = timedelta(seconds=30)
"""The time after which a lease ends if it is not renewed. If its holder is killed, the task waits until then."""
_RELEASING = 2.0


class LeaderLease:
    """The lease of one process for a task, by the name of the task; it ends by itself if it is not renewed in `length`.

    `condition` is for the writes of the task: a process that stood still and lost the lease stores nothing more, even
    if nobody has the lease by then. Work without this condition must be safe to repeat.
    """

    def __init__(self, store: Store, name: str, *, namespace: str = LEASES, length: timedelta | None = None) -> None:
        self._store = store
        self._clock = store.clock
        self._name = name
        self._namespace = namespace
        self.length: timedelta = length or LEASE_LENGTH
        """How long the lease lasts that is taken or renewed next."""
        self._taken_for = self.length
        self._token = new_worker_id()
        self._taken_at: float | None = None

    @property
    def is_fresh(self) -> bool:
        """True if the lease was taken or renewed so recently that it need not be renewed yet."""
        return self._age < self._taken_for.total_seconds() / 3

    @property
    def is_over(self) -> bool:
        """True if another process may have the lease by now, because this process did not take or renew it in time."""
        return self._age >= self._taken_for.total_seconds()

    @property
    def condition(self) -> Same:
        """Condition, for a write, that this process has had the lease since it took it last."""
        return Same(self._namespace, self._name, self._token)

    async def is_free(self) -> bool:
        """Return whether no process has the lease, including this one. Raises StoreError."""
        found = await self._store.records({self._namespace: [self._name]}, now=self._clock.now())
        return not found[self._namespace]

    async def take(self) -> bool:
        """Take the lease, or renew it; False while another process has it. Raises StoreError."""
        if not self.is_over and await self.renew():
            return True
        if self._taken_at is not None:  # what was found under a lease that was lost does not hold under the next one
            self._token, self._taken_at = new_worker_id(), None
        return await self._put(AtMost(self._namespace, (self._name,), 0, self._token))

    async def renew(self) -> bool:
        """Renew the lease; False if it was lost. Raises StoreError."""
        return await self._put(self.condition)

    async def release(self) -> None:
        """End the lease, if this process has it. If the store fails now, the lease ends by time."""
        write = Write(drops=(Drop(self._namespace, self._name, self._token),))
        with anyio.move_on_after(_RELEASING, shield=True), suppress(StoreError):
            await self._store.write(BulkWrite(writes=(write,), durable=False), now=self._clock.now())
        self._token, self._taken_at = new_worker_id(), None

    async def _put(self, condition: Condition) -> bool:
        asked, now = self._clock.monotonic(), self._clock.now()
        put, length = Put(self._namespace, self._name, self._token, now + self.length), self.length
        write = Write(conditions=(condition,), puts=(put,))
        (answer,) = await self._store.write(BulkWrite(writes=(write,), durable=False), now=now)
        if answer.result is Result.DONE:
            self._taken_at, self._taken_for = asked, length
            return True
        return False

    @property
    def _age(self) -> float:
        return float("inf") if self._taken_at is None else self._clock.monotonic() - self._taken_at
