"""The connection of a store to its servers, reopened whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, cast

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from coredis import Redis, RedisCluster
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import NoScriptError, RedisError

from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.redis.connection import clients
from voiceflow_worker.backends.redis.connection.clients import Client
from voiceflow_worker.backends.redis.connection.codec import Argument
from voiceflow_worker.backends.redis.connection.durability import Durability, Guarantee
from voiceflow_worker.backends.redis.connection.faults import LOST, is_lost, translated
from voiceflow_worker.backends.redis.connection.line import ScriptLine
from voiceflow_worker.backends.redis.connection.scripts import script
from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError

_log = structlog.get_logger("voiceflow.redis")

PATIENCE = 1.0
"""Seconds that a call waits for a connection that is being reopened, before it fails."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
CONFIRM_WITHIN_MS = 3000
"""How long WAIT and WAITAOF wait: less than the time limit of an answer."""
LOOK_AT_SENTINELS_EVERY = 1.0
DROPPED_AT_ONCE = 500
"""Entries that one script drops: a few milliseconds."""

Greeting = Callable[[Client], Awaitable[Durability | None]]
"""A step of every new session before its first use. An error of this library keeps the store closed."""


class Session:
    """One client, from its opening until the connection is lost.

    Scripts share one connection: a `ScriptLine`, or on trio one that is taken from the client's pool once. The client's
    own way to run a command costs as much again as the command.
    """

    def __init__(self, client: Client, url: RedisURL) -> None:
        self.client = client
        self.ended = anyio.Event()
        self._url = url
        self._line: TCPConnection | ScriptLine | None = None
        self._taking = anyio.Lock()

    def end(self) -> None:
        """No further command begins; whoever waits for the answer to a script gets an error."""
        self.ended.set()
        if isinstance(self._line, ScriptLine):
            self._line.close()

    async def run(self, name: str, key: str, args: Sequence[Argument], *, waits: bool = False) -> Any:
        """Run a script by its digest; `waits`: the client then waits for its writes to be confirmed.

        A server that does not know the script gets its text.
        """
        wanted = script(name)
        try:
            if waits or isinstance(self.client, RedisCluster):
                return await self.client.evalsha(wanted.sha, keys=[key], args=args)
            line = self._line
            if line is None or not line.usable:
                line = await self._take_line(self.client)
            return await line.create_request(b"EVALSHA", wanted.sha, 1, key, *args)
        except NoScriptError:
            # It was not run, so this is the first time. EVAL also makes the server remember it.
            return await self.client.eval(wanted.text, keys=[key], args=args)

    async def _take_line(self, client: Redis[str]) -> TCPConnection | ScriptLine:
        """The connection of all scripts. Callers that arrive together take one: the pool has no more than 64."""
        async with self._taking:
            line = self._line
            if line is None or not line.usable:
                pool = client.connection_pool
                if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
                    line = await ScriptLine.opened(self._url, cast("TCPLocation", pool.location))
                else:
                    line = await pool.get_connection()
                self._line = line
            if self.ended.is_set():
                self.end()
            return line


