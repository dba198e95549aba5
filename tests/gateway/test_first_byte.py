"""The step before the first byte of a POST: taken once, when the connection stands; while it fails, no byte leaves."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.gateway.conftest import KINDS, NOW, OURS, TRUSTING_CERTIFI, Before, Kind, Stranger, named, place
from tests.gateway.misbehaving import CERTIFICATE, CREATED, Connection, MisbehavingServer, answer, places
from tests.support.company_proxy import AUTHORITY, VOICE, CompanyProxy
from tests.support.loops import either_loop
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.first_byte import FirstByte
from voiceflow_worker.model.reports.verdict import Departure
from voiceflow_worker.model.reports.verdict import VerdictKind as K

pytestmark = pytest.mark.anyio

WAIT = 0.3
ON_TRIO = Kind("default", "trio", None)
each_kind = pytest.mark.parametrize("kind", [*KINDS, ON_TRIO], ids=named)
"""Our own connections, httpx's pool, a transport that nobody knows, and the pool that the client takes on trio."""


@dataclass
class Service:
    """8x8 behind a way: each piece of a request as it came there, with its time on the monotonic clock."""

    url: str = ""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    came: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    tunnels: list[str] = field(default_factory=list[str])
    server: MisbehavingServer | None = None

    def serve(self, connection: Connection) -> None:
        """Note what comes, and place each call."""
        while True:
            request = b""
            while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                piece = connection.socket.recv(65536)
                if not piece:
                    return
                self.came.append((time.monotonic(), piece))
                request += piece
            is_last = connection.wants_to_end(request)
            connection.send(answer(200, CREATED, *(["Connection: close"] if is_last else [])))
            if is_last:
                return

    @property
    def stands(self) -> bool:
        """Whether the client has come as far as it can before it sends a request."""
        assert self.server is not None
        return bool(self.tunnels) if "proxy" in self.options else self.server.connections > 0


