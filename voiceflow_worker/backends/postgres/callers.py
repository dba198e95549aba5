"""The connections of callers, of psycopg, SQLAlchemy and Django: how statements run on them, and which are refused.

Statements run through the library whose connection it is, so that its own book of transactions stays right, and so
that errors are those that its users know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg import Error as Failed
from psycopg.pq import PipelineStatus, TransactionStatus

from voiceflow_worker.errors import InvalidInputError, StoreReadOnlyError, VoiceflowError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Driver = Connection[Any] | AsyncConnection[Any]
Run = Callable[[str], Awaitable[str | None]]
"""Runs a statement without parameters; returns the text in the first column of its one row, if it has one."""

_TAKES = "pass the connection with which you write your own rows: one of psycopg 3, SQLAlchemy or Django"
_UNKNOWN = "which has no transaction that a call could be enqueued in"


@dataclass(frozen=True, slots=True)
class CallersConnection:
    """A connection with a transaction of its caller. `driver` is psycopg's, and `is_async` tells how it is used."""

    driver: Driver
    run: Run

    @property
    def is_async(self) -> bool:
        """Whether `run` waits on an event loop. If not, it blocks."""
        return isinstance(self.driver, AsyncConnection)

    @contextmanager
    def used(self) -> Generator[None]:
        """Within this block, no other enqueue may use the connection: the savepoint of one would undo the other."""
        if self.driver in _IN_USE:
            raise refused("another call is being enqueued in this transaction", "enqueue one after the other")
        _require_usable(self.driver)
        _IN_USE.add(self.driver)
        try:
            yield
        finally:
            _IN_USE.discard(self.driver)


_IN_USE: WeakSet[Driver] = WeakSet()


async def callers_connection(connection: object, *, blocks: bool = False) -> CallersConnection:
    """The connection that a caller has passed; with `blocks`, an asynchronous one is refused.

    Nothing is sent to the database, except what SQLAlchemy and Django send when they connect. Raises InvalidInputError,
    which names what was passed and the remedy.
    """
    given: Any = connection
    match _library_of(connection):
        case "psycopg" if isinstance(connection, Connection):
            return CallersConnection(given, _in_psycopg(given))
        case "psycopg" if isinstance(connection, AsyncConnection):
            _require_blocking(given, blocks=blocks)
            return CallersConnection(given, _in_psycopg_async(given))
        case "sqlalchemy":
            return await _of_sqlalchemy(given, blocks=blocks)
        case "django":
            return _of_django(given)
        case _:
            raise refused(f"this is {_name(connection)}, {_UNKNOWN}", _TAKES)


def _require_blocking(connection: object, *, blocks: bool) -> None:
    if blocks:
        raise refused(
            f"this is {_name(connection)}, which is asynchronous", "await queue.enqueue(flow, connection=…) instead"
        )


# --- psycopg -----------------------------------------------------------------------------------------------------


def _in_psycopg(connection: Connection[Any]) -> Run:
    async def run(statement: str) -> str | None:
        # A cursor of psycopg's own class: that of the caller may change what is sent, or what comes back.
        with Cursor(connection) as cursor:
            cursor.execute(statement.encode(), prepare=False)
            return _answer(cursor.pgresult)

    return run


def _in_psycopg_async(connection: AsyncConnection[Any]) -> Run:
    async def run(statement: str) -> str | None:
        async with AsyncCursor(connection) as cursor:
            await cursor.execute(statement.encode(), prepare=False)
            return _answer(cursor.pgresult)

    return run


def _answer(result: PGresult | None) -> str | None:
    """The answer as the server gave it: row factories and loaders of the caller do not touch it."""
    value = result.get_value(0, 0) if result is not None and result.ntuples else None
    return None if value is None else value.decode("ascii")


# --- SQLAlchemy --------------------------------------------------------------------------------------------------


async def _of_sqlalchemy(given: Any, *, blocks: bool) -> CallersConnection:
    # Whoever passes a connection of SQLAlchemy has it.
    from sqlalchemy import Connection as PlainConnection
    from sqlalchemy.exc import PendingRollbackError, ResourceClosedError, UnboundExecutionError
    from sqlalchemy.ext import asyncio
    from sqlalchemy.orm import Session, scoped_session

    connection: Any = given
    if isinstance(connection, (scoped_session, asyncio.async_scoped_session)):
        connection = given()
    if isinstance(connection, (asyncio.AsyncConnection, asyncio.AsyncSession)):
        _require_blocking(connection, blocks=blocks)
    try:
        if isinstance(connection, Session):
            connection = connection.connection()
        elif isinstance(connection, asyncio.AsyncSession):
            connection = await connection.connection()
        if isinstance(connection, PlainConnection):
            _require_psycopg(connection.dialect)
            return CallersConnection(_driver(connection.connection), _in_sqlalchemy(connection))
        if isinstance(connection, asyncio.AsyncConnection):
            _require_psycopg(connection.dialect)
            return CallersConnection(_driver(await connection.get_raw_connection()), _in_sqlalchemy_async(connection))
    except UnboundExecutionError as error:
        raise refused(
            "this session has no database, or several",
            "pass session.connection(bind_arguments=…) of the one that the store is in",
        ) from error
    except PendingRollbackError as error:
        raise _failed() from error
    except ResourceClosedError as error:
        raise _closed() from error
    raise refused(
        f"this is {_name(given)}, {_UNKNOWN}", "pass the connection or session with which you write your rows"
    )


