"""The connections of callers: psycopg's own, also of SQLAlchemy or Django (`docs/python.md`)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor, Error
from psycopg.pq import PipelineStatus

from voiceflow_worker.errors import InvalidInputError, StoreReadOnlyError, VoiceflowError

_TAKES = (
    "pass psycopg's connection, with which you write your own rows to the PostgreSQL of the store: "
    "connection.connection.driver_connection of SQLAlchemy, connection.connection of Django"
)


@dataclass(frozen=True, slots=True)
class CallersConnection:
    """A connection of psycopg with a transaction of its caller. With `blocks`, it must not wait on an event loop."""

    given: Connection[Any] | AsyncConnection[Any]
    blocks: bool

    async def run(self, statement: str) -> str | None:
        """Run a statement without parameters, and return the text in the first column of its one row, if it has one.

        The cursor is of psycopg's own class: that of the caller may change what is sent, or what comes back.
        """
        cursor: Cursor[Any] | AsyncCursor[Any]
        if isinstance(self.given, AsyncConnection):
            cursor = await AsyncCursor(self.given).execute(statement.encode(), prepare=False)
        else:
            cursor = Cursor(self.given).execute(statement.encode(), prepare=False)
        result = cursor.pgresult
        value = result.get_value(0, 0) if result is not None and result.ntuples else None
        return None if value is None else value.decode("ascii")

    @contextmanager
    def used(self) -> Generator[None]:
        """Keep other enqueues off the connection in this block: the savepoint of one would undo the other."""
        if id(self.given) in _IN_USE:
            raise refused("another call is being enqueued in this transaction", "enqueue one after the other")
        _IN_USE.add(id(self.given))
        try:
            yield
        finally:
            _IN_USE.discard(id(self.given))


_IN_USE: set[int] = set()


def callers_connection(connection: object, *, blocks: bool) -> CallersConnection:
    """Check the connection that a caller has passed. Nothing is sent to the database. Raises InvalidInputError."""
    if not isinstance(connection, (Connection, AsyncConnection)):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise refused(f"this is {kind}, and no connection of psycopg", _TAKES)
    if connection.closed:
        raise refused("this connection is closed", _TAKES)
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise refused("this connection is in pipeline mode", "enqueue before or after the block of the pipeline")
    if blocks and isinstance(connection, AsyncConnection):
        raise refused("this connection is asynchronous", "await queue.enqueue(flow, connection=…) instead")
    return CallersConnection(cast("Any", connection), blocks)


_ELSEWHERE = (
    "no store in the schema {schema} of this database can be used: pass a connection to the database of the store, or "
    "name its schema"
)
_REMEDIES = {
    "42501": "give this role the rights of a worker (docs/stores.md)",
    "25006": "the transaction is read only: use one that may write, on the primary server",
    "25P01": "the connection is in autocommit mode: begin a transaction first",
    "25P02": "an earlier statement of the transaction has failed: roll it back, and begin again",
    **dict.fromkeys(("3F000", "42883", "42P01"), _ELSEWHERE),
}
"""By SQLSTATE. Other errors are the caller's own matter."""


def why_refused(error: BaseException, schema: str) -> VoiceflowError | None:
    """Return the error with the remedy for what the database has refused; None if it is the caller's own matter."""
    if not isinstance(error, Error) or error.sqlstate not in _REMEDIES:
        return None
    failed = refused(error.diag.message_primary or str(error), _REMEDIES[error.sqlstate].format(schema=schema))
    return StoreReadOnlyError(*failed.args) if error.sqlstate == "42501" else failed


def refused(what: str, remedy: str) -> InvalidInputError:
    """Return the error for a connection that cannot be used."""
    return InvalidInputError(f"{what}; nothing was enqueued; {remedy}")