@pytest.fixture(params=["plain", "TLS", "CONNECT"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """8x8 behind each way to it."""
    with reached_by(request.param) as found:
        yield found


@contextmanager
def reached_by(way: str) -> Generator[Service]:
    found = Service()
    with MisbehavingServer(found.serve, tls=way == "TLS") as server:
        found.server, found.url = server, server.url
        if way == "TLS":
            found.options = {"trust": ssl.create_default_context(cafile=CERTIFICATE)}
        if way != "CONNECT":
            yield found
            return
        company = CompanyProxy({VOICE: server.port}, tunnels=found.tunnels)
        with MisbehavingServer(company) as proxy:
            found.url = f"https://{VOICE}"
            found.options = {"trust": ssl.create_default_context(cafile=AUTHORITY), "proxy": proxy.url}
            yield found


class RefusedError(Exception):
    """What a step raises."""


@each_kind
async def test_a_step_that_takes_its_time_comes_after_the_connection_and_before_each_byte(
    kind: Kind, service: Service
) -> None:
    over: list[float] = []

    async def sleeps() -> Departure:
        await anyio.sleep(WAIT)
        assert service.stands or not kind.tells, "a transport that nobody knows may connect when it likes"
        assert service.came == []
        over.append(time.monotonic())
        return Departure(NOW, 60.0)

    async with kind.client(service.url, **service.options) as client:
        assert (await place(client, before=sleeps)).kind is K.CREATED
    assert len(over) == 1, "the step is taken once"
    assert service.came[0][0] >= over[0]


@each_kind
async def test_what_a_step_raises_comes_out_and_no_byte_leaves(kind: Kind, service: Service) -> None:
    async def raises() -> Departure:
        raise RefusedError

    async with kind.client(service.url, **service.options) as client:
        with pytest.raises(RefusedError):
            await place(client, before=raises)
        await anyio.sleep(0.05)  # what had been sent would be there
        assert service.came == []
        assert (await place(client)).kind is K.CREATED
    assert service.server is not None
    if kind is OURS:
        assert service.server.connections == 1, "the connection is given back unused"


@each_kind
async def test_cancelled_in_its_step_a_post_has_sent_nothing(kind: Kind, service: Service) -> None:
    async def takes_too_long() -> Departure:
        reached.set()
        await anyio.sleep_forever()
        raise AssertionError

    reached = anyio.Event()
    async with kind.client(service.url, **service.options) as client:
        async with anyio.create_task_group() as group:

            async def post() -> None:
                await place(client, before=takes_too_long)

            group.start_soon(post)
            await reached.wait()
            group.cancel_scope.cancel()
        await anyio.sleep(0.05)  # what had been sent would be there
        assert service.came == []
        assert (await place(client)).kind is K.CREATED


@either_loop
async def test_a_transport_without_a_network_gets_the_post_after_the_step() -> None:
    order: list[str] = []

    async def steps() -> Departure:
        await anyio.lowlevel.checkpoint()
        order.append("step")
        return await Before()()

    async def fails() -> Departure:
        raise RefusedError

    async def never() -> Departure:
        await anyio.sleep_forever()
        raise AssertionError

    def handle(_: httpx.Request) -> httpx.Response:
        order.append("POST")
        return httpx.Response(200, content=CREATED)

    client = VoiceClient("key", "tests", base_url="http://127.0.0.1", transport=httpx.MockTransport(handle))
    async with client:
        with pytest.raises(RefusedError):
            await place(client, before=fails)
        with anyio.move_on_after(0.01):
            await place(client, before=never)
        assert order == []
        assert (await place(client, before=steps)).kind is K.CREATED
    assert order == ["step", "POST"]


async def test_the_time_of_an_answer_counts_from_the_first_byte(kind: Kind) -> None:
    """A step may take longer than a POST: it waits for the store, and for a slot."""

    async def sleeps() -> Departure:
        await anyio.sleep(1.0)
        return await Before()()

    with MisbehavingServer(places) as server:
        async with kind.client(server.url, connect=0.2, read=0.3) as client:
            assert (await place(client, before=sleeps)).kind is K.CREATED


async def test_an_unknown_transport_connects_and_writes_in_the_time_that_the_step_leaves_it() -> None:
    found: list[dict[str, float]] = []

    class Times(Stranger):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            found.append(dict(request.extensions["timeout"]))
            return await super().handle_async_request(request)

    async def nearly_late() -> Departure:
        return Departure(NOW, 0.7)

    with MisbehavingServer(places) as server:
        transport = Times(httpx.AsyncHTTPTransport(verify=TRUSTING_CERTIFI, trust_env=False))
        async with VoiceClient("key", "tests", base_url=server.url, transport=transport) as client:
            assert (await place(client, before=nearly_late)).kind is K.CREATED
    assert [(each["connect"], each["write"]) for each in found] == [(0.7, 0.7)]


# -- what stands between the step and the byte -------------------------------------------------------------------------


@pytest.mark.parametrize("says", [b"", answer(503)], ids=["its end", "an answer"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_what_comes_on_the_connection_during_the_step_keeps_the_post_from_it(says: bytes, kept: bool) -> None:
    """The call goes back at once: that 8x8 could not be reached is not said."""

    def behave(connection: Connection) -> None:
        if kept:
            connection.read_request()
            connection.send(answer(200, CREATED))
        goes_on.wait(10)
        connection.send(says)
        if says:
            connection.stall()

    goes_on = threading.Event()

    async def step() -> Departure:
        goes_on.set()
        await anyio.sleep(0.1)
        return await Before()()

    with MisbehavingServer(behave) as server:
        async with OURS.client(server.url) as client:
            if kept:
                assert (await place(client)).kind is K.CREATED
            verdict = await place(client, before=step)
        assert (verdict.kind, verdict.is_outage, len(server.posts)) == (K.NOT_SENT, False, int(kept))


async def test_a_step_is_taken_once() -> None:
    first = FirstByte(Before(), valid_until=None)
    await first()
    with pytest.raises(RuntimeError, match="sent once"):
        await first()


class Deaf(httpx.AsyncHTTPTransport):
    """A pool that no longer tells when it sends the head of a request."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions.pop("trace")
        return await super().handle_async_request(request)


@either_loop
async def test_where_httpx_tells_nothing_the_body_waits_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.gateway.transports.is_known", lambda _: True)
    steps = iter([RefusedError(), None])
    before = Before()

    async def step() -> Departure:
        await anyio.sleep(WAIT)
        assert b"callflow" not in b"".join(piece for _, piece in found.came).partition(b"\r\n\r\n")[2]
        if (error := next(steps)) is not None:
            raise error
        return await before()

    with reached_by("plain") as found:
        transport = Deaf(verify=TRUSTING_CERTIFI, trust_env=False)
        async with VoiceClient("key", "tests", base_url=found.url, transport=transport) as client:
            with pytest.raises(RefusedError):
                await place(client, before=step)
            found.came.clear()
            assert (await place(client, before=step)).kind is K.CREATED
    assert before.taken == 1
