"""One connection to a PostgreSQL server."""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any, Self

import anyio
import psycopg
from psycopg import AsyncConnection, pq
from psycopg.abc import RV, PQGen
from psycopg.errors import Diagnostic
from psycopg.generators import fetch_many
from psycopg.waiting import wait_async

from voiceflow_worker.backends.postgres.url import PostgresURL
from voiceflow_worker.errors import StoreUnavailableError

OPEN_WITHIN = 15.0
"""Seconds for a new connection: names are resolved, and each address of each host has its `connect_timeout`."""
ANSWER_WITHIN = 10.0
"""Seconds for a statement, also for a free connection before it, unless the caller gives it more."""

Row = tuple[Any, ...]


class Connection(AsyncConnection[Row]):
    """One connection in autocommit mode, without prepared statements, which a transaction pooler cannot keep.

    After a cancellation in the middle of a statement it is not `is_free`: it must be closed, so that no later caller
    gets the answer. A commit whose wait for a standby was cancelled is not confirmed, though the server says that it is
    done: it tells it in a warning, whose text may be translated.
    """

    is_unconfirmed: bool = False
    """Whether a commit since the last look was not confirmed."""

    @classmethod
    async def opened(cls, url: PostgresURL) -> Self:
        """A new connection. Raises psycopg.Error or TimeoutError."""
        with anyio.fail_after(OPEN_WITHIN):
            made = await cls.connect(url.conninfo, autocommit=True, prepare_threshold=None)
        made.add_notice_handler(made.hear)
        return made

    def hear(self, notice: Diagnostic) -> None:
        """Note what the server says beside an answer."""
        self.is_unconfirmed = self.is_unconfirmed or notice.source_function == "SyncRepWaitForLSN"

    def require_confirmed(self) -> None:
        """Raise StoreUnavailableError if what was just committed is not where the server was to wait for it."""
        unconfirmed, self.is_unconfirmed = self.is_unconfirmed, False
        if unconfirmed:
            error = StoreUnavailableError(
                "PostgreSQL has committed without waiting for its standbys, because that was cancelled: a failover "
                "would lose what was written"
            )
            error.may_be_written = True
            raise error

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = ANSWER_WITHIN,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's name
    ) -> RV:
        """Wait for the server, for psycopg. Its own method would hold up who is cancelled until the server knows."""
        limit: dict[str, Any] = {} if timeout is None else {"timeout": timeout}  # versions before 3.3.3 have none
        return await wait_async(gen, self.pgconn.socket, interval=interval, **limit)

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """Run a statement, and return its rows. Values come in binary, whatever DateStyle and the like are."""
        cursor = await self.execute(statement.encode(), values or None, binary=True)
        has_rows = cursor.pgresult is not None and cursor.pgresult.nfields  # `description` names their types, too
        return await cursor.fetchall() if has_rows else []

    async def run(self, script: str) -> None:
        """Run several statements, which are one transaction."""
        await self.execute(script.encode())

    @property
    def is_free(self) -> bool:
        """Whether it is open and no answer is on its way: it may be used for another statement."""
        return self.pgconn.status == pq.ConnStatus.OK and self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_unanswered(self) -> bool:
        """Whether it is open, and the server has not yet answered all that it was asked."""
        return self.pgconn.status == pq.ConnStatus.OK and self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    async def see_off(self) -> None:
        """Close it, but not before the server has answered, whom this asks to cancel what is in progress.

        A server does not notice that its client has gone: it goes on with the statement, or waits on for its lock.
        """
        try:
            with suppress(psycopg.Error, OSError):
                if self.is_unanswered:
                    await self.cancel_safe(timeout=ANSWER_WITHIN)
                while self.is_unanswered and not self.pgconn.flush():  # else the server has not all of it
                    await self.wait(fetch_many(self.pgconn))
        finally:
            self.end()

    @property
    def is_silent(self) -> bool:
        """Whether the server has said nothing since the last answer. What it says by itself is, mostly, its end."""
        looked = select.poll()
        looked.register(self.pgconn.socket, select.POLLIN)
        return not looked.poll(0)

    def end(self) -> None:
        """Close it, whatever is in progress. This does not wait."""
        self.pgconn.finish()
