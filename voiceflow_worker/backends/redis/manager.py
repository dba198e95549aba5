"""The connections of a store to its server. Lost ones are reopened."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from functools import partial
from typing import Any, cast

import anyio
import orjson
import structlog
from anyio.abc import TaskGroup, TaskStatus

from voiceflow_worker.backends.health import Guarantee
from voiceflow_worker.backends.record import unstorable
from voiceflow_worker.backends.redis.connection import Access, Connection, Node
from voiceflow_worker.backends.redis.durability import RedisDurability
from voiceflow_worker.backends.redis.faults import (
    NoPrimaryError,
    NotConfirmedError,
    RedisError,
    RefusedServerError,
    ReplyError,
    UnansweredError,
    is_lost,
    script,
    translated,
)
from voiceflow_worker.backends.redis.url import RedisURL, Topology
from voiceflow_worker.backends.running import Home, SettingsCheck, kept, met_running
from voiceflow_worker.core.ports.store import BulkWrite
from voiceflow_worker.errors import StoreError, StoreUnavailableError, VoiceflowError


async def primary(url: RedisURL) -> Node:
    """Return the address of the server that has the store.

    Sentinels are asked one after the other, without a user. Raises NoPrimaryError if none that answers knows it.
    """
    if url.topology is Topology.STANDALONE:
        return url.nodes[0]
    for node in url.nodes:
        with suppress(OSError):
            connection = await Connection.opened(node, Access(tls=url.tls))
            try:
                found = await connection.create_request(b"SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
                if found:
                    return str(found[0]), int(found[1])
            finally:
                connection.close()
    raise NoPrimaryError(f"nobody knows a primary of the service {url.service!r}")


_log = structlog.get_logger("voiceflow.redis")

TIMEOUT = 1.0
"""Seconds that a request waits for a connection that is being reopened. Then the request fails."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
CONFIRM_WITHIN_MS = 3000
"""The longest time, in milliseconds, that WAIT and WAITAOF wait. It must be less than the timeout of an answer."""
CHECK_PRIMARY_EVERY = 1.0
MOST_WAITING = 64
"""The most connections of a process on which writes wait for their confirmation."""

Check = Callable[[Connection], Awaitable[None]]
"""A check of a new connection before its first use. If it raises an error, the connection is closed."""
Survey = Callable[[Connection], Awaitable[RedisDurability]]
"""What a check asks. It returns the durability of that server."""


def packed(asked: Mapping[str, Any]) -> bytes:
    """What a script is asked, as JSON. Raises UnicodeEncodeError for half a surrogate pair."""
    try:
        return orjson.dumps(asked)
    except orjson.JSONEncodeError:
        for text in _texts_in(asked):
            text.encode()  # this error names the text; orjson's does not
        raise


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts_in(list(cast("Mapping[str, Any]", value).values()))
    elif isinstance(value, list | tuple):
        for each in cast("Sequence[Any]", value):
            yield from _texts_in(each)


