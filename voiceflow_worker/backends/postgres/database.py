"""The connections to a PostgreSQL database: each operation of the store is one statement on one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

MOST_CONNECTIONS = 3

Row = tuple[Any, ...]


class Database:
    """A pool of connections to a database, and the schema in which the store is.

    Connections are in autocommit mode: each statement is a transaction, so none can be left open by a client.
    """

    def __init__(self, conninfo: str, *, schema: str) -> None:
        self.schema = schema
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            conninfo,
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=1,
            max_size=MOST_CONNECTIONS,
            open=False,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """The connections are open within this block."""
        async with self._pool:
            yield

    def named(self, sql: str) -> str:
        """This SQL, with the name of the schema in the place of `voiceflow`."""
        quoted = '"' + self.schema.replace('"', '""') + '"'
        return sql.replace("voiceflow.", f"{quoted}.")

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """Run a statement with these values in the place of its `%s`, and return its rows.

        The statement names the schema `voiceflow`. Without values, it may be several statements, and % is a character.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self.named(statement).encode(), values or None)
            return [] if cursor.description is None else await cursor.fetchall()
