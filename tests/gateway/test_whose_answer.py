"""Answers and their POSTs: bytes left over from one POST must not free, fail or place the call of the next.

The servers here answer on raw sockets, at moments of their choice. A transport that gives each POST a connection of its
own never meets what they leave over; one that keeps connections has to find it out.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

from tests.gateway.conftest import KINDS, OURS, TRUSTING_CERTIFI, Before, Kind, Stranger, happened, place, posted
from tests.gateway.misbehaving import (
    LONGEST,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    answers,
    created,
    places_but,
    sends,
)
from tests.support.loops import either_loop
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.connections import SILENCE
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

pytestmark = pytest.mark.anyio
K = VerdictKind
NOT_CREATED = b'{"sessionStatus":"NOT_CREATED","statusCode":%d,"statusMessage":"No"}'
PLATFORM = b'{"code":1304,"message":"No","errorId":"4b0c-77"}'

ELSEWHERE, SOON = "Location: /elsewhere", "Retry-After: 3"
# Every answer that frees a call to be sent again, or ends it as failed or expired: (what it says, how it is judged).
FREEING: dict[str, tuple[bytes, VerdictKind]] = {
    "429": (answer(429), K.TURNED_AWAY), "429 with a time": (answer(429, b"", SOON), K.TURNED_AWAY),
    "425": (answer(425), K.TURNED_AWAY), "401": (answer(401, NOT_CREATED % 401), K.TURNED_AWAY),
    "403": (answer(403), K.TURNED_AWAY), "404": (answer(404), K.TURNED_AWAY),
    "307": (answer(307, b"", ELSEWHERE), K.TURNED_AWAY), "308": (answer(308, b"", ELSEWHERE), K.TURNED_AWAY),
    "400 of the platform": (answer(400, PLATFORM), K.TURNED_AWAY),
    "410 of the platform": (answer(410, PLATFORM), K.TURNED_AWAY),
    "400 refused": (answer(400, NOT_CREATED % -1014), K.REFUSED),
    "422 too late": (answer(422, NOT_CREATED % -1015), K.REFUSED),
    "200 refused": (answer(200, NOT_CREATED % -1017), K.REFUSED),
    "200 with the code 429": (answer(200, NOT_CREATED % 429), K.TURNED_AWAY),
    "500 believed": (answer(500, NOT_CREATED % 500), K.TURNED_AWAY),
    "503 believed": (answer(503, b"", SOON), K.TURNED_AWAY),
    "without an end": (b"HTTP/1.1 429 Whatever\r\n\r\n", K.TURNED_AWAY),
}  # fmt: skip


def after_the_first(act: Callable[[Connection, bytes], None]) -> Behaviour:
    """Place what comes, and on a kept connection `act` when its second POST has come, with the true answer to that."""

    def behave(connection: Connection) -> None:
        asked = 0
        while head := connection.read_request():
            asked += 1
            true = answer(200, created(f"s-{len(connection.server.bodies)}"))
            if asked == 2:
                act(connection, true)
                return
            connection.send(true)
            if connection.wants_to_end(head):
                return

    return behave


async def second_verdict(
    kind: Kind, act: Callable[[Connection, bytes], None], *, tls: bool = False, **more: Any
) -> Verdict:
    """What becomes of the second of two POSTs, which is placed."""
    _, (first, second) = await posted(kind, after_the_first(act), 2, tls=tls, **more)
    assert first.kind is K.CREATED
    return second


def late(surplus: bytes, after: float) -> Callable[[Connection, bytes], None]:
    """Send something, and the true answer after these seconds: while the client listens, or 8x8 thinks."""

    def act(connection: Connection, true: bytes) -> None:
        connection.send(surplus)
        time.sleep(after)
        with suppress(OSError):
            connection.send(true)

    return act


def assert_in_doubt(kind: Kind, verdict: Verdict) -> None:
    """In doubt where connections are kept, and placed where the POST had one of its own."""
    if kind is OURS:
        assert (verdict.kind, verdict.session_id) == (K.UNKNOWN, None), verdict
        assert "another request" in verdict.message
    else:
        assert verdict.kind is K.CREATED, verdict


# -- something more comes ----------------------------------------------------------------------------------------------


async def test_what_is_left_over_of_an_earlier_post_neither_frees_nor_fails_the_next(kind: Kind) -> None:
    async def of(surplus: bytes) -> None:
        act = late(surplus, 0.4)  # 50 to 300 ms of waiting would not do
        assert_in_doubt(kind, await second_verdict(kind, act, retry_not_created_5xx=True))

    async with anyio.create_task_group() as group:
        for surplus, _ in FREEING.values():
            group.start_soon(of, surplus)


@pytest.mark.parametrize("pieces", ["together", "head first", "one byte at a time"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_it_does_not_matter_in_which_pieces_the_true_answer_follows(kind: Kind, pieces: str, tls: bool) -> None:
    def act(connection: Connection, true: bytes) -> None:
        surplus = FREEING["429"][0]
        match pieces:
            case "together":
                connection.send(surplus + true)
            case "head first":
                connection.send(surplus + true[:20])
                time.sleep(0.2)  # the rest of the answer comes later
                connection.send(true[20:])
            case _:
                connection.send(surplus)
                with suppress(OSError):
                    for byte in true:
                        connection.send(bytes([byte]))
                        time.sleep(0.001)  # each byte in a packet of its own
        connection.stall()

    assert_in_doubt(kind, await second_verdict(kind, act, tls=tls))


# -- nothing more comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["429", "400 refused", "403", "410 of the platform"])
async def test_an_answer_that_nothing_follows_is_believed_and_its_connection_is_kept(said: str) -> None:
    raw, expected = FREEING[said]
    began = time.monotonic()
    server, verdicts = await posted(OURS, places_but({2: raw}), 3)
    assert time.monotonic() - began >= SILENCE
    assert [verdict.kind for verdict in verdicts] == [K.CREATED, expected, K.CREATED]
    assert server.connections == 1


async def test_on_a_new_connection_nothing_is_waited_for() -> None:
    with anyio.fail_after(SILENCE * 0.9):
        _, (verdict,) = await posted(OURS, answers(429))
    assert verdict.kind is K.TURNED_AWAY


def stalls_after(raw: bytes) -> Callable[[Connection, bytes], None]:
    def act(connection: Connection, _: bytes) -> None:
        connection.send(raw)
        connection.stall()

    return act


async def test_no_other_post_gets_the_connection_meanwhile() -> None:
    with MisbehavingServer(after_the_first(stalls_after(answer(429)))) as server:
        async with OURS.client(server.url) as client:
            assert (await place(client)).kind is K.CREATED
            verdicts: list[Verdict] = []

            async def second() -> None:
                verdicts.append(await place(client))

            async with anyio.create_task_group() as tasks:
                server.seen.clear()
                tasks.start_soon(second)
                await happened(server.seen)
                await anyio.sleep(0.2)  # the client has the answer by now and listens; no event says so
                assert verdicts == [], "its answer is here, and is not believed yet"
                assert (await place(client)).kind is K.CREATED
                assert server.connections == 2
            assert [verdict.kind for verdict in verdicts] == [K.TURNED_AWAY]


# -- the connection ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_an_end_that_the_answer_announced_is_the_end(tls: bool) -> None:
    def act(connection: Connection, true: bytes) -> None:
        connection.send(answer(429, b"", "Connection: close"))

    with anyio.fail_after(SILENCE * 0.9):
        assert (await second_verdict(OURS, act, tls=tls)).kind is K.TURNED_AWAY


@pytest.mark.parametrize(
    ("raw", "resets", "more"),
    [
        (answer(429), False, False), (answer(429), True, False), (answer(429, b"", "Connection: close"), True, False),
        (answer(429, b"", "Connection: close"), False, True), (answer(429, b"slow down")[:-3], False, False),
    ],
    ids=["unannounced", "reset", "announced and reset", "announced and more", "within its body"],
)  # fmt: skip
async def test_any_other_end_proves_nothing(raw: bytes, resets: bool, more: bool) -> None:
    def act(connection: Connection, true: bytes) -> None:
        connection.send(raw + (true if more else b""))
        if resets:
            time.sleep(0.1)  # the reset comes while the client listens
            connection.reset()

    assert (await second_verdict(OURS, act)).kind is K.UNKNOWN


async def test_after_an_answer_that_leaves_a_doubt_the_connection_is_closed() -> None:
    """Else its true answer, which is still to come, would be taken for that of the call after it."""

    def act(connection: Connection, true: bytes) -> None:
        late(answer(200, b"junk"), 0.2)(connection, true)
        connection.stall()

    _, verdicts = await posted(OURS, after_the_first(act), 3)
    assert [each.kind for each in verdicts] == [K.CREATED, K.UNKNOWN, K.CREATED]
    assert verdicts[-1].session_id == "s-3"


# -- the session of another call ---------------------------------------------------------------------------------------


async def test_the_session_of_an_earlier_call_is_not_given_to_the_next(kind: Kind) -> None:
    assert_in_doubt(kind, await second_verdict(kind, late(answer(200, created("s-1")), 0.3)))


async def test_a_doubt_keeps_no_session_of_an_earlier_call() -> None:
    """Else the summary of that call would settle this one."""
    assert_in_doubt(OURS, await second_verdict(OURS, late(answer(500, created("s-1")), 0.1)))


async def test_a_stand_in_that_gives_one_session_to_all_is_understood_after_one_wait() -> None:
    began = time.monotonic()
    server, verdicts = await posted(OURS, answers(200, created("always-this")), 20)
    assert SILENCE <= time.monotonic() - began < 3 * SILENCE
    assert [verdict.kind for verdict in verdicts] == [K.CREATED] * 20
    assert server.connections == 1


# -- given up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [True, False], ids=["task.cancel", "scope"])
@pytest.mark.parametrize(("kind", "when"), [*((kind, "in mid-body") for kind in KINDS), (OURS, "while it listens")])
async def test_who_is_cancelled_believes_nothing_and_leaves_no_connection(kind: Kind, raw: bool, when: str) -> None:
    """Cancelled while the body of an answer comes, or before it is known whose answer it is."""
    sent = threading.Event()

    def tells(connection: Connection) -> None:
        whole = answer(400, NOT_CREATED % -1014)
        connection.send(whole[:-5] if when == "in mid-body" else whole)
        sent.set()
        if connection.read_head():
            connection.server.bodies.append(b"used again")
        raise ConnectionError

    before = Before()
    verdicts: list[Verdict] = []
    with MisbehavingServer(places_but({2: tells})) as server:
        async with kind.client(server.url) as client:
            assert (await place(client)).kind is K.CREATED

            async def second() -> None:
                verdicts.append(await place(client, before=before))

            server.ended.clear()
            if raw:
                task = asyncio.create_task(second())
                await happened(sent)
                await anyio.sleep(0.1)  # the client reads what was sent; no event says when it has
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(second)
                    await happened(sent)
                    await anyio.sleep(0.1)  # the client reads what was sent; no event says when it has
                    tasks.cancel_scope.cancel()
            await happened(server.ended)  # its connection is closed
            assert (await place(client)).session_id == "s-3"
        assert b"used again" not in server.bodies
    assert verdicts == []
    assert before.taken == 1


async def test_the_late_answer_of_a_post_that_was_given_up_reaches_nobody() -> None:
    over = threading.Event()

    def too_late(connection: Connection) -> None:
        over.wait(LONGEST)
        with suppress(OSError):
            connection.send(answer(429))

    with MisbehavingServer(places_but({2: too_late})) as server:
        async with OURS.client(server.url, read=1.0) as client:
            verdicts = [await place(client), await place(client)]
            over.set()
            verdicts += [await place(client), await place(client)]
    assert [(verdict.kind, verdict.session_id) for verdict in verdicts] == [
        (K.CREATED, "s-1"), (K.UNKNOWN, None), (K.CREATED, "s-3"), (K.CREATED, "s-4"),
    ]  # fmt: skip


# -- transports of others ----------------------------------------------------------------------------------------------


class Repeats(Stranger):
    """Sends what was not created again, as wrappers that retry do."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        first = await self.inner.handle_async_request(request)
        await first.aread()
        return first if first.status_code == 200 else await self.inner.handle_async_request(request)


@either_loop
async def test_a_wrapper_that_repeats_sends_no_body_twice() -> None:
    """The first may have been placed. Of the second, at most the head leaves."""
    with MisbehavingServer(sends(answer(503, b"", "Connection: close"))) as server:
        transport = Repeats(httpx.AsyncHTTPTransport(verify=TRUSTING_CERTIFI, trust_env=False))
        async with VoiceClient("key", "tests", base_url=server.url, transport=transport) as client:
            verdict = await place(client)
    assert len(server.bodies) == 1
    assert verdict.kind is K.UNKNOWN


@either_loop
async def test_a_pool_whose_owner_keeps_connections_is_not_believed_on_them() -> None:
    pool = httpx.AsyncHTTPTransport(verify=TRUSTING_CERTIFI, trust_env=False)
    with MisbehavingServer(answers(429)) as server:
        async with VoiceClient("key", "tests", base_url=server.url, transport=pool) as client:
            first = await place(client)
            own = await pool.handle_async_request(httpx.Request("GET", server.url))
            await own.aread()
            await own.aclose()
            second = await place(client)
        assert server.connections == 2
    assert [first.kind, second.kind] == [K.TURNED_AWAY, K.UNKNOWN]
