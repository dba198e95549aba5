"""POSTs to one address over aiohttp's connections. The head is prepared once, and each POST is one write.

For every POST, aiohttp's own client builds a request object, its headers, a task for the body and a response object.
Building them is half of the cost of the POST, and this module does without them. Connections, TLS, the reading of
answers and the errors are still aiohttp's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from httpx_aiohttp.transport import map_aiohttp_exceptions
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import BaseConnector, Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader


class DirectPosts:
    """A callable that POSTs a body to one address, always with the same headers and timeouts.

    It raises the errors of httpx-aiohttp's transport. It uses no proxy, and makes no redirects or retries.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        timeouts: Mapping[str, float],
    ) -> None:
        if session.connector is None:
            raise RuntimeError("the session is closed")
        self._connector: BaseConnector = session.connector
        self._timeout = aiohttp.ClientTimeout(
            sock_connect=timeouts["connect"], sock_read=timeouts["read"], connect=timeouts["pool"]
        )
        # The connector reads from this request to which server it must connect.
        self._wanted = aiohttp.ClientRequest("POST", URL(str(url)), loop=asyncio.get_running_loop(), session=session)
        lines = [
            f"POST {self._wanted.url.raw_path_qs} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("ascii")

    async def __call__(self, body: bytes) -> httpx.Response:
        """POST a body, and return the response when its head has arrived. The response closes itself after its body."""
        with map_aiohttp_exceptions():
            try:
                return await self._post(body)
            except aiohttp.ClientError:
                raise
            except OSError as error:
                if error.errno is None and isinstance(error, TimeoutError):
                    raise
                raise aiohttp.ClientOSError(*error.args) from error

    async def _post(self, body: bytes) -> httpx.Response:
        try:
            connection = await self._connector.connect(self._wanted, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {self._wanted.url}") from error
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None or protocol.transport.is_closing():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_timeout=self._timeout.sock_read
            )
            protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            protocol.start_timeout()
            message, payload = await self._answer(protocol)
            stream = _AnswerStream(connection, payload)
            payload.on_eof(stream.ends)
        except BaseException:
            connection.close()
            raise
        return httpx.Response(message.code, headers=message.raw_headers, stream=stream)

    async def _answer(self, protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
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
