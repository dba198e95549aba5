"""A store whose trips can be made slow, or fail, on a test's own clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import anyio

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


async def passing(clock: ManualClock, during: Callable[[], Awaitable[object]], *, step: timedelta) -> None:
    """Let time pass in steps until something is done; each begins when nobody has anything left to do."""
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await during()
            group.cancel_scope.cancel()

        group.start_soon(run)
        while True:
            await anyio.wait_all_tasks_blocked()
            clock.advance(step)
