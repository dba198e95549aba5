"""Requests with a wrong secret or from a wrong network change nothing, in no store, whatever the event."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from tests.support.redis_server import RedisServer
from tests.webhooks.broken_bodies import OTHERS
from tests.webhooks.contents import contents
from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET
from tests.webhooks.test_payload_forms import named, submitted
from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks import PATH, receiver_app

pytestmark = pytest.mark.anyio

EIGHT = "18.140.80.2"
STRANGER = "203.0.113.9"
PROXY = "10.0.0.5"
ALLOW = [ip_network(f"{EIGHT}/32"), ip_network("2001:db8:8::/48")]
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:cafe::/48")]

Headers = list[tuple[str, str]]


def shown(*forwarded: str, secret: str | None = SECRET) -> Headers:
    headers: Headers = [("X-Forwarded-For", each) for each in forwarded]
    return headers if secret is None else [("Authorization", secret), *headers]


TURNED_AWAY: list[tuple[str, str, Headers, int]] = [
    ("no secret", EIGHT, [], 401),
    ("a wrong secret", EIGHT, shown(secret="Basic wrong"), 401),
    ("the beginning of the secret", EIGHT, shown(secret=SECRET[:-1]), 401),
    ("the secret twice", EIGHT, [*shown(), *shown()], 401),
    ("a wrong secret beside the right one", EIGHT, [("Authorization", "x"), *shown()], 401),
    ("the secret under another name", EIGHT, [("X-Authorization", SECRET)], 401),
    ("from elsewhere", STRANGER, shown(), 403),
    ("from elsewhere by IPv6", "2001:db8:9::1", shown(), 403),
    ("from elsewhere, saying otherwise", STRANGER, shown(EIGHT), 403),
    ("from elsewhere, through proxies it names itself", STRANGER, shown(f"{EIGHT}, 10.0.0.5, 10.0.0.6"), 403),
    ("through a proxy, with a made-up beginning", PROXY, shown(f"{EIGHT}, {STRANGER}"), 403),
    ("through a proxy, with a port", PROXY, shown(f"{STRANGER}:443"), 403),
    ("through a proxy, made up in an earlier header", PROXY, shown(EIGHT, STRANGER), 403),
    ("through two proxies", PROXY, shown(f"{EIGHT}, {STRANGER}, 10.0.0.9"), 403),
    ("through a proxy that names nobody", PROXY, shown(""), 403),
    ("through a proxy that names no address", PROXY, shown(f"{EIGHT}, unknown"), 403),
    ("through a proxy by IPv6", "2001:db8:cafe::1", shown("[2001:db8:9::1]:443"), 403),
    ("the proxy itself", PROXY, shown(), 403),
    ("from a socket without an address", "", shown(), 403),
]
LET_IN: list[tuple[str, Headers]] = [
    (EIGHT, shown()),
    (f"::ffff:{EIGHT}", shown()),
    ("2001:db8:8::7", shown()),
    (EIGHT, shown("whatever, a stranger, says")),
    (PROXY, shown(EIGHT)),
    (PROXY, shown(f"{EIGHT}:51234")),
    (PROXY, shown(f"{STRANGER}, {EIGHT}")),
    (PROXY, shown(STRANGER, f"{EIGHT}, 10.0.0.9")),
    (PROXY, shown("[2001:db8:8::7]:443, 2001:db8:cafe::2")),
    ("2001:db8:cafe::1", shown("2001:db8:8::7")),
]


def client_from(store: Store, peer: str) -> httpx.AsyncClient:
    app = receiver_app(store, secret=SECRET, allow=ALLOW, trusted_proxies=TRUSTED)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 4711)), base_url="http://receiver")


@pytest.mark.parametrize(
    ("peer", "headers", "status"), [each[1:] for each in TURNED_AWAY], ids=[e[0] for e in TURNED_AWAY]
)
async def test_who_is_turned_away_changes_nothing(
    store: Store, shared_redis: RedisServer, peer: str, headers: Headers, status: int
) -> None:
    job = await submitted(store)
    before = contents(store, redis=shared_redis)
    assert before
    bodies: list[Any] = [whole(named(job)), whole(Call("default.01J.1", "parked"), clientRequestId=None), *OTHERS]
    async with client_from(store, peer) as client:
        for event in bodies:
            assert (await client.post(PATH, json=event, headers=headers)).status_code == status
        for content in (b"{", b"[]", b"\x00" * 2_000_000):
            assert (await client.post(PATH, content=content, headers=headers)).status_code == status
        metrics = (await client.get("/metrics")).text
    assert contents(store, redis=shared_redis) == before
    assert "voiceflow_webhook_events_total{" not in metrics


@pytest.mark.parametrize(("peer", "headers"), LET_IN)
async def test_who_is_let_in_does_change_something(
    store: Store, shared_redis: RedisServer, peer: str, headers: Headers
) -> None:
    """The test above would pass with a comparison that sees nothing."""
    job = await submitted(store)
    before = contents(store, redis=shared_redis)
    async with client_from(store, peer) as client:
        assert (await client.post(PATH, json=whole(named(job)), headers=headers)).status_code == 200
    assert contents(store, redis=shared_redis) != before
