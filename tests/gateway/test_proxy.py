"""Calls through the proxy of a company: what it does at each stage, and what that proves, on each event loop."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path
from threading import get_ident
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import OURS, Before, Kind, named, place
from tests.gateway.misbehaving import (
    CERTIFICATE,
    CREATED,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    places,
    resets_after_the_body,
    sends,
)
from tests.support.company_proxy import (
    AUTHORITY,
    OPENED,
    VOICE,
    CompanyProxy,
    hangs_up,
    in_tunnel,
    refuses,
    resets,
    says,
    stalls,
)
from tests.support.company_proxy import CERTIFICATE as COMPANY
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.model.reports.verdict import Departure, NotSentCause, Verdict
from voiceflow_worker.model.reports.verdict import VerdictKind as K

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("kind", [OURS, Kind("default", "trio", None)], ids=named)
"""Our own connections, and httpx's pool, which trio takes."""


@pytest.fixture(scope="module")
def trusting_company() -> ssl.SSLContext:
    """Trusts the authority of the company."""
    return ssl.create_default_context(cafile=AUTHORITY)


def ends_at_once(connection: Connection) -> None:
    """End the tunnel when it is open."""


def speaks_no_tls(connection: Connection) -> None:
    connection.wait_for_bytes()
    connection.send(b"220 smtp.example ready\r\n")


