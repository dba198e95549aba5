"""An ASGI app served on a port of this process, and its listener."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import anyio
import structlog
import uvicorn

from voiceflow_worker.asgi.connections import (
    CHECK_EVERY,
    ConnectionLimiter,
    ConnectionLimits,
    IsPreferred,
    LoadShedding,
    ShedDecision,
    connections_that_fit,
    decide,
    is_crowded,
    limited_protocol,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp


_log = structlog.get_logger("voiceflow.asgi")

AT_ONCE = 32
"""The most connections that are accepted in one turn of the event loop, so that open connections get their turn too."""
SHED_AT_ONCE = 1024
"""The most requests that are turned away in one turn of the event loop."""
_CHECK_AFTER = 64
"""The number of requests that are turned away before the length of the backlog is read again."""
SHORT_PAUSE = 0.01
"""Seconds until a waiting request is checked again, in case it has waited too long."""
PAUSE = 0.05
"""Seconds until the next try when the system has no descriptor or no memory for a connection."""
_NOT_NOW = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE = (BlockingIOError, InterruptedError, ConnectionError)


class Listener:
    """The accept loop of one listening socket, which admits connections or turns them away.

    It has the methods that uvicorn calls to stop a server.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        limiter: ConnectionLimiter,
        shedding: LoadShedding | None = None,
    ) -> None:
        self._shedding = shedding
        self._listening = listening
        self._make_protocol = make_protocol
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._is_open = self._is_reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks: asyncio.TimerHandle | None = None
        self._logged_at = float("-inf")
        self._held: socket.socket | None = None
        """An accepted connection that waits until there is room for it, or until fewer requests are being answered."""

    def open(self) -> None:
        """Begin to accept connections."""
        self._listening.setblocking(False)  # noqa: FBT003 (its own signature)
        self._is_open = True
        self._limiter.on_room = self._room
        self._resume()
        self._look()

    def close(self) -> None:
        """Accept no more connections. Open ones go on."""
        self._is_open = False
        self._limiter.on_room = lambda: None
        self._stop_reading()
        for timer in (self._timer, self._looks):
            if timer is not None:
                timer.cancel()
        if self._held is not None:
            self._held.close()
            self._held = None

    async def wait_closed(self) -> None:
        """Wait until no accepted connection is still being set up. uvicorn calls this after `close`."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _take(self) -> None:
        let_in = turned_away = 0
        crowded = self._shedding is not None and is_crowded(self._listening)
        while turned_away < SHED_AT_ONCE and (let_in < AT_ONCE or crowded):
            connection = self._next()
            if connection is None:
                return
            # A crowded backlog is emptied in this turn, before it is full and the system drops connections.
            is_enough = let_in >= AT_ONCE
            if self._shedding is not None and (is_enough or self._limiter.at_work + let_in >= self._shedding.busy_at):
                match decide(connection, self._shedding, crowded=crowded):
                    case ShedDecision.SHED:
                        turned_away += 1
                        if turned_away % _CHECK_AFTER == 0:
                            crowded = is_crowded(self._listening)
                        continue
                    case ShedDecision.WAIT:
                        self._hold(connection, SHORT_PAUSE)
                        return
                    case ShedDecision.ADMIT:
                        pass
            if is_enough:
                self._hold(connection, 0)
                return
            if self._limiter.is_full:
                # A connection that is closed here gives back its descriptor after this turn of the event loop.
                self._hold(connection, self._limiter.make_room())
                return
            let_in += 1
            self._limiter.accepted()
            task = self._loop.create_task(self._set_up(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _next(self) -> socket.socket | None:
        """The next connection; None if no connection waits, or none can be accepted now."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        try:
            connection, _ = self._listening.accept()
        except _GONE:
            return None
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            self._no_descriptor(error)
            return None
        connection.setblocking(False)  # noqa: FBT003 (its own signature)
        return connection

    def _hold(self, connection: socket.socket, seconds: float) -> None:
        """Keep an accepted connection for a later turn, which begins after a pause."""
        self._held = connection
        self._pause(seconds)

    async def _set_up(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:  # the client has gone away
            self._limiter.setup_failed()
            connection.close()

    def _no_descriptor(self, error: OSError) -> None:
        self._limiter.make_room()
        self._pause(PAUSE)
        if self._loop.time() - self._logged_at >= 1:
            self._logged_at = self._loop.time()
            _log.error(
                "a new connection waits until a file descriptor is free for it; if this goes on, raise the limit of "
                "open files (ulimit -n)",
                error=error.strerror,
            )

    def _room(self) -> None:
        if self._is_open and not self._is_reading:
            # The descriptor of the connection that left is closed after this turn of the event loop.
            self._loop.call_soon(self._resume)

    def _pause(self, seconds: float) -> None:
        self._stop_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._is_open and not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._listening.fileno(), self._take)
            if self._held is not None:
                self._take()  # the event loop calls it only for further connections, and there may be none

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._listening.fileno())

    def _look(self) -> None:
        self._limiter.close_stuck()
        self._looks = self._loop.call_later(CHECK_EVERY, self._look)


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
    limits = limits or ConnectionLimits(most=connections_that_fit())
    limiter = ConnectionLimiter(limits, is_preferred=is_preferred)
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
        timeout_keep_alive=max(1, math.ceil(limits.idle.total_seconds())),
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
