"""Failures of a POST that look different on each transport, against a server that really does them on a socket."""

from __future__ import annotations

import gzip
import threading
from datetime import UTC, datetime

import anyio
import orjson
import pytest

from tests.gateway.conftest import BODY, OURS, Before, Kind, happened, place, placement, posted, trio_too
from tests.gateway.misbehaving import (
    CREATED,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    answers,
    places,
    port_that_never_accepts,
    resets_after_the_body,
    sends,
)
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

CREATED_ANSWER = answer(200, CREATED)


async def test_a_certificate_that_is_trusted_lets_the_call_through(kind: Kind) -> None:
    server, verdicts = await posted(kind, places, 2, tls=True)
    assert ([verdict.kind for verdict in verdicts], len(server.bodies)) == ([VerdictKind.CREATED] * 2, 2)


# -- after something may have left -------------------------------------------------------------------------------------


AFTER: dict[str, Behaviour] = {
    "reset after the body": resets_after_the_body,
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
    before = Before()
    server, (verdict,) = await posted(kind, AFTER[story], before=before)
    assert verdict.kind is VerdictKind.UNKNOWN, verdict
    assert (len(server.posts), server.connections) == (1, 1)
    assert before.taken == 1


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
    drops = drips(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 2000)
    server, (verdict,) = await posted(kind, drops, connect=1, read=0.6)
    assert (verdict.kind, "2.6 s" in verdict.message, len(server.posts)) == (VerdictKind.UNKNOWN, True, 1)


@trio_too
async def test_a_status_whose_body_never_ends_still_counts(kind: Kind) -> None:
    never = sends(b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", stalls=True)
    server, (verdict,) = await posted(kind, never, connect=1, read=1)
    assert (verdict.kind, len(server.posts)) == (VerdictKind.TURNED_AWAY, 1)


# -- kept connections --------------------------------------------------------------------------------------------------


async def test_a_connection_whose_post_was_answered_before_it_was_read_is_not_used_again(kind: Kind) -> None:
    """The rest of its body is still on its way, and would stand before the next POST."""
    behave = sends(CREATED_ANSWER, stalls=True, reads=False)
    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, connect=1, read=0.3) as client:
            await place(client, body=f'{{"callflow":"{"x" * 30_000_000}"}}')
            await place(client)
        assert (server.connections, len(server.posts)) == (2, 2)


# -- cancellation ------------------------------------------------------------------------------------------------------


@trio_too
async def test_cancelled_before_a_connection_nothing_has_left(kind: Kind) -> None:
    before = Before()
    with port_that_never_accepts() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            with anyio.move_on_after(0.1) as scope:
                await place(client, before=before)
    assert scope.cancelled_caught
    assert bool(before.taken) is not kind.tells


async def test_the_connection_of_a_server_that_switches_protocols_is_closed(kind: Kind) -> None:
    ended = threading.Event()

    def behave(connection: Connection) -> None:
        sends(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")(connection)
        if not connection.socket.recv(1):
            ended.set()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            assert (await place(client)).kind is VerdictKind.UNKNOWN
            await happened(ended)


# -- what arrives, and what of an answer is kept -----------------------------------------------------------------------


K = VerdictKind


async def test_the_body_arrives_with_the_keys_of_this_post_and_no_other_change(kind: Kind) -> None:
    server, _ = await posted(kind, answers(200, CREATED))
    first, *lines = server.posts[0].decode().split("\r\n")
    assert first == "POST /api/v1/subaccounts/sub_account/callflows HTTP/1.1"
    wanted = {f"host: 127.0.0.1:{server.port}", "authorization: bearer secret-key-1", "content-type: application/json"}
    assert wanted <= {line.lower() for line in lines}
    assert server.bodies[0].startswith(BODY[:-1].encode())
    assert orjson.loads(server.bodies[0]) == {
        **orjson.loads(BODY),
        "clientRequestId": "default.01ARZ3NDEKTSV4RRFFQ69G5FAV.1",
        "validUntil": "2026-11-20T08:02:00.000Z",
    }


async def test_an_encoded_answer_is_read_although_none_was_asked_for(kind: Kind) -> None:
    for body, expected in ((gzip.compress(CREATED), K.CREATED), (CREATED, K.UNKNOWN)):
        _, (verdict,) = await posted(kind, answers(200, body, "Content-Encoding: gzip"))
        assert verdict.kind is expected


@pytest.mark.parametrize("late", [0.0, -1.0])
async def test_what_is_late_already_is_not_sent(kind: Kind, late: float) -> None:
    with MisbehavingServer(answers(200, CREATED)) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(valid_for=late), before_first_byte=Before())
        assert verdict.kind is K.NOT_SENT
        assert server.heads == []


async def test_connections_are_kept_where_leftovers_are_noticed(kind: Kind) -> None:
    with MisbehavingServer(places) as server:
        async with kind.client(server.url) as client:
            await client.server_time()
            for _ in range(3):
                await place(client)
        assert server.connections == (2 if kind is OURS else 4), "a GET leaves its connection to nobody"
        assert len(server.posts) == 3


async def test_the_time_at_8x8_is_the_date_of_any_answer(kind: Kind) -> None:
    with MisbehavingServer(answers(401, b"no", "Date: Fri, 20 Nov 2026 08:00:01 GMT")) as server:
        async with kind.client(server.url) as client:
            assert await client.server_time() == datetime(2026, 11, 20, 8, 0, 1, tzinfo=UTC)
        assert server.heads[0].startswith(b"GET /api/v1/subaccounts/sub_account/webhooks HTTP/1.1\r\n")
        assert b"Bearer secret-key-1" in server.heads[0]


async def test_who_cannot_be_reached_or_has_no_clock_tells_no_time(kind: Kind) -> None:
    with MisbehavingServer(answers(200, b"{}")) as server:
        async with kind.client(server.url) as client:
            assert await client.server_time() is None
        server.__exit__()
        async with kind.client(server.url) as client:
            assert await client.server_time() is None
