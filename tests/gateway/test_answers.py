"""Every answer of the table on each transport: what it means, and that the call was sent exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.gateway.conftest import BODY, NOW, OURS, Kind, placement
from tests.gateway.misbehaving import CREATED, MisbehavingServer, answer, answers, places, sends
from voiceflow_worker.model.reports.verdict import Hold, PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

REFUSED = b'{"sessionStatus":"NOT_CREATED","statusCode":-1014,"statusMessage":"Source not allowed"}'
PLATFORM = (
    b'{"code":1304,"message":"Request could not be handled","errorId":"4b0c-77","timestamp":"2026-11-20T08:00:00Z"}'
)
K = VerdictKind

# (status, body, headers) -> (kind, code, how it holds: None, "opened", or the seconds of its Retry-After, 0 for none)
ROWS: dict[str, tuple[int, bytes, list[str], VerdictKind, int | None, str | float | None]] = {
    "200 created": (200, CREATED, [], K.CREATED, 1, None),
    "200 created, slow down": (200, CREATED, ["Retry-After: 3"], K.CREATED, 1, 3.0),
    "200 refused": (200, REFUSED, [], K.REFUSED, -1014, None),
    "200 junk": (200, b"<html>", [], K.UNKNOWN, None, None),
    "200 nothing": (200, b"", [], K.UNKNOWN, None, None),
    "201 created": (201, CREATED, [], K.UNKNOWN, 1, None),
    "204": (204, b"", [], K.UNKNOWN, None, None),
    "301": (301, b"", ["Location: /elsewhere"], K.UNKNOWN, None, "opened"),
    "302": (302, b"", ["Location: /elsewhere"], K.UNKNOWN, None, "opened"),
    "303": (303, b"", ["Location: /elsewhere"], K.UNKNOWN, None, "opened"),
    "307": (307, b"", ["Location: /elsewhere"], K.TURNED_AWAY, None, "opened"),
    "308": (308, b"", ["Location: /elsewhere"], K.TURNED_AWAY, None, "opened"),
    "400 refused": (400, REFUSED, [], K.REFUSED, -1014, None),
    "400 junk": (400, b"Bad Request", [], K.UNKNOWN, None, None),
    "400 platform": (400, PLATFORM, [], K.TURNED_AWAY, None, "opened"),
    "401": (401, b'{"statusCode":401,"sessionStatus":"NOT_CREATED"}', [], K.TURNED_AWAY, 401, "opened"),
    "403": (403, b"", [], K.TURNED_AWAY, None, "opened"),
    "404": (404, b"not here", [], K.TURNED_AWAY, None, "opened"),
    "404 platform": (404, PLATFORM, [], K.TURNED_AWAY, None, "opened"),
    "405": (405, b"", [], K.UNKNOWN, None, None),
    "408": (408, b"", [], K.UNKNOWN, None, None),
    "410": (410, b"Gone", [], K.UNKNOWN, None, "opened"),
    "410 platform": (410, PLATFORM, [], K.TURNED_AWAY, None, "opened"),
    "413": (413, b"", [], K.UNKNOWN, None, None),
    "422 refused": (422, REFUSED, [], K.REFUSED, -1014, None),
    "425": (425, b"", [], K.TURNED_AWAY, None, 0),
    "426": (426, b"", ["Upgrade: TLS/1.2"], K.UNKNOWN, None, "opened"),
    "426 platform": (426, PLATFORM, [], K.TURNED_AWAY, None, "opened"),
    "429": (429, b"", [], K.TURNED_AWAY, None, 0),
    "429 with seconds": (429, b"", ["Retry-After: 7"], K.TURNED_AWAY, None, 7.0),
    "429 with a date": (
        429,
        b"",
        ["Date: Fri, 20 Nov 2026 09:00:00 GMT", "Retry-After: Fri, 20 Nov 2026 09:00:20 GMT"],
        K.TURNED_AWAY,
        None,
        20.0,
    ),
    "500": (500, REFUSED, [], K.UNKNOWN, -1014, None),
    "502": (502, b"", [], K.UNKNOWN, None, None),
    "503 with seconds": (503, b"", ["Retry-After: 9"], K.UNKNOWN, None, 9.0),
    "504": (504, b"", [], K.UNKNOWN, None, None),
    "599": (599, b"", [], K.UNKNOWN, None, None),
}


def held(hold: Hold | None) -> str | float | None:
    if hold is None:
        return None
    if hold.until_opened:
        return "opened"
    return hold.retry_after.total_seconds() if hold.retry_after else 0


@pytest.mark.parametrize("row", ROWS)
async def test_an_answer_means_what_the_table_says_and_is_not_asked_for_twice(kind: Kind, row: str) -> None:
    status, body, headers, expected, code, holds = ROWS[row]
    with MisbehavingServer(answers(status, body, *headers)) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
        assert (verdict.kind, verdict.http_status, verdict.code) == (expected, status, code), verdict
        assert held(verdict.hold) == holds
        assert len(server.heads) == 1  # not even a GET followed a redirect


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


async def test_a_created_call_has_its_session_and_the_servers_date(kind: Kind) -> None:
    with MisbehavingServer(answers(200, CREATED, "Date: Fri, 20 Nov 2026 08:00:01 GMT")) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert verdict == Verdict(
        kind=K.CREATED,
        message="Created",
        code=1,
        session_id="6f7a2c1e-0001",
        http_status=200,
        server_date=datetime(2026, 11, 20, 8, 0, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"]
)
async def test_an_interim_answer_is_not_the_answer(kind: Kind, interim: bytes) -> None:
    with MisbehavingServer(sends(interim + answer(200, CREATED))) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert verdict.kind is K.CREATED


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CREATED), CREATED),
        b"HTTP/1.1 200 OK\r\n\r\n" + CREATED,
        b"HTTP/1.0 200 OK\r\n\r\n" + CREATED,
    ],
    ids=["chunked", "until the end", "HTTP/1.0"],
)
async def test_an_answer_counts_however_its_end_is_reported(kind: Kind, raw: bytes) -> None:
    with MisbehavingServer(sends(raw)) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert verdict.kind is K.CREATED


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


async def test_a_5xx_that_says_not_created_is_believed_only_when_asked_to(kind: Kind) -> None:
    with MisbehavingServer(answers(500, REFUSED)) as server:
        async with kind.client(server.url, retry_not_created_5xx=True) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert verdict.kind is K.TURNED_AWAY
    assert verdict.hold == Hold(reason="8x8 has an internal error (500)")


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


async def test_retry_after_without_a_date_counts_from_now(kind: Kind) -> None:
    with MisbehavingServer(answers(429, b"", "Retry-After: Fri, 20 Nov 2026 08:10:00 GMT")) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement(), progress=PostProgress(), now=NOW)
    assert verdict.hold is not None
    assert verdict.hold.retry_after is not None
    assert timedelta(minutes=9) < verdict.hold.retry_after <= timedelta(minutes=10)
