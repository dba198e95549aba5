"""Reading a SQLite store, on connections of its own. In WAL mode, reads and writes do not block each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import anyio
import apsw
import orjson
from anyio import to_thread
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.record import (
    from_micros_or_none,
    job_from,
    readable,
    to_micros,
    tombstone_job,
)
from voiceflow_worker.backends.sqlite.connection import SQL, Connection, Row, passes, translating
from voiceflow_worker.backends.sqlite.opening import SameFiles, open_reader, pause_after, persist
from voiceflow_worker.core.ports.reads import (
    AnyOf,
    Counted,
    Due,
    Expired,
    Listing,
    OfNumber,
    Paged,
    Searched,
    Waiting,
)
from voiceflow_worker.core.ports.store import Key, Owner, Page, Record, Wanted
from voiceflow_worker.model.jobs.job import Job

T = TypeVar("T")

_ROWS_AT_ONCE = 64
"""The number of rows that are read in one step. A job takes 12 µs with its decoding, so a step takes less than a
millisecond."""
_SHORT = 500
"""The most row numbers that are looked for on the event loop's thread."""

# --- rows ---


def job_of(row: Row) -> Job:
    return job_from(row[:13], row[13], row[14])


def record_from(row: Sequence[Any]) -> Record:
    group, value, ends_at, member = row
    return Record(group, value, from_micros_or_none(ends_at), member)


def current_record(db: Connection, namespace: str, group: str, at: int, member: str = "") -> Record | None:
    rows = db.rows(SQL["record"], (namespace, group, at, member))
    return record_from(rows[0]) if rows else None


def standing_of(db: Connection, namespace: str, group: str, at: int) -> list[Record]:
    return [record_from(row) for row in db.rows(SQL["group_of_records"], (namespace, group, at))]


def read_records(wanted: Wanted, at: int, db: Connection) -> dict[str, list[Record]]:
    """Return the current records of several namespaces."""
    found: dict[str, list[Record]] = {}
    db.run("BEGIN")  # all are of one moment
    try:
        for namespace, each in wanted.items():
            if isinstance(each, Page):
                # No text has NUL, so none comes between a text and the same text with the next character behind it.
                group, member = ("", "") if each.after is None else (each.after[0], f"{each.after[1]}\x01")
                first = group if each.group is None else each.group
                bounds = (namespace, at, first, member, max(each.limit, 0))
                rows = db.rows(SQL["page_of_records" if each.group is None else "page_of_group"], bounds)
            else:
                rows = [row for key in each for row in _rows_of(db, namespace, key, at)]
            found[namespace] = [record_from(row) for row in rows]
    finally:
        if db.in_transaction:  # SQLite ends it by itself after some errors
            db.run("COMMIT")
    return found


def _rows_of(db: Connection, namespace: str, key: str | Key, at: int) -> list[Row]:
    if isinstance(key, str):
        return db.rows(SQL["group_of_records"], (namespace, key, at))
    return db.rows(SQL["record"], (namespace, key[0], at, key[1]))


def owner_of_key(db: Connection, key: str, at: int) -> Owner | None:
    """Return the head of the job that owns a unique key, or of its tombstone; it may be of a newer version."""
    rows = db.rows(SQL["owner_of_key"], (key, at))
    return owner_of(*rows[0][1:]) if rows else None


def owner_of(job_id: str, body_digest: str, state: str, tombstone: str | None) -> Owner:
    return Owner(job_id, body_digest, state) if tombstone is None else Owner(*orjson.loads(tombstone)[2:5])


def _owner(db: Connection, row: Row) -> Job:
    number, *_, tombstone = row
    return (
        tombstone_job(orjson.loads(tombstone))
        if number is None
        else job_of(db.rows(SQL["job_by_number"], (number,))[0])
    )


# --- searches ---


_NO_TIME_IS_LATER = 2**63 - 1
_AMONG_STATES = "AND state IN (SELECT value FROM json_each(:states))"
_AMONG_OUTCOMES = "AND outcome IN (SELECT value FROM json_each(:outcomes))"


def search(read: Searched) -> tuple[str, dict[str, Any]]:
    """Return the statement for a read, which gives a JSON list of row numbers in their order, and its bindings."""
    match read:
        case Due() | Waiting():
            return SQL["jobs_due" if isinstance(read, Due) else "jobs_waiting"], until(read)
        case Expired(at=at):
            return SQL["jobs_expired"], _bindings(read, at=to_micros(at))
        case OfNumber(number=number):
            return _by_age(read, SQL["jobs_of_number"]), _bindings(read, number=number, after=read.after)
        case Listing(batch=batch, states=states, outcomes=outcomes):
            of_queue = SQL["jobs_of_queue" if states is None else "jobs_in_states"]
            among = (
                "" if states is None or batch is None else _AMONG_STATES,
                "" if outcomes is None else _AMONG_OUTCOMES,
            )
            statement = _by_age(read, of_queue if batch is None else SQL["jobs_of_batch"], *among)
            sets = {"states": _array(states or ()), "outcomes": _array(outcomes or ())}
            return statement, _bindings(read, batch=batch, after=read.after, **sets)


def until(read: Counted) -> dict[str, Any]:
    by = _NO_TIME_IS_LATER if read.by is None else to_micros(read.by)
    match read:
        case Due(state=state):
            return _bindings(read, by=by, state=state.value)
        case Waiting(batch=batch):
            return _bindings(read, by=by, batch=batch)