class Link:
    """The way to run scripts on the servers behind a URL.

    Each session begins with the `greetings`, which check the durability and the schema of the server. It ends when the
    connection is lost or the primary has moved. A call without a session waits a little, then raises
    `StoreUnavailableError`. A step that must run whenever a server comes back is a greeting.
    """

    def __init__(self, url: RedisURL, greetings: Sequence[Greeting]) -> None:
        self._url = url
        self._greetings = tuple(greetings)
        self._session: Session | None = None
        self._opened = anyio.Event()
        self._why: VoiceflowError | None = None
        self._group: TaskGroup | None = None
        self._durability: Durability | None = None

    @property
    def durability(self) -> Durability:
        """What the connected server guarantees; while disconnected, what the last one guaranteed."""
        if self._durability is None:
            raise RuntimeError("the store has not been opened")
        return self._durability

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep a session open for the length of the block. Raises the error that keeps the first one from opening."""
        # A task group would wrap the error in an exception group.
        raised: BaseException | None = None
        async with anyio.create_task_group() as self._group:
            raised = await self._group.start(self._keep_open)
            if raised is None:
                if self._url.topology is Topology.SENTINEL:
                    self._group.start_soon(self._follow_primary)
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
        """Run a task while the link is open. It must not raise."""
        if self._group is None:
            raise RuntimeError("the store has not been opened")
        self._group.start_soon(work)

    async def run(self, name: str, key: str, args: Sequence[Argument] = ()) -> Any:
        """Run a script on the keys that begin with `key`. Raises `StoreError`."""
        return await self._do(lambda session: session.run(name, key, args))

    async def run_durably(self, name: str, key: str, args: Sequence[Argument]) -> Any:
        """Run a script whose writes are as durable as the store promises when this returns.

        With WAITAOF, and where replicas were asked for, the connection waits for its own writes. A confirmation of less
        than was asked for is a `StoreUnavailableError`.
        """
        replicas = self._url.replicas

        async def confirmed(session: Session) -> Any:
            with ExitStack() as waits:
                if self.durability.guarantee is Guarantee.WAITED:
                    waits.enter_context(session.client.ensure_persistence(1, replicas, CONFIRM_WITHIN_MS))
                elif replicas:
                    waits.enter_context(session.client.ensure_replication(replicas, CONFIRM_WITHIN_MS))
                return await session.run(name, key, args, waits=True)

        if not replicas and self.durability.guarantee is not Guarantee.WAITED:
            return await self.run(name, key, args)
        return await self._do(confirmed)

    async def ask(self, question: Callable[[Client], Awaitable[Any]]) -> Any:
        """Ask the client something without a script. Raises `StoreError`."""
        return await self._do(lambda session: question(session.client))

    async def drop_all(self, name: str, key: str, time: datetime) -> int:
        """Repeat a script that drops some old entries until none are left; gives how many it dropped."""
        dropped = 0
        while True:
            some: int = await self.run(name, key, [to_micros(time), DROPPED_AT_ONCE])
            dropped += some
            if some < DROPPED_AT_ONCE:
                return dropped

    async def _do(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        session = await self._current()
        try:
            return await work(session)
        except (RedisError, *LOST, RuntimeError) as error:
            raise await self._failed(session, error) from error

    def reopen(self) -> None:
        """End the session: connections are reopened, and calls under way fail."""
        if self._session is not None:
            self._end(self._session)

    def _end(self, session: Session) -> None:
        """End a session: no further command of Redis begins with it."""
        session.end()
        if session is self._session:
            self._session = None
            self._opened = anyio.Event()

    async def _current(self) -> Session:
        if self._session is None:
            with anyio.move_on_after(PATIENCE):
                await self._opened.wait()
        if self._session is None:
            if self._why is not None:
                raise type(self._why)(str(self._why))
            raise StoreUnavailableError(f"the Redis at {self._url.shown} cannot be reached; trying again")
        return self._session

    async def _failed(self, session: Session, error: Exception) -> VoiceflowError:
        """The error to raise. Lost connections are reopened for the next call."""
        if isinstance(error, RuntimeError):
            if not session.ended.is_set():
                raise error
            # The client was closed under this call.
            return StoreUnavailableError(f"the Redis at {self._url.shown} went away; trying again")
        if isinstance(session.client, RedisCluster):
            if not session.ended.is_set():
                # The other nodes go on; the client looks for the nodes that have the slots now.
                await session.client.on_retry_error(error)
        elif is_lost(error):
            self._end(session)
        return translated(error, shown=self._url.shown)

    async def _keep_open(self, *, task_status: TaskStatus[VoiceflowError | None]) -> None:
        began = False
        pause = FIRST_PAUSE
        while True:
            session: Session | None = None
            try:
                async with clients.opened(self._url) as client:
                    await self._greet(client)
                    self._session = session = Session(client, self._url)
                    if self._why is not None:
                        _log.info("the store is back")
                    self._why, pause = None, FIRST_PAUSE
                    self._opened.set()
                    if not began:
                        began = True
                        task_status.started(None)
                    await session.ended.wait()
            except Exception as error:  # noqa: BLE001 - whatever a client fails with, the link goes on
                why = translated(error, shown=self._url.shown)
                if not began:
                    task_status.started(why)
                    return
                if self._why is None or type(why) is not type(self._why):
                    _log.warning("the store is away; it is reopened until it answers", error=str(why))
                self._why = why
            finally:
                if session is not None:
                    self._end(session)
            if self._why is not None:
                await anyio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _greet(self, client: Client) -> None:
        for greeting in self._greetings:
            found = await greeting(client)
            if found is None:
                continue
            if found.warning is not None and found != self._durability:
                _log.warning(
                    "this Redis should be configured differently", store=self._url.shown, warning=found.warning
                )
            self._durability = found

    async def _follow_primary(self) -> None:
        """End the session when the sentinels name another primary. The old one may still take writes, and lose them."""
        while True:
            await anyio.sleep(LOOK_AT_SENTINELS_EVERY)
            try:
                named = await clients.primary(self._url)
            except (RedisError, *LOST):
                continue
            session = self._session
            if session is not None and session.client.connection_pool.location != named:
                _log.warning("the sentinels name another primary", primary=str(named))
                self._end(session)
