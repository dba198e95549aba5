"""An app within this process: begun, stopped in order, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from voiceflow_worker.asgi.server import connections_that_fit, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def ask(url: str) -> str:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        return (await client.get(url)).text


def app_of(*routes: Route) -> Starlette:
    return Starlette(routes=[Route("/", hello), *routes])


async def test_an_app_is_served_until_the_block_ends() -> None:
    async with serving(app_of()) as address:
        assert await ask(address.url) == "hello"
    with pytest.raises(httpx.ConnectError):
        await ask(address.url)


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with serving(app_of()):
            raise KeyError("mine")


async def test_a_block_that_is_cancelled_stops_the_server() -> None:
    url = ""
    with anyio.move_on_after(0.2) as scope:
        async with serving(app_of()) as address:
            url = address.url
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(httpx.ConnectError):
        await ask(url)


async def test_a_request_under_way_is_finished() -> None:
    started, go_on = anyio.Event(), anyio.Event()
    answers: list[str] = []

    async def slow(_request: Request) -> Response:
        started.set()
        await go_on.wait()
        return PlainTextResponse("finished")

    async def ask_slowly(url: str) -> None:
        answers.append(await ask(f"{url}/slow"))

    async with anyio.create_task_group() as tasks, serving(app_of(Route("/slow", slow))) as address:
        tasks.start_soon(ask_slowly, address.url)
        await started.wait()
        go_on.set()
    assert answers == ["finished"]


async def test_a_server_that_ends_closes_idle_connections_and_answers_the_rest() -> None:
    go_on, started = anyio.Event(), anyio.Event()

    async def slow(_request: Request) -> Response:
        started.set()
        await go_on.wait()
        return PlainTextResponse("stored")

    async with anyio.create_task_group() as tasks, serving(app_of(Route("/slow", slow))) as address:
        idle = await anyio.connect_tcp(address.host, address.port)
        waiting = await anyio.connect_tcp(address.host, address.port)
        await waiting.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()

        async def rest() -> None:
            with pytest.raises(anyio.EndOfStream):
                await idle.receive()
            go_on.set()
            assert b"stored" in await waiting.receive()

        tasks.start_soon(rest)
    await idle.aclose()
    await waiting.aclose()


async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(app_of(), port=taken.getsockname()[1]):
            pass


async def test_an_app_that_does_not_start_is_an_error_and_not_the_end_of_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no store")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        async with serving(Starlette(lifespan=lifespan)):
            pass
    assert "no store" in caplog.text


async def test_the_lifespan_of_the_app_surrounds_the_block() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        told.append("begin")
        yield
        told.append("end")

    async with serving(Starlette(lifespan=lifespan), grace=timedelta(seconds=1)):
        told.append("block")
    assert told == ["begin", "block", "end"]


async def test_signals_stay_the_callers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with serving(app_of()):
        assert signal.getsignal(signal.SIGTERM) is before


async def test_the_peer_address_is_not_rewritten() -> None:
    async def who(request: Request) -> Response:
        return PlainTextResponse(request.client.host if request.client else "nobody")

    async with serving(app_of(Route("/who", who))) as address, httpx.AsyncClient() as client:
        answer = await client.get(f"{address.url}/who", headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.text == "127.0.0.1"


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


@pytest.mark.parametrize(("seconds", "kept"), [(0.5, True), (1.5, False)])
async def test_a_connection_is_kept_for_its_time_and_then_closed(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, kept: bool
) -> None:
    monkeypatch.setattr("voiceflow_worker.asgi.limits.CONNECTION", timedelta(seconds=1))
    async with serving(app_of()) as address:
        with socket.create_connection((address.host, address.port), timeout=20) as connection:
            assert await anyio.to_thread.run_sync(asked, connection)
            await anyio.sleep(seconds)
            assert bool(await anyio.to_thread.run_sync(asked, connection)) is kept


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_connection_that_was_idle_for_a_minute_is_answered() -> None:
    async with serving(app_of()) as address:

        async def after(seconds: float) -> None:
            with socket.create_connection((address.host, address.port), timeout=20) as connection:
                assert await anyio.to_thread.run_sync(asked, connection)
                await anyio.sleep(seconds)  # nothing else happens on the connection
                assert await anyio.to_thread.run_sync(asked, connection), seconds

        async with anyio.create_task_group() as group:
            for seconds in (6, 20, 62, 74):
                group.start_soon(after, seconds)


def test_connections_fit_below_the_limit() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= connections_that_fit() < limit


# -- in the open -------------------------------------------------------------------------------------------------------


def closed_after(connection: socket.socket, *sent: bytes) -> float:
    """Return the seconds until the server closes a connection on which these bytes come."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        for each in sent:
            connection.sendall(each)
        while connection.recv(4096):
            pass
    return time.monotonic() - began


@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
@pytest.mark.parametrize("is_second", [False, True])
async def test_a_connection_without_a_request_head_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, *, is_second: bool
) -> None:
    monkeypatch.setattr("voiceflow_worker.asgi.limits.HEAD", timedelta(seconds=0.3))
    monkeypatch.setattr("voiceflow_worker.asgi.limits.CONNECTION", timedelta(seconds=1))
    async with serving(app_of()) as address:
        with socket.create_connection((address.host, address.port), timeout=20) as connection:
            if is_second:
                assert await anyio.to_thread.run_sync(asked, connection)
            assert await anyio.to_thread.run_sync(closed_after, connection, sent) < 10
        assert await ask(address.url) == "hello"


async def test_connections_beyond_the_limit_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.asgi.server.connections_that_fit", lambda: 2)
    async with serving(app_of()) as address:
        lines = [socket.create_connection((address.host, address.port), timeout=20) for _ in range(3)]
        assert await anyio.to_thread.run_sync(closed_after, lines[2]) < 5
        assert await anyio.to_thread.run_sync(asked, lines[0])
        for line in lines:
            line.close()


async def test_an_accept_that_fails_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    of_tests = loop.get_exception_handler()
    loop.set_exception_handler(None)
    async with serving(app_of()):
        for _ in range(500):
            failed = OSError(24, "Too many open files")
            loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": failed})
        loop.call_exception_handler({"message": "another"})
    assert [line.getMessage().splitlines()[0] for line in caplog.records if line.name == "asyncio"] == [
        "socket.accept() out of system resource", "another"
    ]  # fmt: skip
    loop.set_exception_handler(of_tests)
