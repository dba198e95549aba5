"""The breakdowns of large batches: counted in the background, and shown with the time of the count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog
from anyio.to_thread import run_sync

from voiceflow_worker.core.overview.breakdown import Breakdown, BreakdownCount
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.records.facts import Facts

PAGE = 500
REST = 3
"""After each page of calls, the count rests for this many times as long as the page took, so that it uses at most a
quarter of a core."""
COUNTED_AGAIN = timedelta(minutes=1)
"""The least time between two counts of a batch, or twenty times the duration of the last count if that is longer."""
MOST_KEPT = 64

_log = structlog.get_logger("voiceflow.overview")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeBreakdown:
    """The breakdown of a large batch, and the time of its count (`at`); both are None until a count has ended.

    `share` is the part of the calls, 0 to 1, that a running count has read so far; None without a running count.
    """

    breakdown: Breakdown | None = None
    at: datetime | None = None
    share: float | None = None


@dataclass(slots=True)
class _Entry:
    totals: Totals
    shown: LargeBreakdown
    counted: Totals | None = None
    again_at: float = 0.0


class LargeBreakdowns:
    """Makes the breakdowns of batches that somebody looks at, one after the other, inside `async with running()`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = store.clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._due: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._wanted = anyio.Event()
        self._is_running = False

    def look(self, queue: str, batch_id: str, totals: Totals) -> LargeBreakdown | None:
        """The last counted breakdown of a batch; None outside `async with running()`.

        If `totals` have changed since the last count, the batch is counted again soon.
        """
        if not self._is_running:
            return None
        key = queue, batch_id
        entry = self._entries.setdefault(key, _Entry(totals, LargeBreakdown(share=0.0)))
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_KEPT:
            self._due.pop(self._entries.popitem(last=False)[0], None)
        entry.totals = totals
        if entry.counted != totals and self._clock.monotonic() >= entry.again_at and key not in self._due:
            self._due[key] = None
            self._wanted.set()
        return entry.shown

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Count the batches that pages ask for, until the block ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_counting)
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False
                tasks.cancel_scope.cancel()

    async def _keep_counting(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            while self._due:
                key = next(iter(self._due))
                entry = self._entries[key]
                try:
                    await self._count(key, entry)
                except Exception as error:  # noqa: BLE001 - a fault in a count must not stop the receiver
                    _log.warning("the calls of a batch could not be counted for a page", batch=key[1], error=str(error))
                    entry.again_at = self._clock.monotonic() + COUNTED_AGAIN.total_seconds()
                self._due.pop(key, None)

    async def _count(self, key: tuple[str, str], entry: _Entry) -> None:
        began, at, counted = self._clock.monotonic(), self._clock.now(), entry.totals
        of, read, count = sum(counted.states.values()) or 1, 0, BreakdownCount()
        last: str | None = ""
        since = began
        while last is not None:
            calls, last = await self._store.jobs.facts(key[0], batch_id=key[1], after=last, limit=PAGE)
            # In a thread: events of 8x8 are answered meanwhile.
            if some := await run_sync(partial(_counted, count, calls)):
                read += some
                before = entry.shown
                entry.shown = LargeBreakdown(breakdown=before.breakdown, at=before.at, share=min(read / of, 1.0))
                await self._clock.sleep(REST * (self._clock.monotonic() - since))
                since = self._clock.monotonic()
        entry.shown = LargeBreakdown(breakdown=count.result(), at=at)
        entry.counted = counted
        took = self._clock.monotonic() - began
        entry.again_at = began + took + max(COUNTED_AGAIN.total_seconds(), 20 * took)


def _counted(count: BreakdownCount, calls: Iterator[Facts]) -> int:
    return sum(map(count.add, calls))
