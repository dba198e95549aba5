"""The transports of POSTs, each with the watch that suits it."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ssl import SSLContext
from typing import Protocol
from urllib.parse import unquote, urlsplit

import anyio
import httpx

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.transport.evidence import BlindWatch, TracedWatch, WatchMaker

KEEP_ALIVE = 2.0
"""Seconds for which an idle connection is kept. Most servers close theirs after 5 s or more (uvicorn 5, nginx 75): with
less on this side, a POST hardly ever meets a connection that is being closed, which would be one call in doubt."""


class PostMaker(Protocol):
    """Makes a function that POSTs a body to one address, with the same headers and time limits each time."""

    def __call__(
        self, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Mapping[str, float]
    ) -> Callable[[bytes], Awaitable[httpx.Response]]:
        """The function. Call this where the event loop of the POSTs runs."""
        ...


@dataclass(frozen=True, slots=True)
class Carrier:
    """A transport and how it is watched.

    `keeps_connections`: the next POST may use the same connection, since a leftover answer in it would be noticed.
    httpcore and aiohttp would take it for the answer of the next POST, and only aiohttp allows a check. `posts` makes
    POSTs that cost less than the transport's requests, on the same connections; not through a proxy.
    """

    transport: httpx.AsyncBaseTransport
    watch: WatchMaker
    keeps_connections: bool = False
    posts: PostMaker | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultTransport:
    """How to make the transport of a client that was given none; nothing is opened before `open`.

    On asyncio it is httpx over aiohttp, on trio httpx's own pool: HTTP/1.1, no retries, no redirects, nothing from the
    environment. Raises SettingsError for a proxy that is not an http or https address.
    """

    limit: int
    ssl_context: SSLContext | None = None
    proxy: str | None = field(default=None, repr=False)  # it may hold a password

    def __post_init__(self) -> None:
        _read_proxy(self.proxy)

    def open(self) -> Carrier:
        """A new transport for the event loop that runs."""
        ssl_context = self.ssl_context or _certifi_context()
        proxy = _read_proxy(self.proxy)
        if runs_on_asyncio():
            from voiceflow_worker.gateway.transport.aiohttp_pool import ConnectorWatch, open_aiohttp_transport

            opened = open_aiohttp_transport(
                limit=self.limit, keep_alive=KEEP_ALIVE, ssl_context=ssl_context, proxy=proxy
            )
            posts = opened.posts if proxy is None else None
            return Carrier(opened, ConnectorWatch, keeps_connections=True, posts=posts)
        limits = httpx.Limits(max_connections=self.limit)
        pool = httpx.AsyncHTTPTransport(verify=ssl_context, trust_env=False, limits=limits, proxy=proxy)
        return Carrier(pool, TracedWatch)


def carry(transport: httpx.AsyncBaseTransport) -> Carrier:
    """A transport of the caller's, with the watch that suits it.

    Known are httpx's own pool, and httpx-aiohttp's transport if it makes its own session. Subclasses and wrappers may
    send a request twice, or later: they are unknown, and every error of theirs leaves the call in doubt. Raises
    SettingsError for a pool that speaks HTTP/2, whose retries nobody here has looked at.
    """
    if type(transport) is httpx.AsyncHTTPTransport:
        if getattr(getattr(transport, "_pool", None), "_http2", False):
            raise SettingsError("the gateway speaks HTTP/1.1 only: make the transport with http2=False")
        return Carrier(transport, TracedWatch)
    # Such a transport exists only if its package is imported; this check does not load it.
    if "httpx_aiohttp" in sys.modules:
        from voiceflow_worker.gateway.transport.aiohttp_pool import ConnectorWatch, watch_over

        if watch_over(transport, keep_alive=KEEP_ALIVE):
            return Carrier(transport, ConnectorWatch, keeps_connections=True)
    return Carrier(transport, BlindWatch)


def runs_on_asyncio() -> bool:
    """Whether the running event loop is asyncio's."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


@cache
def _certifi_context() -> SSLContext:
    """httpx's own choice of trusted certificates, loaded once: it takes 35 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _read_proxy(proxy: str | None) -> httpx.Proxy | None:
    if proxy is None:
        return None
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # Not quoted: it may hold a password.
        raise SettingsError("the proxy is not an http:// or https:// address with a host")
    headers: dict[str, str] = {}
    if parts.username:
        # As a header of our own: aiohttp deprecates the parameter that httpx-aiohttp uses for credentials.
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    return httpx.Proxy(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers=headers)
