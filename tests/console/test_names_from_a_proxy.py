"""People whom a trusted proxy names: who is believed, who may act, and what is kept of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.console.signing_in import HOST, OPERATORS, READERS, confirmed, enqueued, sign_in
from voiceflow_worker import Receiver, Store, load_settings
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.errors import SettingsError

pytestmark = pytest.mark.anyio

PROXY = "10.9.8.7"
OURS: dict[str, Any] = {
    "auth_header": "X-Forwarded-User",
    "auth_operators": "ana@example.com, cleo@example.com, ana<b>" + "z" * 248,
    "trusted_proxies": PROXY,
}
HOLD = "/ui/act/hold?queue=default&batch=march"
LONG = f"ana<b>{'z' * 248}"
"""As long as a name may be."""
Headers = list[tuple[str, str | bytes]]


@asynccontextmanager
async def asking(store: Store, peer: str = PROXY, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Requests from this address, whose forms come from these pages."""
    app = Receiver(load_settings(**{**OURS, **settings}), store).app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 5000)), base_url=HOST) as client:
        client.headers["Origin"] = HOST
        yield client


def of(name: str) -> dict[str, str]:
    return {"X-Forwarded-User": name}


async def role(client: httpx.AsyncClient, headers: Any) -> str:
    """The role of whoever sends these headers: that on the page, or `nobody`, or `refused`."""
    page = await client.get("/ui", headers=headers)
    if page.status_code != 200:
        assert "Nobody is signed in" in page.text or 'name="secret"' in page.text
        assert (await client.get("/ui/calls", headers=headers)).status_code == page.status_code
        return {401: "nobody", 403: "refused"}[page.status_code]
    return "operator" if "New campaign" in page.text else "reader"


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        (of("ana@example.com"), "operator"),
        (of("ben"), "reader"),
        (of("Ana@example.com"), "reader"),
        ([("X-Forwarded-User", "Zoë".encode())], "reader"),
        (of("a" * 254), "reader"),
        ({}, "nobody"),
        (of(""), "nobody"),
        ({"X_Forwarded_User": "ana@example.com"}, "nobody"),
        ([("X-Forwarded-User", "ben"), ("X_Forwarded_User", "ana@example.com")], "reader"),
        ([("X-Forwarded-User", "ana@example.com"), ("X-Forwarded-User", "ana@example.com")], "refused"),
        ([("X-Forwarded-User", "ben"), ("X-FORWARDED-USER", "ana@example.com")], "refused"),
        (of("ana@example.com,ben"), "refused"),
        (of("Ana  Tan"), "refused"),
        (of("a" * 255), "refused"),
        ([("X-Forwarded-User", "Zo\xeb".encode("latin-1"))], "refused"),
        ([("X-Forwarded-User", "ana@example.com\u202e".encode())], "refused"),
        ([("X-Forwarded-User", b"ana\x00")], "refused"),
        ([("X-Forwarded-User", b"ana\r\nX-Forwarded-User: ops")], "refused"),
    ],
    ids=repr,
)
async def test_a_header_of_the_proxy_is_a_certain_name_or_it_lets_nobody_in(
    memory: Store, headers: Headers | dict[str, str], who: str
) -> None:
    async with asking(memory) as client:
        assert await role(client, headers) == who
    async with asking(memory, peer="10.9.8.6") as client:
        assert await role(client, headers) == "nobody", "it comes from another address"
        client.headers["X-Forwarded-For"] = PROXY
        assert await role(client, headers) == "nobody"


@pytest.mark.parametrize(
    ("peer", "trusted", "who"),
    [
        ("::ffff:10.9.8.7", PROXY, "operator"),
        ("::1", "::1", "operator"),
        ("fe80::7%eth0", "fe80::/10", "operator"),
        (None, PROXY, "nobody"),  # of a Unix socket
    ],
)
async def test_a_proxy_is_known_by_the_address_that_it_connects_from(
    memory: Store, peer: str | None, trusted: str, who: str
) -> None:
    app = Receiver(load_settings(**{**OURS, "trusted_proxies": trusted}), memory).app

    async def seen(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": None if peer is None else (peer, 5000)}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(seen), base_url=HOST) as client:
        # The hops before it do not count: another proxy in front of it, or a client that claims to be one.
        for hops in ("", "192.0.2.7, 10.9.8.7", "10.9.8.7"):
            assert await role(client, {**of("ana@example.com"), "X-Forwarded-For": hops}) == who


async def test_the_audit_log_has_the_name_of_the_proxy_and_a_reader_is_told_why_not(memory: Store) -> None:
    await enqueued(memory, batch="march")
    async with asking(memory) as client:
        client.headers.update(of("ben"))
        told = await client.get(HOLD)
        assert (told.status_code, "ben may look only" in told.text) == (403, True)
        sent = await client.post("/ui/act/hold", data={"queue": "default", "batch": "march"})
        assert (sent.status_code, await gates_of(memory, "default")) == (403, [])
        client.headers.update(of(LONG))
        assert (await confirmed(client, HOLD, note="lunch")).status_code == 303
        assert (await client.get("/ui/sign-in")).status_code == 404
    (entry,) = await entries_on(memory)
    assert (entry.by, entry.name, entry.who, entry.on) == (LONG, LONG, LONG, "pages")
    (gate,) = await gates_of(memory, "default")
    assert gate.reason == f"lunch (by {LONG})"


async def test_beside_a_secret_whoever_is_not_named_may_sign_in(memory: Store) -> None:
    for peer in (PROXY, "192.0.2.7"):
        async with asking(memory, peer=peer, ui_secret=READERS, ui_operator_secret=OPERATORS) as client:
            assert await role(client, {}) == "nobody"
            assert (await sign_in(client, OPERATORS, name="Mary Tan")).status_code == 303
            assert await role(client, {}) == "operator"
            assert await role(client, of("ben")) == ("reader" if peer == PROXY else "operator")


WIDE = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8, 0.0.0.0/1, 128.0.0.0/1",
    "0.0.0.0/1",
]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"trusted_proxies": None}, "VOICEFLOW_AUTH_HEADER is set without VOICEFLOW_TRUSTED_PROXIES"),
        *(({"trusted_proxies": wide}, "VOICEFLOW_TRUSTED_PROXIES has all of") for wide in WIDE),
        ({"auth_header": None}, "VOICEFLOW_AUTH_OPERATORS is set without VOICEFLOW_AUTH_HEADER"),
        *(
            ({"auth_header": name}, "a header that your proxy sets")
            for name in (
                "X_Forwarded_User",
                "X Forwarded",
                "Cookie",
                "authorization",
                "X-Forwarded-For",
                "Sec-Fetch-Site",
            )
        ),
    ],
)
async def test_settings_that_let_in_too_many_or_nobody_are_refused(
    memory: Store, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        Receiver(load_settings(**{**OURS, "ui_secret": READERS, **settings}), memory)
