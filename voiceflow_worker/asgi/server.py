"""An ASGI app served on a port of this process, by uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import uvicorn

from voiceflow_worker.asgi import limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BACKLOG = 65_535
"""The number of connections that may wait to be accepted. The system may lower it to its own limit (net.core.somaxconn
on Linux)."""
FAREWELL = 1.0
"""Seconds for which a client may take to see that its idle connection has ended."""
LOOK_EVERY = 0.01
MOST = 4096
"""The most connections that a server takes requests from, even if more descriptors are free. Each takes 30 KB."""
LEAST, OTHERS = 16, 160
"""The fewest connections, and the descriptors that are kept for the store, journal files and notifications."""


def connections_that_fit() -> int:
    """The number of connections that may be opened, with enough descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if limit == resource.RLIM_INFINITY else max(LEAST, min(MOST, limit - OTHERS))


@dataclass(frozen=True, slots=True)
class Address:
    """The address at which an app is served. `port` is the real port, even if port 0 was requested."""

    host: str
    port: int
    _server: _Server | None = field(default=None, repr=False, compare=False)

    def transport_of(self, scope: Scope) -> asyncio.Transport | None:
        """The transport of the connection on which a request has come; None if it has ended."""
        found = [] if self._server is None else self._server.transports()
        return next((each for each in found if client_of(each) == _client(scope)), None)

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
    linger: timedelta = timedelta(),
    kept: timedelta = limits.CONNECTION,
    date_header: bool = True,
) -> AsyncGenerator[Address]:
    """Serve `app` on `host` and `port` (0: any free port) until the block ends, on the running asyncio event loop.

    When the block begins, the app's lifespan has started and the port accepts connections. When the block ends or
    fails, no new connections are accepted, requests in progress have `grace` to finish, and the app's lifespan is shut
    down. Before that, for at most `linger`, each answer tells its client that the connection ends; a request that was
    on its way on an idle connection when that ended still reaches the app, though nobody hears its answer. Signals and
    logging are left to the caller. A connection without a request is `kept` for so long after an answer. If file
    descriptors allow no more connections, a new one gets a 503. A proxy in front ends those that send no whole request.

    Raises OSError if the port cannot be bound, RuntimeError if the app's lifespan fails to start.
    """
    # `proxy_headers` is off, so the app sees the address of the peer and judges X-Forwarded-For itself.
    closing = _Closing(app)
    config = uvicorn.Config(
        closing,
        http="httptools",
        interface="asgi3",  # "auto" takes a bound method for an ASGI 2 app
        ws="none",
        lifespan="auto",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=date_header,
        limit_concurrency=connections_that_fit(),
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(kept.total_seconds())),
        timeout_graceful_shutdown=max(0, round(grace.total_seconds())),
    )
    server = _Server(config, closing=closing, linger=min(linger, grace))
    with _bound(host, port) as listening:
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
    """A socket that listens on `host` and `port`."""
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


class _Closing:
    """The app within, whose answers end their connections once the end of the server `has_begun`.

    `busy` are the clients that wait for the end of an answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.has_begun = False
        self.busy: set[tuple[str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, is_answered = _client(scope), False
        self.busy.add(client)

        async def told(message: Message) -> None:
            nonlocal is_answered
            if self.has_begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                is_answered = True
                self.busy.discard(client)

        try:
            await self._app(scope, receive, told)
        finally:
            if not is_answered:  # else the client may have sent its next request
                self.busy.discard(client)


def client_of(transport: asyncio.Transport) -> tuple[str, int]:
    """The address and the port of the client of a connection: no two open connections of a server have the same."""
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    return host, port


def _client(scope: Scope) -> tuple[str, int]:
    host, port = scope.get("client") or ("", 0)
    return host, port


class _Server(uvicorn.Server):
    """A server without signal handlers. `begun` is set when the server has started or failed."""

    def __init__(self, config: uvicorn.Config, *, closing: _Closing, linger: timedelta) -> None:
        super().__init__(config)
        self._closing = closing
        self._linger = linger.total_seconds()
        self.begun = asyncio.Event()

    async def run_until_exit(self, listening: socket.socket) -> None:
        # uvicorn ends the process when the app's lifespan fails. This process may belong to another program.
        with contextlib.suppress(SystemExit):
            try:
                await self.serve(sockets=[listening])
            finally:
                self.begun.set()

    def transports(self) -> list[asyncio.Transport]:
        """Those of all open connections."""
        return [each.transport for each in self.server_state.connections]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._linger:
            await self._take_leave()
        await super().shutdown(sockets)

    async def _take_leave(self) -> None:
        """End the connections so that no request is lost on one (RFC 9112 §9.6)."""
        self._closing.has_begun = True
        await self._until_closed(self._linger)
        for server in self.servers:
            server.close()
        for transport in self.transports():
            if client_of(transport) not in self._closing.busy:
                with contextlib.suppress(OSError):
                    # What the client has sent before it sees this end is still read, and stored.
                    transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await self._until_closed(FAREWELL)

    async def _until_closed(self, seconds: float) -> None:
        """Wait until no connection is open, or for so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.server_state.connections and loop.time() < until:  # noqa: ASYNC110 - uvicorn keeps a set, no event
            await asyncio.sleep(LOOK_EVERY)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: they belong to the process, not to a server in it."""
        yield
