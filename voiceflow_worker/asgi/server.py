"""An ASGI app served on a port of this process, by uvicorn.

A server may stand in the open: a connection without a request is closed after a while, and connections stay below the
limit of open files. What else strangers may do is the matter of a proxy before it (docs/deploy).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from voiceflow_worker.asgi import limits
from voiceflow_worker.core.base.round_trips import RateLimitedLog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

_LOG = structlog.get_logger("voiceflow.server")

BACKLOG = 128
"""The number of connections that may wait to be accepted, and that are accepted in one turn of the event loop."""
MOST = 4096
"""The most connections that a server has, even if more descriptors are free. Each takes 30 KB."""
LEAST, OTHERS = 16, 160 + BACKLOG
"""The fewest connections, and the descriptors that are kept for the store, journal files and notifications."""
_ACCEPT_FAILED = "socket.accept() out of system resource"
"""The message of asyncio when the process has no descriptor for a new connection."""


def connections_that_fit() -> int:
    """Return the number of connections that may be open, with enough descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if limit == resource.RLIM_INFINITY else max(LEAST, min(MOST, limit - OTHERS))


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which an app is served. `port` is the real port, even if port 0 was requested."""

    host: str
    port: int
    _server: uvicorn.Server | None = field(default=None, repr=False, compare=False)

    def transport_of(self, scope: Scope) -> asyncio.Transport | None:
        """Return the transport of the connection on which a request has come; None if it has ended."""
        transports = () if self._server is None else (each.transport for each in self._server.server_state.connections)
        client = tuple(scope.get("client") or ())
        return next((each for each in transports if tuple(each.get_extra_info("peername")[:2]) == client), None)

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
    kept: timedelta = limits.CONNECTION,
    date_header: bool = True,
) -> AsyncGenerator[Address]:
    """Serve `app` on `host` and `port` (0: any free port) until the block ends, on the running asyncio event loop.

    When the block begins, the app's lifespan has started and the port accepts connections. When the block ends or
    fails, no new connections are accepted, requests in progress have `grace` to finish, and the app's lifespan is shut
    down. Signals and logging are left to the caller. A connection without a request is `kept` for so long after an
    answer, and for `limits.HEAD` before its first. If file descriptors allow no more connections, a new one is closed.

    Raises OSError if the port cannot be bound, RuntimeError if the app's lifespan fails to start.
    """
    # `proxy_headers` is off, so the app sees the address of the peer and judges X-Forwarded-For itself.
    config = uvicorn.Config(
        app,
        http=_Connection,
        interface="asgi3",  # "auto" takes a bound method for an ASGI 2 app
        ws="none",
        lifespan="auto",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=date_header,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(kept.total_seconds())),
        timeout_graceful_shutdown=max(0, round(grace.total_seconds())),
    )
    server = _Server(config)
    with _bound(host, port) as listening, _seldom_told():
        bound = listening.getsockname()
        task = asyncio.create_task(server.run_until_exit(listening), name=f"serving {host}:{bound[1]}")
        try:
            await server.begun.wait()
            if not server.started:
                await task
                raise RuntimeError(f"the app for {host}:{bound[1]} did not start; the log has the reason")
            yield Address(bound[0], bound[1], server)
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
    # Raises an error of the server. After an error of the block this line is not reached: that error takes precedence.
    await task


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP is given because asyncio turns Nagle's algorithm off only for sockets with that protocol, and accepted
    # sockets inherit it. With Nagle's algorithm each answer waited 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        # The system's own error names neither host nor port.
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _seldom_told() -> Generator[None]:
    """Log once a minute that no connection can be accepted: asyncio tells it many times a second."""
    loop = asyncio.get_running_loop()
    before, log = loop.get_exception_handler(), RateLimitedLog(every=60)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _ACCEPT_FAILED:
            if (left_out := log.admit(_ACCEPT_FAILED)) is not None:
                _LOG.error("no connection can be accepted", error=str(context.get("exception")), left_out=left_out)
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


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
        if self._without_head is None and self._is_idle():
            self._await_head()  # of the next request
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head_is_here()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def _await_head(self) -> None:
        self._without_head = self.loop.call_later(limits.HEAD.total_seconds(), self.transport.abort)

    def _head_is_here(self) -> None:
        if self._without_head is not None:
            self._without_head.cancel()
            self._without_head = None


class _Server(uvicorn.Server):
    """A server without signal handlers. `begun` is set when the server has started or failed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def run_until_exit(self, listening: socket.socket) -> None:
        # uvicorn ends the process when the app's lifespan fails. This process may belong to another program.
        with contextlib.suppress(SystemExit):
            try:
                await self.serve(sockets=[listening])
            finally:
                self.begun.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: they belong to the process, not to a server in it."""
        yield
