"""The usual answer is read at once, and its connection is kept; everything else is read by aiohttp."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from unittest.mock import Mock

import anyio
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpResponseParser
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.conftest import BODY, KINDS, Kind, named
from tests.gateway.misbehaving import CREATED, LONGEST, Connection, MisbehavingServer
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.gateway.answers.answer import LONGEST_BODY
from voiceflow_worker.gateway.answers.whole_answer import read_whole_answer
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.transport import transports
from voiceflow_worker.gateway.transport.watched_protocol import WatchedProtocol
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict
from voiceflow_worker.model.reports.verdict import VerdictKind as K

HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 09:00:00 GMT\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(CREATED)
direct = pytest.mark.parametrize("kind", KINDS[:1], ids=named)
USUAL = HEAD + LENGTH + CREATED


async def place(client: VoiceClient, *, call: int = 1) -> Verdict:
    now = datetime.now(UTC)
    placement = Placement(body=BODY, client_request_id=f"default.{call}.1", valid_until=now + timedelta(hours=1))
    return await client.place(placement, progress=PostProgress(), now=now)


def created(number: int) -> bytes:
    body = CREATED.replace(b"0001", b"%04d" % number)
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


# -- which answers are usual -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [b"", b"Connection: keep-alive\r\n", b"connection: Keep-Alive\r\nX-Cache: Miss\r\n"])
def test_a_200_with_a_length_is_usual(header: bytes) -> None:
    answer = read_whole_answer(HEAD + header + LENGTH + CREATED)
    assert answer is not None
    assert (answer.status, answer.body, answer.is_whole) == (200, CREATED, True)
    assert answer.headers["date"] == "Fri, 20 Nov 2026 09:00:00 GMT"


@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b" ", b"H", USUAL])
def test_an_answer_with_surplus_data_is_not_usual(surplus: bytes) -> None:
    assert read_whole_answer(USUAL + surplus) is None


def test_no_part_of_an_answer_is_usual() -> None:
    assert [cut for cut in range(len(USUAL)) if read_whole_answer(USUAL[:cut]) is not None] == []


@pytest.mark.parametrize(
    "other",
    [
        USUAL.replace(b"200 OK", b"201 Created"),
        USUAL.replace(b"200 OK", b"429 Too Many Requests"),
        USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD + b"\r\n" + CREATED,
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + LENGTH.replace(b"\r\n\r\n", b"\r\n") + LENGTH + CREATED,
        HEAD + b"Content-Length: 5\r\n" + LENGTH + CREATED,
        HEAD + b"Content-Length: +%d\r\n\r\n" % len(CREATED) + CREATED,
        HEAD + b"Connection: close\r\n" + LENGTH + CREATED,
        HEAD + b"Connection: keep-alive\r\nConnection: close\r\n" + LENGTH + CREATED,
        HEAD + b"Connection: keep-alive, close\r\n" + LENGTH + CREATED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(CREATED) + CREATED + b"\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH + CREATED,
        HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + CREATED,
        HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LENGTH + CREATED,
        USUAL.replace(b"\r\n", b"\n"),
        HEAD + b"Content-Length: %d\r\n\r\n" % (LONGEST_BODY + 1) + b" " * (LONGEST_BODY + 1),
        b"HTTP/1.1 100 Continue\r\n\r\n" + USUAL,
    ],
)
def test_any_other_answer_is_not_usual(other: bytes) -> None:
    assert read_whole_answer(other) is None


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer with a few pieces removed, replaced or repeated."""
    raw = USUAL
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(raw)))
        end = min(len(raw), begin + draw(st.integers(0, 6)))
        piece = draw(
            st.sampled_from(
                [
                    b"",
                    b"\r",
                    b"\n",
                    b"\r\n",
                    b"\r\n\r\n",
                    b" ",
                    b":",
                    b"0",
                    b"1",
                    b"\0",
                    b"\xff",
                    b"Connection: close\r\n",
                ]
            )
        )
        raw = raw[:begin] + piece + raw[end:]
    return raw


