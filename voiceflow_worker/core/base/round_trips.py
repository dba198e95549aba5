"""Round trips to the store: the writes of several callers in one, and retries of one that failed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Generic, TypeVar, overload

import anyio
import structlog
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.base.shielding import run_shielded
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.store import BulkWrite, WriteResult
from voiceflow_worker.errors import StoreError, StoreReadOnlyError, StoreUnavailableError

Item = TypeVar("Item")
Got = TypeVar("Got")


async def confirm(store: Store) -> None:
    """Wait until what was read from the store is durable, as if this had written it: before anybody says yes to it.

    It may come from a write that failed because it could not be confirmed, and a failover would lose it. Raises
    StoreError.
    """
    await store.write(BulkWrite(writes=()), now=store.clock.now())


class _Waiting(Generic[Item, Got]):
    __slots__ = ("answers", "items", "woken")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.woken: anyio.Event | None = None
        self.answers: Sequence[Got | BaseException] | None = None


class Batcher(Generic[Item, Got]):
    """Collects items and flushes them together. Each caller gets its own results or errors.

    `flush` takes all waiting items and returns one result or exception for each, in order. If it raises, every caller
    with an item in this flush gets the error. The first caller runs the flush, and a caller that waited runs the next
    one. A caller in a cancelled scope ends only after its items were flushed, and so does a caller that runs the flush.
    Another that is cancelled without a scope (by asyncio's `Task.cancel`) ends at once: if its items still wait, they
    are not flushed. The end of the event loop alone interrupts a flush: its callers get `StoreUnavailableError`. With
    `only_scopes`, every caller is cancelled by scopes alone, and no flush needs a task of its own.
    """

    def __init__(
        self, flush: Callable[[Sequence[Item]], Awaitable[Sequence[Got | BaseException]]], *, only_scopes: bool = False
    ) -> None:
        self._flush = flush
        self._only_scopes = only_scopes
        self._waiting: list[_Waiting[Item, Got]] = []
        self._is_flushing = False

    async def submit(self, item: Item) -> Got:
        """Submit one item, and wait for its result."""
        (answer,) = await self.submit_all([item])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def submit_all(self, items: Sequence[Item]) -> Sequence[Got | BaseException]:
        """Submit items together for one round trip; wait, and return the result or error of each, in order."""
        mine: _Waiting[Item, Got] = _Waiting(items)
        self._waiting.append(mine)
        with anyio.CancelScope(shield=True):
            if self._is_flushing:
                await self._wait(mine)
            if mine.answers is None:
                self._is_flushing = True
                if self._only_scopes:
                    await checkpoint()  # what comes in the same moment is flushed too
                    await self._flush_waiting()
                else:
                    await run_shielded(self._flush_waiting)  # what is cut here would cut the items of others
        return mine.answers or ()

    async def _wait(self, mine: _Waiting[Item, Got]) -> None:
        mine.woken = anyio.Event()
        try:
            await mine.woken.wait()
        except BaseException:
            if mine in self._waiting:  # nobody else carries out what its caller has given up
                self._waiting.remove(mine)
            if mine.woken.is_set() and mine.answers is None:
                self._wake_next()
            raise

    async def _flush_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        items = [item for each in batch for item in each.items]
        answers: Sequence[Got | BaseException] | None = None
        try:
            answers = await self._flush(items)
        except Exception as error:  # noqa: BLE001 - each of the callers gets it
            answers = [error] * len(items)
        finally:
            if answers is None:
                answers = [StoreUnavailableError("the request to the store was interrupted; try again")] * len(items)
            left = iter(answers)
            for each in batch:
                each.answers = list(islice(left, len(each.items)))
                if each.woken is not None:
                    each.woken.set()
            self._wake_next()

    def _wake_next(self) -> None:
        """Wake the first caller that waits, which flushes all waiting items."""
        self._is_flushing = bool(self._waiting)
        if self._waiting and (first := self._waiting[0].woken) is not None:
            first.set()


EVERY = 10.0
"""Seconds between two log lines about one fault that lasts."""
_MOST = 1000
"""The most kinds that are remembered. When there are that many, all are forgotten."""


class RateLimitedLog:
    """Admits one log line of each kind in so many seconds."""

    def __init__(self, *, every: float = EVERY, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._monotonic = monotonic
        self._logged: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object) -> int | None:
        """None if a line of this kind must be left out now; else the number of lines left out since the last one."""
        now = self._monotonic()
        at, left_out = self._logged.get(kind, (float("-inf"), 0))
        if now - at < self._every:
            self._logged[kind] = (at, left_out + 1)
            return None
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[kind] = (now, 0)
        return left_out


STORE_AWAY = timedelta(seconds=1)
BRIEFLY = (0.05, 0.2, 0.5)
"""Seconds between the tries of `retry_briefly`."""

_log = structlog.get_logger("voiceflow.store")

T = TypeVar("T")
U = TypeVar("U")
_AT_ONCE = 500


class Retry:
    """Tries a round trip to the store, once a second until it succeeds.

    The log line of the first failure names the work (`what`).
    """

    def __init__(self, clock: Clock, *, what: str) -> None:
        self._clock = clock
        self._what = what

    async def __call__(self, trip: Callable[[], Awaitable[T]]) -> T:
        """Make the round trip until it succeeds, and return its result. Raises errors that waiting does not solve."""
        is_logged = False
        while True:
            try:
                return await trip()
            except (StoreUnavailableError, StoreReadOnlyError) as error:
                if not is_logged:
                    _log.warning("the store cannot be used; trying again", what=self._what, error=str(error))
                is_logged = True
                await self._clock.sleep(STORE_AWAY.total_seconds())


async def retry_briefly(trip: Callable[[], Awaitable[T]], *, clock: Clock, what: str) -> T:
    """Make a round trip, with up to four tries within a second. Raises the last `StoreUnavailableError`."""
    for wait in BRIEFLY:
        try:
            return await trip()
        except StoreUnavailableError as error:
            _log.warning("the store is unavailable; trying again", what=what, error=str(error))
            await clock.sleep(wait)
    return await trip()


async def write_each(store: Store, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult | StoreError]:
    """Write; returns the result of each write, or the error because of which the store did not return one.

    A store may have written the first writes of a bulk write when it becomes full or cannot be reached any more.
    """
    try:
        return await store.write(bulk, now=now)
    except StoreError as error:
        return results_before(error, bulk)


def results_before(error: StoreError, bulk: BulkWrite) -> list[WriteResult | StoreError]:
    """Return the results that a store returned before it failed, and the error for the other writes."""
    return [answer or error for answer in error.answers or [None] * len(bulk.writes)]


@overload
async def gather(first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[U]], /) -> tuple[T, U]: ...


@overload
async def gather(*trips: Callable[[], Awaitable[T]], at_once: int = _AT_ONCE) -> tuple[T, ...]: ...


async def gather(*trips: Callable[[], Awaitable[Any]], at_once: int = _AT_ONCE) -> tuple[Any, ...]:
    """Make all round trips, at most so many at the same time, and return their results.

    If some fail, the first error is raised after the others that were begun with it have ended.
    """
    results: dict[int, Any] = {}
    failed: list[Exception] = []

    async def run(index: int) -> None:
        try:
            results[index] = await trips[index]()
        except Exception as error:  # noqa: BLE001 - raised below; a group of errors would look like a cancellation
            failed.append(error)

    for start in range(0, len(trips), at_once):
        async with anyio.create_task_group() as group:
            for index in range(start + 1, min(start + at_once, len(trips))):
                group.start_soon(run, index)
            await run(start)  # saves a task
        if failed:
            raise failed[0]
    return tuple(results[index] for index in range(len(trips)))
