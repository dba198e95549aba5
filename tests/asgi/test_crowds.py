"""More connections than a server takes: who is let in, who has to go, who is turned away."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.waiting import until
from voiceflow_worker.asgi import server
from voiceflow_worker.asgi.connections import ConnectionLimits, LoadShedding, connections_that_fit, raise_limit
from voiceflow_worker.asgi.server import AT_ONCE, fast_protocol, serving, uvicorn_protocol

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=50)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
LONGEST_BACKLOG = int(SOMAXCONN.read_text()) if SOMAXCONN.exists() else 0
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other


@pytest.fixture(params=[uvicorn_protocol, fast_protocol])
def protocol(request: pytest.FixtureRequest) -> type:
    found: type = request.param()
    return found


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(sent)
    return connection


async def answer_on(connection: socket.socket) -> bytes:
    """All that comes, until the server closes."""

    def read() -> bytes:
        found = b""
        try:
            while more := connection.recv(4096):
                found += more
        except ConnectionResetError:
            pass
        return found

    return await anyio.to_thread.run_sync(read)


async def test_who_never_sends_a_whole_request_makes_room_for_who_does(protocol: type) -> None:
    hours = timedelta(hours=1)  # it is the crowd that closes them, and no time limit
    limits = ConnectionLimits(most=5, grace=SOON, timeout=SOON, head=hours, whole=hours)
    async with serving(Starlette(routes=[Route("/", hello)]), protocol=protocol, limits=limits) as address:
        held = [connected(address.port, HEAD) for _ in range(20)]
        for _ in range(3):
            asking = connected(address.port, GET)
            assert (await answer_on(asking)).endswith(b"hello")
            asking.close()
        # The oldest are gone.
        assert await answer_on(held[0]) == b""
        for each in held:
            each.close()


async def test_a_request_that_is_being_answered_is_not_given_up(protocol: type) -> None:
    let, begun = anyio.Event(), list[Request]()

    async def slow(request: Request) -> Response:
        begun.append(request)
        await let.wait()
        return PlainTextResponse("done")

    limits = ConnectionLimits(most=4, grace=SOON, timeout=SOON)
    app = Starlette(routes=[Route("/", hello), Route("/slow", slow, methods=["POST"])])
    async with serving(app, protocol=protocol, limits=limits) as address:
        working = [connected(address.port, POST) for _ in range(3)]
        await until(lambda: len(begun) == 3)
        held = [connected(address.port, HEAD) for _ in range(20)]
        asking = connected(address.port, GET)
        assert (await answer_on(asking)).endswith(b"hello")
        let.set()
        for each in working:
            assert (await anyio.to_thread.run_sync(each.recv, 4096)).startswith(b"HTTP/1.1 200")
        for each in (asking, *held, *working):
            each.close()


async def test_preferred_connections_go_last() -> None:
    limits = ConnectionLimits(most=4, grace=SOON, timeout=SOON)
    app = Starlette(routes=[Route("/", hello)])
    met: list[str] = []

    def is_preferred(peer: str) -> bool:
        met.append(peer)
        return peer == "127.0.0.2"

    async with serving(app, limits=limits, is_preferred=is_preferred) as address:
        kept = socket.create_connection(("127.0.0.1", address.port), timeout=20, source_address=("127.0.0.2", 0))
        kept.sendall(HEAD)
        await until(lambda: met == ["127.0.0.2"])
        held = [connected(address.port, HEAD) for _ in range(20)]
        asking = connected(address.port, GET)
        assert (await answer_on(asking)).endswith(b"hello")
        kept.sendall(b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert (await answer_on(kept)).startswith(b"HTTP/1.1 405")
        for each in (kept, asking, *held):
            each.close()


async def test_nothing_of_a_connection_stays_in_memory_when_its_client_resets_it(protocol: type) -> None:
    known, lost = list[weakref.ref[asyncio.Protocol]](), list[type[Exception] | None]()

    class Telling(protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            known.append(weakref.ref(self))
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(None if exc is None else type(exc))
            super().connection_lost(exc)

    async with serving(Starlette(routes=[Route("/", hello)]), protocol=Telling) as address:
        asking = connected(address.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"hello"):
            answer += await anyio.to_thread.run_sync(asking.recv, 4096)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it resets it
        asking.close()
        await until(lambda: lost == [ConnectionResetError])
        gc.collect()
        assert [each() for each in known] == [None]


async def test_a_head_and_a_body_have_a_time_limit(protocol: type) -> None:
    limits = ConnectionLimits(most=100, head=SOON, whole=SOON)
    async with serving(Starlette(routes=[Route("/", hello)]), protocol=protocol, limits=limits) as address:
        with anyio.fail_after(20):
            slow = connected(address.port, HEAD)
            assert await answer_on(slow) == b""
            slow.close()


def asked(connection: socket.socket) -> bytes:
    """The answer to one more request on this connection; empty if the server has closed it."""
    found = b""
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not found.endswith(b"hello") and (more := connection.recv(4096)):
            found += more
    except OSError:
        return b""
    return found


async def test_a_connection_without_a_request_is_kept_when_the_time_limit_of_a_request_ends(
    protocol: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CHECK_EVERY", 0.01)
    limits = ConnectionLimits(most=100, head=SOON, whole=SOON)
    async with serving(Starlette(routes=[Route("/", hello)]), protocol=protocol, limits=limits) as address:
        with anyio.fail_after(20), connected(address.port, b"") as kept:
            assert await anyio.to_thread.run_sync(asked, kept)
            with connected(address.port, HEAD) as slow:  # has waited for less time than the other
                assert await answer_on(slow) == b""
            assert await anyio.to_thread.run_sync(asked, kept)
            kept.sendall(HEAD)  # a request that has begun has its time limit, on a kept connection too
            assert await answer_on(kept) == b""


async def test_a_connection_that_has_been_idle_for_too_long_is_closed(protocol: type) -> None:
    limits = ConnectionLimits(most=100, idle=SOON)  # uvicorn counts in whole seconds
    async with serving(Starlette(routes=[Route("/", hello)]), protocol=protocol, limits=limits) as address:
        with anyio.fail_after(20), connected(address.port, b"") as kept:
            assert await anyio.to_thread.run_sync(asked, kept)
            assert await answer_on(kept) == b""


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_connection_that_was_idle_for_a_minute_is_answered() -> None:
    app = Starlette(routes=[Route("/", hello)])
    async with serving(app, protocol=fast_protocol()) as fast, serving(app) as plain:

        async def after(seconds: float, port: int) -> None:
            with connected(port, b"") as kept:
                assert await anyio.to_thread.run_sync(asked, kept)
                await anyio.sleep(seconds)  # nothing else happens on the connection
                assert await anyio.to_thread.run_sync(asked, kept), seconds

        async with anyio.create_task_group() as group:
            for address in (fast, plain):
                for seconds in (6, 20, 62, 74):
                    group.start_soon(after, seconds, address.port)


async def test_when_there_is_too_much_to_do_events_are_turned_away_and_questions_let_in(protocol: type) -> None:
    let, counted, begun = anyio.Event(), list[int](), list[Request]()

    async def slow(request: Request) -> Response:
        begun.append(request)
        await let.wait()
        return PlainTextResponse("done")

    shedding = LoadShedding(answer=BUSY, busy_at=2, count=lambda: counted.append(1), timeout=SOON)
    app = Starlette(routes=[Route("/", hello), Route("/slow", slow, methods=["POST"])])
    async with serving(app, protocol=protocol, shedding=shedding) as address:
        working = [connected(address.port, POST) for _ in range(2)]
        await until(lambda: len(begun) == 2)
        refused = [connected(address.port, POST) for _ in range(10)]
        asking = connected(address.port, GET)
        assert (await answer_on(asking)).endswith(b"hello")
        for each in refused:
            assert await answer_on(each) == BUSY
        assert len(counted) == 10
        let.set()
        for each in working:
            assert (await anyio.to_thread.run_sync(each.recv, 4096)).startswith(b"HTTP/1.1 200")
        for each in (asking, *refused, *working):
            each.close()


@pytest.mark.skipif(LONGEST_BACKLOG < 1024, reason="needs Linux, and a backlog of 1024 connections")
async def test_a_crowded_backlog_is_emptied_before_the_system_drops_connections() -> None:
    """Requests are turned away although few are at work, until less than an eighth of the backlog is full."""
    many = LONGEST_BACKLOG // 8 + 300
    if raise_limit() < 2 * many + 100:
        pytest.skip(f"needs {2 * many + 100} file descriptors")
    counted = list[int]()
    shedding = LoadShedding(answer=BUSY, busy_at=many, count=lambda: counted.append(1))
    app = Starlette(routes=[Route("/slow", hello, methods=["POST"])])
    async with serving(app, shedding=shedding) as address:
        asking = [connected(address.port, POST) for _ in range(many)]  # the event loop stands still meanwhile
        asking_last = connected(address.port, GET)
        answers = [await anyio.to_thread.run_sync(each.recv, 4096) for each in asking]
        assert (await answer_on(asking_last)).startswith(b"HTTP/1.1 404")
        for each in (*asking, asking_last):
            each.close()
    assert 200 <= len(counted) < many - AT_ONCE
    assert answers.count(BUSY) == len(counted)
    assert sum(answer.startswith(b"HTTP/1.1 200") for answer in answers) == many - len(counted)


def test_connections_fit_below_the_limit() -> None:
    limit = raise_limit()
    assert 16 <= connections_that_fit() < limit
