"""Limits on the connections of a server: how many may be open, and how long a request may take to arrive."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import structlog

if TYPE_CHECKING:

    class _Uvicorn(asyncio.Protocol):
        """The interface that uvicorn's HTTP protocols share. uvicorn has no base class for it."""

        timeout_keep_alive_task: asyncio.TimerHandle | None

        def on_response_complete(self) -> None:
            """Called when an answer was written in full."""

else:
    _Uvicorn = object

_log = structlog.get_logger("voiceflow.asgi")

CHECK_EVERY = 1.0
STUCK_CHECKS = 10
"""The number of consecutive checks that must find a connection stuck before it is cut off. A connection is stuck if it
does not read its answer, or does not close."""

AT_ONCE = 16
"""The most connections that are closed in one turn of the event loop to make room. Closing one per turn would be too
slow."""
_SHORTEST = 0.005

IsPreferred = Callable[[str], bool]
"""A function that says whether connections from an address are preferred, which means that they are closed last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits on the connections of a server.

    At most `most` connections are open. A connection is closed if the head of its request takes longer than `head` to
    arrive, or the whole request longer than `whole`. A full server closes connections to make room for new ones: first
    those that have waited longest for a complete request. Even a full server leaves a connection open for at least
    `patience`, or for at least `grace` once a part of its request has arrived.
    """

    most: int
    head: timedelta = timedelta(seconds=10)
    whole: timedelta = timedelta(seconds=20)
    grace: timedelta = timedelta(milliseconds=250)
    patience: timedelta = timedelta(seconds=1)


@dataclass(slots=True, eq=False)
class ClientConnection:
    """One connection. `since` is the time at which it began to wait for a request.

    `waits` is False while a request is being answered. `begun` says whether a part of the request may have arrived.
    `stuck` counts the checks in a row that found it stuck.
    """

    protocol: Any
    preferred: bool
    since: float = 0.0
    waits: bool = False
    begun: bool = False
    stuck: int = 0

    @property
    def transport(self) -> asyncio.Transport:
        """The asyncio transport of the connection."""
        return cast("asyncio.Transport", self.protocol.transport)


class ConnectionLimiter:
    """Counts the connections of a server, and enforces the limits. Calls `on_room` when a connection has ended."""

    def __init__(self, limits: ConnectionLimits, *, is_preferred: IsPreferred | None = None) -> None:
        self._limits = limits
        self._is_preferred = is_preferred
        self._grace = limits.grace.total_seconds()
        self._patience = limits.patience.total_seconds()
        self._head = limits.head.total_seconds()
        self._whole = limits.whole.total_seconds()
        self._connections: set[ClientConnection] = set()
        self._arriving = 0
        self._waiting = 0
        self._dropped = 0
        self._too_slow = 0
        self.on_room: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        """Whether no further connection is allowed."""
        return len(self._connections) + self._arriving >= self._limits.most

    @property
    def at_work(self) -> int:
        """The number of connections whose request is being answered."""
        return len(self._connections) - self._waiting

    def accepted(self) -> None:
        """Count a connection that was accepted and is being set up."""
        self._arriving += 1

    def setup_failed(self) -> None:
        """Forget an accepted connection whose set-up has failed."""
        self._arriving -= 1

    def connected(self, protocol: Any) -> ClientConnection:
        """Register a connection that has been set up."""
        self._arriving -= 1
        client = protocol.client
        preferred = self._is_preferred is not None and client is not None and self._is_preferred(client[0])
        connection = ClientConnection(protocol, preferred)
        self._connections.add(connection)
        self._wait(connection)
        return connection

    def received(self, connection: ClientConnection) -> None:
        """Note that data was read from a connection."""
        cycle = connection.protocol.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._wait_no_more(connection)  # the request is complete, and is being answered
        else:
            connection.begun = True

    def answered(self, connection: ClientConnection) -> None:
        """Note that a request was answered in full."""
        self._wait(connection)
        self.received(connection)  # the next request may have been read already

    def disconnected(self, connection: ClientConnection) -> None:
        """Forget a connection that has ended."""
        self._wait_no_more(connection)
        self._connections.discard(connection)
        self.on_room()

    def make_room(self) -> float:
        """Close connections to make room. Returns 0 if it closed any, else the seconds to wait before the next try."""
        now = asyncio.get_running_loop().time()
        soonest, closed = self._grace, 0
        waiting = [each for each in self._connections if each.waits]
        waiting.sort(key=lambda each: (each.preferred, each.since))  # in the order in which they are closed
        has_others = self._arriving > 0 or any(not each.preferred for each in waiting)
        for each in waiting:
            if closed == AT_ONCE or (each.preferred and has_others):
                break  # a connection that is not preferred can be closed soon
            left = each.since + (self._grace if each.begun else self._patience) - now
            if left > 0:
                soonest = min(soonest, left)
            elif not each.begun and _has_something_to_read(each.transport):
                self._wait(each)  # data has arrived, but this process was too busy to read it
            else:
                self._drop(each)
                closed += 1
        self._dropped += closed
        return 0.0 if closed else max(soonest, _SHORTEST)

    def close_stuck(self) -> None:
        """Close connections that send no complete request, or do not read their answer. Called once a second."""
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            if connection.waits and now - connection.since > self._head:
                cycle = connection.protocol.cycle
                has_head = cycle is not None and not cycle.response_complete
                if not has_head or now - connection.since > self._whole:
                    self._drop(connection)
                    self._too_slow += 1
            is_stuck = connection.transport.is_closing() or connection.protocol.flow.write_paused
            connection.stuck = connection.stuck + 1 if is_stuck else 0
            if connection.stuck >= STUCK_CHECKS:
                connection.transport.abort()
        if self._dropped or self._too_slow:
            _log.warning(
                "connections without a complete request were closed",
                for_room=self._dropped,
                too_slow=self._too_slow,
                open=len(self._connections),
                most=self._limits.most,
            )
            self._dropped = self._too_slow = 0

    def _wait(self, connection: ClientConnection) -> None:
        self._wait_no_more(connection)
        connection.since = asyncio.get_running_loop().time()
        connection.waits, connection.begun = True, False
        self._waiting += 1

    def _wait_no_more(self, connection: ClientConnection) -> None:
        self._waiting -= connection.waits
        connection.waits = False

    def _drop(self, connection: ClientConnection) -> None:
        self._wait_no_more(connection)
        connection.transport.abort()


def _has_something_to_read(transport: asyncio.Transport) -> bool:
    opened = transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    found = poll.poll(0)
    return bool(found) and not found[0][1] & (select.POLLHUP | select.POLLERR)


def limited_protocol(protocol: type[asyncio.Protocol], limiter: ConnectionLimiter) -> type[asyncio.Protocol]:
    """A subclass of `protocol` that reports its connections to `limiter`."""
    return cast("type[asyncio.Protocol]", type(protocol.__name__, (_LimitedProtocol, protocol), {"limiter": limiter}))


class _LimitedProtocol(_Uvicorn):
    limiter: ConnectionLimiter
    client_connection: ClientConnection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client_connection = self.limiter.connected(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.client_connection is not None:
            self.limiter.received(self.client_connection)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.client_connection is not None:
            self.limiter.answered(self.client_connection)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            # uvicorn leaves the timer of a connection that was reset, and the timer kept all of it in memory for 5 s.
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        if self.client_connection is not None:
            self.limiter.disconnected(self.client_connection)
            self.client_connection = None
