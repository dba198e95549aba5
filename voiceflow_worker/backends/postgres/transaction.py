"""Calls that are enqueued in a transaction of the caller: they exist when it has committed, and only then."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

import orjson
from anyio import CancelScope
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor, Error
from psycopg.pq import PipelineStatus

from voiceflow_worker.backends.postgres.codec import JOB, answer_from, job_of, plain_bulk, record_from_fields
from voiceflow_worker.backends.postgres.url import named
from voiceflow_worker.backends.record import readable, tombstone_job
from voiceflow_worker.core.admission import CallOptions
from voiceflow_worker.core.ports.store import BulkWrite, Clock, Key, Record, Store, WriteResult, checked_bulk
from voiceflow_worker.errors import InvalidInputError, StoreReadOnlyError, VoiceflowError
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.queue import CallQueue

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
    return InvalidInputError(f"{what}; nothing was enqueued; {remedy}")


if TYPE_CHECKING:
    from voiceflow_worker.core.ports.reads import ByKey

T = TypeVar("T")

_SAVE = "SAVEPOINT voiceflow_enqueue"
_UNDO = "ROLLBACK TO SAVEPOINT voiceflow_enqueue"
_KEEP = "RELEASE SAVEPOINT voiceflow_enqueue"


def enqueue_in(
    connection: object,
    flow: CallFlow | Mapping[str, object],
    *,
    queue: str = "default",
    schema: str = "voiceflow",
    **options: Unpack[CallOptions],
) -> Job:
    """Enqueue one call in the transaction of `connection`, from a program without an event loop; returns its job.

    `connection` is psycopg's own: of SQLAlchemy `connection.connection.driver_connection`, and of Django
    `connection.connection` within `atomic()`. The store is in `schema` of its database, and need not be
    open here. The job is valid once the transaction has committed; after a rollback, the call never was in the queue.

    All else is as `CallQueue.enqueue` says of its own `connection`: the options and the errors too.
    """

    async def enqueue() -> Job:
        async with joined(connection, schema=schema, blocks=True) as store:
            return await CallQueue(store, queue).enqueue(flow, **options)

    return _at_once(enqueue())


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work that never waits on an event loop, because its statements block."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast("T", ended.value)
    raise RuntimeError("a statement on a blocking connection has waited for an event loop")


@asynccontextmanager
async def joined(
    connection: object, *, schema: str, store: Store | None = None, location: str | None = None, blocks: bool = False
) -> AsyncGenerator[Store]:
    """Yield a store within the transaction of a caller's connection. If the block raises, the transaction is as before.

    `store` is the open store that it must be, which is at `location`. Without one, the time is that of the database.
    With `blocks`, asynchronous connections are refused. Raises InvalidInputError for a connection that cannot be used.
    """
    callers = callers_connection(connection, blocks=blocks)
    asked = _Queries(callers, schema, location)
    async with _savepoint(callers, schema):
        if store is not None:
            within = JoinedStore(asked, store_id=store.id, url=store.url, clock=store.clock)
        else:
            now, store_id = await asked.now_and_store()
            url = f"the schema {schema} of the database of this connection"
            within = JoinedStore(asked, store_id=store_id, url=url, clock=_At(now))
        yield cast("Store", within)


@asynccontextmanager
async def _savepoint(callers: CallersConnection, schema: str) -> AsyncGenerator[None]:
    with callers.used():
        try:
            await callers.run(_SAVE)
        except Exception as error:
            raise why_refused(error, schema) or error from error
        try:
            yield
            await callers.run(_KEEP)
        except BaseException:
            with nullcontext() if callers.blocks else CancelScope(shield=True), suppress(Exception):
                # If this fails, the whole transaction has failed: it cannot be committed.
                await callers.run(_UNDO)
                await callers.run(_KEEP)
            raise


class JoinedStore:
    """A store within a transaction of a caller. Of the methods of a store it has those that an enqueue uses."""

    def __init__(self, asked: _Queries, *, store_id: str, url: str, clock: Clock) -> None:
        self.id = store_id
        self.url = url
        self.clock = clock
        self.server = ""
        self._asked = asked

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Store new jobs. Nobody is woken, and new records are noted, to be put later."""
        bulk = checked_bulk(bulk)
        answers = await self._asked.answer(bulk=orjson.Fragment(plain_bulk(bulk, bulk.writes, now=now)))
        return [answer_from(*each) for each in zip(bulk.writes, answers, strict=True)]

    async def jobs(self, read: ByKey, *, now: datetime) -> Sequence[Job]:
        return list(readable(await self._asked.answer(now=now, owned=read.keys), _owner))

    async def records(self, wanted: Mapping[str, Sequence[Key]], *, now: datetime) -> Mapping[str, Sequence[Record]]:
        found: dict[str, Sequence[Record]] = {}
        for namespace, keys in wanted.items():
            rows = await self._asked.answer(now=now, namespace=namespace, keys=keys)
            found[namespace] = [record_from_fields(*fields) for fields in rows]
        return found


_COLUMNS = [name.strip() for name in JOB.split(",")]


def _owner(columns: dict[str, Any]) -> Job:
    """Return the job with these columns, or the deleted one in a record with these."""
    if "namespace" in columns:
        return tombstone_job(orjson.loads(columns["value"]))
    for name in ("due_at", "valid_until", "active_until"):
        columns[name] = None if columns[name] is None else datetime.fromisoformat(columns[name])
    return job_of(tuple(columns[name] for name in _COLUMNS))


class _Queries:
    """Queries of the store in a schema, on a caller's connection; `location` is where it must be, None for anywhere."""

    def __init__(self, callers: CallersConnection, schema: str, location: str | None) -> None:
        self._callers = callers
        self._schema = schema
        self._function = named("voiceflow.asked(", schema.replace('"', '""'))
        self._location = location

    async def now_and_store(self) -> tuple[datetime, str]:
        reply = await self._ask({})
        return datetime.fromisoformat(reply["now"]).astimezone(UTC), str(reply["store"])

    async def answer(self, **question: object) -> Any:
        return (await self._ask(question))["answer"]

    async def _ask(self, question: Mapping[str, object]) -> Mapping[str, Any]:
        text = b64encode(orjson.dumps({**question, "location": self._location})).decode()
        try:
            reply = await self._callers.run(f"SELECT {self._function}'{text}')")
        except Exception as error:
            raise why_refused(error, self._schema) or error from error
        answer: Mapping[str, Any] = orjson.loads(b64decode(reply or ""))
        if self._location is not None and answer["location"] != self._location:
            raise refused(
                f"the database of this connection has another store in its schema {self._schema}",
                "pass a connection to the database of the queue's store",
            )
        return answer


class _At:
    """A clock that does not move: an enqueue takes one moment, and its time is that of the database."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Do nothing: an enqueue never sleeps."""
