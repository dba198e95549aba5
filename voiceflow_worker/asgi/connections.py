"""Limits on the connections of a server: how many, how long a request may take, and whom an overload turns away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import structlog

MOST_RAISED = 65_536
"""The highest limit that `raise_limit` sets. Some systems allow 10^9, and allocate tables of that size."""
MOST = 4096
"""The most connections that a server may have open, even if there are more descriptors. Each takes about 30 KB, so all
take 120 MB."""
LEAST = 16
_KEPT_LEAST, _KEPT_MOST = 40, 128
"""The least and the most descriptors that are kept free for the store, journal files and notifications. Between these
bounds, an eighth of the process's limit is kept free."""
_OPEN = (Path("/proc/self/fd"), Path("/dev/fd"))
_GUESSED = 32


def raise_limit() -> int:
    """Raise this process's limit on open files towards the hard limit (`ulimit -Hn`), and return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_RAISED if hard == resource.RLIM_INFINITY else min(hard, MOST_RAISED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS refuses more than its own OPEN_MAX
            return soft
        return wanted
    return soft


def connections_that_fit() -> int:
    """The number of connections that may be opened now, with enough descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    kept = max(_KEPT_LEAST, min(_KEPT_MOST, limit // 8))
    return max(LEAST, min(MOST, limit - _open_now() - kept))


def _open_now() -> int:
    for folder in _OPEN:
        try:
            return len(os.listdir(folder))  # noqa: PTH208 (only the number is needed, not the paths)
        except OSError:
            continue
    return _GUESSED


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

KEPT = timedelta(seconds=75)
"""How long a connection without a request is kept after an answer: longer than proxies and senders keep theirs (60 s,
as a rule). Whoever sends an event on a connection that is closed in this moment has lost it."""

IsPreferred = Callable[[str], bool]
"""A function that says whether connections from an address are preferred, which means that they are closed last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits on the connections of a server.

    At most `most` connections are open. A connection is closed if the head of its request takes longer than `head` to
    arrive, or the whole request longer than `whole`. After an answer, a connection is kept for `idle` until its next
    request begins. A full server closes connections to make room for new ones: first those that have waited longest
    for a complete request. Even a full server leaves a connection open for at least `timeout`, or for at least `grace`
    once a part of its request has arrived.
    """

    most: int
    head: timedelta = timedelta(seconds=10)
    whole: timedelta = timedelta(seconds=20)
    grace: timedelta = timedelta(milliseconds=250)
    timeout: timedelta = timedelta(seconds=1)
    idle: timedelta = KEPT


@dataclass(slots=True, eq=False)
class ClientConnection:
    """One connection. `since` is the time at which it began to wait for a request.

    `waits` is False while a request is being answered. `begun` says whether a part of the request may have arrived.
    `kept` is True after an answer, until data arrives: uvicorn closes a connection that is idle for too long.
    `stuck` counts the checks in a row that found it stuck.
    """

    protocol: Any
    preferred: bool
    since: float = 0.0
    waits: bool = False
    begun: bool = False
    kept: bool = False
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
        self._timeout = limits.timeout.total_seconds()
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
            return
        connection.begun = True
        if connection.kept:  # the time limits of a request begin with its first byte
            connection.kept = False
            connection.since = asyncio.get_running_loop().time()

    def answered(self, connection: ClientConnection) -> None:
        """Note that a request was answered in full."""
        self._wait(connection)
        self.received(connection)  # the next request may have been read already
        connection.kept = connection.waits

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
            left = each.since + (self._grace if each.begun else self._timeout) - now
            if left > 0:
                soonest = min(soonest, left)
            elif (each.kept or not each.begun) and _has_something_to_read(each.transport):
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
            if connection.waits and not connection.kept and now - connection.since > self._head:
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
        connection.waits, connection.begun, connection.kept = True, False, False
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


_LAST_DATA = struct.Struct("=52xI")
"""`tcpi_last_data_recv` in the struct tcp_info of Linux: milliseconds since data arrived."""
_BACKLOG = struct.Struct("=24xII")
"""`tcpi_unacked` and `tcpi_sacked`: for a listening socket, the length of its backlog and the limit of that length."""
_CROWDED = 8
"""The backlog is crowded when more than 1/8 of its places are taken. The threshold is low because a full backlog drops
new connections, whose clients then wait 1 s before they try again."""
_IS_LINUX = sys.platform.startswith("linux")
_LONGEST = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_QUESTIONS = (b"GET ", b"HEAD ")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedding:
    """The rule for turning requests away.

    It applies while `busy_at` or more requests are being answered. A request that has waited longer than `timeout`
    gets `answer`, a complete HTTP response, and `count` is called. Other requests wait; if the backlog is crowded, all
    are turned away at once. GET and HEAD requests are admitted.
    """

    answer: bytes
    busy_at: int
    count: Callable[[], None] = lambda: None
    timeout: timedelta = timedelta(milliseconds=400)


class ShedDecision(Enum):
    """The decision on a connection to a busy server."""

    ADMIT = auto()
    SHED = auto()
    WAIT = auto()


def is_crowded(listening: socket.socket) -> bool:
    """Whether more than an eighth of the backlog is full; always False on systems other than Linux."""
    if not _IS_LINUX:
        return False
    waiting, most = _BACKLOG.unpack(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG.size))
    return bool(waiting * _CROWDED > most)


def decide(connection: socket.socket, shedding: LoadShedding, *, crowded: bool) -> ShedDecision:
    """Decide whether a connection is admitted, waits or is turned away, by the request in its buffer.

    A complete request, except GET and HEAD, is turned away if it has waited too long, or if the backlog is `crowded`.
    Otherwise it waits. Every other connection is admitted.
    """
    try:
        seen = connection.recv(_LONGEST, socket.MSG_PEEK)
    except OSError:  # no data yet, or the connection is closed: the protocol will handle it
        return ShedDecision.ADMIT
    if not _is_whole(seen):
        return ShedDecision.ADMIT
    if not crowded and _waited(connection) < shedding.timeout / timedelta(milliseconds=1):
        return ShedDecision.WAIT
    with contextlib.suppress(OSError):
        # A socket that is closed with unread data resets the connection, and the answer may be lost (RFC 9112 §9.6).
        connection.recv(_LONGEST)
        connection.send(shedding.answer)
    connection.close()
    shedding.count()
    return ShedDecision.SHED


def _is_whole(request: bytes) -> bool:
    """Whether these bytes are one complete request with a method other than GET and HEAD."""
    if not request or request.startswith(_QUESTIONS):
        return False
    head, end, body = request.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and length is not None and len(body) == int(length[1])


def _waited(connection: socket.socket) -> int:
    """Milliseconds since the request arrived in the socket's buffer; a very large number if unknown."""
    if not _IS_LINUX:
        return sys.maxsize
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    return int(_LAST_DATA.unpack(info)[0])
