"""A tap on the line to 8x8: it passes bytes on, and at a certain byte of a POST it has the sender killed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

SMALL_WINDOW = 4096


class Rest(StrEnum):
    """What of a POST whose sender is dead comes through."""

    NOTHING = "nothing"
    WHAT_WAS_READ = "what-was-read"
    ALL = "all"
    """Everything that the sender's system still sends for it."""


@dataclass
class Tap:
    """`url` leads to `target`; the POST of connection `nth` is tapped after `share` of its body (0: after its head)."""

    target: str
    share: float
    rest: Rest
    nth: int = 1
    url: str = ""
    kill: Callable[[], object] = lambda: None
    """Kills the sender and returns when it is dead."""
    tapped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Tap]:
        """Listen until the block ends."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            # Inherited by each connection: what the sender cannot hand to its own system is lost with it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            yield self
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        count = 0
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            count += 1
            threading.Thread(target=self._serve, args=(client, count == self.nth), daemon=True).start()

    def _serve(self, client: socket.socket, is_tapped: bool) -> None:
        parts = urlsplit(self.target)
        with client, socket.create_connection((parts.hostname, parts.port)) as server, contextlib.suppress(OSError):
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            if is_tapped:
                self._tap(client, server)
            else:
                _pump(client, server)
            back.join(10)

    def _tap(self, client: socket.socket, server: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        body = b""
        wanted = round(self.share * _told_length(head))
        while len(body) < wanted:
            body += client.recv(min(1024, wanted - len(body)))
        self.kill()
        if self.rest is Rest.ALL:
            with contextlib.suppress(OSError):
                while more := client.recv(65536):
                    body += more
        if self.rest is not Rest.NOTHING:
            with contextlib.suppress(OSError):
                server.sendall(head + body)
            # The sandbox has read it when it closes its end too.
            server.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while server.recv(65536):
                    pass
        self.tapped.set()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _told_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"a POST without a length: {head!r}")
