"""The proxy of a company, for `MisbehavingServer`: it opens tunnels (CONNECT), decrypts them, and fails at each stage.

Hosts below company.example exist behind it only. Its certificate is good for them from 2020 to 2120, is signed by the
authority in company_authority.pem, and is of no use anywhere else.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.gateway.misbehaving import Behaviour, Connection

AUTHORITY = Path(__file__).with_name("company_authority.pem")
CERTIFICATE = Path(__file__).with_name("company_proxy.pem")
VOICE = "voice.company.example"
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@cache
def company_context(certificate: Path = CERTIFICATE) -> ssl.SSLContext:
    """The context of a server with this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@dataclass
class CompanyProxy:
    """Passes what comes for `host:port` to a port of this machine, decrypted if the port is 443.

    `stages` are done in turn, one for each connection, before the usual way is taken: a stage that closes the
    connection ends it. `tunnels` are the targets of CONNECT, `passed` the requests that were passed on in the clear.
    """

    ports: Mapping[str, int]
    stages: list[Behaviour] = field(default_factory=list[Behaviour])
    credentials: str | None = None
    tunnels: list[str] = field(default_factory=list[str])
    passed: list[bytes] = field(default_factory=list[bytes])
    lose_answers: int = 0
    """So many tunnels are cut when the first byte of an answer has come, which is not passed on."""
    cut_requests: int = 0
    """So many tunnels are cut when the first byte of a request has come, which is not passed on."""
    delay: float = 0.0
    """Seconds until a tunnel is open."""
    _open: list[socket.socket] = field(default_factory=list[socket.socket])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: Connection) -> None:
        """Serve one connection, as a behaviour of `MisbehavingServer`."""
        with self._lock:
            stage = self.stages.pop(0) if self.stages else None
        if stage is not None:
            stage(connection)
            return
        head = connection.read_head()
        if not head:
            return
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
        if self.credentials is not None and f"Basic {self.credentials}".encode() not in head:
            connection.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if method != "CONNECT":
            connection.send(b"HTTP/1.1 405 CONNECT only\r\nContent-Length: 0\r\n\r\n")
            return
        self.tunnels.append(target)
        host, _, port = target.rpartition(":")
        if host not in self.ports:
            connection.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        connection.server.stopping.wait(self.delay)
        connection.send(OPENED)
        inner: socket.socket = connection.socket
        if port == "443":
            inner = company_context().wrap_socket(connection.socket, server_side=True)
        self._open.append(inner)
        with inner, socket.create_connection(("127.0.0.1", self.ports[host])) as server:
            self._relay(inner, server)

    def cut_tunnels(self) -> None:
        """End each open tunnel, as a proxy that dies does."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        cut_request, lose_answer = False, False
        with self._lock:
            if self.cut_requests:
                self.cut_requests, cut_request = self.cut_requests - 1, True
            elif self.lose_answers:
                self.lose_answers, lose_answer = self.lose_answers - 1, True
        while True:
            pending = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if pending else select.select([client, server], [], [], 30.0)[0]
            for source in ready:
                data = source.recv(65536)
                if not data or (source is client and cut_request) or (source is server and lose_answer):
                    return
                if source is client:
                    self.passed.append(data)
                (server if source is client else client).sendall(data)


# -- stages at which it fails ------------------------------------------------------------------------------------------


def refuses(status: str) -> Behaviour:
    """Answer CONNECT with this status."""

    def behave(connection: Connection) -> None:
        connection.read_head()
        connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno".encode())

    return behave


def says(raw: bytes) -> Behaviour:
    """Answer CONNECT with these bytes, and end the connection."""

    def behave(connection: Connection) -> None:
        connection.read_head()
        connection.send(raw)

    return behave


def hangs_up(connection: Connection) -> None:
    """End the connection instead of an answer to CONNECT."""
    connection.read_head()


def resets(connection: Connection) -> None:
    """Reset the connection instead of an answer to CONNECT."""
    connection.read_head()
    connection.reset()


def stalls(connection: Connection) -> None:
    """Never answer CONNECT."""
    connection.read_head()
    connection.stall()


def in_tunnel(act: Callable[[Connection], None], *, tls: bool = True, certificate: Path = CERTIFICATE) -> Behaviour:
    """Open the tunnel, do the handshake of TLS with this certificate, and act as the server behind it."""

    def behave(connection: Connection) -> None:
        connection.read_head()
        connection.send(OPENED)
        inner: socket.socket = connection.socket
        if tls:
            with suppress(ssl.SSLError):
                inner = company_context(certificate).wrap_socket(connection.socket, server_side=True)
        with inner:
            act(Connection(inner, connection.server))

    return behave
