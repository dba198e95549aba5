"""Scenes of a POST: a real socket that does one row of the verdict table, and counts the POSTs it read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from tests.gateway.misbehaving import (
    CERTIFICATE,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    answers,
    closed_port,
    length_in,
    places,
    port_that_never_accepts,
)
from tests.support.company_proxy import AUTHORITY, VOICE
from voiceflow_worker.gateway.client import VoiceClient

SOON = 0.3
"""Seconds that a time limit has in rows that are about it; in all others nothing may run into one."""
LATE = 20.0


@dataclass(frozen=True)
class Scene:
    """An address to send calls to, and how; `posts` says how many POSTs arrived there."""

    url: str
    posts: Callable[[], int] = lambda: 0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def client(self) -> VoiceClient:
        """A client as a worker has it, of this event loop's own transport unless the scene brings one."""
        options = dict(self.options)
        connect, read = options.pop("connect", LATE), options.pop("read", LATE)
        if (make := options.pop("transport", None)) is not None:
            options["transport"] = make()
        return VoiceClient(
            "a-key",
            "tests",
            base_url=self.url,
            connect_timeout=timedelta(seconds=connect),
            read_timeout=timedelta(seconds=read),
            allow_plain_http=True,
            **options,
        )


SceneMaker = Callable[[], AbstractContextManager[Scene]]


def server(behaviour: Behaviour, *, scheme: str = "", tls: bool = False, **options: Any) -> SceneMaker:
    """A server that behaves so."""

    @contextmanager
    def made() -> Generator[Scene]:
        with MisbehavingServer(behaviour, tls=tls) as opened:
            url = opened.url if not scheme else f"{scheme}://127.0.0.1:{opened.port}"
            yield Scene(url, lambda: len(opened.posts), options)

    return made


def replies(status: int, body: bytes = b"", *headers: str, **options: Any) -> SceneMaker:
    """A server that answers so, in order."""
    return server(answers(status, body, *headers), **options)


def not_created(code: int, message: str = "Refused", *, spelled: str = "NOT_CREATED") -> bytes:
    """A refusal as 8x8 words it."""
    return f'{{"sessionStatus":"{spelled}","statusCode":{code},"statusMessage":"{message}"}}'.encode()


# -- nobody there ------------------------------------------------------------------------------------------------------


@contextmanager
def refused() -> Generator[Scene]:
    """Nobody listens."""
    with closed_port() as port:
        yield Scene(f"http://127.0.0.1:{port}")


@contextmanager
def unknown_name() -> Generator[Scene]:
    """A name that is nobody's (RFC 6761)."""
    yield Scene("http://voice.invalid")


@contextmanager
def never_accepts() -> Generator[Scene]:
    """Connecting hangs."""
    with port_that_never_accepts() as port:
        yield Scene(f"http://127.0.0.1:{port}", options={"connect": SOON})


def through_a_proxy(behaviour: Behaviour, *, trusted: bool = True, **options: Any) -> SceneMaker:
    """A proxy of a company that behaves so, whose certificates are trusted or not."""

    @contextmanager
    def made() -> Generator[Scene]:
        trust = ssl.create_default_context(cafile=AUTHORITY) if trusted else None
        with MisbehavingServer(behaviour) as proxy:
            more = {"proxy": proxy.url, "ssl_context": trust, **options}
            yield Scene(f"https://{VOICE}", lambda: len(proxy.posts), more)

    return made


@contextmanager
def through_a_proxy_that_is_down() -> Generator[Scene]:
    """A proxy that is not there."""
    with closed_port() as port:
        yield Scene("https://voice.invalid", options={"proxy": f"http://127.0.0.1:{port}"})


def speaks_no_tls(connection: Connection) -> None:
    """Answer a TLS handshake with something else."""
    connection.wait_for_bytes()
    connection.send(b"220 smtp.example ready\r\n")


# -- after the first byte ----------------------------------------------------------------------------------------------


def reads_nothing(connection: Connection) -> None:
    """Take what fits into the buffers of the kernel and not a byte more; `SMALL_BUFFERS` makes that little."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.stall()


def resets_unread(connection: Connection) -> None:
    """Reset when bytes have come, without reading them."""
    connection.wait_for_bytes()
    connection.reset()


def resets_within_the_body(connection: Connection) -> None:
    """Reset in the middle of the POST's body."""
    connection.read(length_in(connection.read_head()) // 2)
    connection.reset()


def resets_after_the_body(connection: Connection) -> None:
    """Reset instead of an answer."""
    connection.read_request()
    connection.reset()


def ends_after_the_body(connection: Connection) -> None:
    """End the connection in order, without an answer."""
    connection.read_request()


def stalls_after_the_body(connection: Connection) -> None:
    """Never answer."""
    connection.read_request()
    connection.stall()


def times_out_a_whole_post(connection: Connection) -> None:
    """Read all of it and say 408 all the same."""
    connection.read_request()
    connection.send(answer(408, b"", "Connection: close"))


class RaisingTransport(httpx.AsyncBaseTransport):
    """A transport that fails in a way that nobody has foreseen."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise LookupError(f"no route to {request.url.host}")


def pool_with_small_buffers() -> httpx.AsyncHTTPTransport:
    """httpx's own pool whose sockets take little at a time, so that a POST of 300 KB does not fit into them."""
    return httpx.AsyncHTTPTransport(
        verify=ssl.create_default_context(cafile=CERTIFICATE),
        trust_env=False,
        socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)],
    )


well_behaved = server(places)
"""8x8 as it should be."""
