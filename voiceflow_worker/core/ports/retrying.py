"""Retries while a store cannot be reached, and log lines that repeat at most once in a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

import anyio
import structlog

from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError

EVERY = 1.0
_MOST = 1000
"""The most kinds that are remembered. When there are that many, all are forgotten."""


class RateLimitedLog:
    """Admits one log line of each kind in a second."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object) -> int | None:
        """None if a line of this kind must be left out now; else the number of lines left out since the last one."""
        now = self._monotonic()
        at, left_out = self._logged.get(kind, (float("-inf"), 0))
        if now - at < EVERY:
            self._logged[kind] = (at, left_out + 1)
            return None
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[kind] = (now, 0)
        return left_out


STORE_AWAY = timedelta(seconds=1)
BRIEFLY = (0.05, 0.2, 0.5)
"""Seconds between the tries of `retry_briefly`."""

_log = structlog.get_logger("voiceflow.outcomes")

T = TypeVar("T")
U = TypeVar("U")


class Retry:
    """Tries a trip to the store, once a second until it succeeds.

    The log line of the first failure names the work (`what`).
    """

    def __init__(self, clock: Clock, *, what: str) -> None:
        self._clock = clock
        self._what = what

    async def __call__(self, trip: Callable[[], Awaitable[T]]) -> T:
        """Try the trip until it succeeds, and return its result. Raises every error that waiting does not solve."""
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
    """Make a trip, with up to four tries within a second. Raises the last `StoreUnavailableError`."""
    for wait in BRIEFLY:
        try:
            return await trip()
        except StoreUnavailableError as error:
            _log.warning("the store is unavailable; trying again", what=what, error=str(error))
            await clock.sleep(wait)
    return await trip()


@overload
async def gather(first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[U]], /) -> tuple[T, U]: ...


@overload
async def gather(*trips: Callable[[], Awaitable[T]]) -> tuple[T, ...]: ...


async def gather(*trips: Callable[[], Awaitable[Any]]) -> tuple[Any, ...]:
    """Make all trips at the same time, and return their results.

    If some fail, the first error is raised after all trips have ended.
    """
    results: dict[int, Any] = {}
    failed: list[Exception] = []

    async def run(place: int) -> None:
        try:
            results[place] = await trips[place]()
        except Exception as error:  # noqa: BLE001 - raised below; a group of errors would look like a cancellation
            failed.append(error)

    if not trips:
        return ()
    async with anyio.create_task_group() as group:
        for place in range(1, len(trips)):
            group.start_soon(run, place)
        await run(0)  # saves a task
    if failed:
        raise failed[0]
    return tuple(results[place] for place in range(len(trips)))
