"""Load shedding: requests to a busy server are turned away before they reach the app.

A request that has waited too long gets a fixed answer, and its sender sends it again later. The fixed answer needs no
parser and no task, and takes a fifteenth of the time that an answer of the app takes. GET and HEAD requests, such as
health checks, always reach the app.
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

    It applies while `busy_at` or more requests are being answered. A request that has waited longer than `patience`
    gets `answer`, a complete HTTP response, and `count` is called. Other requests wait; if the backlog is crowded, all
    are turned away at once. GET and HEAD requests are admitted.
    """

    answer: bytes
    busy_at: int
    count: Callable[[], None] = lambda: None
    patience: timedelta = timedelta(milliseconds=400)


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
    if not crowded and _waited(connection) < shedding.patience / timedelta(milliseconds=1):
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