class ServerConnections:
    """The connections to one server, from the opening of the first until one is lost.

    Scripts share one connection. A write that must be confirmed has one to itself, because the server answers nothing
    else on it meanwhile. So has each stream that is listened to.
    """

    def __init__(self, node: Node, url: RedisURL, check: Check) -> None:
        self.node = node
        self.ended: anyio.Event = anyio.Event()
        self._url = url
        self._check = check
        self._shared: Connection | None = None
        self._idle: list[Connection] = []
        self._listening: dict[str, Connection] = {}
        self._all: set[Connection] = set()
        self._opening = anyio.Lock()
        self._waits = anyio.Semaphore(MOST_WAITING)

    def end(self) -> None:
        """Begin no further command, and raise an error in the callers that wait for an answer."""
        self.ended.set()
        for connection in self._all:
            connection.close()

    async def check_again(self) -> None:
        """Check the connection that callers share as if it were new."""
        await self._check(await self.shared())

    async def shared(self) -> Connection:
        """The connection that simultaneous callers share."""
        if self._shared is not None and self._shared.usable:
            return self._shared
        async with self._opening:
            if self.ended.is_set():  # the caller before this one has found that the server cannot be reached
                raise ConnectionError("Connection lost")
            if self._shared is None or not self._shared.usable:
                self._shared = await self._open()
            return self._shared

    async def run(self, name: str, asked: Mapping[str, Any], *, confirmation: Sequence[str | int] = ()) -> Any:
        """Run a script by its digest, or by its text if the server does not know the script yet.

        `confirmation` is a command that waits until the writes of its connection are confirmed; it is sent with the
        script, whose answer is returned after that of the confirmation.
        """
        wanted, text = script(name), packed(asked)
        try:
            answer = await self._run((b"EVALSHA", wanted.sha, 1, self._url.root, text), confirmation)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
            # The server did not run the script. EVAL runs it, and the server then remembers its digest.
            answer = await self._run((b"EVAL", wanted.text, 1, self._url.root, text), confirmation)
        with _readable():
            return orjson.loads(answer)

    async def _run(self, words: Sequence[Any], confirmation: Sequence[str | int]) -> Any:
        if not confirmation:
            return await (await self.shared()).create_request(*words)
        async with self._waits:
            self._idle = [connection for connection in self._idle if connection.usable]
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                made, confirmed = connection.create_requests([words, confirmation])
                try:
                    answer = await made
                    _require_confirmed(await confirmed, self._url.replicas)
                finally:
                    confirmed.cancel()
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            return answer

    async def listen(self, stream: str, *, after: str, within_ms: int) -> str | None:
        """Wait for an entry of a stream that is newer than the entry `after`, and return its id.

        Returns None if no entry comes in time.
        """
        connection = self._listening.get(stream)
        if connection is None or not connection.usable:
            connection = self._listening[stream] = await self._open()
        answer = await connection.create_request(b"XREAD", "BLOCK", within_ms, "STREAMS", stream, after)
        with _readable():
            return str(answer[0][1][-1][0]) if answer else None

    async def _open(self) -> Connection:
        try:
            connection = await Connection.opened(self.node, self._url.access)
            self._all = {connection, *(each for each in self._all if each.usable)}
            try:
                await self._check(connection)
            except BaseException:
                connection.close()
                raise
        except UnansweredError as error:
            raise ConnectionError(str(error)) from error.__cause__  # nothing of a caller was sent
        if self.ended.is_set():
            connection.close()
        return connection


def _kept(by: RedisDurability) -> tuple[object, ...]:
    """How a server keeps what is written, and which one it is."""
    return by.server, by.guarantee, by.forgets is None


def _require_confirmed(answer: Any, replicas: int) -> None:
    """Raise NotConfirmedError unless this answer to WAITAOF or to WAIT names enough servers."""
    with _readable():
        own, others = (1, int(answer)) if isinstance(answer, int) else map(int, answer)
    if own < 1 or others < replicas:
        raise NotConfirmedError(f"{own} of 1 disk and {others} of {replicas} replicas have it")


