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

from voiceflow_worker.asgi.connections import ConnectionLimiter, ConnectionLimits, IsPreferred
from voiceflow_worker.asgi.descriptors import connections_that_fit
from voiceflow_worker.asgi.limited_protocol import limited_protocol
from voiceflow_worker.asgi.listener import Listener
from voiceflow_worker.asgi.load_shedding import LoadShedding

if TYPE_CHECKING:
    from starlette.types import ASGIApp


BACKLOG = 65_535
"""Connections that may wait to be taken: as many as the system allows (net.core.somaxconn, 4096 on Linux)."""
DEFERRED = 10
"""Seconds for which Linux keeps connections that send nothing to itself."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address that an app is served at; `port` is the real one, also if 0 was asked for."""

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
    """Serve `app` on `host` and `port` (0: any free one) until the block ends, on the running asyncio event loop.

    The port takes connections, and the app's lifespan has started, when the block begins. At its end, however it ends,
    no new connections are taken, requests under way have `grace` to finish, and the app's lifespan is shut down.
    Signals and logging stay the caller's. `protocol` replaces uvicorn's own HTTP protocol class. Without `limits` there
    are as many connections as file descriptors allow. If there are too many, those from preferred addresses are
    closed last. `shedding` turns requests away unread.

    Raises OSError if the port cannot be bound, RuntimeError if the app's lifespan fails to start.
    """
    # The peer address is passed on unchanged: the app judges X-Forwarded-For.
    limiter = ConnectionLimiter(limits or ConnectionLimits(most=connections_that_fit()), is_preferred=is_preferred)
    config = uvicorn.Config(
        app,
        http=limited_protocol(uvicorn_protocol() if protocol is None else protocol, limiter),
        interface="asgi3",  # its guess takes a bound method for ASGI 2
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
        task = asyncio.create_task(server.run_until_told(listening), name=f"serving {host}:{bound[1]}")
        try:
            await server.begun.wait()
            if not server.started:
                await task
                raise RuntimeError(f"the app to be served on {host}:{bound[1]} did not start; see the log")
            yield Address(bound[0], bound[1])
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
    # An error of the server itself; one of the block has precedence, and skips this.
    await task


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP, not left to the default: asyncio turns Nagle's algorithm off only for sockets whose protocol it
    # can read, and accepted ones inherit it. Without, each answer waited 40 ms for a delayed acknowledgement.
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
        # The system's own error names neither.
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except BaseException:
        listening.close()
        raise
    return listening


def uvicorn_protocol() -> type[asyncio.Protocol]:
    """The HTTP protocol that is always there: the one over h11."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return H11Protocol


def fast_protocol() -> type[asyncio.Protocol]:
    """The HTTP protocol over httptools, where that is installed: the receiver takes a fifth more events with it."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return uvicorn_protocol()
    return HttpToolsProtocol


class _Server(uvicorn.Server):
    """A server without signal handlers; `begun` is set when it has started or failed."""

    def __init__(self, config: uvicorn.Config, limiter: ConnectionLimiter, shedding: LoadShedding | None) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self._limiter = limiter
        self._shedding = shedding

    async def run_until_told(self, listening: socket.socket) -> None:
        # uvicorn ends the process when the app's lifespan fails: in somebody else's process that is not for it to do.
        with contextlib.suppress(SystemExit):
            try:
                await self.serve(sockets=[listening])
            finally:
                self.begun.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn starts the app, and a listener of ours does the listening.
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
        """Signals belong to the process, not to one of the servers in it."""
        yield
