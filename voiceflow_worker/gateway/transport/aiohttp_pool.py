"""The default transport on asyncio: httpx over aiohttp, which can prove that no byte of a POST has left.

This module is imported only when a transport of aiohttp is used, because the import of aiohttp takes 0.15 s.

httpx-aiohttp has no trace events, and its errors mislead: a refused connection, a failed lookup, a reset and an end of
file are all raised as `httpx.ConnectTimeout`. The true error is the `__cause__`. Only three kinds mean that nothing has
left: `ClientConnectorError` with its subclasses, `ConnectionTimeoutError` (while connecting, or waiting for a free
connection), and a proxy's refusal of the tunnel.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar, Token
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import anyio
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport

from voiceflow_worker.gateway.answers.answer import AnswerReader
from voiceflow_worker.gateway.transport.direct_posts import DirectPosts
from voiceflow_worker.model.reports.verdict import PostProgress

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest, ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_NOTHING_LEFT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)

_watched: ContextVar[ConnectorWatch | None] = ContextVar("voiceflow_watched_post", default=None)


class WatchedProtocol(ResponseHandler):
    """A connection that notices data which belongs to no request.

    aiohttp itself would read this data, and take it for the answer to the next request.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.was_used = False
        self.has_more = False
        self.ended_badly = False
        self.announced_end = False
        self.watch: ConnectorWatch | None = None
        self._is_answered = False
        self._stirred: asyncio.Event | None = None

    def asks(self, watch: ConnectorWatch | None) -> None:
        """Record that a request begins."""
        self.was_used = True
        self.watch = watch
        self._is_answered = False

    def is_answered(self) -> None:
        """Record that the answer is complete. Data that arrives from now on belongs to no request."""
        self._is_answered = True
        self.announced_end = self._should_close
        self.has_more = self.has_more or bool(self._buffer) or bool(self._tail) or self._exception is not None

    @property
    def has_whole_answer(self) -> bool:
        """Whether the body of the last answer is complete."""
        return self._payload is None or self._payload.is_eof()

    @property
    def has_begun_another(self) -> bool:
        """Whether another answer, or the beginning of one, arrived together with the last answer.

        Do not call this within a callback of the parser, such as `is_answered`: the parser is then still in the middle
        of the last answer.
        """
        if self._buffer or self._tail:
            return True
        if self._parser is None:
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - unreadable data came after the answer
            return True

    async def stirs(self) -> None:
        """Wait until more data arrives or the connection ends."""
        self._stirred = asyncio.Event()
        if self.has_more or not self.is_connected():
            return
        await self._stirred.wait()

    def data_received(self, data: bytes) -> None:
        """Pass data to aiohttp. Data that belongs to no request is not read, and the connection is not used again."""
        if self._is_answered and data:
            self.has_more = True
            self.force_close()
            self._stir()
            return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record that the connection has ended."""
        self.ended_badly = exc is not None
        super().connection_lost(exc)
        self._stir()

    def _stir(self) -> None:
        if self._stirred is not None:
            self._stirred.set()


class WatchedConnector(aiohttp.TCPConnector):
    """A connection pool that reports each connection it hands out. No byte of a request can leave before this report.

    aiohttp's TraceConfig reports the same (connection_create_end, connection_reuseconn), but takes 12 µs more for each
    POST.

    A kept connection with data that belongs to no request is closed, and not handed out. aiohttp would take the data
    for the answer to the next request, although RFC 9112 §9.2 forbids it. A leftover 401 would then make a worker send
    a placed call again. The connection of a POST is given back only when the watch of the POST is over.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl_context: SSLContext) -> None:
        # aiohttp's signature has a type that pyright cannot see through (socket_factory).
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl_context)  # pyright: ignore[reportUnknownMemberType]
        protocol: type[ResponseHandler] = WatchedProtocol
        self._factory = partial(protocol, loop=self._loop)

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 (aiohttp's signature)
    ) -> Connection:
        """A connection for this request, new or kept."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if not isinstance(protocol, WatchedProtocol):
                # Another version of aiohttp may make its connections differently. Nothing is sent on them unwatched.
                connection.close()
                raise aiohttp.ClientConnectorError(req.connection_key, OSError("this aiohttp version is not supported"))
            if not protocol.was_used:
                break
            if not protocol.should_close and not _has_something_to_read(protocol):
                break
            connection.close()
        watch = _watched.get()
        if watch is not None:
            watch.handed_out(protocol)
        protocol.asks(watch)
        if req.headers.get("Connection") == "close":
            # aiohttp looks only at the answer, and would hand out a connection that the server is about to close.
            protocol.force_close()
        return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, WatchedProtocol):
            protocol.is_answered()
            watch, protocol.watch = protocol.watch, None
            if watch is not None and not should_close and protocol.has_whole_answer:
                watch.given_back(partial(super()._release, key, protocol))
                return
        super()._release(key, protocol, should_close=should_close)


class ConnectorWatch:
    """The watch over a POST on a `WatchedConnector`.

    The answer on a new connection belongs to its POST. On a kept connection, the answer may be left over from an
    earlier request. It belongs to the POST in two cases: nothing more arrives for long enough, or the connection ends
    as the answer announced. A server that announces the end reads no further request (RFC 9112 §9.6). An end that was
    not announced proves nothing: the server may have read the POST and ended before it answered.
    """

    __slots__ = ("_give_back", "_is_suspect", "_progress", "_protocol", "_token")

    extensions: Mapping[str, Any] = {}
    post_was_cut = False

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self._token: Token[ConnectorWatch | None] | None = None
        self._protocol: WatchedProtocol | None = None
        self._give_back: Callable[..., None] | None = None
        self._is_suspect = False

    def __enter__(self) -> Self:
        self._token = _watched.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _watched.reset(self._token)

    def handed_out(self, protocol: WatchedProtocol) -> None:
        """Record the connection that the POST was given.

        If it is the second connection of this POST, or if data came on it before the request, the answer is trusted no
        more than an answer on a kept connection.
        """
        self._progress.may_have_left = True
        self._is_suspect = self._is_suspect or self._protocol is not None or protocol.was_used or protocol.should_close
        self._protocol = protocol

    def given_back(self, give_back: Callable[..., None]) -> None:
        """Keep a connection with a complete answer until this watch is over, and then call `give_back`."""
        self._give_back = give_back

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether no connection was handed out, and the cause of the error confirms that."""
        return not self._progress.may_have_left and isinstance(error.__cause__ or error, _NOTHING_LEFT)

    def has_own_connection(self, answer: AnswerReader) -> bool:  # noqa: ARG002 (other watches use it)
        """Whether the POST was the first request of its connection."""
        return self._protocol is not None and not self._is_suspect

    async def falls_silent(self, wait: float) -> bool:
        """Whether nothing arrives for `wait` seconds, while the connection stays open or ends as announced."""
        protocol = self._protocol
        if protocol is None or self._give_back is None:
            return False
        with anyio.move_on_after(wait):
            await protocol.stirs()
        if protocol.has_more or protocol.has_begun_another:
            return False
        if protocol.is_connected():
            return not _has_something_to_read(protocol)
        return protocol.announced_end and not protocol.ended_badly

    def over(self, *, keep: bool) -> None:
        """End the watch, after the verdict. With `keep`, the pool gets the connection back; else it is closed."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(should_close=not keep)


class PooledTransport(AiohttpTransport):
    """httpx-aiohttp's transport over a watched session, with a faster way for POSTs."""

    def posts(
        self, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Mapping[str, float]
    ) -> Callable[[bytes], Awaitable[httpx.Response]]:
        """A function that POSTs a body as this transport does, with address, headers and timeouts prepared once."""
        return DirectPosts(self.get_client(), url, headers=headers, timeouts=timeouts)


