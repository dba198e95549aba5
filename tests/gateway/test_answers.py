"""A POST and its answer on each transport: what arrives at 8x8, and what of the answer is kept."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from tests.gateway.conftest import BODY, NOW, OURS, Kind, placement
from tests.gateway.misbehaving import CREATED, MisbehavingServer, answers, places
from voiceflow_worker.model.reports.verdict import PostProgress, VerdictKind

pytestmark = pytest.mark.anyio

K = VerdictKind


async def test_the_body_arrives_with_the_keys_of_this_post_and_no_other_change(kind: Kind) -> None:
    with MisbehavingServer(answers(200, CREATED)) as server:
        async with kind.client(server.url) as client:
            await client.place(placement(), progress=PostProgress(), now=NOW)
        head = server.posts[0].decode().split("\r\n")
        assert head[0] == "POST /api/v1/subaccounts/sub_account/callflows HTTP/1.1"
        assert f"host: 127.0.0.1:{server.port}" in [line.lower() for line in head]
        assert "authorization: bearer secret-key-1" in [line.lower() for line in head]
        assert "content-type: application/json" in [line.lower() for line in head]
        assert server.bodies[0].startswith(BODY[:-1].encode())
        assert orjson.loads(server.bodies[0]) == {
            **orjson.loads(BODY),
            "clientRequestId": "default.01ARZ3NDEKTSV4RRFFQ69G5FAV.1",
            "validUntil": "2026-11-20T08:02:00.000Z",
        }


async def test_an_encoded_answer_is_read_although_none_was_asked_for(kind: Kind) -> None:
    import gzip

    with MisbehavingServer(answers(200, gzip.compress(CREATED), "Content-Encoding: gzip")) as server:
        async with kind.client(server.url) as client:
            first = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert first.kind is K.CREATED
    with MisbehavingServer(answers(200, CREATED, "Content-Encoding: gzip")) as server:
        async with kind.client(server.url) as client:
            lie = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert lie.kind is K.UNKNOWN


@pytest.mark.parametrize("late", [0.0, -1.0])
async def test_what_is_late_already_is_not_sent(kind: Kind, late: float) -> None:
    with MisbehavingServer(answers(200, CREATED)) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(valid_for=late), progress=PostProgress(), now=NOW)
        assert verdict.kind is K.NOT_SENT
        assert server.heads == []


async def test_connections_are_kept_where_leftovers_are_noticed(kind: Kind) -> None:
    with MisbehavingServer(places) as server:
        async with kind.client(server.url) as client:
            await client.server_time()
            for _ in range(3):
                await client.place(placement(), progress=PostProgress(), now=NOW)
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
