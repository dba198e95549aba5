"""The connection for scripts on asyncio. A trip is one write and one read.

A connection of coredis works on asyncio and trio, but needs two tasks and a queue for this, so a trip takes four times
as long. Scripts therefore use the connection of coredis only on trio. The connection in this module uses only the
parser of coredis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

import anyio
from coredis.connection import TCPLocation
from coredis.exceptions import ConnectionError as DriverConnectionError
from coredis.parser import NotEnoughData, Parser

from voiceflow_worker.backends.redis.connection import clients
from voiceflow_worker.backends.redis.connection.url import RedisURL

_BUFFER = 64 * 1024  # bytes


class ScriptLine(asyncio.BufferedProtocol):
    """One connection, on which answers come in the order of the requests. An answer that nobody awaits is skipped.

    If an answer takes longer than `clients.ANSWER_TIMEOUT`, the connection is closed, and all waiting requests fail.
    The connection reads into a buffer of its own. Without this buffer, asyncio would allocate 256 KB for each read,
    which takes 14 µs.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._buffer = memoryview(bytearray(_BUFFER))  # TLS writes to slices of it, which must not be copies

    @classmethod
    async def opened(cls, url: RedisURL, location: TCPLocation) -> ScriptLine:
        """Open a connection for scripts. Raises an error of the driver, TimeoutError or OSError."""
        with anyio.fail_after(clients.CONNECT_TIMEOUT):
            loop = asyncio.get_running_loop()
            transport, line = await loop.create_connection(
                cls, location.host, location.port, ssl=url.tls, server_hostname=location.host if url.tls else None
            )
            try:
                clients.keep_alive(transport.get_extra_info("socket"))
                if url.username or url.password:
                    await line.create_request(b"AUTH", url.username or "default", url.password or "")
                if url.database:
                    await line.create_request(b"SELECT", url.database)
                await line.create_request(b"CLIENT", "SETNAME", clients.NAME)
            except BaseException:
                line.close()
                raise
        return line

    @property
    def usable(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None

    def create_request(self, command: bytes, *args: Any) -> asyncio.Future[Any]:
        """Send a command, and return a future for its answer. On a closed line, raises the driver's ConnectionError."""
        return self.create_requests([(command, *args)])[0]

    def create_requests(self, commands: Iterable[Sequence[Any]]) -> list[asyncio.Future[Any]]:
        """Send commands in one write. Returns a future for each answer. Raises as `create_request` does."""
        if self._transport is None:
            raise DriverConnectionError("Connection lost")
        # All are encoded before any is noted: after an error, no later request may get the answer to another one.
        packed = [_packed(command) for command in commands]
        answers: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in packed]
        self._waiting.extend([(answer, self._loop.time()) for answer in answers])
        if self._watch is None:
            self._watch = self._loop.call_later(clients.ANSWER_TIMEOUT, self._look)
        self._transport.write(b"".join(packed))
        return answers

    def close(self) -> None:
        """Close the connection. All waiting requests fail."""
        self._give_up(DriverConnectionError("Connection closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. The event loop calls this."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the event loop gives it)
        """The buffer for answers. The event loop calls this."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read answers. The event loop calls this."""
        self._parser.feed(bytes(self._buffer[:nbytes]))
        try:
            while not isinstance(read := self._parser.parse(decode=True, encoding="utf-8"), NotEnoughData):
                answer, _ = self._waiting.popleft()
                if answer.done():
                    continue
                if isinstance(read[1], Exception):
                    answer.set_exception(read[1])
                else:
                    answer.set_result(read[1])
        except Exception as error:  # noqa: BLE001 - after unreadable data, no answer can be trusted
            unreadable = DriverConnectionError("the server sent an answer that cannot be read")
            unreadable.__cause__ = error
            self._give_up(unreadable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all waiting requests. The event loop calls this."""
        lost = DriverConnectionError("Connection lost")
        lost.__cause__ = exc
        self._give_up(lost)

    def _look(self) -> None:
        """Close the connection if the oldest request has waited too long; otherwise check again later."""
        self._watch = None
        if self._waiting:
            left = self._waiting[0][1] + clients.ANSWER_TIMEOUT - self._loop.time()
            if left <= 0:
                self._give_up(TimeoutError(f"no answer within {clients.ANSWER_TIMEOUT:g} seconds"))
            else:
                self._watch = self._loop.call_later(left, self._look)

    def _give_up(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)


def _packed(parts: Sequence[Any]) -> bytes:
    """A command in the protocol of Redis (RESP)."""
    written = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        written.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(written)
