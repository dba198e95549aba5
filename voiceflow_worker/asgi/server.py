"""An ASGI app served on a port of this process, by uvicorn.

A server may stand in the open: a connection without a request is closed after a while, and connections stay below the
limit of open files. What else strangers may do is the matter of a proxy before it (docs/deploy).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import anyio
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from voiceflow_worker.asgi import limits
from voiceflow_worker.core.base.round_trips import RateLimitedLog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

BACKLOG = 128
"""The number of connections that may wait to be accepted, and that are accepted in one turn of the event loop."""
MOST = 4096
"""The most connections that a server has, even if more descriptors are free. Each takes 30 KB."""
LEAST, OTHERS = 16, 160 + BACKLOG
"""The fewest connections, and the descriptors that are kept for the store, journal files and notifications."""
_ACCEPT_FAILED = "socket.accept() out of system resource"  # asyncio says it
_accept_failures = RateLimitedLog(every=60)


def connections_that_fit() -> int:
    """Return the number of connections that may be open, with enough descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if limit == resource.RLIM_INFINITY else max(LEAST, min(MOST, limit - OTHERS))


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which an app is served. `port` is the real port, even if port 0 was requested."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    grace: timedelta = timedelta(seconds=5),
    date_header: bool = True,
) -> AsyncGenerator[Address]:
    """Serve `app` on `host` and `port` (0: any free port) until the block ends, on the running asyncio event loop.

    When the block begins, the app's lifespan has started and the port accepts connections. When the block ends or
    fails, no new connections are accepted, requests in progress have `grace` to finish, and the app's lifespan is shut
    down. Signals and logging are left to the caller. If file descriptors allow no more connections, a new one is
    closed. Raises OSError if the port cannot be bound, RuntimeError if the app's lifespan fails to start.
    """
    # `proxy_headers` is off, so the app sees the address of the peer and judges X-Forwarded-For itself.
    config = uvicorn.Config(
        app,
        http=_Connection,
        interface="asgi3",  # "auto" takes a bound method for an ASGI 2 app
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=date_header,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(limits.CONNECTION.total_seconds())),
        timeout_graceful_shutdown=max(0, round(grace.total_seconds())),
    )
    server = _Server(config)
    logging.getLogger("asyncio").addFilter(_is_news)
    with _bound(host, port) as listening:
        bound = listening.getsockname()

        async def serve() -> None:
            # uvicorn ends the process when the app's lifespan fails. This process may belong to another program.
            with contextlib.suppress(SystemExit):
                await server.serve(sockets=[listening])

        task = asyncio.create_task(serve(), name=f"serving {host}:{bound[1]}")
        try:
            while not (server.started or task.done()):  # noqa: ASYNC110 - uvicorn has only this flag
                await asyncio.sleep(0.001)
            if not server.started:
                await task
                raise RuntimeError(f"the app for {host}:{bound[1]} did not start; the log has the reason")
            yield Address(bound[0], bound[1])
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
    # Raises an error of the server. After an error of the block this line is not reached: that error takes precedence.
    await task


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to `host` and `port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, dualstack_ipv6=":" in host)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {why}") from error
    # Accepted sockets inherit it. With Nagle's algorithm each answer waited 40 ms for a delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for a line of asyncio that no connection can be accepted, apart from the first in a minute."""
    return _ACCEPT_FAILED not in record.getMessage() or _accept_failures.admit(_ACCEPT_FAILED) is not None


class _Connection(HttpToolsProtocol):
    """A connection that is closed if it does not send the head of a request in time, or if there are too many."""

    _without_head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > connections_that_fit():
            transport.abort()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        cycle: Any = self.cycle  # None before the first request
        if self._without_head is None and (cycle is None or cycle.response_complete):
            self._await_head()  # of the next request
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head_is_here()
        cast("Scope", self.scope)["voiceflow.transport"] = self.transport  # the sandbox breaks connections
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._without_head = self.loop.call_later(limits.HEAD.total_seconds(), self.transport.abort)

    def _head_is_here(self) -> None:
        if self._without_head is not None:
            self._without_head.cancel()
            self._without_head = None


class _Server(uvicorn.Server):
    """A server that leaves signals alone: they belong to the process, not to a server in it."""

    capture_signals = contextlib.nullcontext  # type: ignore[assignment]