@given(damaged())
@example(USUAL)
def test_aiohttp_reads_each_usual_answer_in_the_same_way(raw: bytes) -> None:
    """The quick way gives nothing that aiohttp's parser would not give."""
    answer = read_whole_answer(raw)
    if answer is None:
        return
    loop = Mock()
    protocol = BaseProtocol(loop=loop)
    messages, upgraded, tail = HttpResponseParser(
        protocol, loop, 2**16, response_with_body=True, read_until_eof=True, auto_decompress=False
    ).feed_data(raw)
    [(message, payload)] = messages
    assert (upgraded, tail, message.should_close) == (False, b"", False)
    assert (message.code, list(message.raw_headers)) == (200, answer.headers.raw)
    assert payload.is_eof()
    assert b"".join(payload._buffer) == answer.body


# -- on sockets --------------------------------------------------------------------------------------------------------


@direct
@pytest.mark.anyio
async def test_an_answer_in_two_pieces_is_read_wherever_it_is_cut(kind: Kind) -> None:
    answers = {}
    began = threading.Event()

    def behave(connection: Connection) -> None:
        while connection.read_request():
            number = len(connection.server.bodies)
            raw = created(number)
            cut = number * len(raw) // 25
            connection.send(raw[:cut])
            began.wait(0.02)  # nothing sets it: the pieces shall arrive one by one
            connection.send(raw[cut:])

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            for call in range(1, 25):
                verdict = await place(client, call=call)
                answers[call] = (verdict.kind, verdict.session_id)
        assert answers == {call: (K.CREATED, f"6f7a2c1e-{call:04d}") for call in range(1, 25)}
        assert server.connections == 1


@direct
@pytest.mark.anyio
async def test_the_records_of_tls_that_arrive_together_are_one_answer(kind: Kind, trusting: ssl.SSLContext) -> None:
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

    with MisbehavingServer(behave, tls=True) as server:
        async with kind.client(server.url, trust=trusting) as client:
            verdicts = [await place(client, call=call) for call in range(1, 12)]
    assert [(verdict.kind, verdict.session_id) for verdict in verdicts] == [
        (K.CREATED, f"6f7a2c1e-{call:04d}") for call in range(1, 12)
    ]


def usual(connection: Connection) -> None:
    """Answers each POST in the usual way, and each GET with a Date."""
    while connection.read_request():
        connection.send(created(len(connection.server.bodies)))


@direct
@pytest.mark.anyio
async def test_posts_in_turn_share_a_connection(kind: Kind) -> None:
    with MisbehavingServer(usual) as server:
        async with kind.client(server.url) as client:
            kinds = [(await place(client, call=call)).kind for call in range(10)]
        assert kinds == [K.CREATED] * 10
        assert server.connections == 1


@direct
@pytest.mark.anyio
async def test_an_idle_connection_is_closed_in_time(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "KEEP_ALIVE", 0.2)
    closed = threading.Event()

    def behave(connection: Connection) -> None:
        usual(connection)
        closed.set()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            assert (await place(client)).kind is K.CREATED
            assert await anyio.to_thread.run_sync(closed.wait, LONGEST)
            assert (await place(client)).kind is K.CREATED
        assert server.connections == 2


