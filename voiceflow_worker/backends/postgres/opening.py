"""Opening a PostgreSQL store: its schema is made at the first opening."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit, urlunsplit

from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.core.ports.outside import SystemClock
from voiceflow_worker.core.ports.store import Clock
from voiceflow_worker.model.text.printable import without_secrets

PARTS = ("schema.sql",)
"""The files of a schema, in the order in which they are run."""
_EXISTS = "SELECT to_regclass('voiceflow.jobs') IS NOT NULL"
# All in one statement, which is one transaction: of several processes that open a new store at once, one makes it.
_MAKE = """
SELECT pg_advisory_xact_lock(hashtext('voiceflow-worker makes a schema'));
CREATE SCHEMA IF NOT EXISTS {schema};
"""


@cache
def schema_parts() -> Sequence[str]:
    """The SQL that makes the tables and the functions of a store."""
    folder = files(__package__)
    return [folder.joinpath(part).read_text(encoding="utf-8") for part in PARTS]


@asynccontextmanager
async def open_postgres(url: str, *, clock: Clock | None = None) -> AsyncGenerator[PostgresStore]:
    """Open the store at a `postgresql:` or `postgres:` URL. `?schema=` names its schema, `voiceflow` by default."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    schema = options.pop("schema", ["voiceflow"])[-1]
    query = "&".join(f"{name}={value}" for name, values in options.items() for value in values)
    database = Database(urlunsplit(parts._replace(query=query)), schema=schema)
    async with database.opened():
        if not (await database.rows(_EXISTS))[0][0]:
            await _make(database)
        yield PostgresStore(without_secrets(url), database, clock=clock or SystemClock())


async def _make(database: Database) -> None:
    quoted = '"' + database.schema.replace('"', '""') + '"'
    await database.rows("".join([_MAKE.replace("{schema}", quoted), *schema_parts()]))