@contextmanager
def _readable() -> Generator[None]:
    """An answer in an unexpected form ends its connection: the next one on it may belong to another request."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UnansweredError("the server sent an answer that cannot be read") from error


class ConnectionManager:
    """Keeps a store connected to its server, and runs its scripts there.

    Each new connection is surveyed before its first use, which checks the durability and the schema of its server. When
    a connection is lost, or the primary has changed, all are closed and opened anew. A request meanwhile waits for up
    to a second, and then raises StoreUnavailableError.
    """

    def __init__(self, url: RedisURL, survey: Survey) -> None:
        self._url = url
        self._survey = survey
        self._connections: ServerConnections | None = None
        self._opened = anyio.Event()
        self._why: VoiceflowError | None = None
        self._group: TaskGroup | None = None
        self._durability: RedisDurability | None = None
        self._home = Home(url.shown)
        self._settings = SettingsCheck(self._look_at_settings)

    @property
    def durability(self) -> RedisDurability:
        """The durability of the connected server or, while none is connected, of the one that was connected last."""
        if self._durability is None:
            raise RuntimeError("the store has not been opened")
        return self._durability

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Stay connected for the length of the block. If the first connection cannot be opened, its error is raised."""
        # Errors are raised outside of the task group, which would wrap them in an exception group.
        raised: BaseException | None = None
        async with anyio.create_task_group() as self._group:
            raised = await self._group.start(self._keep_open)
            if raised is None:
                if self._url.topology is not Topology.STANDALONE:
                    self.start(self._follow_primary)
                try:
                    yield
                except anyio.get_cancelled_exc_class():
                    raise
                except BaseException as error:  # noqa: BLE001 - raised again below
                    raised = error
            self._group.cancel_scope.cancel()
        if raised is not None:
            raise raised

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that runs while the store is open. After an error, it begins again."""
        if self._group is None:
            raise RuntimeError("the store has not been opened")
        self._group.start_soon(kept, work)

    @property
    def root(self) -> str:
        """The beginning of all keys of the store."""
        return self._url.root

    async def run(self, name: str, asked: Mapping[str, Any] | None = None, *, is_kept: bool = False) -> Any:
        """Run a script; with `is_kept`, not on a server that may lose what it has confirmed. Raises StoreError."""

        async def run(connections: ServerConnections) -> Any:
            if is_kept:
                self.durability.require()
            return await connections.run(name, asked or {})

        if is_kept and self._group is not None:
            self._settings.begin(self._group)  # what is stored next waits for it
        return await self._do(run)

    async def run_durably(self, name: str, asked: Mapping[str, Any], bulk: BulkWrite) -> Any:
        """Run the script of a bulk write, and return when its writes are as durable as the store promises.

        With WAITAOF or with replicas, the connection waits for the confirmation of its own writes. Raises
        StoreUnavailableError if too few servers confirm them.
        """
        replicas = self._url.replicas

        async def confirmed(connections: ServerConnections) -> Any:
            self.durability.require(bulk)
            waits = replicas and self.durability.forgets is None
            confirmation: Sequence[str | int] = ("WAIT", replicas, CONFIRM_WITHIN_MS) if waits else ()
            if self.durability.guarantee is Guarantee.WAITED:
                confirmation = ("WAITAOF", 1, replicas, CONFIRM_WITHIN_MS)
            return await connections.run(name, {**asked, "confirms": bool(confirmation)}, confirmation=confirmation)

        await self._settings.require()
        return await self._do(confirmed)

    async def check_again(self) -> None:
        """Survey the server anew: its settings may have changed under its connections. Raises StoreError."""
        with suppress(StoreUnavailableError):  # of another server, or with others: it is connected again
            await self._do(ServerConnections.check_again)
            return
        await self._do(ServerConnections.check_again)

    async def _look_at_settings(self) -> None:
        if self._connections is not None:  # a new one is checked
            await self._do(ServerConnections.check_again)

    async def ask(self, question: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Run commands without a script. Raises StoreError."""

        async def asked(connections: ServerConnections) -> Any:
            return await question(await connections.shared())

        return await self._do(asked)

    async def listen(self, stream: str, *, after: str, within_ms: int) -> str | None:
        """Wait for an entry of a stream that is newer than the entry `after`, and return its id.

        Returns None if no entry comes in time. Raises StoreError.
        """
        found: str | None = await self._do(
            lambda connections: connections.listen(stream, after=after, within_ms=within_ms)
        )
        return found

    async def _do(self, work: Callable[[ServerConnections], Awaitable[Any]]) -> Any:
        self._home.require()
        connections = await self._current()
        try:
            return await work(connections)
        except UnicodeEncodeError as error:
            raise unstorable(error) from error
        except (RedisError, OSError) as error:
            raise self._failed(connections, error) from error

    def reopen(self) -> None:
        """Close the connections, and open new ones. Requests in progress fail."""
        if self._connections is not None:
            self._end(self._connections)

    def _end(self, connections: ServerConnections) -> None:
        """Close connections, so that no further command uses them."""
        connections.end()
        if connections is self._connections:
            self._connections = None
            self._opened = anyio.Event()

    async def _current(self) -> ServerConnections:
        if self._connections is None:
            with anyio.move_on_after(TIMEOUT):
                await self._opened.wait()
        if self._connections is None:
            if self._why is not None:
                raise copy(self._why)
            raise StoreUnavailableError(
                f"the Redis at {self._url.shown} cannot be reached; this process keeps trying to connect"
            )
        return self._connections

    def _failed(self, connections: ServerConnections, error: Exception) -> VoiceflowError:
        """Translate an error of a request, and close the connections if one is lost."""
        if is_lost(error):
            self._end(connections)
        failed = translated(error, shown=self._url.shown)
        if isinstance(failed, StoreError):
            failed.may_be_written = isinstance(error, UnansweredError | NotConfirmedError)
        return failed

    async def _keep_open(self, *, task_status: TaskStatus[VoiceflowError | None]) -> None:
        began = False
        pause = 0.0
        while True:
            connections: ServerConnections | None = None
            lasted = 0.0
            try:
                found: list[RedisDurability] = []
                connections = ServerConnections(await primary(self._url), self._url, partial(self._check, found))
                await connections.shared()
                self._note_durability(found[0])
                self._connections = connections
                if self._why is not None:
                    _log.info("the store can be reached again")
                self._why = None
                self._opened.set()
                opened_at = time.monotonic()
                if not began:
                    began = True
                    task_status.started(None)
                await connections.ended.wait()
                lasted = time.monotonic() - opened_at
            except Exception as error:  # noqa: BLE001 - after any error, they are opened again
                why = translated(error, shown=self._url.shown)
                if not began:
                    task_status.started(why)
                    return
                if self._why is None or type(why) is not type(self._why):
                    _log.warning("the store cannot be reached; this process keeps trying to connect", error=str(why))
                self._why = why
            finally:
                if connections is not None:
                    self._end(connections)
            # Connections that lasted are opened again at once, but not those of a server that soon ends them each time.
            pause = 0.0 if lasted > LONGEST_PAUSE else min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            await anyio.sleep(pause)

    async def _check(self, found: list[RedisDurability], connection: Connection) -> None:
        """Survey a new connection. `found` has the durability that the server had at the first one.

        All have the same server, which makes writes durable in the same way: else they are closed, and opened anew.
        """
        try:
            with _readable():
                durability = await self._survey(connection)
        except VoiceflowError as error:
            raise RefusedServerError(error if self._durability is None else met_running(error)) from error
        if not found:
            found.append(durability)
        elif _kept(durability) != _kept(found[0]):
            self.reopen()
            raise ConnectionError("the server was restarted, or is less durable than before, or more")

    def _note_durability(self, found: RedisDurability) -> None:
        was = self._durability
        if found.warning is not None and was is not None and found.warning != was.warning:
            _log.warning("this Redis should be configured differently", store=self._url.shown, warning=found.warning)
        self._durability = found

    async def _follow_primary(self) -> None:
        """Reconnect when another primary is named: the old one may accept writes and lose them."""
        while True:
            await anyio.sleep(CHECK_PRIMARY_EVERY)
            try:
                named = await primary(self._url)
            except (RedisError, StoreError, OSError):
                continue
            connections = self._connections
            if connections is not None and connections.node != named:
                _log.warning("another primary is named; this process connects to it", primary=str(named))
                self._end(connections)
