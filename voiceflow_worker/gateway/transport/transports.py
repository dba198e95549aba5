"""The transports of POSTs, each with its kind of watch."""

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
from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.gateway.transport.evidence import BlindWatch, TracedWatch, WatchMaker

KEEP_ALIVE = 2.0
"""Seconds for which an idle connection is kept. It is less than on most servers (uvicorn 5, nginx 75), so that a POST
hardly ever uses a connection that the server is closing. If it does, the call is in doubt."""


class PostMaker(Protocol):
    """A maker of functions that POST a body to one address, always with the same headers and timeouts."""

    def __call__(
        self, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Mapping[str, float], deadline: float
    ) -> Callable[[bytes], Awaitable[Answer | None]]:
        """Make a function that POSTs to `url`. It returns None if no answer began within `deadline` seconds.

        Call this in the event loop that will run the function.
        """
        ...


@dataclass(frozen=True, slots=True)
class Carrier:
    """A transport and its kind of watch.

    If an answer is left over on a connection, httpcore and aiohttp take it for the answer to the next POST. Only over
    aiohttp can a watch notice leftover answers. `keeps_connections` means that the watch notices leftover answers, so
    that a connection may serve several POSTs. `posts` is a faster way to POST over the same connections; None if there
    is no such way, as through a proxy.
    """

    transport: httpx.AsyncBaseTransport
    watch: WatchMaker
    keeps_connections: bool = False
    posts: PostMaker | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultTransport:
    """The parameters of the transport that a client opens by itself.

    The transport is httpx over aiohttp on asyncio, and httpx's own pool on trio. It speaks HTTP/1.1, makes no retries
    or redirects, and reads nothing from the environment. Raises SettingsError for a proxy that is not an http or https
    address.
    """

    limit: int
    ssl_context: SSLContext | None = None
    proxy: str | None = field(default=None, repr=False)  # it may hold a password

    def __post_init__(self) -> None:
        _read_proxy(self.proxy)

    def open(self) -> Carrier:
        """A new transport for the running event loop."""
        ssl_context = self.ssl_context or _certifi_context()
        proxy = _read_proxy(self.proxy)
        if runs_on_asyncio():
            from voiceflow_worker.gateway.transport.aiohttp_pool import open_aiohttp_transport
            from voiceflow_worker.gateway.transport.watched_connector import ConnectorWatch

            opened = open_aiohttp_transport(
                limit=self.limit, keep_alive=KEEP_ALIVE, ssl_context=ssl_context, proxy=proxy
            )
            posts = opened.posts if proxy is None else None
            return Carrier(opened, ConnectorWatch, keeps_connections=True, posts=posts)
        limits = httpx.Limits(max_connections=self.limit)
        pool = httpx.AsyncHTTPTransport(verify=ssl_context, trust_env=False, limits=limits, proxy=proxy)
        return Carrier(pool, TracedWatch)


def carry(transport: httpx.AsyncBaseTransport) -> Carrier:
    """A transport of the user as a carrier, with the watch that suits it.

    Two transports are known: httpx's own pool, and httpx-aiohttp's transport if it makes its own session. Subclasses
    and wrappers count as unknown, because they may send a request twice or late. Each error of an unknown transport
    leaves the call in doubt. Raises SettingsError for a pool that speaks HTTP/2, because its errors have not been
    examined.
    """
    if type(transport) is httpx.AsyncHTTPTransport:
        if getattr(getattr(transport, "_pool", None), "_http2", False):
            raise SettingsError("calls are sent over HTTP/1.1 only: make the transport with http2=False")
        return Carrier(transport, TracedWatch)
    # A transport of httpx-aiohttp can be given only if the package is loaded. This check does not load it.
    if "httpx_aiohttp" in sys.modules:
        from voiceflow_worker.gateway.transport.aiohttp_pool import watch_over
        from voiceflow_worker.gateway.transport.watched_connector import ConnectorWatch

        if watch_over(transport, keep_alive=KEEP_ALIVE):
            return Carrier(transport, ConnectorWatch, keeps_connections=True)
    return Carrier(transport, BlindWatch)


def runs_on_asyncio() -> bool:
    """Whether the running event loop is asyncio's."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


@cache
def _certifi_context() -> SSLContext:
    """httpx's own choice of trusted certificates. Loading takes 35 ms, and is done once."""
    return httpx.create_ssl_context(trust_env=False)


def _read_proxy(proxy: str | None) -> httpx.Proxy | None:
    if proxy is None:
        return None
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # The proxy is not quoted: it may contain a password.
        raise SettingsError("the proxy must be an http:// or https:// address with a host")
    headers: dict[str, str] = {}
    if parts.username:
        # A header is set here because aiohttp deprecates the parameter that httpx-aiohttp uses for credentials.
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    return httpx.Proxy(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers=headers)
