"""A connection pool of aiohttp, and a watch over each POST on it, which can prove that no byte of the POST has left.

httpx-aiohttp has no trace events, and its errors mislead: a refused connection, a failed lookup, a reset and an end of
file are all raised as `httpx.ConnectTimeout`. The true error is the `__cause__`. Only three kinds mean that nothing has
left: `ClientConnectorError` with its subclasses, `ConnectionTimeoutError` (while connecting, or waiting for a free
connection), and a proxy's refusal of the tunnel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import anyio
from aiohttp.client_proto import ResponseHandler

from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.gateway.transport.kept_connections import KeptConnections
from voiceflow_worker.gateway.transport.watched_protocol import WatchedProtocol
from voiceflow_worker.model.reports.verdict import PostProgress

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest, ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_NOTHING_LEFT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)

_watched: ContextVar[ConnectorWatch | None] = ContextVar("voiceflow_watched_post", default=None)


class WatchedConnector(aiohttp.TCPConnector):
    """A connection pool that reports each connection it hands out. No byte of a request can leave before this report.

    aiohttp's TraceConfig could report connections too (connection_create_end, connection_reuseconn), but takes 12 µs
    more for each POST.

    A kept connection with data that belongs to no request is closed, and not handed out. aiohttp would take the data
    for the answer to the next request, although RFC 9112 §9.2 forbids it. A leftover 401 would then make a worker send
    a placed call again. The connection of a POST is given back only when the watch of the POST is over.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl_context: SSLContext) -> None:
        # aiohttp's signature has a type that pyright cannot see through (socket_factory).
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl_context)  # pyright: ignore[reportUnknownMemberType]
        protocol: type[ResponseHandler] = WatchedProtocol
        self._factory = partial(protocol, loop=self._loop)
        self._keep_alive = keepalive_timeout
        self._kept: list[KeptConnections] = []

    def keep_connections(self) -> KeptConnections:
        """Make a place for idle connections outside the pool. They count towards its limit, and are closed with it."""
        kept = KeptConnections(keep_alive=self._keep_alive, is_awaited=lambda: bool(self._waiters))
        self._kept.append(kept)
        return kept

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 (aiohttp's signature)
    ) -> Connection:
        """A connection for this request, new or kept."""
        while True:
            if self._kept and self._available_connections(req.connection_key) < 1:
                for kept in self._kept:
                    kept.close_one()
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if not isinstance(protocol, WatchedProtocol):
                # Another version of aiohttp may make its connections differently. Nothing is sent on them unwatched.
                connection.close()
                raise aiohttp.ClientConnectorError(req.connection_key, OSError("this aiohttp version is not supported"))
            if not protocol.was_used:
                break
            if not protocol.should_close and not protocol.has_something_to_read:
                break
            connection.close()
        hand_out(protocol)
        if req.headers.get("Connection") == "close":
            # aiohttp looks only at the answer, and would hand out a connection that the server is about to close.
            protocol.force_close()
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections."""
        for kept in self._kept:
            kept.close()
        await super().close(abort_ssl=abort_ssl)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, WatchedProtocol):
            protocol.answer_ended()
            if protocol.watch is not None and not should_close and protocol.has_whole_answer:
                protocol.returns(partial(super()._release, key, protocol))
                return
            protocol.watch = None
        super()._release(key, protocol, should_close=should_close)


def hand_out(protocol: WatchedProtocol) -> None:
    """Report to the watch over a request, if there is one, that this connection will carry the request."""
    watch = _watched.get()
    if watch is not None:
        watch.handed_out(protocol)
    protocol.asks(watch)


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

    def has_own_connection(self, answer: Answer) -> bool:  # noqa: ARG002 (other watches use it)
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
            return not protocol.has_something_to_read
        return protocol.announced_end and not protocol.ended_badly

    def over(self, *, keep: bool) -> None:
        """End the watch, after the verdict. With `keep`, the pool gets the connection back; else it is closed."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(should_close=not keep)
