"""A server that does on a raw loopback socket what no decent server does, and counts the POSTs it was given.

A behaviour is a function of one connection; each connection runs in a thread of its own, so that the client may run on
any event loop. What a behaviour raises as OSError is the client's going away, and no failure of the test.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

# Self-signed for localhost and 127.0.0.1, good from 2020 to 2120, of no use anywhere else. OpenSSL 3.4 makes another:
#   openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
#     -not_before 20200101000000Z -not_after 21200101000000Z -addext subjectAltName=DNS:localhost,IP:127.0.0.1
CERTIFICATE = Path(__file__).with_name("localhost.pem")

CREATED = (
    b'{"sessionId":"6f7a2c1e-0001","sessionStatus":"CREATED","callFlowRequestId":"f-1","statusCode":1,'
    b'"statusMessage":"Created"}'
)
LONGEST = 30.0


class Connection:
    """One connection of a client."""

    def __init__(self, opened: socket.socket, server: MisbehavingServer) -> None:
        self.socket = opened
        self.server = server
        self._unread = b""

    def read_head(self) -> bytes:
        """Read the head of one request, and record it when it is a POST; empty when the client has gone."""
        while b"\r\n\r\n" not in self._unread:
            if not self._read_more():
                return b""
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        if head.startswith(b"POST "):
            self.server.posts.append(head)
        self.server.heads.append(head)
        self.server.seen.set()
        return head

    def read_request(self) -> bytes:
        """Read one whole request, and record its body; gives the head, empty when the client has gone."""
        head = self.read_head()
        if head:
            self.server.bodies.append(self.read(length_in(head)))
        return head

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        while len(self._unread) < count:
            if not self._read_more():
                raise ConnectionError("the client went away within its body")
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def wants_to_end(self, head: bytes) -> bool:
        """Whether the client asked for the connection to be closed after its request."""
        return b"connection: close" in head.lower()

    def wait_for_bytes(self) -> None:
        """Wait until the client has sent something, and leave it unread."""
        select.select([self.socket], [], [], LONGEST)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def stall(self) -> None:
        """Do nothing until the test is over."""
        self.server.stopping.wait(LONGEST)

    def _read_more(self) -> bool:
        data = self.socket.recv(65536)
        self._unread += data
        return bool(data)


Behaviour = Callable[[Connection], None]


class MisbehavingServer:
    """Listens on loopback while entered. `posts` are the heads of the POSTs it read, `bodies` the whole bodies."""

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        tls: bool = False,
        at_first: Callable[[], object] = bool,
        listening: socket.socket | None = None,
    ) -> None:
        self.behaviour = behaviour
        self.at_first = at_first
        self.posts: list[bytes] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.seen = threading.Event()
        self.ended = threading.Event()
        self.stopping = threading.Event()
        self._tls = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(CERTIFICATE)
        self._listening = listening or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._opened: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for opened in self._opened:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONGEST)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self.stopping.is_set():
                opened, _ = self._listening.accept()
                self.connections += 1
                self._opened.append(opened)
                self._start(lambda opened=opened: self._serve(opened))  # type: ignore[misc]

    def _serve(self, opened: socket.socket) -> None:
        with suppress(OSError), opened:
            self.at_first()  # before the handshake
            if self._tls is not None:
                opened = self._tls.wrap_socket(opened, server_side=True)
            with opened:
                self.behaviour(Connection(opened, self))
        self.ended.set()


def length_in(head: bytes) -> int:
    """The Content-Length in the head of a request."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(status: int, body: bytes = b"", *headers: str) -> Behaviour:
    """Answer every request alike, for as long as the client keeps the connection."""

    def behave(connection: Connection) -> None:
        while head := connection.read_request():
            is_last = connection.wants_to_end(head)
            connection.send(answer(status, body, *headers, *(["Connection: close"] if is_last else [])))
            if is_last:
                break

    return behave


def created(session_id: str) -> bytes:
    """The body that gives a call this session."""
    return CREATED.replace(b"6f7a2c1e-0001", session_id.encode())


def places(connection: Connection) -> None:
    """Place every call, as 8x8 does: each has a session of its own."""
    while head := connection.read_request():
        session_id = f"6f7a2c1e-{len(connection.server.bodies):04}"
        connection.send(answer(200, created(session_id)))
        if connection.wants_to_end(head):
            break


def places_but(odd: Mapping[int, bytes | Behaviour]) -> Behaviour:
    """Place every call, with the sessions s-1, s-2 and so on, but do something else with these POSTs of the server."""

    def behave(connection: Connection) -> None:
        while head := connection.read_request():
            number = len(connection.server.bodies)
            does = odd.get(number, answer(200, created(f"s-{number}")))
            if isinstance(does, bytes):
                connection.send(does)
            else:
                does(connection)
            if connection.wants_to_end(head):
                return

    return behave


def sends(raw: bytes, *, reads: bool = True, stalls: bool = False) -> Behaviour:
    """Send these very bytes after one whole request, or its head, and end the connection, or say nothing more."""

    def behave(connection: Connection) -> None:
        _ = connection.read_request() if reads else connection.read_head()
        connection.send(raw)
        if stalls:
            connection.stall()

    return behave


def resets_after_the_body(connection: Connection) -> None:
    """Reset instead of an answer."""
    connection.read_request()
    connection.reset()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody else will while this lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def port_that_never_accepts() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops what knocks (Linux), and connecting hangs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                knocking = socket.socket()
                knocking.setblocking(False)
                knocking.connect_ex(("127.0.0.1", port))
                waiting.append(knocking)
            yield port
        finally:
            for knocking in waiting:
                knocking.close()