def _bindings(read: Searched, **more: Any) -> dict[str, Any]:
    return {"queue": read.queue, "limit": -1 if read.limit is None else max(read.limit, 0), **more}


def _array(names: Iterable[str]) -> str:
    return orjson.dumps(list(names)).decode()


def _by_age(read: Paged, statement: str, *also: str) -> str:
    behind = "" if read.after is None else "AND id < :after" if read.newest else "AND id > :after"
    return statement.format(also=" ".join((*also, behind)), order="DESC" if read.newest else "ASC")


class Reader:
    """The reader of a store. It has a connection for short reads, on the event loop's thread, and one for scans.

    Scans run in another thread. Short reads do not: a row is read by its key in 5 µs, and a thread would add 60 µs and
    a wait for Python's lock.
    """

    def __init__(
        self, db: Connection, files: SameFiles, *, lock_timeout: timedelta, usable: Callable[[], None]
    ) -> None:
        self._db = db
        self._files = files
        self._path = files.path
        self._lock_timeout = lock_timeout
        self._usable = usable
        self._scanner: Connection | None = None
        self._scanning = threading.Lock()  # one at a time: a scan goes on in its thread if its caller is cancelled

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do short work on the event loop's thread. It is tried again while the WAL is recovered, or the disk fails."""
        self._usable()  # before any await, because a forked child has no event loop
        await checkpoint()
        self._usable()
        self._files.glance()
        until = time.monotonic() + self._lock_timeout.total_seconds()
        with translating(self._path):
            while True:
                try:
                    return work(self._db)
                except apsw.Error as error:
                    if not passes(error) or time.monotonic() > until:
                        raise
                    pause = pause_after(error)
                await anyio.sleep(pause)

    async def scan(self, statement: str, bindings: dict[str, Any]) -> Any:
        """Run a long statement in a thread, and return the only value of its result."""
        self._usable()
        value: Any = await to_thread.run_sync(partial(self._scan, statement, bindings))
        return value

    async def close(self) -> None:
        """Close both connections. This waits for a running scan."""
        self._db.close()
        await to_thread.run_sync(self._close_scanner)

    def _scan(self, statement: str, bindings: dict[str, Any]) -> Any:
        with self._scanning, translating(self._path):
            self._files.require_file()
            if self._scanner is None:
                self._scanner = open_reader(self._path, self._lock_timeout)
                self._files.require_file()  # the connection may have opened another file
            scanner = self._scanner
            return persist(lambda: scanner.rows(statement, bindings)[0][0], self._lock_timeout)

    def _close_scanner(self) -> None:
        with self._scanning:
            if self._scanner is not None:
                self._scanner.close()
                self._scanner = None


# --- jobs ---


async def jobs_by_id(reader: Reader, ids: Iterable[str]) -> list[Job]:
    """Return the jobs with these ids. Raises StoreVersionError if a newer version wrote one."""
    keys = [(job_id,) for job_id in dict.fromkeys(ids)]
    each = [partial(Connection.rows_of_each, statement=SQL["job_by_id"], many=part) for part in _pages(keys)]
    return [job_of(row) for work in each for row in await reader.read(work)]


async def owners_of_keys(reader: Reader, unique_keys: Iterable[str], at: int) -> list[Job]:
    keys = [(key, at) for key in dict.fromkeys(unique_keys)]
    return [job for part in _pages(keys) for job in await reader.read(partial(_owners, part))]


def count_found(asked: AnyOf, db: Connection) -> int:
    found = 0
    for read in asked.reads:
        statement, bindings = search(replace(read, limit=1))
        found += db.rows(statement, bindings) != [("[]",)]
    return found


async def find(reader: Reader, read: Searched) -> list[Job]:
    """Find the row numbers of the jobs of a read, then read the jobs in pages.

    No transaction stays open between pages. A job that has changed meanwhile and is no longer of the read is left out.
    """
    found: list[Job] = []
    while True:
        left = None if read.limit is None else read.limit - len(found)
        statement, asked = search(replace(read, limit=left))
        if isinstance(read, Due | Expired) and left is not None and left <= _SHORT:  # it reads what it returns
            [(array,)] = await reader.read(partial(Connection.rows, statement=statement, bindings=asked))
        else:
            array = await reader.scan(statement, asked)
        numbers = orjson.loads(array)
        before, last = len(found), None
        for part in _pages(numbers):
            # A statement for each row would take three times as long.
            array = (orjson.dumps(part).decode(),)
            if rows := await reader.read(partial(Connection.rows, statement=SQL["jobs_by_numbers"], bindings=array)):
                found += [job for job in readable(rows, job_of) if read.has(job)]
                last = rows[-1][0]
        is_paged = isinstance(read, Paged)
        if not is_paged or left is None or len(numbers) < left or len(found) - before == left:
            return found
        # The next jobs replace those that were left out, so that only the last page has fewer than `limit`.
        if last is not None:
            read = replace(read, after=last)


def _pages(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    return (keys[start : start + _ROWS_AT_ONCE] for start in range(0, len(keys), _ROWS_AT_ONCE))


def _owners(keys: Sequence[Row], db: Connection) -> list[Job]:
    return list(readable(db.rows_of_each(SQL["owner_of_key"], keys), partial(_owner, db)))
