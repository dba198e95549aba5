"""A store whose trips can be made slow, or fail, on a test's own clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import anyio
import sniffio

from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports import Clock, Control, Jobs, Records, Store

Trip = Callable[[str], Awaitable[None]]


async def nothing(trip: str) -> None:
    """A trip goes as it goes."""


class TroubledStore:
    """Wraps a store: `before` and `after` are awaited around each trip, by its name, `jobs.commit` for one.

    What `before` raises keeps the trip from being made; what `after` raises loses its answer.
    """

    def __init__(self, store: Store, *, before: Trip = nothing, after: Trip = nothing) -> None:
        self._store = store
        self.before = before
        self.after = after
        self.made: Counter[str] = Counter()
        self.jobs = cast("Jobs", _Troubled(self, "jobs", store.jobs))
        self.control = cast("Control", _Troubled(self, "control", store.control))
        self.records = cast("Records", _Troubled(self, "records", store.records))

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def clock(self) -> Clock:
        return self._store.clock


class _Troubled:
    def __init__(self, store: TroubledStore, part: str, port: object) -> None:
        self._store = store
        self._part = part
        self._port = port

    def __getattr__(self, name: str) -> Any:
        made = getattr(self._port, name)

        async def trip(*args: Any, **more: Any) -> Any:
            await self._store.before(f"{self._part}.{name}")
            answer = await made(*args, **more)
            self._store.made[f"{self._part}.{name}"] += 1
            await self._store.after(f"{self._part}.{name}")
            return answer

        return trip


async def all_blocked() -> None:
    """Return when no task of this event loop has anything left to do.

    As `anyio.wait_all_tasks_blocked`, which on asyncio looks every 100 ms of real time only.
    """
    if sniffio.current_async_library() != "asyncio":
        return await anyio.wait_all_tasks_blocked()
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    while True:
        await asyncio.sleep(0)
        if not ready:
            return None


async def passing(
    clock: ManualClock,
    during: Callable[[], Awaitable[object]],
    *,
    within: timedelta = timedelta(hours=1),
    at_least: timedelta = timedelta(microseconds=1),
) -> None:
    """Let time pass until something is done: whenever nobody has anything left to do, until the next one wakes.

    What takes longer than `within` on this clock is cancelled, and raises TimeoutError.
    """
    is_done, ends = False, clock.now() + within
    async with anyio.create_task_group() as group:

        async def run() -> None:
            nonlocal is_done
            try:
                await during()
            finally:
                is_done = True

        group.start_soon(run)
        # Time goes on for those that are cancelled, or a store's trip would never end.
        with anyio.CancelScope(shield=True):
            while not is_done:
                await all_blocked()
                # A sleep is rounded to microseconds: without a least step it may have a nanosecond left for ever.
                clock.advance(max(clock.next_wake or at_least, at_least))
                if clock.now() > ends:
                    group.cancel_scope.cancel()
    if clock.now() > ends:
        raise TimeoutError(f"not done within {within}")