def _require_psycopg(dialect: Any) -> None:
    if dialect.name != "postgresql":
        raise refused(
            f"this connection of SQLAlchemy is one to {dialect.name}, and a call can be enqueued only in a transaction "
            "of PostgreSQL",
            "pass a connection to the database of the store",
        )
    if dialect.driver not in {"psycopg", "psycopg_async"}:
        raise refused(
            f"this connection of SQLAlchemy has the driver {dialect.driver}",
            "make the engine with postgresql+psycopg://, which is psycopg 3, sync and async",
        )


def _driver(pooled: Any) -> Driver:
    return cast("Driver", pooled.driver_connection)


_PLAINLY = {"no_parameters": True, "stream_results": False}


def _in_sqlalchemy(connection: Any) -> Run:
    async def run(statement: str) -> str | None:
        return _scalar(connection.exec_driver_sql(statement, execution_options=_PLAINLY))

    return run


def _in_sqlalchemy_async(connection: Any) -> Run:
    async def run(statement: str) -> str | None:
        return _scalar(await connection.exec_driver_sql(statement, execution_options=_PLAINLY))

    return run


def _scalar(result: Any) -> str | None:
    return result.scalar() if result.returns_rows else None


# --- Django ------------------------------------------------------------------------------------------------------


def _of_django(connection: Any) -> CallersConnection:
    vendor = getattr(connection, "vendor", None)
    if vendor is None:
        raise refused(f"this is {_name(connection)}, {_UNKNOWN}", "pass django.db.connection")
    if vendor != "postgresql":
        raise refused(
            f"this connection of Django is one to {vendor}, and a call can be enqueued only in a transaction of "
            "PostgreSQL",
            "pass connections[…] of the database of the store",
        )
    if connection.needs_rollback:
        raise _failed()
    if not connection.in_atomic_block and connection.get_autocommit():
        raise _autocommit("call this within transaction.atomic()")
    connection.ensure_connection()
    driver: Any = connection.connection
    if not isinstance(driver, Connection):
        raise refused(
            f"this connection of Django has the driver {_library_of(driver)}",
            "install psycopg 3, which Django 4.2 and later prefer: pip install psycopg",
        )

    async def run(statement: str) -> str | None:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return _answer(cursor.pgresult)

    return CallersConnection(cast("Driver", driver), run)


# --- What cannot be used -----------------------------------------------------------------------------------------


def _require_usable(driver: Driver) -> None:
    """Raise InvalidInputError if no transaction of the caller is open on a connection, or it cannot go on."""
    if driver.closed:
        raise _closed()
    if driver.pgconn.pipeline_status != PipelineStatus.OFF:
        raise refused("this connection is in pipeline mode", "enqueue before or after the block of the pipeline")
    status = driver.info.transaction_status
    if status == TransactionStatus.INERROR:
        raise _failed()
    if status == TransactionStatus.ACTIVE:
        raise refused("a statement of this connection is still in progress", "enqueue when it has ended")
    if driver.autocommit and status == TransactionStatus.IDLE:
        raise _autocommit("begin a transaction first: with connection.transaction(), or an engine without AUTOCOMMIT")
    if driver.read_only and status == TransactionStatus.IDLE:
        raise _read_only()


def why_refused(error: BaseException, schema: str, callers: CallersConnection) -> VoiceflowError | None:
    """The error with the remedy for what the database has refused; None for what is the caller's own matter."""
    found = next(
        (each for each in (error, getattr(error, "orig", None), error.__cause__) if isinstance(each, Failed)), None
    )
    told = "" if found is None else found.diag.message_primary or ""
    match None if found is None else found.sqlstate:
        case "42501":
            return StoreReadOnlyError(
                f"the database refused the role of this connection: {told}; nothing was enqueued; give this role the "
                "rights that a worker's has"
            )
        case "25006":
            return _read_only()
        case "3F000" | "42883" | "42P01":
            return refused(
                f"the database {callers.driver.info.dbname} of this connection has no store in the schema {schema} "
                f"that this version could use ({told})",
                "pass a connection to the database of the store, or name its schema",
            )
        case _:
            return None


def _read_only() -> InvalidInputError:
    return refused(
        "this transaction is read only", "enqueue in one that may write, on the primary server and not on a standby"
    )


def _closed() -> InvalidInputError:
    return refused("this connection is closed", "pass the open connection with which you write your own rows")


def _failed() -> InvalidInputError:
    return refused("an earlier statement of this transaction has failed", "roll it back, and begin again")


def _autocommit(remedy: str) -> InvalidInputError:
    return refused(
        "this connection is in autocommit mode, and no transaction is open: the call would not be part of yours", remedy
    )


def refused(what: str, remedy: str) -> InvalidInputError:
    """The error for a connection that cannot be used."""
    return InvalidInputError(f"{what}; nothing was enqueued; {remedy}")


def _library_of(thing: object) -> str:
    """The library of this object: the first that is known of the classes that it is made of."""
    roots = [each.__module__.partition(".")[0] for each in type(thing).__mro__]
    return next((root for root in roots if root in {"psycopg", "sqlalchemy", "django"}), roots[0])


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
