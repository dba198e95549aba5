"""One connection to one server, on asyncio. A round trip is one write and one read; hiredis encodes and parses them."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Final, cast

import anyio
from hiredis import Reader, pack_command

from voiceflow_worker.backends.redis.faults import NO_TLS, ReplyError, UnansweredError

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
NO_ANSWER = (
    "the connection was ended before the first answer, as a port with TLS does: then write rediss:// (or tls=yes)"
)
_NOTHING: Final = object()
"""What the parser gives when it has no whole answer."""


Node = tuple[str, int]
"""The address of a server: host and port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a server asks of a connection."""

    username: str | None = None
    password: str | None = None
    tls: SSLContext | None = None


class Connection(asyncio.BufferedProtocol):
    """One connection, on which answers come in the order of the requests. An answer that nobody awaits is skipped.

    If an answer takes longer than `ANSWER_TIMEOUT`, the connection is closed, and all waiting requests fail. The
    connection reads into a buffer of its own. Without this buffer, asyncio would allocate 256 KB for each read, which
    takes 14 µs. It notices a dead server by TCP keep-alive.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=ReplyError, encoding="utf-8", notEnoughData=_NOTHING)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._has_answered = False
        self._buffer = memoryview(bytearray(_BUFFER))  # TLS writes to slices of it, which must not be copies

    @classmethod
    async def opened(cls, node: Node, access: Access) -> Connection:
        """Open a connection. Raises ReplyError or OSError."""
        try:
            return await cls._opened(node, access)
        except TimeoutError as error:
            if not access.tls:
                raise  # not from itself: who follows its causes would never end
            raise TimeoutError(f"no answer to TLS; {NO_TLS}") from error

    @classmethod
    async def _opened(cls, node: Node, access: Access) -> Connection:
        host, port = node
        with anyio.fail_after(CONNECT_TIMEOUT):
            transport, connection = await asyncio.get_running_loop().create_connection(
                cls, host, port, ssl=access.tls, server_hostname=host if access.tls else None
            )
            try:
                opened: socket.socket = transport.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, seconds in _KEEPALIVE.items():
                    opened.setsockopt(socket.IPPROTO_TCP, option, seconds)
                if access.username or access.password:
                    await connection.create_request(b"AUTH", access.username or "default", access.password or "")
                with suppress(ReplyError):  # not every user may name a connection; nothing depends on it
                    await connection.create_request(b"CLIENT", "SETNAME", NAME)
            except BaseException:
                connection.close()
                raise
        return connection

    @property
    def usable(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None

    def create_request(self, command: bytes, *args: Any) -> asyncio.Future[Any]:
        """Send a command, and return a future for its answer. On a closed connection, raises ConnectionError."""
        return self.create_requests([(command, *args)])[0]

    def create_requests(self, commands: Iterable[Sequence[Any]]) -> list[asyncio.Future[Any]]:
        """Send commands in one write. Returns a future for each answer. Raises as `create_request` does."""
        if self._transport is None:
            raise ConnectionError("Connection lost")
        # All are encoded before any is noted: after an error, no later request may get the answer to another one.
        packed = [pack_command(tuple(command)) for command in commands]
        answers: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in packed]
        self._waiting.extend([(answer, self._loop.time()) for answer in answers])
        if self._watch is None:
            self._watch = self._loop.call_later(ANSWER_TIMEOUT, self._check_timeout)
        self._transport.write(b"".join(packed))
        return answers

    async def answers(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one write. Returns the answer to each, or the ReplyError. Raises OSError."""
        answers = await asyncio.gather(*self.create_requests(commands), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ReplyError):
                raise answer
        return answers

    def close(self) -> None:
        """Close the connection. All waiting requests fail."""
        self._give_up(ConnectionError("Connection closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. The event loop calls this."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the event loop gives it)
        """The buffer for answers. The event loop calls this."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read answers. The event loop calls this."""
        self._has_answered = True
        self._reader.feed(bytes(self._buffer[:nbytes]))
        try:
            while (read := self._reader.gets()) is not _NOTHING:
                answer, _ = self._waiting.popleft()
                if answer.done():
                    continue
                if isinstance(read, ReplyError):
                    answer.set_exception(read)
                else:
                    answer.set_result(read)
        except Exception as error:  # noqa: BLE001 - after unreadable data, no answer can be trusted
            unreadable = ConnectionError("the server sent an answer that cannot be read")
            unreadable.__cause__ = error
            self._give_up(unreadable)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all waiting requests. The event loop calls this."""
        lost = ConnectionError("Connection lost" if self._has_answered else NO_ANSWER)
        lost.__cause__ = exc
        self._give_up(lost)

    def _check_timeout(self) -> None:
        """Close the connection if the oldest request has waited too long; otherwise check again later."""
        self._watch = None
        if self._waiting:
            left = self._waiting[0][1] + ANSWER_TIMEOUT - self._loop.time()
            if left <= 0:
                self._give_up(TimeoutError(f"no answer within {ANSWER_TIMEOUT:g} seconds"))
            else:
                self._watch = self._loop.call_later(left, self._check_timeout)

    def _give_up(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        unanswered = UnansweredError(str(error))
        unanswered.__cause__ = error.__cause__
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(unanswered)
