"""The connections to a PostgreSQL database: each operation of the store is one statement on one of them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from voiceflow_worker.backends.postgres.faults import (
    ANOTHER_STORE,
    is_rolled_back,
    translated,
)
from voiceflow_worker.backends.postgres.survey import Connection, Row, Survey
from voiceflow_worker.backends.postgres.url import PostgresURL
from voiceflow_worker.backends.running import Home, met_running
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError

MOST_CONNECTIONS = 3
ANSWER_WITHIN = 10.0
"""Seconds for a statement, also for a free connection before it, unless the caller gives it more."""
TRIES = 5
"""How often a statement is made that the server has rolled back, because of a deadlock."""
_LEADS_ELSEWHERE = frozenset({psycopg.errors.ReadOnlySqlTransaction.sqlstate, ANOTHER_STORE})

T = TypeVar("T")

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # callers that need a connection get the reason


class Database:
    """At most `MOST_CONNECTIONS` connections to a database, and the schema in which the store is.

    They are opened when they are needed, and each is checked then: after a failover it may lead to another server. An
    error is raised in the callers that wait for a connection.
    """

    def __init__(self, url: PostgresURL, survey: Survey) -> None:
        self.url = url
        self.schema: str = url.schema
        self.survey = survey
        self._home = Home(url.shown)
        self._why: Exception | None = None
        self._waiting: set[anyio.CancelScope] = set()
        self._pool = AsyncConnectionPool(
            url.conninfo,
            connection_class=Connection,
            kwargs={"check": self._check, "failed": self._note},
            min_size=0,
            max_size=MOST_CONNECTIONS,
            open=False,
            check=self._require_silent,
            reconnect_timeout=0,  # a second try, at once; then who needs a connection tries again
            reconnect_failed=self._failed,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Close the connections at the end of this block."""
        await self._pool.open()
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._pool.close()

    async def check_again(self) -> None:
        """Check the server again: behind a pooler, another may have replaced it while these connections stayed.

        Raises StoreError.
        """
        await self._pool.drain()
        await self.rows("SELECT")

    def named(self, sql: str) -> str:
        return self.url.named(sql)

    async def rows(self, statement: str, *values: object, within: float | None = None) -> list[Row]:
        """Run a statement with these values for its `%s`, and return its rows.

        The statement names the schema `voiceflow`. Without values, % is a character. It is made again only if the
        server has rolled it back. Raises StoreError, or InvalidInputError for a text that cannot be stored.
        """
        named = self.named(statement)
        return await self._done(lambda connection: connection.rows(named, *values), within)

    async def run(self, script: str, *, within: float) -> None:
        named = self.named(script)
        await self._done(lambda connection: connection.run(named), within)

    async def connected(self) -> Connection:
        """Return a new connection beside the others that was checked, for a caller who closes it. Raises StoreError."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await Connection.connect(self.url.conninfo, check=self._check)
        except (psycopg.Error, OSError) as error:
            raise translated(error, self.url) from error

    async def _done(self, work: Callable[[Connection], Awaitable[T]], within: float | None) -> T:
        self._home.require()
        for tried in range(1, TRIES + 1):
            try:
                async with self._connection() as connection:
                    connection.is_unconfirmed = False
                    async with asyncio.timeout(ANSWER_WITHIN if within is None else within):
                        done = await work(connection)
                    connection.require_confirmed()
                    return done
            except (psycopg.Error, OSError, UnicodeEncodeError) as error:
                if not is_rolled_back(error) or tried == TRIES:
                    raise translated(error, self.url) from error
            await anyio.sleep(random.uniform(0.2, 1) * 0.01 * 2**tried)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        """Return a connection for one statement. The pool closes it unless the answer has come whole."""
        connection: Connection | None = None
        with anyio.CancelScope() as waiting:
            self._waiting.add(waiting)
            try:
                connection = await self._pool.getconn(ANSWER_WITHIN)
            except PoolTimeout as error:
                raise StoreUnavailableError(
                    f"none of {MOST_CONNECTIONS} connections to the PostgreSQL at {self.url.shown} became free within "
                    f"{ANSWER_WITHIN:g} s; look for statements that take long, or wait for locks (pg_stat_activity)"
                ) from error
            finally:
                self._waiting.discard(waiting)
        if connection is None:
            raise translated(self._why or TimeoutError(), self.url)
        try:
            yield connection
        except psycopg.Error as error:
            if error.sqlstate in _LEADS_ELSEWHERE:
                await self._pool.drain()  # the next connection is checked, and may lead to the primary, or the store
            raise
        finally:
            await self._pool.putconn(connection)

    def _note(self, error: Exception) -> None:
        self._why = error

    def _failed(self, _: object) -> None:
        """Tell the callers that wait for a connection why there is none."""
        for waiting in self._waiting:
            waiting.cancel()

    async def _require_silent(self, connection: Connection) -> None:
        """Raise OperationalError if the server has ended this connection: then mostly all, so none is kept."""
        try:
            await connection.require_silent()
        except psycopg.OperationalError:
            await self._pool.drain()
            raise

    async def _check(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self.survey.check(connection)
        except VoiceflowError as error:
            if self.survey.finds_store:
                raise met_running(error) from error
            raise
