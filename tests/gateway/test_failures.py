"""Every way a POST can fail, on each transport, against a server that really does it on a socket."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

import anyio
import pytest

from tests.gateway.conftest import NOW, OURS, Kind, named, placement, trio_too
from tests.gateway.misbehaving import (
    CREATED,
    LONGEST,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    closed_port,
    created,
    length_in,
    places,
    port_that_never_accepts,
    sends,
)
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.reports.verdict import NotSentCause, PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

CREATED_ANSWER = answer(200, CREATED)
LEFT_OVER = answer(401, b"no")


async def place(client: VoiceClient, *, body: str | None = None, progress: PostProgress | None = None) -> Verdict:
    asked = placement() if body is None else placement(body=body)
    return await client.place(asked, progress=progress or PostProgress(), now=NOW)


async def happened(event: threading.Event) -> None:
    """Wait for what a thread of the server tells."""
    assert await anyio.to_thread.run_sync(event.wait, LONGEST)


def assert_nothing_was_sent(kind: Kind, verdict: Verdict) -> None:
    """NOT_SENT where the transport's errors are understood; a stranger's prove nothing."""
    assert verdict.kind is (VerdictKind.NOT_SENT if kind.proves else VerdictKind.UNKNOWN), verdict
    assert verdict.cause is (NotSentCause.UNREACHABLE if kind.proves else None), verdict
    assert verdict.http_status is None


# -- before anything can leave -----------------------------------------------------------------------------------------


async def test_a_refused_connection_sent_nothing(kind: Kind) -> None:
    with closed_port() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            verdict = await place(client)
    assert_nothing_was_sent(kind, verdict)
    assert verdict.hold is None


async def test_a_name_that_is_nobodys_sent_nothing(kind: Kind) -> None:
    async with kind.client("http://voice.invalid") as client:
        assert_nothing_was_sent(kind, await place(client))


async def test_connecting_for_too_long_sent_nothing(kind: Kind) -> None:
    with port_that_never_accepts() as port:
        async with kind.client(f"http://127.0.0.1:{port}", connect=0.2) as client:
            assert_nothing_was_sent(kind, await place(client))


@trio_too
async def test_no_free_connection_sent_nothing(kind: Kind) -> None:
    def behave(connection: Connection) -> None:
        connection.read_request()
        connection.stall()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, connect=1, concurrency=1) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: place(client))
            await happened(server.seen)
            assert_nothing_was_sent(kind, await place(client))
            tasks.cancel_scope.cancel()
        assert len(server.posts) == 1


async def test_a_certificate_nobody_trusts_sent_nothing_and_holds_the_queue(kind: Kind) -> None:
    with MisbehavingServer(places, tls=True) as server:
        async with kind.client(server.url) as client:
            verdict = await place(client)
        assert server.posts == []
    assert_nothing_was_sent(kind, verdict)
    assert verdict.hold is not None
    assert verdict.hold.until_opened
    assert "certificate" in verdict.hold.reason
    assert "127.0.0.1" in verdict.hold.reason


async def test_a_certificate_that_is_trusted_lets_the_call_through(kind: Kind, trusting: ssl.SSLContext) -> None:
    with MisbehavingServer(places, tls=True) as server:
        async with kind.client(server.url, trust=trusting) as client:
            verdicts = [await place(client), await place(client)]
        assert [verdict.kind for verdict in verdicts] == [VerdictKind.CREATED] * 2
        assert len(server.bodies) == 2


async def test_a_server_that_does_not_speak_tls_sent_nothing(kind: Kind) -> None:
    def behave(connection: Connection) -> None:
        connection.wait_for_bytes()
        connection.send(b"220 smtp.example ready\r\n")

    with MisbehavingServer(behave) as server:
        async with kind.client(f"https://127.0.0.1:{server.port}") as client:
            verdict = await place(client)
    assert_nothing_was_sent(kind, verdict)
    assert verdict.hold is None


async def test_a_stalled_tls_handshake_sent_nothing(kind: Kind) -> None:
    with MisbehavingServer(Connection.stall) as server:
        async with kind.client(f"https://127.0.0.1:{server.port}", connect=0.2) as client:
            assert_nothing_was_sent(kind, await place(client))


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_the_tunnel_sent_nothing(kind: Kind, status: int) -> None:
    with MisbehavingServer(sends(answer(status, b"no"))) as proxy:
        async with kind.client("https://voice.invalid", proxy=proxy.url) as client:
            assert_nothing_was_sent(kind, await place(client))
        assert proxy.posts == []
        assert [head.split()[0] for head in proxy.heads] == [b"CONNECT"]


async def test_a_proxy_that_is_down_sent_nothing(kind: Kind) -> None:
    with closed_port() as port:
        async with kind.client("https://voice.invalid", proxy=f"http://127.0.0.1:{port}") as client:
            assert_nothing_was_sent(kind, await place(client))


# -- after something may have left -------------------------------------------------------------------------------------


def reset_unread(connection: Connection) -> None:
    connection.wait_for_bytes()
    connection.reset()


def reset_within_the_body(connection: Connection) -> None:
    head = connection.read_head()
    connection.read(length_in(head) // 2)
    connection.reset()


def reset_after_the_body(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def end_after_the_body(connection: Connection) -> None:
    connection.read_request()


def stall_after_the_body(connection: Connection) -> None:
    connection.read_request()
    connection.stall()


def reset_within_the_answer(connection: Connection) -> None:
    connection.read_request()
    connection.send(CREATED_ANSWER[:-20])
    connection.reset()


AFTER: dict[str, tuple[Behaviour, int]] = {
    "reset unread": (reset_unread, 0),
    "reset within the body": (reset_within_the_body, 1),
    "reset after the body": (reset_after_the_body, 1),
    "end of file after the body": (end_after_the_body, 1),
    "answer cut in its first line": (sends(b"HTTP/1.1 2"), 1),
    "answer cut in its headers": (sends(b"HTTP/1.1 200 OK\r\nContent-Len"), 1),
    "answer cut in its body": (sends(CREATED_ANSWER[:-20]), 1),
    "answer of no length, cut": (sends(b"HTTP/1.1 200 OK\r\n\r\n" + CREATED[:-20]), 1),
    "chunked answer without its last chunk": (
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(CREATED), CREATED)),
        1,
    ),
    "reset within the answer": (reset_within_the_answer, 1),
    "not HTTP": (sends(b"220 smtp.example ready\r\n\r\n"), 1),
    "headers that are none": (sends(b"HTTP/1.1 200 OK\r\n\x00\x01\x02\r\n\r\n"), 1),
    "an endless header": (sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000), 1),
    "an answer longer than any": (sends(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000 + CREATED), 1),
}


@pytest.mark.parametrize("story", AFTER)
async def test_what_breaks_after_bytes_have_left_is_in_doubt_and_sent_once(kind: Kind, story: str) -> None:
    behaviour, posts = AFTER[story]
    progress = PostProgress()
    with MisbehavingServer(behaviour) as server:
        async with kind.client(server.url) as client:
            verdict = await place(client, progress=progress)
        assert verdict.kind is VerdictKind.UNKNOWN, verdict
        assert len(server.posts) == posts
        assert server.connections == 1
    assert progress.may_have_left


@trio_too
async def test_no_answer_in_time_is_in_doubt(kind: Kind) -> None:
    with MisbehavingServer(stall_after_the_body) as server:
        async with kind.client(server.url, read=0.2) as client:
            verdict = await place(client)
        assert verdict.kind is VerdictKind.UNKNOWN
        assert len(server.posts) == 1


@trio_too
async def test_a_post_that_cannot_be_written_is_in_doubt(kind: Kind) -> None:
    """A body larger than all buffers, to a server that never reads."""
    with MisbehavingServer(Connection.stall) as server:
        async with kind.client(server.url, connect=1, read=0.2) as client:
            verdict = await place(client, body=f'{{"callflow":"{"x" * 30_000_000}"}}')
    assert verdict.kind is VerdictKind.UNKNOWN


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
        connection.send(b"HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n")
        connection.stall()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url, connect=1, read=1) as client:
            verdict = await place(client)
        assert verdict.kind is VerdictKind.TURNED_AWAY
        assert len(server.posts) == 1


@pytest.mark.parametrize("kind", [Kind("default", "trio", None)], ids=named)
async def test_httpxs_pool_knows_a_408_to_a_post_that_was_cut(kind: Kind) -> None:
    def behave(connection: Connection) -> None:
        connection.read_head()
        connection.send(answer(408, b"", "Connection: close"))
        # Unread bytes make the kernel answer the close with a RST, in the middle of the body.
        connection.socket.close()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            verdict = await place(client, body=f'{{"callflow":"{"x" * 30_000_000}"}}')
        assert len(server.posts) == 1
    assert (verdict.kind, verdict.http_status) == (VerdictKind.TURNED_AWAY, 408)


# -- kept connections --------------------------------------------------------------------------------------------------


def answer_once_and_end(connection: Connection) -> None:
    connection.read_request()
    connection.send(CREATED_ANSWER)


def answer_once_then_reset_what_comes(connection: Connection) -> None:
    if connection.server.connections == 1:
        connection.read_request()
        connection.send(CREATED_ANSWER)
    connection.wait_for_bytes()
    connection.reset()


@trio_too
async def test_a_connection_that_was_closed_while_idle_is_not_used_again(kind: Kind) -> None:
    with MisbehavingServer(answer_once_and_end) as server:
        async with kind.client(server.url) as client:
            kinds = []
            for _ in range(5):
                server.ended.clear()
                kinds.append((await place(client)).kind)
                await happened(server.ended)
        assert kinds == [VerdictKind.CREATED] * 5
        assert len(server.bodies) == 5


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


@trio_too
async def test_a_post_that_meets_a_dying_connection_is_not_sent_again(kind: Kind) -> None:
    with MisbehavingServer(answer_once_then_reset_what_comes) as server:
        async with kind.client(server.url) as client:
            assert (await place(client)).kind is VerdictKind.CREATED
            before = server.connections
            verdict = await place(client)
        assert verdict.kind is VerdictKind.UNKNOWN, verdict
        assert server.connections - before <= (0 if kind is OURS else 1)
        assert len(server.posts) == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "after a while"])
@trio_too
async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_ones(kind: Kind, together: bool) -> None:
    """A leftover 401 taken for the answer of a POST that was placed would have it sent again."""
    answered = threading.Event()
    left_over = threading.Event()

    def behave(connection: Connection) -> None:
        while head := connection.read_request():
            true = answer(200, created(f"s-{len(connection.server.bodies)}"))
            connection.send(true + (LEFT_OVER if together else b""))
            answered.wait(LONGEST)
            with suppress(OSError):  # a client that closed its connection has the best answer to this
                if not together:
                    connection.send(LEFT_OVER)
                if connection.wants_to_end(head):
                    connection.socket.shutdown(socket.SHUT_WR)
            left_over.set()

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as client:
            kinds = []
            for _ in range(4):
                answered.clear()
                left_over.clear()
                kinds.append((await place(client)).kind)
                answered.set()
                await happened(left_over)
        assert kinds == [VerdictKind.CREATED] * 4
        assert len(server.bodies) == 4


# -- cancellation ------------------------------------------------------------------------------------------------------


@trio_too
async def test_cancelled_before_a_connection_nothing_has_left(kind: Kind) -> None:
    progress = PostProgress()
    with port_that_never_accepts() as port:
        async with kind.client(f"http://127.0.0.1:{port}") as client:
            with anyio.move_on_after(0.1) as scope:
                await place(client, progress=progress)
    assert scope.cancelled_caught
    assert progress.may_have_left is not kind.tells


@trio_too
async def test_cancelled_after_bytes_have_left_it_may_have_been_placed(kind: Kind) -> None:
    progress = PostProgress()
    with MisbehavingServer(stall_after_the_body) as server:
        async with kind.client(server.url) as client, anyio.create_task_group() as tasks:

            async def post() -> None:
                await place(client, progress=progress)

            tasks.start_soon(post)
            await happened(server.seen)
            tasks.cancel_scope.cancel()
        assert len(server.posts) == 1
    assert progress.may_have_left


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