@direct
@pytest.mark.anyio
async def test_a_connection_that_should_have_been_closed_is_not_used(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy event loop closes idle connections late."""
    monkeypatch.setattr(transports, "KEEP_ALIVE", 1e-9)
    with MisbehavingServer(usual) as server:
        async with kind.client(server.url) as client:
            assert [(await place(client, call=call)).kind for call in range(3)] == [K.CREATED] * 3
        assert server.connections == 3


@direct
@pytest.mark.anyio
async def test_an_idle_connection_makes_room_for_another_request(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "KEEP_ALIVE", 3600.0)
    with MisbehavingServer(usual) as server:
        async with kind.client(server.url, concurrency=1, connect=2.0) as client:
            assert (await place(client)).kind is K.CREATED
            assert await client.server_time() == datetime(2026, 11, 20, 9, tzinfo=UTC)
            assert (await place(client)).kind is K.CREATED


@direct
@pytest.mark.anyio
async def test_a_post_that_waits_for_a_connection_gets_the_next_that_is_free(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "KEEP_ALIVE", 3600.0)
    waits = threading.Event()

    def behave(connection: Connection) -> None:
        while connection.read_request():
            waits.wait(LONGEST)
            connection.send(created(len(connection.server.bodies)))

    verdicts: list[Verdict] = []
    with MisbehavingServer(behave) as server:

        async def post(call: int) -> None:
            verdicts.append(await place(client, call=call))

        async with kind.client(server.url, concurrency=1, connect=2.0) as client, anyio.create_task_group() as group:
            for call in range(1, 4):
                group.start_soon(post, call)
            assert await anyio.to_thread.run_sync(server.seen.wait, LONGEST)
            waits.set()
        assert [(verdict.kind, verdict.session_id) for verdict in verdicts] == [
            (K.CREATED, f"6f7a2c1e-{call:04d}") for call in range(1, 4)
        ]
        assert server.connections == 1


@direct
@pytest.mark.anyio
async def test_silence_on_a_kept_connection_is_a_doubt(kind: Kind) -> None:
    over = threading.Event()

    def behave(connection: Connection) -> None:
        while connection.read_request():
            if len(connection.server.bodies) == 2:
                over.wait(LONGEST)
                return
            connection.send(created(len(connection.server.bodies)))

    with MisbehavingServer(behave) as server:
        try:
            async with kind.client(server.url, read=0.3) as client:
                verdicts = [await place(client, call=call) for call in range(3)]
        finally:
            over.set()
        assert [verdict.kind for verdict in verdicts] == [K.CREATED, K.UNKNOWN, K.CREATED]
        assert "SocketTimeoutError" in verdicts[1].message
        assert (server.connections, len(server.posts)) == (2, 3)


@direct
@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", USUAL[:40], USUAL[:-1]], ids=["nothing", "half a head", "most of it"])
async def test_the_end_of_a_kept_connection_ends_the_wait_for_an_answer(kind: Kind, sent: bytes) -> None:
    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(created(1))
        connection.read_request()
        connection.send(sent)

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, read=3600.0) as client:
            assert (await place(client)).kind is K.CREATED
            with anyio.fail_after(LONGEST):
                verdict = await place(client, call=2)
        assert verdict.kind is K.UNKNOWN
        assert server.connections == 1


@direct
@pytest.mark.anyio
async def test_an_answer_that_stays_incomplete_is_a_doubt_at_the_deadline(kind: Kind) -> None:
    over = threading.Event()

    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(created(1))
        connection.read_request()
        connection.send(HEAD + b"X-Long: ")
        while not over.wait(0.05):  # a byte from time to time, within the read timeout
            connection.send(b"x")

    with MisbehavingServer(behave) as server:
        try:
            async with kind.client(server.url, connect=0.3, read=0.6) as client:
                assert (await place(client)).kind is K.CREATED
                with anyio.fail_after(LONGEST):
                    verdict = await place(client, call=2)
        finally:
            over.set()
        assert verdict.kind is K.UNKNOWN


@direct
@pytest.mark.anyio
@pytest.mark.parametrize("surplus", [created(99), b"\r\n", b""], ids=["answer", "line", "end"])
async def test_a_surplus_that_the_program_has_not_read_yet_closes_the_connection(kind: Kind, surplus: bytes) -> None:
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
        async with kind.client(server.url) as client:
            assert (await place(client)).session_id == "6f7a2c1e-0001"
            asked.set()
            assert came.wait(LONGEST)  # the event loop stands still meanwhile
            assert (await place(client, call=2)).session_id == "6f7a2c1e-0002"
        assert (server.connections, len(server.posts)) == (2, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("left", [True, False])
async def test_an_answer_to_a_post_that_has_not_left_whole_goes_to_aiohttp(*, left: bool) -> None:
    protocol = WatchedProtocol(loop=asyncio.get_running_loop())
    transport = Mock()
    transport.is_closing.return_value = False
    transport.get_write_buffer_size.return_value = 0 if left else 1
    protocol.connection_made(transport)
    asyncio.get_running_loop().call_soon(protocol.data_received, USUAL)
    answer = await protocol.post(b"POST", read_timeout=LONGEST)
    assert (answer is not None) is left
    protocol.connection_lost(None)


@pytest.mark.anyio
async def test_data_that_came_before_the_post_is_left_to_aiohttp() -> None:
    protocol = WatchedProtocol(loop=asyncio.get_running_loop())
    transport = Mock()
    transport.is_closing.return_value = False
    protocol.connection_made(transport)
    protocol.data_received(created(98))
    with anyio.fail_after(LONGEST):
        assert await protocol.post(b"POST", read_timeout=2 * LONGEST) is None
        message, _ = await protocol.read()
    assert message.code == 200
    protocol.connection_lost(None)
