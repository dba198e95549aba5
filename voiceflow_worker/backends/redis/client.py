"""The connections of a Redis store, by redis-py: none of its commands is ever sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import orjson
import structlog
from anyio.abc import TaskGroup
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.connection import Connection as PlainConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from voiceflow_worker.backends.health import Guarantee
from voiceflow_worker.backends.record import unstorable
from voiceflow_worker.backends.redis.durability import RedisDurability
from voiceflow_worker.backends.redis.faults import NotConfirmedError, UnreadableError, is_lost, translated
from voiceflow_worker.backends.redis.scripts import Command, Exchange, packed, script
from voiceflow_worker.backends.redis.url import RedisURL
from voiceflow_worker.backends.running import Home, background, kept, met_running
from voiceflow_worker.errors import VoiceflowError

_log = structlog.get_logger("voiceflow.redis")

NAME = "voiceflow-worker"
CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0
"""Seconds to wait for an answer. The slowest script, an enqueue of 20,000 jobs, takes about 1.5 s."""
CONFIRM_WITHIN_MS = 3000
"""The longest time, in milliseconds, that WAIT and WAITAOF wait. It must be less than ANSWER_TIMEOUT."""
CHECK_PRIMARY_EVERY = 1.0
MOST_AT_ONCE = 16
"""The most scripts of a process that run side by side. A server runs one after the other."""
MOST_CONNECTIONS = 1000
"""Scripts, and one connection for each queue that is listened to."""

Survey = Callable[[Exchange], Awaitable[RedisDurability]]
"""Checks the server of a new connection before its first use, and returns what it promises."""


async def exchange(connection: AbstractConnection, *commands: Command) -> list[Any]:
    """Send commands in one write, and return the answer to each, or its ResponseError.

    If it is cancelled, or an answer takes longer than ANSWER_TIMEOUT, the connection is closed. Raises RedisError or
    OSError when the connection is lost.
    """
    answers: list[Any] = []
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await connection.send_packed_command(b"".join(map(pack_command, commands)), check_health=False)
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as refused:
                    answers.append(refused)
    except TimeoutError as error:
        await connection.disconnect(nowait=True)
        raise TimeoutError(f"no answer within {ANSWER_TIMEOUT:g} seconds") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(str(error)) from error
    return answers


class RedisClient:
    """Runs scripts on the server of a store, over a pool of connections.

    Each new connection is surveyed before its first use: the durability of its server, and the schema of the store.
    When a connection is lost, all are closed, and the next request opens a new one.
    """

    def __init__(self, url: RedisURL, survey: Survey) -> None:
        self._url = url
        self._survey = survey
        self._home = Home(url.shown)
        self._at_once = anyio.Semaphore(MOST_AT_ONCE, fast_acquire=True)
        self._group: TaskGroup | None = None
        self._durability: RedisDurability | None = None
        self._pool: Any = self._make_pool()  # methods of redis-py have no types

    def _make_pool(self) -> Any:
        connecting: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": None,  # `exchange` has one
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": True,
        }
        server: dict[str, Any] = {
            **connecting,
            "db": self._url.database,
            "username": self._url.username,
            "password": self._url.password,
            "redis_connect_func": self._on_connect,
            "max_connections": MOST_CONNECTIONS,
            **self._url.tls,
        }
        nodes = list(self._url.nodes)
        if self._url.service is None:
            ((host, port),) = nodes
            kind = SSLConnection if self._url.is_tls else PlainConnection
            return ConnectionPool(kind, host=host, port=port, **server)
        asked = {**connecting, "socket_timeout": CONNECT_TIMEOUT, "ssl": self._url.is_tls, **self._url.tls}
        sentinels: Any = Sentinel
        pool: Any = SentinelConnectionPool
        sentinel = sentinels(nodes, sentinel_kwargs=asked)
        return pool(self._url.service, sentinel, ssl=self._url.is_tls, **server)

    @property
    def durability(self) -> RedisDurability:
        if self._durability is None:
            raise RuntimeError("the store has not been opened")
        return self._durability

    @property
    def root(self) -> str:
        return self._url.root

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Connect for the length of the block. Raises the error of the first connection."""
        try:
            async with background() as self._group:
                await self.ask(("PING",))
                if self._url.service is not None:
                    self.start(self._follow_primary)
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._disconnect()
                if self._url.service is not None:
                    for sentinel in self._pool.sentinel_manager.sentinels:
                        await sentinel.aclose()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that runs while the store is open. After an error, it begins again."""
        if self._group is None:
            raise RuntimeError("the store has not been opened")
        self._group.start_soon(kept, work)

    async def run(self, name: str, asked: Mapping[str, Any] | None = None) -> Any:
        """Run a script, and return its answer. Raises StoreError."""
        async with self._at_once, self._connection() as connection:
            return await self._run(connection, name, asked or {}, ())

    async def run_durably(self, name: str, asked: Mapping[str, Any]) -> Any:
        """Run a script that writes, and return when its writes are as durable as the store promises.

        With WAITAOF or with replicas, the connection waits for the confirmation of its own writes. Raises
        StoreUnavailableError if too few servers confirm them.
        """
        async with self._at_once, self._connection() as connection:
            confirmation: Command = ("WAIT", self._url.replicas, CONFIRM_WITHIN_MS) if self._url.replicas else ()
            if self.durability.guarantee is Guarantee.WAITED:
                confirmation = ("WAITAOF", 1, self._url.replicas, CONFIRM_WITHIN_MS)
            asked = {**asked, "confirms": bool(confirmation)}
            return await self._run(connection, name, asked, (confirmation,) if confirmation else ())

    async def _run(
        self, connection: AbstractConnection, name: str, asked: Mapping[str, Any], confirmation: Sequence[Command]
    ) -> Any:
        """Run a script by its digest, or by its text if the server does not know the script yet."""
        wanted, question = script(name), packed(asked)
        run = ("EVALSHA", wanted.sha, 1, self._url.root, question)
        answer, *confirmed = await exchange(connection, run, *confirmation)
        if isinstance(answer, NoScriptError):  # it did not run; by EVAL it does, and the server then knows it
            run = ("EVAL", wanted.text, 1, self._url.root, question)
            answer, *confirmed = await exchange(connection, run, *confirmation)
        for each in (answer, *confirmed):
            if isinstance(each, ResponseError):
                raise each
        for each in confirmed:
            _require_confirmed(each, self._url.replicas)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise UnreadableError(str(error)) from error

    async def ask(self, command: Command) -> Any:
        """Run one command without a script. Raises StoreError."""
        async with self._connection() as connection:
            (answer,) = await exchange(connection, command)
            if isinstance(answer, ResponseError):
                raise answer
            return answer

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[AbstractConnection]:
        """Return a connection to one caller alone. Errors in the block are raised as StoreError."""
        self._home.require()
        try:
            connection: AbstractConnection = await self._pool.get_connection()
            try:
                yield connection
            except (ResponseError, NotConfirmedError, UnicodeEncodeError):
                raise
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await self._pool.release(connection)
        except UnicodeEncodeError as error:
            raise unstorable(error) from error
        except (RedisError, OSError, NotConfirmedError) as error:
            if is_lost(error):
                await self._disconnect()
            raise translated(error, shown=self._url.shown) from error

    async def _disconnect(self) -> None:
        with suppress(RedisError, OSError):
            await self._pool.disconnect()

    async def _on_connect(self, connection: AbstractConnection) -> None:
        """Log in, and survey the server.

        All connections lead to the same server, which makes writes durable in the same way: else all are closed.
        """
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.on_connect()
                await exchange(connection, ("CLIENT", "SETNAME", NAME))  # not every user may; nothing depends on it

                async def ask(*commands: Command) -> list[Any]:
                    return await exchange(connection, *commands)

                found = await self._survey(ask)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, VoiceflowError) and self._durability is not None:
                raise met_running(error) from error
            raise
        was, self._durability = self._durability, found
        if was is None:
            return
        if found.warning is not None and found.warning != was.warning:
            _log.warning("this Redis should be configured differently", store=self._url.shown, warning=found.warning)
        if (found.server, found.guarantee) != (was.server, was.guarantee):
            await self._disconnect()
            raise ConnectionError("the server was restarted, or is less durable than before, or more")

    async def _follow_primary(self) -> None:
        """Connect again when another primary is named: the old one may accept writes and lose them."""
        while True:
            await anyio.sleep(CHECK_PRIMARY_EVERY)
            known = self._pool.master_address
            with suppress(RedisError, OSError):
                named = await self._pool.get_master_address()
                if named != known:
                    _log.warning("another primary is named; this process connects to it", primary=str(named))
                    await self._disconnect()


def _require_confirmed(answer: Any, replicas: int) -> None:
    """Raise NotConfirmedError unless this answer to WAITAOF or to WAIT names enough servers."""
    try:
        own, others = (1, int(answer)) if isinstance(answer, int) else map(int, answer)
    except (TypeError, ValueError) as error:
        raise UnreadableError("the server sent an answer that cannot be read") from error
    if own < 1 or others < replicas:
        raise NotConfirmedError(f"{own} of 1 disk and {others} of {replicas} replicas have it")