NOTHING_LEFT: dict[str, tuple[Behaviour, str]] = {
    "403": (refuses("403 Forbidden"), "refuses a tunnel to this host (403 Forbidden)"),
    "407": (refuses("407 Proxy Authentication Required"), "asks for a user name and password"),
    "502": (refuses("502 Bad Gateway"), "(502 Bad Gateway)"),
    "503 with a time": (says(b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"), "(503 Busy)"),
    "a redirect": (says(b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n"), "302"),
    "an answer of 8x8 to CONNECT": (
        says(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(CREATED), CREATED)),
        "400",
    ),
    "no reason": (says(b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n"), "503"),
    "garbage": (says(b"220 smtp.example ready\r\n\r\n"), ""),
    "a web page": (says(b"<html>Who are you?</html>"), ""),
    "half a head": (says(b"HTTP/1.1 200 Conn"), ""),
    "nothing but a status": (says(b"HTTP/1.1 two hundred\r\n\r\n"), ""),
    "an endless head": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000), ""),
    "bytes after its answer": (says(OPENED + b"welcome"), ""),
    "hangs up": (hangs_up, ""),
    "resets": (resets, ""),
    "ends the tunnel": (in_tunnel(ends_at_once, tls=False), ""),
    "no TLS in the tunnel": (in_tunnel(speaks_no_tls, tls=False), ""),
}


async def through(
    kind: Kind, behaviour: Behaviour, trust: ssl.SSLContext, **options: Any
) -> tuple[MisbehavingServer, Verdict, Before]:
    """One call through a proxy that behaves so: the proxy, the verdict, and how far the call came."""
    before = Before()
    with MisbehavingServer(behaviour) as proxy:
        async with kind.client(f"https://{VOICE}", proxy=proxy.url, trust=trust, **options) as client:
            return proxy, await place(client, before=before), before


@pytest.mark.parametrize("story", NOTHING_LEFT)
async def test_until_the_tunnel_stands_nothing_has_left(story: str, trusting_company: ssl.SSLContext) -> None:
    behaviour, told = NOTHING_LEFT[story]
    proxy, verdict, before = await through(OURS, behaviour, trusting_company)
    assert (verdict.kind, verdict.cause, verdict.hold) == (K.NOT_SENT, NotSentCause.UNREACHABLE, None), verdict
    assert not before.taken
    assert told in verdict.message
    assert f"the proxy 127.0.0.1:{proxy.port}" in verdict.message
    assert not proxy.posts


@pytest.mark.parametrize("behaviour", [stalls, in_tunnel(Connection.stall, tls=False)], ids=["CONNECT", "TLS"])
async def test_a_proxy_that_hangs_has_sent_nothing(behaviour: Behaviour, trusting_company: ssl.SSLContext) -> None:
    _, verdict, before = await through(OURS, behaviour, trusting_company, connect=0.3, read=0.3)
    assert (verdict.kind, verdict.hold, before.taken) == (K.NOT_SENT, None, 0)


@both
@pytest.mark.parametrize(
    ("certificate", "authority"), [(COMPANY, None), (CERTIFICATE, CERTIFICATE)], ids=["unknown", "another host"]
)
async def test_a_certificate_in_the_tunnel_that_is_not_trusted_holds_the_queue(
    kind: Kind, certificate: Path, authority: Path | None
) -> None:
    trust = ssl.create_default_context(cafile=authority)
    proxy, verdict, before = await through(kind, in_tunnel(places, certificate=certificate), trust)
    assert verdict.kind is K.NOT_SENT
    assert verdict.hold is not None
    assert verdict.hold.until_opened
    assert "VOICEFLOW_CA_FILE" in verdict.hold.reason
    assert not before.taken
    assert not proxy.posts


def resets_within_the_head(connection: Connection) -> None:
    connection.wait_for_bytes()
    connection.socket.recv(10)
    connection.reset()


AFTER: dict[str, Behaviour] = {
    "cut in the head": resets_within_the_head,
    "ended after the body": sends(b""),
    "reset after the body": resets_after_the_body,
    "cut in the answer": sends(answer(200, CREATED)[:-20]),
    "the proxy answers itself": sends(answer(502, b"<html>Bad Gateway</html>")),
}


@both
@pytest.mark.parametrize("story", AFTER)
async def test_a_tunnel_that_is_cut_after_bytes_have_left_is_a_doubt(
    kind: Kind, story: str, trusting_company: ssl.SSLContext
) -> None:
    proxy, verdict, before = await through(kind, in_tunnel(AFTER[story]), trusting_company)
    assert verdict.kind is K.UNKNOWN, verdict
    assert before.taken == 1
    assert proxy.connections == 1


@both
async def test_calls_go_through_in_one_kept_tunnel_or_each_in_its_own(
    kind: Kind, trusting_company: ssl.SSLContext
) -> None:
    with MisbehavingServer(places) as voice:
        company = CompanyProxy({VOICE: voice.port})
        with MisbehavingServer(company) as proxy:
            async with kind.client(f"https://{VOICE}", proxy=proxy.url, trust=trusting_company) as client:
                verdicts = [await place(client) for _ in range(3)]
        assert [verdict.kind for verdict in verdicts] == [K.CREATED] * 3
        assert (company.tunnels, len(voice.posts)) == ([f"{VOICE}:443"] * (1 if kind is OURS else 3), 3)


async def test_the_tunnel_stands_before_the_journal_entry_and_one_that_died_gets_no_byte(
    trusting_company: ssl.SSLContext,
) -> None:
    """What stands is kept. When the proxy dies just before the first byte, nothing is sent."""
    with MisbehavingServer(places) as voice:
        company = CompanyProxy({VOICE: voice.port})
        with MisbehavingServer(company) as proxy:
            async with OURS.client(f"https://{VOICE}", proxy=proxy.url, trust=trusting_company) as client:

                async def dies() -> Departure:
                    assert len(company.tunnels) == 1, "before anything is posted"
                    company.cut_tunnels()
                    return await Before()()

                verdicts = [await place(client, before=before) for before in (None, dies, None)]
                assert [each.kind for each in verdicts] == [K.CREATED, K.NOT_SENT, K.CREATED]
                assert (verdicts[1].is_outage, len(company.tunnels)) == (False, 2)
        assert len(voice.posts) == 2


@both
async def test_the_credentials_go_to_the_proxy_and_the_key_to_8x8(kind: Kind, trusting_company: ssl.SSLContext) -> None:
    with MisbehavingServer(places) as voice:
        company = CompanyProxy({VOICE: voice.port}, credentials=b64encode(b"me:p@ss:w").decode())
        with MisbehavingServer(company) as proxy:
            url = f"http://me:p%40ss%3Aw@127.0.0.1:{proxy.port}"
            async with kind.client(f"https://{VOICE}", proxy=url, trust=trusting_company) as client:
                assert (await place(client)).kind is K.CREATED
            assert b"secret-key" not in proxy.heads[0]
    assert b"proxy-authorization" not in voice.heads[0].lower()


@both
@pytest.mark.parametrize("no_proxy", ["", "*"])
async def test_this_machine_is_reached_without_the_proxy(kind: Kind, no_proxy: str) -> None:
    with MisbehavingServer(places) as voice, MisbehavingServer(refuses("403 No")) as proxy:
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{voice.port}"
            async with kind.client(url, proxy=proxy.url, no_proxy=no_proxy) as client:
                assert (await place(client)).kind is K.CREATED
        assert not proxy.connections


def test_this_machines_certificates_are_trusted_and_ssl_cert_file_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (company,) = ssl.create_default_context(cafile=AUTHORITY).get_ca_certs()
    paths = ssl.get_default_verify_paths()
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    assert company not in Network(ca_file=CERTIFICATE).ssl_context.get_ca_certs()
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths._replace(openssl_cafile=str(AUTHORITY)))
    assert company in Network(ca_file=CERTIFICATE).ssl_context.get_ca_certs()


@both
async def test_other_requests_take_the_same_way(kind: Kind, trusting_company: ssl.SSLContext) -> None:
    with MisbehavingServer(in_tunnel(sends(answer(200, b'{"webhooks":[]}')))) as proxy:
        async with kind.client(f"https://{VOICE}", proxy=proxy.url, trust=trusting_company) as client:
            assert await client.webhooks() == ()
    assert proxy.heads[0].startswith(f"CONNECT {VOICE}:443 ".encode())


async def test_the_first_pool_of_connections_keeps_no_event_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def pool(**_: object) -> httpx.MockTransport:
        threads.append(get_ident())
        return httpx.MockTransport(lambda _: httpx.Response(204))

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", pool)
    transport = Network().transport(limit=1)
    await transport.handle_async_request(httpx.Request("GET", "https://voice.8x8.com"))
    assert len(threads) == 1
    assert get_ident() not in threads
