"""The SQLite store: the nine methods of `core/ports/store.py` over one file."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import orjson
from anyio import to_thread

from voiceflow_worker.backends.record import event_from, readable, to_micros, totals_from
from voiceflow_worker.backends.running import Wakeups
from voiceflow_worker.backends.sqlite.backups import hold_if_put_back
from voiceflow_worker.backends.sqlite.connection import SQL, Connection, passes
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Transaction, totals_name
from voiceflow_worker.backends.sqlite.opening import SameFiles, open_file, open_reader, pause_after, schema
from voiceflow_worker.backends.sqlite.reading import (
    Reader,
    count_found,
    find,
    job_of,
    jobs_by_id,
    owners_of_keys,
    read_records,
    until,
)
from voiceflow_worker.backends.sqlite.wakeup import LOOK_EVERY, Fifos
from voiceflow_worker.backends.sqlite.write import lease, write
from voiceflow_worker.backends.store_url import path_of
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.reads import AnyOf, ById, ByKey, Counted, Due, Read
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Clock,
    Record,
    Wanted,
    WriteResult,
    checked_bulk,
)
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import Totals

_TIMEOUT = timedelta(seconds=10)
_MACHINE = SystemClock()
"""The clock of a wait for other processes. A test may set the store's clock by hand, but they write in real time."""

_EVENTS_AT_ONCE = 256


class SqliteStore:
    """An open store in a file. Many processes may open the same file; this object belongs to one event loop.

    `files` are the files that are open. To open the same ones in another process, give them to `open_sqlite`.
    """

    def __init__(
        self,
        url: str,
        *,
        store_id: str,
        clock: Clock,
        writer: GroupCommit,
        reader: Reader,
        wakeups: Wakeups,
        fifos: Fifos,
    ) -> None:
        self.url = url
        self.id: str = store_id
        self.clock = clock
        self.writer = writer
        self.reader = reader
        self.wakeups = wakeups
        self._fifos = fifos
        self.server = ""
        self.history: None = None

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        bulk = checked_bulk(bulk)
        return await self.writer.carry_out(partial(write, bulk, to_micros(now), self.clock), durably=bulk.durable)

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        at, ends = to_micros(now), to_micros(until)
        work = partial(lease, queue, batch, worker_id=worker_id, limit=limit, until=ends, at=at)
        # A power cut may undo a lease. Its job is then queued, and was not sent: the journal comes after the lease.
        return list(readable(await self.writer.carry_out(work, durably=False), job_of))

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        match read:
            case ById(ids):
                return await jobs_by_id(self.reader, ids)
            case ByKey(keys):
                return await owners_of_keys(self.reader, keys, to_micros(now))
            case _:
                return await find(self.reader, read)

    async def totals(self, queue: str, *, batches: Sequence[str | None]) -> Sequence[Totals]:
        names = [totals_name(batch) for batch in batches]
        asked = (queue, orjson.dumps(names).decode())
        rows = await self.reader.read(partial(Connection.rows, statement=SQL["totals"], bindings=asked))
        found = totals_from(rows, names)
        return [found[name] for name in names]

    async def count(self, read: Counted | AnyOf) -> int:
        if isinstance(read, AnyOf):
            return await self.reader.read(partial(count_found, read))
        count = SQL["count_due" if isinstance(read, Due) else "count_waiting"]
        return int(await self.reader.scan(count, until(read)))

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        return await self.reader.read(partial(read_records, wanted, to_micros(now)))

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        found: list[Event] = []
        while (left := limit - len(found)) > 0:
            page = (queue, after, min(left, _EVENTS_AT_ONCE))
            rows = await self.reader.read(partial(Connection.rows, statement=SQL["events_after"], bindings=page))
            found += [event_from(row[0], row[1:]) for row in rows]
            if len(rows) < page[2]:
                break
            after = found[-1].sequence
        return found

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        self._fifos.listen()
        while True:
            change = self.wakeups.next(queue)  # first, so that no change after the read is missed
            rows = await self.reader.read(partial(Connection.rows, statement=SQL["changes"], bindings=(queue,)))
            count: int = rows[0][0] if rows else 1
            left = (until - self.clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await change.wait(_MACHINE, within=min(left, LOOK_EVERY), sleep=self._fifos.sleep)

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        return await self.writer.carry_out(partial(_prune, queue, to_micros(now), to_micros(events_before), limit))


def _prune(queue: str, at: int, events_before: int, limit: int, transaction: Transaction) -> Generator[None, None, int]:
    pruned = 0
    for statement, bindings in ((SQL["prune_records"], (at,)), (SQL["prune_events"], (queue, events_before))):
        pruned += len(transaction.db.rows(statement, (*bindings, max(limit - pruned, 0))))
        yield
    return pruned


@asynccontextmanager
async def open_sqlite(
    url: str, *, clock: Clock | None = None, lock_timeout: timedelta = _TIMEOUT
) -> AsyncGenerator[SqliteStore]:
    """Open the store at `sqlite:///relative.db` or `sqlite:////absolute.db`. A new file can be read only by its owner.

    An operation fails if other processes keep the file locked for longer than `lock_timeout`. Raises SettingsError for
    a URL without a file, and a StoreError with a remedy if the file cannot be used. The file is then unchanged.
    """
    path = path_of(url)
    schema()
    db, same = await _opened(path, lock_timeout)
    wakeups, fifos = Wakeups(), Fifos(path.resolve())

    def wake(queues: Collection[str]) -> None:
        for queue in queues:
            wakeups.wake(queue)
        fifos.ring()

    writer = GroupCommit(db, same, lock_timeout=lock_timeout, wake=wake, hold=hold_if_put_back)
    try:
        reader = Reader(
            await to_thread.run_sync(open_reader, path, lock_timeout),
            same,
            lock_timeout=lock_timeout,
            usable=writer.require_usable,
        )
        try:
            same.require_file()  # the reader may have opened another file
            ((store_id,),) = await reader.read(partial(Connection.rows, statement=SQL["store_id"]))
            store = SqliteStore(
                url,
                store_id=store_id,
                clock=clock or SystemClock(),
                writer=writer,
                reader=reader,
                wakeups=wakeups,
                fifos=fifos,
            )
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await reader.close()
    finally:
        fifos.close()
        await writer.close()


async def _opened(path: Path, lock_timeout: timedelta) -> tuple[Connection, SameFiles]:
    """Call `open_file` until the file is not locked. The waits are on the event loop, so they can be cancelled."""
    until = time.monotonic() + lock_timeout.total_seconds()
    while True:
        try:
            return await to_thread.run_sync(open_file, path)
        except StoreUnavailableError as error:
            cause = error.__cause__
            if cause is None or not passes(cause) or time.monotonic() > until:
                raise
            pause = pause_after(cause)
        await anyio.sleep(pause)