def open_aiohttp_transport(
    *, limit: int, keep_alive: float, ssl_context: SSLContext, proxy: httpx.Proxy | None
) -> PooledTransport:
    """A transport for at most `limit` POSTs at a time. It keeps idle connections for `keep_alive` seconds.

    Nothing is read from the environment. An event loop must be running.
    """
    session = _watched_session(limit=limit, keep_alive=keep_alive, ssl_context=ssl_context)
    return PooledTransport(client=session, verify=ssl_context, trust_env=False, proxy=proxy)


def watch_over(transport: httpx.AsyncBaseTransport, *, keep_alive: float) -> bool:
    """Give httpx-aiohttp's own transport a watched session. Returns False if that is not possible.

    It is possible only if the transport was made without a session, a Unix socket or a local address. An aiohttp
    session of the user may have middlewares, which can send a request twice.
    """
    if type(transport) is not AiohttpTransport or transport.client is not None:
        return False
    if transport.uds is not None or transport.local_address is not None:
        return False
    limit = transport.limits.max_connections or 0  # 0: any number
    context = transport.ssl_context
    transport.client = lambda: _watched_session(limit=limit, keep_alive=keep_alive, ssl_context=context)
    return True


def _watched_session(*, limit: int, keep_alive: float, ssl_context: SSLContext) -> aiohttp.ClientSession:
    # aiohttp sends an idempotent request again if its kept connection was closed, but never a POST.
    connector = WatchedConnector(limit=limit, keepalive_timeout=keep_alive, ssl_context=ssl_context)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def _has_something_to_read(protocol: ResponseHandler) -> bool:
    transport = protocol.transport
    opened = None if transport is None else transport.get_extra_info("socket")
    if opened is None:
        return True
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return bool(poll.poll(0))
