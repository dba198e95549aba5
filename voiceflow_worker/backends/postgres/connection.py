"""One connection to a PostgreSQL server."""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg.errors import Diagnostic, OperationalError

from voiceflow_worker.errors import StoreUnavailableError

Row = tuple[Any, ...]


class Connection(AsyncConnection[Row]):
    """One connection in autocommit mode, without prepared statements, which a transaction pooler cannot keep."""

    is_unconfirmed: bool = False
    """Whether the server has committed without waiting for a standby, which it says in a warning in its language."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls,
        conninfo: str = "",
        *,
        check: Callable[[Connection], Awaitable[None]],
        failed: Callable[[Exception], object] | None = None,
        **options: Any,
    ) -> Self:
        """Connect, and check the server. Before an error is raised, `failed` is called with it."""
        try:
            made = await super().connect(conninfo, autocommit=True, prepare_threshold=None, **options)
            try:
                made.add_notice_handler(made.hear)
                await check(made)
            except BaseException:
                await made.close()
                raise
        except Exception as error:
            if failed is not None:
                failed(error)
            raise
        return made

    def hear(self, notice: Diagnostic) -> None:
        """Note what the server says beside an answer."""
        self.is_unconfirmed = self.is_unconfirmed or notice.source_function == "SyncRepWaitForLSN"

    def require_confirmed(self) -> None:
        """Raise StoreUnavailableError if what was just committed is not where the server was to wait for it."""
        unconfirmed, self.is_unconfirmed = self.is_unconfirmed, False
        if unconfirmed:
            raise StoreUnavailableError(
                "PostgreSQL has committed without waiting for its standbys, because that was cancelled: a failover "
                "would lose what was written"
            )

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """Run a statement, and return its rows. Values come in binary, whatever DateStyle and the like are."""
        cursor = await self.execute(statement.encode(), values or None, binary=True)
        has_rows = cursor.pgresult is not None and cursor.pgresult.nfields  # `description` names their types, too
        return await cursor.fetchall() if has_rows else []

    async def run(self, script: str) -> None:
        """Run several statements, which are one transaction."""
        await self.execute(script.encode())

    async def require_silent(self) -> None:
        """Close the connection if the server has said something since the last answer: mostly, that it ends it.

        Raises OperationalError then.
        """
        looked = select.poll()
        looked.register(self.pgconn.socket, select.POLLIN)
        if looked.poll(0):
            await self.close()
            raise OperationalError("the server has closed the connection")
