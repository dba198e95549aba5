"""The connections to a PostgreSQL database: each operation of the store is one statement on one of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio
import psycopg
import structlog

from voiceflow_worker.backends.postgres import connection as limits
from voiceflow_worker.backends.postgres.connection import Connection, Row
from voiceflow_worker.backends.postgres.faults import (
    ANOTHER_STORE,
    is_rolled_back,
    may_be_committed,
    translated,
)
from voiceflow_worker.backends.postgres.survey import Survey
from voiceflow_worker.backends.postgres.url import PostgresURL
from voiceflow_worker.backends.running import Home, met_running, unanswered
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.errors import StoreError, StoreUnavailableError, VoiceflowError

_log = structlog.get_logger("voiceflow.postgres")

MOST_CONNECTIONS = 3
_LEADS_ELSEWHERE = frozenset({psycopg.errors.ReadOnlySqlTransaction.sqlstate, ANOTHER_STORE})
TRIES = 5
"""How often a statement is made that the server has rolled back, because of a deadlock."""

T = TypeVar("T")


class Database:
    """At most `MOST_CONNECTIONS` connections to a database, and the schema in which the store is.

    They are opened when they are needed, and each is checked then: after a failover it may lead to another server. An
    error is raised in the caller that met it. One whose statement got no answer in time keeps its permit until the
    server has ended the statement, or the connection is lost: with a new one instead, a server that answers
    nobody would soon have none left for anybody. (The pool of psycopg opens connections in tasks of its own, where it
    logs the errors, and callers learn only that there was no connection in time.)
    """

    def __init__(self, url: PostgresURL, survey: Survey) -> None:
        self.url = url
        self.schema: str = url.schema
        self.survey = survey
        self._free: list[Connection] = []
        self._permits = anyio.Semaphore(MOST_CONNECTIONS, fast_acquire=True)
        self._leaving: set[asyncio.Task[None]] = set()
        self._aside: Connection | None = None
        self._log_limit = RateLimitedLog()
        self._home = Home(url.shown)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """The connections are closed at the end of this block."""
        try:
            yield
        finally:
            self.close()
            for task in self._leaving:
                task.cancel()
            if self._leaving:
                await asyncio.wait(self._leaving)

    def close(self) -> None:
        """Close the connections that nobody uses. The next statement opens one, which is checked."""
        while self._free:
            self._free.pop().end()

    async def check_again(self) -> None:
        """Check the server anew: behind a pooler, another may have replaced it while these connections stayed.

        Raises StoreError.
        """
        self.close()
        async with self._taken():
            pass  # none is free, so it is a new one

    def named(self, sql: str) -> str:
        """This SQL, with the name of the schema instead of `voiceflow`."""
        return self.url.named(sql)

    async def rows(self, statement: str, *values: object, within: float | None = None) -> list[Row]:
        """Run a statement with these values for its `%s`, and return its rows.

        The statement names the schema `voiceflow`. Without values, % is a character. It is made again only if the
        server has rolled it back. Raises StoreError, or InvalidInputError for a text that cannot be stored.
        """
        named = self.named(statement)
        return await self._done(lambda connection: connection.rows(named, *values), within)

    async def run(self, script: str, *, within: float) -> None:
        """Run several statements, which are one transaction. Raises StoreError."""
        named = self.named(script)
        await self._done(lambda connection: connection.run(named), within)

    async def _done(
        self,
        work: Callable[[Connection], Awaitable[T]],
        within: float | None,
    ) -> T:
        self._home.require()
        for tried in range(1, TRIES + 1):
            is_begun = False
            try:
                async with self._taken() as connection:
                    is_begun = True
                    ends = anyio.current_time() + (limits.ANSWER_WITHIN if within is None else within)
                    with anyio.CancelScope(deadline=ends):  # `fail_after` takes twice as long
                        done = await work(connection)
                        connection.require_confirmed()
                        return done
                    raise TimeoutError
            except (psycopg.Error, OSError, UnicodeEncodeError) as error:
                if not is_rolled_back(error) or tried == TRIES:
                    failed = translated(error, self.url)
                    if isinstance(failed, StoreError):
                        failed.may_be_written = is_begun and may_be_committed(error)
                    raise failed from error
            await anyio.sleep(random.uniform(0.2, 1) * 0.01 * 2**tried)
        raise AssertionError("unreachable")

    async def connected(self) -> Connection:
        """A new connection beside the others that was checked, for a caller who returns it (`leave`).

        Raises StoreError, also while the server has not answered on the last one.
        """
        if self._aside is not None:
            raise StoreUnavailableError(f"the PostgreSQL at {self.url.shown} has not answered yet; it is waited for")
        connection = await self._opened()
        try:
            await self._check(connection)
        except BaseException:
            self.leave(connection)
            raise
        return connection

    def leave(self, connection: Connection) -> None:
        """Close a connection of `connected`."""
        if self._see_off(connection, self._has_no_aside):
            self._aside = connection

    def _has_no_aside(self) -> None:
        self._aside = None

    async def _opened(self) -> Connection:
        try:
            return await Connection.opened(self.url)
        except (psycopg.Error, OSError) as error:
            raise translated(error, self.url) from error

    async def _check(self, connection: Connection) -> None:
        try:
            with anyio.fail_after(limits.ANSWER_WITHIN):
                await self.survey.check(connection)
        except (psycopg.Error, OSError) as error:
            raise translated(error, self.url) from error
        except VoiceflowError as error:
            if self.survey.finds_store:
                raise met_running(error) from error
            raise

    async def _permit(self) -> None:
        """Wait for a permit to open a connection."""
        with suppress(anyio.WouldBlock):
            self._permits.acquire_nowait()
            return
        with anyio.move_on_after(limits.ANSWER_WITHIN) as wait:
            await self._permits.acquire()
        if wait.cancelled_caught:
            silent = f"; the server has not answered the statements of {len(self._leaving)} of them, nor ended them"
            error = StoreUnavailableError(
                f"all {MOST_CONNECTIONS} connections to the PostgreSQL at {self.url.shown} have been busy for "
                f"{limits.ANSWER_WITHIN:g} s{silent if self._leaving else ''}; look for statements that take long, or "
                "wait for locks (pg_stat_activity)"
            )
            if self._leaving and self._log_limit.admit("permits") is not None:
                _log.warning("a process waits for its connections, and opens no more", error=str(error))
            raise error

    def _see_off(self, connection: Connection, gone: Callable[[], None]) -> bool:
        """Close a connection, and call `gone`: at once, or when the server has answered on it. Returns if it waits."""
        if not connection.is_unanswered:
            connection.end()
            gone()
            return False
        task = asyncio.get_running_loop().create_task(connection.see_off())
        self._leaving.add(task)
        unanswered.add(task)

        def ended(_: object) -> None:
            self._leaving.discard(task)
            unanswered.discard(task)
            connection.end()  # also if the task was cancelled before it began
            gone()

        task.add_done_callback(ended)
        return True

    @asynccontextmanager
    async def _taken(self) -> AsyncGenerator[Connection]:
        """A connection for one statement. It goes back only if the answer has come whole."""
        await self._permit()
        connection: Connection | None = None
        is_checked = False
        try:
            while self._free and connection is None:
                connection = self._free.pop()
                if not connection.is_silent:
                    connection.end()
                    connection = None
            if connection is None:
                connection = await self._opened()
                await self._check(connection)
            is_checked = True
            yield connection
        except psycopg.Error as error:
            if connection is not None and error.sqlstate in _LEADS_ELSEWHERE:
                connection.end()  # the next one is checked, and may lead to the primary, or to the store again
                self.close()
            raise
        finally:
            if is_checked and connection is not None and connection.is_free:
                self._free.append(connection)
                self._permits.release()
            elif connection is not None:
                self._see_off(connection, self._permits.release)
            else:
                self._permits.release()
