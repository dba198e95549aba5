"""POSTs to one address over aiohttp's connections. The head is prepared once, and each POST is one write.

For every POST, aiohttp's own client builds a request object, its headers, a task for the body and a response object,
and takes a connection from its pool. This module needs none of these: it keeps the connections and reads the usual
answer itself. New connections, TLS, the reading of other answers and the errors are aiohttp's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

import aiohttp
import anyio
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from httpx_aiohttp.transport import map_aiohttp_exceptions
from yarl import URL

from voiceflow_worker.gateway.answers.answer import Answer, AnswerReader
from voiceflow_worker.gateway.transport.watched_connector import WatchedConnector, hand_out
from voiceflow_worker.gateway.transport.watched_protocol import WatchedProtocol

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader


class DirectPosts:
    """A callable that POSTs a body to one address, always with the same headers and timeouts.

    It raises the errors of httpx-aiohttp's transport. It uses no proxy, and makes no redirects or retries. A POST and
    its answer take at most `deadline` seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        timeouts: Mapping[str, float],
        deadline: float,
    ) -> None:
        if not isinstance(session.connector, WatchedConnector):
            raise TypeError("the session has no WatchedConnector")
        self._connector = session.connector
        self._kept = session.connector.keep_connections()
        self._deadline = deadline
        self._read_timeout = timeouts["read"]
        self._timeout = aiohttp.ClientTimeout(sock_connect=timeouts["connect"], connect=timeouts["pool"])
        # The connector reads from this request to which server it must connect.
        self._wanted = aiohttp.ClientRequest("POST", URL(str(url)), loop=asyncio.get_running_loop(), session=session)
        lines = [
            f"POST {self._wanted.url.raw_path_qs} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("ascii")

    async def __call__(self, body: bytes) -> Answer | None:
        """POST a body. Returns the answer, which may be incomplete; None if no answer began in time."""
        began = time.monotonic()
        connection = self._kept.take()
        if connection is not None:
            hand_out(_protocol_of(connection))
            answer = await self._post(connection, body)
            if answer is not None:
                return answer
        reader: AnswerReader | None = None
        with map_aiohttp_exceptions(), _os_errors_of_aiohttp():
            with anyio.move_on_after(self._deadline - (time.monotonic() - began)):
                if connection is None:
                    connection = await self._connect()
                    answer = await self._post(connection, body)
                    if answer is not None:
                        return answer
                reader = AnswerReader(await self._other_answer(connection), closes_itself=True)
                await reader.read()
        return None if reader is None else reader.answer()

    async def _connect(self) -> Connection:
        try:
            return await self._connector.connect(self._wanted, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {self._wanted.url}") from error

    async def _post(self, connection: Connection, body: bytes) -> Answer | None:
        """Send a body. Returns an answer of the usual kind; None for any other answer, which aiohttp reads."""
        try:
            protocol = _protocol_of(connection)
            request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
            answer = await protocol.post(request, read_timeout=self._read_timeout)
        except BaseException:
            connection.close()
            raise
        if answer is not None:
            protocol.returns(partial(self._kept.give_back, connection))
        return answer

    async def _other_answer(self, connection: Connection) -> httpx.Response:
        """The response whose head has arrived. It closes itself after its body."""
        try:
            message, payload = await self._head_of_answer(_protocol_of(connection))
            stream = _AnswerStream(connection, payload)
            payload.on_eof(stream.ends)
        except BaseException:
            connection.close()
            raise
        return httpx.Response(message.code, headers=message.raw_headers, stream=stream)

    async def _head_of_answer(self, protocol: WatchedProtocol) -> tuple[RawResponseMessage, StreamReader]:
        """The head of the answer, and the stream of its body. Interim answers (1xx) are skipped."""
        try:
            while True:
                message, payload = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    return message, payload
        except HttpProcessingError as error:
            raise aiohttp.ClientResponseError(
                self._wanted.request_info, (), status=error.code, message=error.message, headers=error.headers
            ) from error


@contextmanager
def _os_errors_of_aiohttp() -> Generator[None]:
    """A context that turns an OSError into aiohttp's ClientOSError. Errors of aiohttp and timeouts of asyncio stay."""
    try:
        yield
    except aiohttp.ClientError:
        raise
    except OSError as error:
        if error.errno is None and isinstance(error, TimeoutError):
            raise
        raise aiohttp.ClientOSError(*error.args) from error


def _protocol_of(connection: Connection) -> WatchedProtocol:
    protocol = connection.protocol
    if not isinstance(protocol, WatchedProtocol):
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    return protocol


class _AnswerStream(httpx.AsyncByteStream):
    """The body of an answer. Its connection is given back after a complete body, and closed after an incomplete one."""

    __slots__ = ("_connection", "_payload")

    def __init__(self, connection: Connection, payload: StreamReader) -> None:
        self._connection = connection
        self._payload = payload

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self._payload.readany()
        if not data:
            raise StopAsyncIteration
        return data

    def ends(self) -> None:
        """Give the connection back, because the body is complete."""
        protocol = self._connection.protocol
        if protocol is None:
            return
        if protocol.upgraded:
            self._connection.close()  # the server speaks another protocol from now on (101)
            return
        if protocol.transport is not None and protocol.transport.get_write_buffer_size():
            protocol.force_close()  # the server answered before it had read the whole POST
        self._connection.release()

    async def aclose(self) -> None:
        """Release the connection, however much of the body has arrived."""
        self._connection.release()
