"""Load shedding: requests that are answered and closed without a parser or a task.

A busy server would answer every further request late. A request that has already waited too long is answered at once,
for a fifteenth of the cost of passing it to the app, and its sender repeats it. Only requests that change something are
shed: GET and HEAD, such as health checks, are always passed on.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

_LAST_DATA = struct.Struct("=52xI")
"""`tcpi_last_data_recv` in Linux' struct tcp_info: milliseconds since something came."""
_BACKLOG = struct.Struct("=24xII")
"""`tcpi_unacked` and `tcpi_sacked`: of a listening socket, how many connections wait to be taken, and may wait."""
_CROWDED = 4
"""A backlog is crowded when a quarter of it is full. Connections to a full one are dropped, and retry after 1 s."""
_IS_LINUX = sys.platform.startswith("linux")
_LONGEST = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_QUESTIONS = (b"GET ", b"HEAD ")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedding:
    """The rule for turning requests away.

    While `busy_at` requests are being answered, a request that has waited longer than `patience` gets `answer`, a whole
    HTTP response, and `count` is called; others wait. While the backlog of the system fills up, none waits.
    """

    answer: bytes
    busy_at: int
    count: Callable[[], None] = lambda: None
    patience: timedelta = timedelta(milliseconds=400)


class ShedDecision(Enum):
    """The treatment of a connection that arrives at a busy time."""

    ADMIT = auto()
    SHED = auto()
    WAIT = auto()


def is_crowded(listening: socket.socket) -> bool:
    """Whether the system's backlog is filling up."""
    if not _IS_LINUX:
        return False
    waiting, most = _BACKLOG.unpack(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKLOG.size))
    return bool(waiting * _CROWDED > most)


def decide(connection: socket.socket, shedding: LoadShedding, *, crowded: bool) -> ShedDecision:
    """Look at what a connection has sent, and turn it away if that is a whole request that has waited too long.

    If the backlog is `crowded`, nothing may wait.
    """
    try:
        seen = connection.recv(_LONGEST, socket.MSG_PEEK)
    except OSError:  # nothing arrived yet, or the connection is closed: the reader finds out
        return ShedDecision.ADMIT
    if not _is_whole(seen):
        return ShedDecision.ADMIT
    if not crowded and _waited(connection) < shedding.patience / timedelta(milliseconds=1):
        return ShedDecision.WAIT
    with contextlib.suppress(OSError):
        # Read to the end: what is closed with something unread is reset, and the answer may be lost (RFC 9112 §9.6).
        connection.recv(_LONGEST)
        connection.send(shedding.answer)
    connection.close()
    shedding.count()
    return ShedDecision.SHED


def _is_whole(request: bytes) -> bool:
    """Whether this is one whole request that changes something."""
    if not request or request.startswith(_QUESTIONS):
        return False
    head, end, body = request.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and length is not None and len(body) == int(length[1])


def _waited(connection: socket.socket) -> int:
    """Milliseconds for which a request has lain in the system's buffers; a very large number if unknown."""
    if not _IS_LINUX:
        return sys.maxsize
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    return int(_LAST_DATA.unpack(info)[0])
