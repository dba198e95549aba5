"""A listening socket that accepts no more connections than there is room for.

asyncio's own server accepts the whole backlog at once. When no file descriptor is left, it writes a traceback for each
failed accept: 286 MB a minute were seen. This listener first asks its limiter whether there is room. If not,
connections stay in the backlog of the operating system.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

from voiceflow_worker.asgi.connections import CHECK_EVERY, ConnectionLimiter
from voiceflow_worker.asgi.load_shedding import LoadShedding, ShedDecision, decide, is_crowded

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
