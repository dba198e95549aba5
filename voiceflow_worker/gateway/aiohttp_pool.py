"""The default transport on asyncio: httpx over aiohttp, and what proves there that nothing has left.

Importing this imports aiohttp (0.15 s), so only opening a transport, or being given one, does.

httpx-aiohttp has no trace events, and its errors mislead: refusal, failed lookup, reset and end of file all surface as
`httpx.ConnectTimeout`. What happened is in `__cause__`. There, only `ClientConnectorError` and its family,
`ConnectionTimeoutError` (connecting, or waiting for a free connection) and a proxy's refusal of the tunnel mean that
nothing has left.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextvars import ContextVar, Token
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport

from voiceflow_worker.model.verdict import PostProgress

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_NOTHING_LEFT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)

_watched: ContextVar[PostProgress | None] = ContextVar("voiceflow_watched_post", default=None)


class WatchedConnector(aiohttp.TCPConnector):
    """A pool whose connections tell when they are handed out: before that, no byte of a request can leave.

    aiohttp's TraceConfig tells the same (connection_create_end, connection_reuseconn), for 12 µs more a POST.

    A kept connection that has something to read is closed instead of handed out: it is either at its end, or holds an
    answer that nobody asked for, which aiohttp would take for the answer of the next request (RFC 9112 §9.2 forbids
    it). A leftover 401 would then have a call sent again that was placed.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl_context: SSLContext) -> None:
        # aiohttp's signature has a type that pyright cannot see through (socket_factory).
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl_context)  # pyright: ignore[reportUnknownMemberType]
        self._used: WeakSet[ResponseHandler] = WeakSet()

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
            if protocol is None or protocol not in self._used:
                break
            if not protocol.should_close and not _has_something_to_read(protocol):
                break
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
            if req.headers.get("Connection") == "close":
                # aiohttp goes by the answer alone, and would hand out what the server is about to close.
                protocol.force_close()
        progress = _watched.get()
        if progress is not None:
            progress.may_have_left = True
        return connection


class ConnectorWatch:
    """For a transport over a `WatchedConnector`, which tells."""

    __slots__ = ("_progress", "_token")

    extensions: Mapping[str, Any] = {}
    post_was_cut = False

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self._token: Token[PostProgress | None] | None = None

    def __enter__(self) -> Self:
        self._token = _watched.set(self._progress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            _watched.reset(self._token)

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether no connection was handed out, and the cause is one that says the same."""
        return not self._progress.may_have_left and _is_from_connecting(error)


def open_aiohttp_transport(
    *, limit: int, keep_alive: float, ssl_context: SSLContext, proxy: httpx.Proxy | None
) -> AiohttpTransport:
    """A transport for at most `limit` POSTs at a time that keeps idle connections for `keep_alive` seconds.

    Nothing is read from the environment. Call it where an event loop runs.
    """
    session = _watched_session(limit=limit, keep_alive=keep_alive, ssl_context=ssl_context)
    return AiohttpTransport(client=session, verify=ssl_context, trust_env=False, proxy=proxy)


def watch_over(transport: httpx.AsyncBaseTransport, *, keep_alive: float) -> bool:
    """Whether this is httpx-aiohttp's own transport, still without a session: it then gets one that is watched.

    A session that its maker gave it may have middlewares, which can send a request twice, and cannot be watched.
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
    # When a kept connection turns out dead, aiohttp sends idempotent requests again on a new one, but never a POST.
    connector = WatchedConnector(limit=limit, keepalive_timeout=keep_alive, ssl_context=ssl_context)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def _is_from_connecting(error: Exception) -> bool:
    return isinstance(error.__cause__ or error, _NOTHING_LEFT)


def _has_something_to_read(protocol: ResponseHandler) -> bool:
    transport = protocol.transport
    opened = None if transport is None else transport.get_extra_info("socket")
    if opened is None:
        return True
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return bool(poll.poll(0))
