"""The reading side of a SQLite store, on its own connections. In WAL mode, reads and writes do not block each other."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import anyio
import orjson
from anyio import to_thread
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.record import job_from, to_micros
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.faults import BUSY, translating
from voiceflow_worker.backends.sqlite.file.opening import open_reader, persist
from voiceflow_worker.backends.sqlite.file.same_files import SameFiles
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.core.ports import Event
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import tally_of

T = TypeVar("T")

_ROWS_AT_ONCE = 64
"""The number of rows that are read in one step. A job takes 12 µs with its decoding, so a step takes less than a
millisecond."""


class Reader:
    """The reader of a store. It has a connection for short reads, on the event loop's thread, and one for scans.

    Scans run in another thread. Short reads do not: a row is read by its key in 5 µs, and a thread would add 60 µs and
    a wait for Python's lock.
    """

    def __init__(self, db: Connection, files: SameFiles, *, patience: timedelta, usable: Callable[[], None]) -> None:
        self._db = db
        self._files = files
        self._path = files.path
        self._patience = patience
        self._usable = usable
        self._scanner: Connection | None = None
        # The limiter lets one scan run at a time. But if asyncio cancels the caller of a scan, the limiter is free
        # while the scan still runs in its thread; the lock then keeps the next scan off the connection.
        self._limiter = anyio.CapacityLimiter(1)
        self._scanning = threading.Lock()

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Do short work on the event loop's thread. The work is tried again while another process recovers the WAL."""
        self._usable()  # before any await, because a forked child has no event loop
        await checkpoint()
        self._usable()
        self._files.glance()
        until = time.monotonic() + self._patience.total_seconds()
        with translating(self._path):
            while True:
                try:
                    return work(self._db)
                except BUSY:
                    if time.monotonic() > until:
                        raise
                await anyio.sleep(random.uniform(0.0002, 0.002))

    async def rows(self, statement: str, keys: Sequence[Row]) -> list[Row]:
        """The rows that a statement returns for these keys, in the order of the keys, read in pages."""
        return [row for part in _pages(keys) for row in await self._page(statement, part)]

    async def jobs(self, statement: str, keys: Sequence[Row]) -> list[Job]:
        """The jobs that a statement returns for these keys, in the order of the keys, read in pages."""
        return [job_of(row) for part in _pages(keys) for row in await self._page(statement, part)]

    async def numbered(self, statement: str, numbers: Sequence[int]) -> AsyncGenerator[list[Row]]:
        """The rows that a statement returns for these row numbers, in pages.

        The statement takes a JSON array of row numbers. A statement for each row would take three times as long.
        """
        for part in _pages(numbers):
            if rows := await self.look(partial(Connection.rows, statement=statement, bindings=(as_array(part),))):
                yield rows

    async def _page(self, statement: str, keys: Sequence[Row]) -> list[Row]:
        return await self.look(partial(Connection.rows_of_each, statement=statement, many=keys))

    async def scan(self, statement: str, bindings: dict[str, Any]) -> str:
        """Run a long statement in a thread, and return the only value of its result."""
        self._usable()
        value: str = await to_thread.run_sync(partial(self._scan, statement, bindings), limiter=self._limiter)
        return value

    async def close(self) -> None:
        """Close both connections. This waits for a running scan."""
        self._db.close()
        await to_thread.run_sync(self._close_scanner, limiter=self._limiter)

    def _scan(self, statement: str, bindings: dict[str, Any]) -> Any:
        with self._scanning, translating(self._path):
            self._files.require_file()
            if self._scanner is None:
                self._scanner = open_reader(self._path)
                self._files.require_file()  # the connection may have opened another file
            scanner = self._scanner
            return persist(lambda: scanner.rows(statement, bindings)[0][0], self._patience)

    def _close_scanner(self) -> None:
        with self._scanning:
            if self._scanner is not None:
                self._scanner.close()
                self._scanner = None


def _pages(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    return (keys[start : start + _ROWS_AT_ONCE] for start in range(0, len(keys), _ROWS_AT_ONCE))


def tally_record(job: Job) -> str | None:
    """The amounts that a job adds to totals, as JSON; None for no amounts. They are stored, to be subtracted later."""
    tally = tally_of(job)
    return orjson.dumps(tally).decode() if tally else None


def event_row(queue: str, event: Event) -> Row:
    """The row of an event, without its sequence."""
    return (queue, event.job_id, event.kind.value, to_micros(event.at), event.state.value, event.revision, event.post)


def job_of(row: Row) -> Job:
    """The job in a row of the statements `job_by_…`."""
    head, record, body = row[:12], row[12], row[13]
    return job_from(head, record, body)


def as_array(values: Iterable[str | int]) -> str:
    """Texts or numbers as a JSON array, for a statement."""
    return json.dumps(list(values))


def known_keys(db: Connection, queue: str, keys: Sequence[str]) -> set[str]:
    """The keys among `keys` that may have an owner. The remaining keys certainly have none."""
    rows = db.rows(statements("jobs")["known_keys"], (queue, as_array(keys)))
    # SQLite does not find a text with NUL by a value from its JSON functions, so such keys are included.
    return {key for (key,) in rows} | {key for key in keys if "\0" in key}
