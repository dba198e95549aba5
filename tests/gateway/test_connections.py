"""Our own connections on asyncio: when they are kept, shared and closed, and what is proven on them."""

from __future__ import annotations

import asyncio
import socket
import threading
from itertools import pairwise
from typing import Any

import anyio
import pytest

from tests.gateway.conftest import OURS, happened, place, posted
from tests.gateway.misbehaving import CREATED, LONGEST, Connection, MisbehavingServer, answer, sends
from voiceflow_worker.gateway import connections
from voiceflow_worker.model.reports.verdict import Verdict
from voiceflow_worker.model.reports.verdict import VerdictKind as K

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 09:00:00 GMT\r\nContent-Type: application/json\r\n"


def created(number: int) -> bytes:
    body = CREATED.replace(b"0001", b"%04d" % number)
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_the_records_of_tls_that_arrive_together_are_one_answer() -> None:
    """Nothing of an earlier answer is read instead, though all have the same length."""

    def behave(connection: Connection) -> None:
        while connection.read_request():
            number = len(connection.server.bodies)
            raw = created(number)
            cuts = [0, *sorted({number * len(raw) // 12, len(raw) - number}), len(raw)]
            # The kernel holds the records back until all of them are written.
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, number > 1)
            for begin, end in pairwise(cuts):
                connection.send(raw[begin:end])
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    _, verdicts = await posted(OURS, behave, 11, tls=True)
    assert [(verdict.kind, verdict.session_id) for verdict in verdicts] == [
        (K.CREATED, f"6f7a2c1e-{call:04d}") for call in range(1, 12)
    ]


def usual(connection: Connection) -> None:
    """Answers each POST in the usual way, and each GET with a Date."""
    while connection.read_request():
        connection.send(created(len(connection.server.bodies)))


async def test_an_idle_connection_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE", 0.2)
    closed = threading.Event()

    def behave(connection: Connection) -> None:
        usual(connection)
        closed.set()

    with MisbehavingServer(behave) as server:
        async with OURS.client(server.url) as client:
            assert (await place(client)).kind is K.CREATED
            await happened(closed)
            assert (await place(client)).kind is K.CREATED
        assert server.connections == 2


async def test_a_connection_that_should_have_been_closed_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy event loop closes idle connections late."""
    monkeypatch.setattr(connections, "KEEP_ALIVE", 1e-9)
    server, verdicts = await posted(OURS, usual, 3)
    assert ([verdict.kind for verdict in verdicts], server.connections) == ([K.CREATED] * 3, 3)


async def test_a_post_that_waits_for_a_connection_gets_the_next_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE", 3600.0)
    waits = threading.Event()

    def behave(connection: Connection) -> None:
        while connection.read_request():
            waits.wait(LONGEST)
            connection.send(created(len(connection.server.bodies)))

    verdicts: list[Verdict] = []
    with MisbehavingServer(behave) as server:

        async def post(call: int) -> None:
            verdicts.append(await place(client, call=call))

        async with OURS.client(server.url, concurrency=1, connect=2.0) as client, anyio.create_task_group() as group:
            for call in range(1, 4):
                group.start_soon(post, call)
            await happened(server.seen)
            waits.set()
        assert [(verdict.kind, verdict.session_id) for verdict in verdicts] == [
            (K.CREATED, f"6f7a2c1e-{call:04d}") for call in range(1, 4)
        ]
        assert server.connections == 1


@pytest.mark.parametrize("sent", [b"", created(2)[:40], created(2)[:-1]], ids=["nothing", "half a head", "most of it"])
async def test_the_end_of_a_kept_connection_ends_the_wait_for_an_answer(sent: bytes) -> None:
    def behave(connection: Connection) -> None:
        for raw in (created(1), sent):
            sends(raw)(connection)

    with anyio.fail_after(LONGEST):
        server, verdicts = await posted(OURS, behave, 2, read=3600.0)
    assert ([verdict.kind for verdict in verdicts], server.connections) == ([K.CREATED, K.UNKNOWN], 1)


@pytest.mark.parametrize("surplus", [created(99), b"\r\n", b""], ids=["answer", "line", "end"])
async def test_a_surplus_that_the_program_has_not_read_yet_closes_the_connection(surplus: bytes) -> None:
    asked, came = threading.Event(), threading.Event()

    def behave(connection: Connection) -> None:
        if connection.server.connections > 1:
            usual(connection)
            return
        connection.read_request()
        connection.send(created(1))
        asked.wait(LONGEST)
        connection.send(surplus)
        if not surplus:
            connection.socket.shutdown(socket.SHUT_WR)
        came.set()
        connection.read_request()
        connection.send(created(77))

    with MisbehavingServer(behave) as server:
        async with OURS.client(server.url) as client:
            assert (await place(client)).session_id == "6f7a2c1e-0001"
            asked.set()
            assert came.wait(LONGEST)  # the event loop stands still meanwhile
            assert (await place(client, call=2)).session_id == "6f7a2c1e-0002"
        assert (server.connections, len(server.posts)) == (2, 2)


async def test_two_answers_that_contradict_each_other_are_a_doubt_on_a_new_connection_too() -> None:
    server, (verdict,) = await posted(OURS, sends(answer(429) + created(1), stalls=True))
    assert (verdict.kind, len(server.posts)) == (K.UNKNOWN, 1)


async def test_nothing_is_sent_to_a_server_that_answers_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A balancer that is full may say 503 to whoever connects."""

    def behave(connection: Connection) -> None:
        connection.send(answer(503))
        connection.stall()

    async def connect(self: connections.ConnectionPosts) -> connections.Connection:
        connection = await connect_at_once(self)
        assert not await connection.stays_silent(LONGEST)
        return connection

    connect_at_once = connections.ConnectionPosts._connect
    monkeypatch.setattr(connections.ConnectionPosts, "_connect", connect)
    server, (verdict,) = await posted(OURS, behave)
    assert (verdict.kind, server.posts) == (K.NOT_SENT, [])


async def test_a_408_to_a_post_that_was_cut_frees_the_call() -> None:
    """What the socket has not taken when the answer comes is never sent."""
    cut = sends(answer(408), stalls=True, reads=False)
    _, (verdict,) = await posted(OURS, cut, body=f'{{"callflow":"{"x" * 30_000_000}"}}')
    assert (verdict.kind, verdict.http_status) == (K.TURNED_AWAY, 408)


async def test_the_next_address_of_a_name_is_tried_where_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(*_: object, **__: object) -> list[tuple[object, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.2", server.port)), (*kind, ("127.0.0.1", server.port))]

    with MisbehavingServer(lambda connection: connection.send(created(len(connection.read_request())))) as server:
        async with OURS.client(f"http://voice.invalid:{server.port}") as client:
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
            assert (await place(client)).kind is K.CREATED


async def test_an_event_loop_that_knows_no_delay_between_addresses_is_used_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's `create_connection` has no `happy_eyeballs_delay`."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def without_delay(factory: Any, host: str, port: int) -> Any:
        return await connect(factory, host, port)

    monkeypatch.setattr(loop, "create_connection", without_delay)
    monkeypatch.setattr(asyncio, "BaseEventLoop", type(None))
    _, (verdict,) = await posted(OURS, usual)
    assert verdict.kind is K.CREATED


async def test_a_client_that_is_closed_leaves_doubts_only_for_what_has_left() -> None:
    verdicts: list[Verdict] = []
    with MisbehavingServer(sends(b"", stalls=True)) as server:
        async with anyio.create_task_group() as group, OURS.client(server.url, concurrency=1) as client:

            async def post(call: int) -> None:
                verdicts.append(await place(client, call=call))

            for call in range(3):
                group.start_soon(post, call)
            await happened(server.seen)
        assert [verdict.kind for verdict in verdicts] == [K.UNKNOWN, K.NOT_SENT, K.NOT_SENT]
        assert len(server.posts) == 1
