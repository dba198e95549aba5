"""Failures of a POST that look different on each transport, against a server that really does them on a socket."""

from __future__ import annotations

import ssl
import threading

import anyio
import pytest

from tests.gateway.conftest import NOW, OURS, Kind, placement, trio_too
from tests.gateway.misbehaving import (
    CREATED,
    LONGEST,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    places,
    port_that_never_accepts,
    sends,
)
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

CREATED_ANSWER = answer(200, CREATED)


async def place(client: VoiceClient, *, body: str | None = None, progress: PostProgress | None = None) -> Verdict:
    asked = placement() if body is None else placement(body=body)
    return await client.place(asked, progress=progress or PostProgress(), now=NOW)


async def happened(event: threading.Event) -> None:
    """Wait for what a thread of the server tells."""
    assert await anyio.to_thread.run_sync(event.wait, LONGEST)


async def test_a_certificate_that_is_trusted_lets_the_call_through(kind: Kind, trusting: ssl.SSLContext) -> None:
    with MisbehavingServer(places, tls=True) as server:
        async with kind.client(server.url, trust=trusting) as client:
            verdicts = [await place(client), await place(client)]
        assert [verdict.kind for verdict in verdicts] == [VerdictKind.CREATED] * 2
        assert len(server.bodies) == 2


# -- after something may have left -------------------------------------------------------------------------------------


def reset_after_the_body(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


AFTER: dict[str, Behaviour] = {
    "reset after the body": reset_after_the_body,
    "answer cut in its first line": sends(b"HTTP/1.1 2"),
    "answer cut in its headers": sends(b"HTTP/1.1 200 OK\r\nContent-Len"),
    "answer cut in its body": sends(CREATED_ANSWER[:-20]),
    "answer of no length, cut": sends(b"HTTP/1.1 200 OK\r\n\r\n" + CREATED[:-20]),
    "chunked answer without its last chunk": sends(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(CREATED), CREATED)
    ),
    "headers that are none": sends(b"HTTP/1.1 200 OK\r\n\x00\x01\x02\r\n\r\n"),
    "an endless header": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),
    "an answer longer than any": sends(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000 + CREATED),
}


@pytest.mark.parametrize("story", AFTER)
async def test_what_breaks_after_bytes_have_left_is_in_doubt_and_sent_once(kind: Kind, story: str) -> None:
    progress = PostProgress()
    with MisbehavingServer(AFTER[story]) as server:
        async with kind.client(server.url) as client:
            verdict = await place(client, progress=progress)
        assert verdict.kind is VerdictKind.UNKNOWN, verdict
        assert len(server.posts) == 1
        assert server.connections == 1
    assert progress.may_have_been_sent


def drips(raw: bytes) -> Behaviour:
    """Send bytes one at a time, each well within the read timeout, for longer than any deadline."""

    def behave(connection: Connection) -> None:
        connection.read_request()
        for byte in raw:
            connection.send(bytes([byte]))
            if connection.server.stopping.wait(0.02):
                return
        connection.stall()

    return behave


@trio_too
async def test_one_deadline_ends_an_answer_that_comes_in_drops(kind: Kind) -> None:
    """No single read is too slow: only the deadline over all of them, 1 + 1 + 0.6 s, ends it."""
    with MisbehavingServer(drips(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 2000)) as server:
        async with kind.client(server.url, connect=1, read=0.6) as client:
            verdict = await place(client)
        assert verdict.kind is VerdictKind.UNKNOWN
        assert "2.6 s" in verdict.message
        assert len(server.posts) == 1


@trio_too
async def test_a_status_whose_body_never_ends_still_counts(kind: Kind) -> None:
    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n")
        connection.stall()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, connect=1, read=1) as client:
            verdict = await place(client)
        assert verdict.kind is VerdictKind.TURNED_AWAY
        assert len(server.posts) == 1


# -- kept connections --------------------------------------------------------------------------------------------------


async def test_a_connection_whose_post_was_answered_before_it_was_read_is_not_used_again(kind: Kind) -> None:
    """The rest of its body is still on its way, and would stand before the next POST."""

    def behave(connection: Connection) -> None:
        connection.read_head()
        connection.send(CREATED_ANSWER)
        connection.stall()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, connect=1, read=0.3) as client:
            await place(client, body=f'{{"callflow":"{"x" * 30_000_000}"}}')
            await place(client)
        assert (server.connections, len(server.posts)) == (2, 2)


# -- cancellation ------------------------------------------------------------------------------------------------------


@trio_too
async def test_cancelled_before_a_connection_nothing_has_left(kind: Kind) -> None:
    progress = PostProgress()
    with port_that_never_accepts() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            with anyio.move_on_after(0.1) as scope:
                await place(client, progress=progress)
    assert scope.cancelled_caught
    assert progress.may_have_been_sent is (kind is not OURS)


async def test_the_connection_of_a_server_that_switches_protocols_is_closed(kind: Kind) -> None:
    ended = threading.Event()

    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        if not connection.socket.recv(1):
            ended.set()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            verdict = await place(client)
            assert verdict.kind is VerdictKind.UNKNOWN
            await happened(ended)
