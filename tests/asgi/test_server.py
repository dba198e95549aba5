"""An app within this process: begun, stopped in order, and in nobody's way."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import anyio.to_thread
import httpx
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from voiceflow_worker.asgi.server import Address, connections_that_fit, serving

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


async def posted(line: SocketStream, path: str) -> bytes:
    """The answer on a connection that is kept."""
    await line.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"stored"):
        answer += await line.receive()
    return answer


async def test_a_server_that_ends_loses_no_request_on_a_kept_connection() -> None:
    """One client is told with its next answer, another waits for an answer, and the request of a third crosses the
    end of its connection.
    """
    stored: list[str] = []
    go_on = anyio.Event()

    async def store(request: Request) -> Response:
        stored.append(request.url.path)
        if request.url.path == "/slow":
            await go_on.wait()
        return PlainTextResponse("stored")

    app = app_of(Route("/{name}", store, methods=["POST"]))
    ends, ended = anyio.Event(), anyio.Event()
    address: Address | None = None
    begun = anyio.Event()

    async def serve() -> None:
        nonlocal address
        async with serving(app, linger=timedelta(seconds=0.3)) as address:
            begun.set()
            await ends.wait()
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await begun.wait()
        assert address is not None
        async with (
            await anyio.connect_tcp(address.host, address.port) as told,
            await anyio.connect_tcp(address.host, address.port) as idle,
            await anyio.connect_tcp(address.host, address.port) as waiting,
        ):
            assert b"connection: close" not in await posted(told, "/first") + await posted(idle, "/second")
            await waiting.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            ends.set()
            answer = b""
            while b"connection: close" not in answer:  # the server looks each tenth of a second
                answer = await posted(told, "/third")
            with pytest.raises(anyio.EndOfStream):
                await told.receive()
            async with await anyio.connect_tcp(address.host, address.port) as late:
                assert b"connection: close" in await posted(late, "/late")
            with pytest.raises(anyio.EndOfStream):
                await idle.receive()
            await idle.send(b"POST /crossed HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await idle.send_eof()
            go_on.set()
            assert b"connection: close" in await waiting.receive()
            with anyio.fail_after(20):
                await ended.wait()
    assert stored[-2:] == ["/late", "/crossed"]


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
async def test_a_connection_is_kept_for_its_time_and_then_closed(seconds: float, kept: bool) -> None:
    async with serving(app_of(), kept=timedelta(seconds=1)) as address:
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
