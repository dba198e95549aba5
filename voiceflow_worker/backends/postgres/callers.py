"""The connections of callers: how a statement runs on them, and what is said when the database refuses it.

They are psycopg's own, also of those who use SQLAlchemy or Django: these give theirs (`docs/python.md`).
"""

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
        """Run a statement without parameters; returns the text in the first column of its one row, if it has one.

        By a cursor of psycopg's own class: that of the caller, and row factories and loaders, may change what is sent,
        or what comes back.
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
        """Within this block, no other enqueue may use the connection: the savepoint of one would undo the other."""
        if id(self.given) in _IN_USE:
            raise refused("another call is being enqueued in this transaction", "enqueue one after the other")
        _IN_USE.add(id(self.given))
        try:
            yield
        finally:
            _IN_USE.discard(id(self.given))


_IN_USE: set[int] = set()


def callers_connection(connection: object, *, blocks: bool) -> CallersConnection:
    """The connection that a caller has passed. Nothing is sent to the database.

    Raises InvalidInputError, which names what was passed and the remedy.
    """
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


def why_refused(error: BaseException, schema: str) -> VoiceflowError | None:
    """The error with the remedy for what the database has refused; None for what is the caller's own matter."""
    if not isinstance(error, Error):
        return None
    told = error.diag.message_primary or str(error)
    match error.sqlstate:
        case "42501":
            return StoreReadOnlyError(
                f"the database refused the role of this connection: {told}; nothing was enqueued; give this role the "
                "rights that a worker's has"
            )
        case "25006":
            return refused(
                "this transaction is read only",
                "enqueue in one that may write, on the primary server and not on a standby",
            )
        case "25P01":
            return refused(
                "this connection is in autocommit mode, and no transaction is open: the call would not be part of "
                "yours",
                "begin a transaction first, such as with connection.transaction(), an engine without AUTOCOMMIT, or "
                "transaction.atomic()",
            )
        case "25P02":
            return refused("an earlier statement of this transaction has failed", "roll it back, and begin again")
        case "3F000" | "42883" | "42P01":
            return refused(
                f"the database of this connection has no store in the schema {schema} that this version could use "
                f"({told})",
                "pass a connection to the database of the store, or name its schema",
            )
        case _:
            return None


def refused(what: str, remedy: str) -> InvalidInputError:
    """The error for a connection that cannot be used."""
    return InvalidInputError(f"{what}; nothing was enqueued; {remedy}")
