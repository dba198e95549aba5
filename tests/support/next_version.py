"""The command line of a version with steps to take a store along, as the next version may have them: `-m` this module.

Each store gets a step of its own kind, online and small, and one over its calls, page by page.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

from voiceflow_worker import Store
from voiceflow_worker.backends.health import UpgradeStep
from voiceflow_worker.backends.postgres.health import PostgresHealth
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.redis.health import RedisHealth
from voiceflow_worker.backends.redis.store import RedisStore
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.health import SqliteHealth
from voiceflow_worker.backends.sqlite.store import SqliteStore
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write

QUEUE = "default"
DIGESTS, PLACE = "digest-of-call", "digest-place"
PAGE = 50

# --- An index, or what stands for one ---

_STANDS = """
SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('voiceflow.jobs_by_digest') AND indisvalid
"""
BROKEN = "DROP INDEX CONCURRENTLY IF EXISTS voiceflow.jobs_by_digest"
_INDEX = "CREATE INDEX CONCURRENTLY jobs_by_digest ON voiceflow.jobs (body_digest)"


async def _has_index(store: Store) -> bool:
    store = getattr(store, "inner", getattr(store, "_store", store))
    if isinstance(store, PostgresStore):
        return await store.database.rows(_STANDS) == [(1,)]
    if isinstance(store, SqliteStore):
        found = "SELECT count(*) FROM sqlite_schema WHERE name = 'jobs_by_digest'"
        return await store.reader.read(lambda db: db.rows(found)) == [(1,)]
    assert isinstance(store, RedisStore)
    key = f"{store.manager.root}:by-digest"
    return bool(await store.manager.ask(lambda connection: connection.create_request(b"EXISTS", key)))


async def _make_index(store: Store) -> None:
    store = getattr(store, "inner", getattr(store, "_store", store))
    if isinstance(store, PostgresStore):
        await store.database.rows(BROKEN, within=60)  # a process that is killed leaves an invalid one
        await store.database.rows(_INDEX, within=60)
    elif isinstance(store, SqliteStore):

        def index(transaction: Transaction) -> Generator[None]:
            yield from ()
            transaction.db.run("CREATE INDEX IF NOT EXISTS jobs_by_digest ON jobs (body_digest)")

        await store.writer.carry_out(index)
    elif isinstance(store, RedisStore):
        key = f"{store.manager.root}:by-digest"
        await store.manager.ask(lambda connection: connection.create_request(b"SADD", key, "made"))


# --- A record for each call, page by page ---


async def place_of(store: Store) -> str | None:
    """The call up to which the records are there; the empty text once all are."""
    found = await store.records({PLACE: [QUEUE]}, now=store.clock.now())
    return found[PLACE][0].value if found[PLACE] else None


async def _has_records(store: Store) -> bool:
    return await place_of(store) == ""


async def _put_records(store: Store) -> None:
    jobs = await find_jobs(store, Listing(queue=QUEUE, after=await place_of(store), limit=PAGE))
    at = Put(PLACE, QUEUE, jobs[-1].id if len(jobs) == PAGE else "", None)
    puts = [Put(DIGESTS, job.id, job.body_digest, None) for job in jobs]
    await store.write(BulkWrite(writes=(Write(puts=(*puts, at)),)), now=store.clock.now())


STEPS = (
    UpgradeStep("an index of digests", _has_index, _make_index),
    UpgradeStep("a record of the digest of each call", _has_records, _put_records),
)

if __name__ == "__main__":
    from voiceflow_worker.cli.program import run

    for each in (SqliteHealth, RedisHealth, PostgresHealth):
        each.upgrade_steps = (*each.upgrade_steps, *STEPS)
    sys.exit(run(sys.argv[1:]))
