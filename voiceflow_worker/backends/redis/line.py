"""One connection to one server, on asyncio. A trip is one write and one read; the parser is that of coredis.

A connection of coredis needs two tasks and a queue for this, so a trip takes four times as long.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, cast

import anyio
from coredis.exceptions import ConnectionError as DriverConnectionError
from coredis.parser import NotEnoughData, Parser

NAME = "voiceflow-worker"
CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0
"""Seconds to wait for an answer. The slowest script, an enqueue of 20,000 jobs, takes about 1.5 s."""
_KEEPALIVE = {
    getattr(socket, name): seconds
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
_BUFFER = 64 * 1024  # bytes


Node = tuple[str, int]
"""The address of a server: host and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a server asks of a connection."""

    username: str | None = None
    password: str | None = None
    tls: SSLContext | None = None
    database: int = 0


class Line(asyncio.BufferedProtocol):
    """One connection, on which answers come in the order of the requests. An answer that nobody awaits is skipped.

    If an answer takes longer than `ANSWER_TIMEOUT`, the connection is closed, and all waiting requests fail. The
    connection reads into a buffer of its own. Without this buffer, asyncio would allocate 256 KB for each read, which
    takes 14 µs. It notices a dead server by TCP keep-alive.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._buffer = memoryview(bytearray(_BUFFER))  # TLS writes to slices of it, which must not be copies

    @classmethod
    async def opened(cls, node: Node, access: Access) -> Line:
        """Open a connection. Raises an error of the driver, TimeoutError or OSError."""
        host, port = node
        with anyio.fail_after(CONNECT_TIMEOUT):
            transport, line = await asyncio.get_running_loop().create_connection(
                cls, host, port, ssl=access.tls, server_hostname=host if access.tls else None
            )
            try:
                opened: socket.socket = transport.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, seconds in _KEEPALIVE.items():
                    opened.setsockopt(socket.IPPROTO_TCP, option, seconds)
                if access.username or access.password:
                    await line.create_request(b"AUTH", access.username or "default", access.password or "")
                if access.database:
                    await line.create_request(b"SELECT", access.database)
                await line.create_request(b"CLIENT", "SETNAME", NAME)
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
            self._watch = self._loop.call_later(ANSWER_TIMEOUT, self._look)
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
            left = self._waiting[0][1] + ANSWER_TIMEOUT - self._loop.time()
            if left <= 0:
                self._give_up(TimeoutError(f"no answer within {ANSWER_TIMEOUT:g} seconds"))
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
