"""Outcomes as a stream: `async for outcome in queue.outcomes()`."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from voiceflow_worker.core.outcomes.outbox import LOOK_EVERY, OutboxReader, outcome_of
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.leader_lease import LeaderLease
from voiceflow_worker.core.ports.reading import get_jobs
from voiceflow_worker.core.ports.retrying import Retry
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.records.call_outcome import CallOutcome

STAND_BY = timedelta(seconds=1)

_log = structlog.get_logger("voiceflow.outcomes")


class OutcomeStream:
    """The outcomes of a queue, one after the other, without end; made by `CallQueue.outcomes`.

    Iterate over it with `async for`; it waits while the store is unavailable. With a consumer's name, an outcome counts
    as processed when the next one is requested. If the consumer stops before that, the next consumer of this name gets
    the outcome again. The next consumer begins at once if the stream was closed (by `async with` or `aclose`), else
    half a minute later.
    """

    def __init__(self, store: Store, queue: str, *, consumer: str | None, since: datetime, attempts: bool) -> None:
        self._store = store
        self._attempts = attempts
        name = None if consumer is None else f"stream/{consumer}/{queue}"
        self._lease = None if name is None else LeaderLease(store, name)
        self._reader = OutboxReader(store, queue, name=name, since=since)
        self._retry = Retry(store.clock, what=f"the outcomes of {queue}")
        self._page: deque[Event] = deque()
        self._given: int | None = None
        self._is_current = False
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallOutcome:
        while not self._is_closed:
            await self._retry(self._hold_place)
            if self._given is not None:
                await self._retry(partial(self._reader.save, self._given))
                self._given = None
                continue
            if not self._page:
                await self._retry(self._read)
            if not self._page:
                await self._store.clock.sleep(LOOK_EVERY.total_seconds())
                continue
            outcome = await self._retry(self._next)
            if outcome is not None:
                return outcome
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream. The last outcome that the stream returned does not count as processed."""
        self._is_closed = True
        if self._lease is not None:
            with suppress(StoreError):
                await self._lease.give_back()

    async def _hold_place(self) -> None:
        """Wait for the lease of the consumer's name. If another process has read further, go to its position."""
        lease = self._lease
        while lease is not None and not lease.is_fresh:
            self._is_current = self._is_current and not lease.is_over
            if not await lease.take():
                await self._store.clock.sleep(STAND_BY.total_seconds())
        if self._is_current:
            return
        if await self._reader.is_overtaken():
            self._given = None
            self._page.clear()
            await self._reader.open()
        self._is_current = True

    async def _read(self) -> None:
        events = await self._reader.page()
        self._page.extend(event for event in events if self._attempts or event.kind is not EventKind.ATTEMPTED)
        if not self._page:
            await self._reader.save(self._reader.place)

    async def _next(self) -> CallOutcome | None:
        """The next outcome of the page; None if its call is no longer in the store.

        Raises StoreVersionError for a call that a newer version wrote. The position then stays before the outcome, so
        that no outcome is lost.
        """
        event = self._page[0]
        job = (await get_jobs(self._store, [event.job_id])).get(event.job_id)
        self._page.popleft()
        self._given = event.sequence
        if job is None:
            _log.warning("an outcome is left out: its call has been deleted", job=event.job_id)
            return None
        return outcome_of(event, job)
