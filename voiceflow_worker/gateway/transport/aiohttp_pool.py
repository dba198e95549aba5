"""The default transport on asyncio: httpx over aiohttp's connections, each of them watched.

This module is imported only when a transport of aiohttp is used, because the import of aiohttp takes 0.15 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from voiceflow_worker.gateway.transport.direct_posts import DirectPosts
from voiceflow_worker.gateway.transport.watched_connector import WatchedConnector


class PooledTransport(AiohttpTransport):
    """httpx-aiohttp's transport over a watched session, with a faster way for POSTs."""

    def posts(
        self, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Mapping[str, float], deadline: float
    ) -> DirectPosts:
        """A callable that POSTs a body as this transport does, with address, headers and timeouts prepared once."""
        return DirectPosts(self.get_client(), url, headers=headers, timeouts=timeouts, deadline=deadline)


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

    It is not possible if the user gave the transport a session, a Unix socket or a local address. A session of the
    user may have middlewares, which can send a request twice.
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
