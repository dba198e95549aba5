"""Opening a PostgreSQL store, and the making of its schema at the first opening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cache, partial

import anyio
import structlog
from psycopg.errors import DuplicateObject, DuplicateSchema, DuplicateTable, UniqueViolation

from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.postgres.survey import Survey, quoted
from voiceflow_worker.backends.postgres.url import SCHEMA, parse_url
from voiceflow_worker.backends.running import ServerClock, kept
from voiceflow_worker.backends.store_url import Promise, sql_file
from voiceflow_worker.core.ports.store import Clock
from voiceflow_worker.errors import (
    NoStoreError,
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_log = structlog.get_logger("voiceflow.postgres")

PARTS = ("schema.sql", "write.sql", "events.sql", "lease.sql", "enqueue.sql")
"""The files of a schema, in the order in which they are run."""
MAKE_WITHIN = 60.0
"""Seconds for the making of a store."""

# In one message, which is one transaction: of several processes that open a new store at once, one makes it.
_MAKE = """
SELECT pg_advisory_xact_lock(hashtext('voiceflow-worker makes {schema}'));
{create}
CREATE TABLE voiceflow.voiceflow_schema (
    number   integer PRIMARY KEY,
    made_at  timestamptz NOT NULL DEFAULT now(),
    store_id text NOT NULL DEFAULT gen_random_uuid()::text,
    history  text NOT NULL
);
COMMENT ON TABLE voiceflow.voiceflow_schema IS
    'A store of voiceflow-worker: the version of its tables and functions, the id that all its copies have, and the
    history of the server on which it was made, which a standby has too that lacks all that came later';
"""
_MADE = """
INSERT INTO voiceflow.voiceflow_schema (number, history) VALUES ({number}, voiceflow.history());
"""
_CREATE = "CREATE SCHEMA IF NOT EXISTS {schema};"
_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"
_MADE_MEANWHILE = (DuplicateTable, DuplicateSchema, DuplicateObject, UniqueViolation)


@cache
def schema_parts() -> Sequence[str]:
    return [sql_file("voiceflow_worker.backends.postgres", part) for part in PARTS]


def _making(schema: str, *, has_schema: bool = False) -> str:
    """Return the SQL that makes a store in this schema, with the name `voiceflow` instead of the schema's."""
    create = "" if has_schema else _CREATE.format(schema=quoted(schema))
    return "".join([_MAKE.format(schema=schema, create=create), *schema_parts(), _MADE.format(number=SCHEMA)])


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    clock: Clock | None = None,
    durability: str | None = None,
    makes: bool = True,
) -> AsyncGenerator[PostgresStore]:
    """Open the store at a `postgresql:` or `postgres:` URL. With `makes`, it is made if there is none in its schema.

    `?schema=` names the schema, `voiceflow` by default. `durability="best-effort"` (or `?durability=best-effort`)
    accepts a server that loses commits when it crashes.

    Raises SettingsError for an invalid URL or a server on which no store can work, StoreNotDurableError for one whose
    `synchronous_commit` is off, StoreVersionError for a store of another version, StoreCorruptError for a schema of
    something else, and StoreUnavailableError if the server does not answer, is a standby, or does not let this role in.
    """
    parsed = parse_url(url)
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        raise SettingsError(
            f"the PostgreSQL store {parsed.shown} needs asyncio; on trio, use a store in a file (sqlite:///…)"
        )
    if durability is not None:
        parsed = replace(parsed, promise=Promise(durability))
    database = Database(parsed, Survey(parsed))
    async with database.opened():
        await _make(database, makes=makes)
        async with AsyncExitStack() as meanwhile:
            if clock is None:
                clock = server_clock = ServerClock(partial(_time_of, database))
                await server_clock.synchronise()
                meanwhile.callback(asyncio.create_task(kept(server_clock.keep)).cancel)
            store = PostgresStore(parsed.shown, database, clock=clock)
            meanwhile.push_async_callback(store.changes.close)
            yield store


async def _time_of(database: Database) -> float:
    ((seconds,),) = await database.rows(_TIME)
    return float(seconds)


async def _make(database: Database, *, makes: bool) -> None:
    """Make the store, if there is none in its schema. Raises StoreError, also if `makes` is False."""
    survey, url = database.survey, database.url
    await database.rows("SELECT")
    facts = survey.facts
    survey.finds_store = True
    if facts.is_made:
        return
    if not makes:
        raise NoStoreError(
            f"there is no store in the schema {url.schema} of {url.shown}, and this command does not make one. Check "
            "the database and the schema in the store URL; `voiceflow doctor --make` makes a new store",
        )
    if facts.tables:
        raise StoreCorruptError(
            f"the schema {url.schema} of {url.shown} belongs to something else: it has {facts.tables} tables, and "
            "none of a store. Give the store its own schema (?schema=)"
        )
    try:
        await database.run(_making(url.schema, has_schema=facts.has_schema), within=MAKE_WITHIN)
    except StoreReadOnlyError as error:
        raise StoreUnavailableError(
            f"there is no store in the schema {url.schema} of {url.shown}, and the role {facts.role} may not make one. "
            "Run `voiceflow doctor --make` once with a role that may, then give this role its rights (docs/stores.md)",
            passes=False,
        ) from error
    except StoreError as error:
        if not isinstance(error.__cause__, _MADE_MEANWHILE):
            raise
    else:
        _log.info("a store was made", store=url.shown, schema=url.schema)
    await database.check_again()
