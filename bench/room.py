"""Bytes a call: waiting and ended, in each store, with its log and the workers' journal files: `./dev bench --room`.

Each call has a batch, a unique key, three columns of data and the text of a reminder. It is enqueued, sent by a worker
with journal files, and ended by a summary, as in production. `log` is what all that wrote into the WAL or AOF.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine import Engine
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone, system_server
from tests.support.voices import ScriptedVoice, created
from voiceflow_worker import CallFlow, CallQueue, CallRequest, Worker, open_store
from voiceflow_worker.backends.local_journal import JournalFiles

AT_ONCE = 500
TEXT = "Hello {name}. This is a reminder of your appointment tomorrow at {time}. Please call us if you cannot come."


@dataclass
class Measured:
    """A fresh store: its URL, the bytes that it takes now, and those that were written into its log until now."""

    url: str
    taken: Callable[[], int]
    logged: Callable[[], int]


@contextmanager
def sqlite() -> Iterator[Measured]:
    """A file. Its WAL is written over again and again, and does not grow with the calls."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.db"
        yield Measured(f"sqlite:///{file}", lambda: _pages(file), lambda: 0)


def _pages(file: Path) -> int:
    import apsw

    connection = apsw.Connection(str(file))
    pages, unused, size = (connection.pragma(name) for name in ("page_count", "freelist_count", "page_size"))
    connection.close()
    return (int(pages) - int(unused)) * int(size)


@contextmanager
def postgres() -> Iterator[Measured]:
    """A schema of a server as it is shipped. Dead rows are vacuumed before its size is read, as autovacuum does."""
    server = PostgresServer("full_page_writes=on", "max_wal_size=1GB", "shared_buffers=128MB").start()
    size = (
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c, pg_namespace AS n "
        "WHERE n.oid = relnamespace AND nspname = 'voiceflow' AND relkind IN ('r', 'm')"
    )

    def taken() -> int:
        server.ask("VACUUM")
        return int(server.ask(size)[0][0])

    try:
        yield Measured(server.url(), taken, lambda: int(server.ask("SELECT pg_current_wal_lsn() - '0/0'")[0][0]))
    finally:
        server.close()


@contextmanager
def redis() -> Iterator[Measured]:
    """A server with the recommended settings."""
    with tempfile.TemporaryDirectory() as folder:
        server = standalone(Path(folder) / "redis", binary=system_server())
        server.start()
        server.ask("CONFIG", "SET", "hash-max-ziplist-value", "2048")
        server.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        try:
            yield Measured(server.url, lambda: _fact(server, "used_memory"), lambda: _fact(server, "aof_current_size"))
        finally:
            server.kill()


def _fact(server: RedisServer, name: str) -> int:
    told = server.ask("INFO")
    text = told.decode() if isinstance(told, bytes) else str(told)
    return int(next(line.partition(":")[2] for line in text.splitlines() if line.startswith(f"{name}:")))


STORES = {"sqlite": sqlite, "postgres": postgres, "redis": redis}


def _request(place: int) -> CallRequest:
    name, at = f"Customer {place}", f"{8 + place % 10}:30"
    flow = CallFlow.call(f"+65{80000000 + place}", source="+6531234567").say(
        TEXT.format(name=name, time=at), voice_profile="en-IE-EmilyNeural"
    )
    return CallRequest(
        flow=flow, batch_id="march", unique_key=f"order-{place}", data={"name": name, "time": at, "clinic": "North"}
    )


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


async def fill(found: Measured, *, calls: int, journal: Path) -> dict[str, float]:
    """Enqueue, send and end so many calls; returns the bytes a call."""
    async with open_store(found.url, advises=False) as store:
        queue = CallQueue(store)
        await queue.enqueue(_request(calls).flow, unique_key="first")  # what a store has once
        empty, logged = found.taken(), found.logged()
        for first in range(0, calls, AT_ONCE):
            await queue.enqueue_many(_request(place) for place in range(first, min(first + AT_ONCE, calls)))
        enqueuing = found.logged() - logged
        waiting, logged = found.taken(), found.logged()  # a vacuum writes into the log too
        voice = ScriptedVoice(answer=lambda _: created())
        worker = Worker(store, voice, rate=None, concurrency=50, local_journal=JournalFiles(journal))
        await worker.drain()
        files = _size(journal)
        engine = Engine(store, voice)
        for job in await queue.find(limit=None):
            await engine.summarise(job)
        sending = found.logged() - logged
        ended = found.taken()
    return {
        "waiting": (waiting - empty) / calls,
        "ended": (ended - empty) / calls,
        "log_of_enqueuing": enqueuing / calls,
        "log": (enqueuing + sending) / calls,
        "journal": files / calls,
    }


def main(*, calls: int, only: str | None) -> None:
    """Measure, and print a JSON line for each store, or for the `only` one."""
    for name, opened in STORES.items():
        if only not in {None, name}:
            continue
        journal = Path(tempfile.mkdtemp())
        try:
            with opened() as found:
                told = asyncio.run(fill(found, calls=calls, journal=journal))
        finally:
            shutil.rmtree(journal)
        rounded = {each: round(value) for each, value in told.items()}
        sys.stdout.write(json.dumps({"store": name, "calls": calls, **rounded}) + "\n")
        sys.stdout.flush()
