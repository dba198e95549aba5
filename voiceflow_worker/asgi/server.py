"""An ASGI app served on a port of this process, as a context manager."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import anyio
import uvicorn

from voiceflow_worker.asgi.connections import ConnectionLimiter, ConnectionLimits, IsPreferred, limited_protocol
from voiceflow_worker.asgi.descriptors import connections_that_fit
from voiceflow_worker.asgi.listener import Listener
from voiceflow_worker.asgi.load_shedding import LoadShedding

if TYPE_CHECKING:
    from starlette.types import ASGIApp


BACKLOG = 65_535
"""The number of connections that may wait to be accepted. The system may lower it to its own limit (net.core.somaxconn
on Linux)."""
DEFERRED = 10
"""Seconds for which Linux holds back a connection that has sent no data (TCP_DEFER_ACCEPT)."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which an app is served. `port` is the real port, even if port 0 was requested."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    grace: timedelta = timedelta(seconds=5),
    protocol: type[asyncio.Protocol] | None = None,
    date_header: bool = True,
    limits: ConnectionLimits | None = None,
    is_preferred: IsPreferred | None = None,
    shedding: LoadShedding | None = None,
) -> AsyncGenerator[Address]:
    """Serve `app` on `host` and `port` (0: any free port) until the block ends, on the running asyncio event loop.

    When the block begins, the app's lifespan has started and the port accepts connections. When the block ends or
    fails, no new connections are accepted, requests under way have `grace` to finish, and the app's lifespan is shut
    down. Signals and logging are left to the caller. `protocol` replaces uvicorn's own HTTP protocol class. Without
    `limits`, the server has as many connections as file descriptors allow. When room is needed, connections from
    addresses that `is_preferred` accepts are closed last. `shedding` turns requests away before they reach the app.

    Raises OSError if the port cannot be bound, RuntimeError if the app's lifespan fails to start.
    """
    # `proxy_headers` is off, so the app sees the address of the peer and judges X-Forwarded-For itself.
    limiter = ConnectionLimiter(limits or ConnectionLimits(most=connections_that_fit()), is_preferred=is_preferred)
    config = uvicorn.Config(
        app,
        http=limited_protocol(uvicorn_protocol() if protocol is None else protocol, limiter),
        interface="asgi3",  # "auto" takes a bound method for an ASGI 2 app
        ws="none",
        lifespan="auto",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=date_header,
        timeout_graceful_shutdown=max(0, round(grace.total_seconds())),
    )
    server = _Server(config, limiter, shedding)
    with _bound(host, port) as listening:
        bound = listening.getsockname()
        task = asyncio.create_task(server.run_until_exit(listening), name=f"serving {host}:{bound[1]}")
        try:
            await server.begun.wait()
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
    """A socket that listens on `host` and `port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP is given because asyncio turns Nagle's algorithm off only for sockets with that protocol, and accepted
    # sockets inherit it. With Nagle's algorithm each answer waited 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            # Silent connections cost no descriptor: Linux holds them until data arrives.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFERRED)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        # The system's own error names neither host nor port.
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except BaseException:
        listening.close()
        raise
    return listening


def uvicorn_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol over h11, which is always installed."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return H11Protocol


def fast_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol over httptools if it is installed (a fifth more events a second), else over h11."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return uvicorn_protocol()
    return HttpToolsProtocol


class _Server(uvicorn.Server):
    """A server without signal handlers. `begun` is set when the server has started or failed."""

    def __init__(self, config: uvicorn.Config, limiter: ConnectionLimiter, shedding: LoadShedding | None) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self._limiter = limiter
        self._shedding = shedding

    async def run_until_exit(self, listening: socket.socket) -> None:
        # uvicorn ends the process when the app's lifespan fails. This process may belong to another program.
        with contextlib.suppress(SystemExit):
            try:
                await self.serve(sockets=[listening])
            finally:
                self.begun.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn starts the app, and our own listener accepts the connections.
        await super().startup([])
        for listening in sockets or []:
            listener = Listener(listening, self._new_protocol, limiter=self._limiter, shedding=self._shedding)
            listener.open()
            self.servers.append(cast("asyncio.base_events.Server", listener))
        self.begun.set()

    def _new_protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: they belong to the process, not to a server in it."""
        yield
