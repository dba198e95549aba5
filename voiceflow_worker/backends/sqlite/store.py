"""The SQLite store: its three ports and its clock."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from voiceflow_worker.backends.file_address import path_of
from voiceflow_worker.backends.sqlite.control import SqliteControl
from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.backends.sqlite.file.faults import BUSY
from voiceflow_worker.backends.sqlite.file.opening import open_file, open_reader
from voiceflow_worker.backends.sqlite.file.same_files import Identities, SameFiles
from voiceflow_worker.backends.sqlite.file.statements import load as load_statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit
from voiceflow_worker.backends.sqlite.jobs import SqliteJobs
from voiceflow_worker.backends.sqlite.one_domain import OneDomain
from voiceflow_worker.backends.sqlite.reading import Reader
from voiceflow_worker.backends.sqlite.records import SqliteRecords
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.clock import SystemClock
from voiceflow_worker.errors import StoreUnavailableError

_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class SqliteStore:
    """An open store in a file. Many processes may open the same file; this object belongs to one event loop."""

    url: str
    jobs: SqliteJobs
    control: SqliteControl
    records: SqliteRecords
    clock: Clock
    writer: GroupCommit
    reader: Reader
    files: Identities
    """The files that are open. To open the same ones in another process, give them to `open_sqlite`."""

    @property
    def domain(self) -> OneDomain:
        """The nine methods over this store."""
        return OneDomain(self)


@asynccontextmanager
async def open_sqlite(
    url: str, *, clock: Clock | None = None, patience: timedelta = _PATIENCE, files: Identities | None = None
) -> AsyncGenerator[SqliteStore]:
    """Open the store at `sqlite:///relative.db` or `sqlite:////absolute.db`. A new file can be read only by its owner.

    An operation fails if other processes keep the file locked for longer than `patience`. Raises SettingsError for a
    URL without a file, and a StoreError with a remedy if the file cannot be used. The file is then unchanged. Raises
    StoreReplacedError if the files are not `files`, which another process has open.
    """
    path = path_of(url)
    load_statements()
    clock = SystemClock() if clock is None else clock
    db, same = await _opened(path, patience, files)
    wakeups = Wakeups()
    writer = GroupCommit(db, same, patience=patience, wake=wakeups.wake)
    try:
        reader = Reader(
            await to_thread.run_sync(open_reader, path), same, patience=patience, usable=writer.require_usable
        )
        try:
            same.require_file()  # the reader may have opened another file
            yield SqliteStore(
                url=url,
                jobs=SqliteJobs(writer, reader, wakeups, clock),
                control=SqliteControl(writer, reader),
                records=SqliteRecords(writer, reader),
                clock=clock,
                writer=writer,
                reader=reader,
                files=same.identities,
            )
        finally:
            with anyio.CancelScope(shield=True):
                await reader.close()
    finally:
        await writer.close()


async def _opened(path: Path, patience: timedelta, files: Identities | None) -> tuple[Connection, SameFiles]:
    """Call `open_file` until the file is not locked. The waits are on the event loop, so they can be cancelled."""
    until = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return await to_thread.run_sync(partial(open_file, path, patience=timedelta(0), files=files))
        except StoreUnavailableError as error:
            if not isinstance(error.__cause__, BUSY) or time.monotonic() > until:
                raise
        await anyio.sleep(random.uniform(0.001, 0.01))
