"""The connections of callers: how a statement runs on them, and what is said when the database refuses it.

An enqueue needs only statements without parameters, and one text in answer. So any driver will do. Statements run
through the library whose connection it is, so that its own book of transactions stays right, and so that errors are
those that its users know.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.pq import PipelineStatus

from voiceflow_worker.errors import InvalidInputError, StoreClosedError, StoreReadOnlyError, VoiceflowError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Ask = Callable[[str], Any]
"""Runs a statement; returns its answer, or what is awaited for it, of which `Read` makes a text."""
Read = Callable[[Any], str | None]

_TAKES = "pass the connection with which you write your own rows: to the PostgreSQL of the store, of any Python driver"


@dataclass(frozen=True, slots=True)
class CallersConnection:
    """A connection with a transaction of its caller. With `blocks`, it must not wait on an event loop."""

    given: object
    ask: Ask
    read: Read
    blocks: bool

    async def run(self, statement: str) -> str | None:
        """Run a statement without parameters; returns the text in the first column of its one row, if it has one."""
        found = self.ask(statement)
        if isawaitable(found):
            if self.blocks:
                getattr(found, "close", lambda: None)()
                raise refused(
                    f"this is {_name(self.given)}, which is asynchronous",
                    "await queue.enqueue(flow, connection=…) instead",
                )
            found = await found
        return self.read(found)

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
    given: Any = connection
    library = _library_of(connection)
    database = getattr(given, "vendor", None) or getattr(getattr(given, "dialect", None), "name", "postgresql")
    if database != "postgresql":
        raise refused(f"this is a connection to {database}", _TAKES)
    if isinstance(connection, (Connection, AsyncConnection)):
        if given.closed:
            raise refused("this connection is closed", _TAKES)
        if given.pgconn.pipeline_status != PipelineStatus.OFF:
            raise refused("this connection is in pipeline mode", "enqueue before or after the block of the pipeline")
        return CallersConnection(given, _in_psycopg(given), _told, blocks)
    if library == "sqlalchemy" and hasattr(given, "execute"):
        return CallersConnection(given, _in_sqlalchemy(given), _scalar, blocks)
    if library not in {"sqlalchemy", "sqlite3"} and callable(getattr(given, "cursor", None)):
        return CallersConnection(given, _in_any_driver(given), lambda text: text, blocks)
    raise refused(f"this is {_name(connection)}, which has no transaction that a call could be enqueued in", _TAKES)


def _in_psycopg(connection: Any) -> Ask:
    # A cursor of psycopg's own class: that of the caller may change what is sent, or what comes back.
    kind: Any = AsyncCursor if isinstance(connection, AsyncConnection) else Cursor
    return lambda statement: kind(connection).execute(statement.encode(), prepare=False)


def _told(cursor: Any) -> str | None:
    """The answer as the server gave it: row factories and loaders of the caller do not touch it."""
    result: PGresult | None = cursor.pgresult
    value = result.get_value(0, 0) if result is not None and result.ntuples else None
    return None if value is None else value.decode("ascii")


def _in_sqlalchemy(connection: Any) -> Ask:
    from sqlalchemy import text  # whoever passes a connection of SQLAlchemy has it

    plainly = {"stream_results": False}
    return lambda statement: connection.execute(text(statement.replace(":", "\\:")), execution_options=plainly)


def _scalar(result: Any) -> str | None:
    return result.scalar() if result.returns_rows else None


def _in_any_driver(connection: Any) -> Ask:
    """By the database API of Python (PEP 249), which Django's connections have too."""

    def run(statement: str) -> str | None:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]
        finally:
            cursor.close()

    return run


def why_refused(error: BaseException, schema: str) -> VoiceflowError | None:
    """The error with the remedy for what the database has refused; None for what is the caller's own matter."""
    state, told = next(filter(None, map(_state_of, (error, getattr(error, "orig", None), error.__cause__))), ("", ""))
    match state:
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
        case "VW004":
            return StoreClosedError(f"in the schema {schema} of the database of this connection", told)
        case "3F000" | "42883" | "42P01":
            return refused(
                f"the database of this connection has no store in the schema {schema} that this version could use "
                f"({told})",
                "pass a connection to the database of the store, or name its schema",
            )
        case _:
            return None


def _state_of(error: Any) -> tuple[str, str] | None:
    """The SQLSTATE and the message of an error of any driver; None if it has none."""
    told: Any = next(iter(getattr(error, "args", ())), None)
    if hasattr(told, "get"):  # of pg8000
        return str(told.get("C")), str(told.get("M"))
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    diag = getattr(error, "diag", None)
    return None if state is None else (state, getattr(diag, "message_primary", None) or f"{error}")


def refused(what: str, remedy: str) -> InvalidInputError:
    """The error for a connection that cannot be used."""
    return InvalidInputError(f"{what}; nothing was enqueued; {remedy}")


def _library_of(thing: object) -> str:
    """The library of this object: the first that is known of the classes that it is made of."""
    roots = [each.__module__.partition(".")[0] for each in type(thing).__mro__]
    return next((root for root in roots if root in {"sqlalchemy", "sqlite3"}), roots[0])


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
