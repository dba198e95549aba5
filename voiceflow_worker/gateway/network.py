"""How requests are sent from this machine: through the proxy of a company or not, and whose certificates are trusted.

All requests use this: calls, the account, the log, notifications, and the downloads of checks. Nothing is
read from the environment: a variable that another program set must not send an API key through a stranger's proxy.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from anyio import to_thread

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.verdict import certificate_problem, describe, is_unresolved
from voiceflow_worker.model.text.web_address import Proxy, is_among, is_this_machine, read_hosts

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

PREFIX = "VOICEFLOW_"
WANTS_CREDENTIALS = "407"
LEFT_WITHIN = 2.0
"""Seconds after which the system gives up a connection of a POST whose other end has not confirmed what was sent."""
_RXT_CONNDROPTIME = 0x80
"""TCP_RXT_CONNDROPTIME of macOS, which Python has no name for; in seconds."""


def giving_up() -> Sequence[tuple[int, int, int]]:
    """Return the socket options with which the system gives up a connection in `LEFT_WITHIN`. Empty where it has none.

    Without them, it would send a POST that a stalled network has kept once more when the network works again: seconds
    or minutes after it was handed to the system, and after a hold has returned.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        return ((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LEFT_WITHIN * 1000)),)
    if sys.platform == "darwin":
        return ((socket.IPPROTO_TCP, _RXT_CONNDROPTIME, int(LEFT_WITHIN)),)
    return ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits on the time of one request, in seconds.

    `connect` limits the wait for a free connection together with the connecting, `read` the silence before and within
    an answer, and `deadline` the whole request.
    """

    connect: float
    read: float

    @property
    def deadline(self) -> float:
        """Limit on the whole request: once `connect` to connect, once to write, and `read`."""
        return 2 * self.connect + self.read

    @property
    def of_httpx(self) -> dict[str, float]:
        """Timeouts as httpx's extension has them."""
        return {"connect": self.connect, "write": self.connect, "read": self.read, "pool": self.connect}


class Network:
    """The network settings of one installation: proxy, exceptions, certificates.

    `no_proxy` names hosts that are reached without the `proxy`; loopback addresses are always. Public
    certificates (certifi) and those of this machine's OpenSSL are trusted, and those in the PEM file `ca_file`, unless
    `ssl_context` is given. Raises SettingsError for a wrong proxy, list or file.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        no_proxy: str | Iterable[object] = (),
        ca_file: Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        try:
            self._proxy = None if proxy is None else Proxy.of(proxy)
        except ValueError as error:
            raise SettingsError(f"the proxy cannot be used: {error}") from None
        try:
            self._direct = read_hosts(no_proxy)
        except ValueError as error:
            raise SettingsError(f"the hosts to reach without a proxy cannot be read: {error}") from None
        self._ca_file = ca_file
        self._given_context = ssl_context

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the network of these settings."""
        return cls(
            proxy=settings.proxy,
            no_proxy=settings.no_proxy,
            ca_file=settings.ca_file,
        )

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Context for connections with TLS. Raises SettingsError if the file of certificates cannot be read."""
        if self._given_context is not None:
            return self._given_context
        return _usual_trust() if self._ca_file is None else _trust(self._ca_file)

    def proxy_to(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for this address; None if there is none."""
        if self._proxy is None or is_this_machine(str(url)) or is_among(str(url), self._direct):
            return None
        return self._proxy

    def transport(self, *, limit: int, gives_up: bool = False) -> Transports:
        """Return a transport of httpx that reaches each address directly or through the proxy.

        With `gives_up`, which POSTs of calls need, its connections are those of `giving_up`.
        """
        return Transports(self, limit=limit, gives_up=gives_up)

    def why(self, error: Exception, url: httpx.URL) -> str:
        """Return the reason of a failed request to this address, with its proxy."""
        proxy = self.proxy_to(url)
        if is_unresolved(error):
            host = url.host if proxy is None else f"{proxy.host} of the proxy"
            return f"the name {host} does not resolve: {describe(error)}"
        if proxy is None:
            return describe(error)
        if not isinstance(error, httpx.ProxyError):
            return f"{describe(error)}, through the proxy {proxy}"
        if str(error).startswith(WANTS_CREDENTIALS):
            accepts = "does not accept the user name and password in its address"
            asks = "asks for a user name and password: write them into its address, http://user:password@host:port"
            return f"the proxy {proxy} {accepts if proxy.credentials else asks} ({error})"
        return f"the proxy {proxy} refuses a tunnel to this host ({error}): ask who runs the proxy to allow it"

    def advice(self, error: Exception, url: httpx.URL) -> str:
        """Return what to set after this failure, as a clause; empty if no setting of this network can be the reason."""
        if certificate_problem(error) is not None:
            company = "if a proxy of your company decrypts connections, name the file of its certificate in"
            return f"{company} {PREFIX}CA_FILE"
        if is_this_machine(str(url)):
            return ""
        without = self._proxy is None and is_unresolved(error)
        return f"in a network that reaches other hosts through a proxy alone, set {PREFIX}PROXY" if without else ""

    def explain(self, error: Exception) -> str:
        """Return why a request over a transport of this network failed, and what to set, as a clause."""
        if not isinstance(error, httpx.RequestError):
            return describe(error)
        url = error.request.url  # another one than the first after a redirect
        return "; ".join(filter(None, (self.why(error, url), self.advice(error, url))))


class Transports(httpx.AsyncBaseTransport):
    """A transport of httpx that takes the way of a network to each address. It makes no retries and no redirects."""

    def __init__(self, network: Network, *, limit: int, gives_up: bool) -> None:
        self._network = network
        self._options = giving_up() if gives_up else ()
        self._limit = limit
        self._pools: dict[Proxy | None, httpx.AsyncHTTPTransport] = {}

    def pool_to(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        """Return the pool of connections on the way to this address.

        It is made when it is first used: that takes 0.1 s.
        """
        proxy = self._network.proxy_to(url)
        if proxy in self._pools:
            return self._pools[proxy]
        made = httpx.AsyncHTTPTransport(
            verify=self._network.ssl_context,
            trust_env=False,
            limits=httpx.Limits(max_connections=self._limit),
            proxy=None if proxy is None else httpx.Proxy(proxy.url, auth=proxy.credentials),
            socket_options=self._options,
        )
        return self._pools.setdefault(proxy, made)  # another thread may have made one meanwhile

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on its way."""
        pool = self._pools.get(self._network.proxy_to(request.url))
        if pool is None:  # in a thread: what httpx imports, and the certificates, would keep the event loop for 0.3 s
            pool = await to_thread.run_sync(self.pool_to, request.url)
        return await pool.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


@cache
def _usual_trust() -> ssl.SSLContext:
    return _trust(None)  # loading takes 35 ms, and is done once


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)  # certifi
    # OpenSSL's own folders, not `load_default_certs`, which follows SSL_CERT_FILE.
    paths = ssl.get_default_verify_paths()
    for place in ({"cafile": paths.openssl_cafile}, {"capath": paths.openssl_capath}):
        with suppress(OSError):  # this machine may have none; ssl.SSLError is one too
            context.load_verify_locations(**place)
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise SettingsError(f"{ca_file} cannot be used: {error}") from None
        # Authorities of companies seldom have all that Python 3.13 began to ask for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
