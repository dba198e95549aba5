"""Outcomes as a stream: `async for outcome in queue.outcomes()`."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import structlog

from voiceflow_worker.core.outcomes.outbox import Cursor, Cursors, OutboxReader, cursor_since, told_by
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.leader_lease import LeaderLease
from voiceflow_worker.core.ports.reading import ReadJobs, read_each
from voiceflow_worker.core.ports.retrying import retry_until_available
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.records.call_outcome import CallOutcome
from voiceflow_worker.model.text.moment import in_words

LOOK_EVERY = timedelta(milliseconds=200)
STAND_BY = timedelta(seconds=1)
SAVE_IDLE = timedelta(hours=1)
"""How often a consumer that has nothing to do says that it has missed nothing."""

_log = structlog.get_logger("voiceflow.outcomes")

T = TypeVar("T")


class OutcomeStream:
    """The outcomes of a queue, one after the other, for ever; made by `CallQueue.outcomes`.

    Iterate over it with `async for`; a store that is away is waited for. With a consumer's name, the outcome that was
    given last counts as done when the next one is asked for: whoever resumes under that name gets it again if that did
    not come to pass. `async with` (or `aclose`) lets the next one of that name begin at once, not half a minute later.
    """

    def __init__(self, store: Store, queue: str, *, consumer: str | None, since: datetime, attempts: bool) -> None:
        self._store = store
        self._queue = queue
        self._since = since
        self._attempts = attempts
        self._name = None if consumer is None else f"stream/{consumer}/{queue}"
        self._cursors = Cursors(store)
        self._turn = None if self._name is None else LeaderLease(store, self._name)
        self._reader: OutboxReader | None = None
        self._page: deque[Event] = deque()
        self._jobs = ReadJobs({}, {})
        self._jobs_read_at = 0.0
        self._given: Cursor | None = None
        self._saved: Cursor | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallOutcome:
        while not self._is_closed:
            reader = await self._patiently(self._begun)
            given = self._given
            if given is not None:
                await self._patiently(partial(self._save, given))
                self._given = None
                continue
            if not self._page:
                await self._patiently(partial(self._read, reader))
            if not self._page:
                await self._store.clock.sleep(LOOK_EVERY.total_seconds())
                continue
            outcome = await self._patiently(self._next)
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
        """End the stream. The outcome that was given last does not count as done."""
        self._is_closed = True
        if self._turn is not None:
            with suppress(StoreError):
                await self._turn.give_back()

    async def _begun(self) -> OutboxReader:
        """The reader, once it is this stream's turn."""
        turn, name = self._turn, self._name
        while turn is not None and name is not None and not turn.is_fresh:
            was_over = turn.is_over
            if not await turn.take():
                await self._store.clock.sleep(STAND_BY.total_seconds())
            elif was_over and await self._cursors.load(name) != self._saved:
                # Another has gone on from here meanwhile: its cursor says where.
                self._reader, self._given = None, None
                self._page.clear()
        if self._reader is None:
            self._reader = OutboxReader(self._store, self._queue, await self._start())
        return self._reader

    async def _start(self) -> Cursor:
        kept = None if self._name is None else await self._cursors.load(self._name)
        if kept is not None:
            self._saved = kept
            return kept
        start = await cursor_since(self._store, self._queue, self._since)
        await self._save(start)
        return start

    async def _save(self, cursor: Cursor) -> None:
        if self._name is not None:
            await self._cursors.save(self._name, cursor)
            self._saved = cursor

    async def _read(self, reader: OutboxReader) -> None:
        until = await reader.missed_until()
        if until is not None:
            _log.warning(
                "outcomes were forgotten before they were read; look at the calls themselves for those",
                reader=self._name or "a stream",
                queue=self._queue,
                before=in_words(until),
            )
        self._page.extend(
            event for event in await reader.page() if self._attempts or event.kind is not EventKind.ATTEMPTED
        )
        self._jobs = ReadJobs({}, {})
        saved = self._saved
        if not self._page and saved is not None and reader.cursor.at - saved.at >= SAVE_IDLE:
            await self._save(reader.cursor)

    async def _read_jobs(self) -> None:
        self._jobs_read_at = self._store.clock.monotonic()
        self._jobs = await read_each(self._store.jobs, list({event.job_id for event in self._page}))

    async def _next(self) -> CallOutcome | None:
        """The next outcome of the page; None for one whose call is no longer in the store.

        Raises StoreVersionError, and does not go on, for one whose call a newer version wrote: it would never be told.
        """
        took = self._store.clock.monotonic() - self._jobs_read_at
        if took > LOOK_EVERY.total_seconds() or self._page[0].job_id not in self._jobs.jobs:
            await self._read_jobs()  # anew for a program that takes its time: the calls may have gone on
        unreadable = self._jobs.unreadable.get(self._page[0].job_id)
        if unreadable is not None:
            raise unreadable
        event = self._page.popleft()
        self._given = Cursor(event.sequence, event.at)
        job = self._jobs.jobs.get(event.job_id)
        if job is None:
            _log.warning("an outcome is not told: its call was deleted meanwhile", job=event.job_id)
            return None
        return told_by(event, job)

    async def _patiently(self, trip: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_available(trip, clock=self._store.clock, what=f"the outcomes of {self._queue}")
