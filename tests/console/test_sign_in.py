"""Signing in to the pages: sessions, roles, and what is tried against them."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from threading import get_ident
from urllib.parse import urljoin

import httpx
import pytest
from structlog.testing import capture_logs

from tests.console.clerk import WORDS, clerk, people
from tests.console.signing_in import (
    FROM_HERE,
    HOST,
    OPERATORS,
    READERS,
    Form,
    browser,
    confirmed,
    enqueued,
    receiver,
    sign_in,
    signed_in,
)
from tests.contract.samples import ManualClock
from voiceflow_worker import CallQueue, Receiver, Store, load_settings
from voiceflow_worker.asgi.gatekeeper import MOST_ADDRESSES, WrongSecrets
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.console import sessions
from voiceflow_worker.console.sessions import LASTS, PageRole, PageSessions
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.errors import SettingsError

pytestmark = pytest.mark.anyio


ODD_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\\ud800\r\n'
    b'--x\r\nContent-Disposition: form-data; name="secret"\r\n\r\n\\ud800\r\n--x--'
)


# -- who comes in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("secret", "role"), [(READERS, "reader"), (OPERATORS, "operator")])
async def test_the_right_secret_signs_in_and_the_pages_know_the_name(memory: Store, secret: str, role: str) -> None:
    async with browser(receiver(memory)) as client:
        closed = await client.get("/ui/doubts?queue=a%26b")
        assert (closed.status_code, {"name", "secret"} <= Form(closed.text).fields) == (401, True)
        way = dict(Form(closed.text).hidden)["way"]
        answer = await sign_in(client, secret, name="  Mary   Tan ", way=way)
        assert answer.status_code == 303
        assert urljoin(str(answer.url), answer.headers["location"]) == f"{HOST}/ui/doubts?queue=a%26b"
        shown = await client.get("/ui")
        assert (shown.status_code, f"Mary Tan, {role}" in shown.text) == (200, True)
        asked_for = await client.get("/ui/sign-in")
        assert (asked_for.status_code, "Your name" in asked_for.text) == (200, True), "somebody else may sign in"


async def test_a_form_of_a_sign_in_that_has_ended_does_nothing_and_says_so(memory: Store) -> None:
    await enqueued(memory, batch="march")
    app = receiver(memory)
    address = "/ui/act/hold?queue=default&batch=march"
    async with browser(app) as client:
        await sign_in(client, OPERATORS, name="Ana")
        form = Form((await client.get(address)).text)
        client.cookies.clear()  # as at the end of a session
        closed = await client.post("/ui/act/hold", data=form.values(note="wait"))
        assert (closed.status_code, "nothing was done" in closed.text) == (401, True)
        forged = await client.post("/ui/act/hold", data={"note": "x"}, headers={"Origin": "https://evil.example"})
        assert (forged.status_code, "nothing was done" in forged.text) == (401, False)
        sent = {**dict(Form(closed.text).hidden), "name": "Ana", "secret": OPERATORS}
        again = await client.post("/ui/sign-in", data=sent)
        assert (again.status_code, again.headers["location"]) == (303, "../ui")
        refused = await client.post("/ui/act/hold", data=form.values(note="wait"))
        assert (refused.status_code, "another sign-in; open the page again" in refused.text) == (403, True)
        assert not await gates_of(memory, "default")
        assert (await confirmed(client, address)).status_code == 303


async def test_the_form_of_a_campaign_outlives_the_sign_in_of_the_same_person_alone(memory: Store) -> None:
    """What was typed when the sign-in ended is there after the next one, on the step at which it was typed."""
    words = {name: text for name, text in WORDS.items() if name != "country"}
    steps = (
        ("words", "", {"country": "SG", "batch": "visits"}, "column"), ("hours", "words", words, "say"),
        ("check", "hours", {"window.from": "10:30", "window.to": "18:00", "valid_for": "5h"}, "valid_for"),
        ("start", "ready", {"number": "91234567"}, "number"),
    )  # fmt: skip
    async with clerk(memory) as one:
        await one.send("look", people())
        for do, step, typed, field in steps:
            if step:
                await one.send(step)
            before = one.shown
            one.client.cookies.clear()
            assert "what you have typed is still there" in await one.send(do, **typed), do
            kept = dict(Form(one.shown.text).hidden)
            assert "secret is wrong" in (await sign_in(one.client, "no", kept=kept["kept"])).text
            for name, secret in (("Bob Lim", OPERATORS), ("Mary Tan", READERS), ("Mary Tan", OPERATORS)):
                shown = await sign_in(one.client, secret, name=name, kept=kept["kept"])
                form, is_hers = Form(shown.text), (name, secret) == ("Mary Tan", OPERATORS)
                has_field = any(each.startswith(field) for each in form.fields | form.typed.keys())
                has_typed = typed.items() <= form.typed.items()
                is_told = "you had typed, and nothing was started" in shown.text
                assert (has_field, has_typed, is_told) == (is_hers,) * 3, (do, name, form.typed)
            one.shown = before  # in a window that was open before she signed in
            assert "you had typed, and nothing was started" in await one.send(do, **typed), do
            assert typed.items() <= Form(one.shown.text).typed.items(), do
        assert await CallQueue(memory).find() == []
        await one.send("ready", **{"window.from": "", "window.to": "", "window.any": "yes"})
        await one.send("start")
    (first, second) = await CallQueue(memory).find()
    assert (first.batch_id, first.data, second.valid_until is not None) == ("visits", first.data, True)


@pytest.mark.parametrize("foreign", ['prefs={"a":1}', "a b=1", "voiceflow=of-another-program"])
async def test_cookies_of_other_programs_on_the_host_lock_nobody_out(memory: Store, foreign: str) -> None:
    async with signed_in(receiver(memory)) as client:
        own = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        client.cookies.clear()
        for cookies in (f"{foreign}; {own}", f"{own}; {foreign}"):
            assert (await client.get("/ui", headers={"Cookie": cookies})).status_code == 200


async def test_the_cookie_is_kept_from_scripts_and_from_other_sites(memory: Store) -> None:
    async with browser(receiver(memory)) as client:
        plain = (await sign_in(client, READERS)).headers["set-cookie"]
        client.headers["Origin"] = "https://calls"
        over_tls = (await sign_in(client, READERS)).headers["set-cookie"]
    parts = {part.strip().lower() for part in plain.split(";")[1:]}
    assert parts >= {"httponly", "samesite=lax", "max-age=43200"}
    assert not [part for part in parts if part.startswith(("path", "domain"))], "it belongs to /ui, wherever that is"
    assert ("Secure" in plain, "Secure" in over_tls) == (False, True)


@pytest.mark.parametrize(
    "way", ["//evil.example", "https://evil.example", "../../x", "calls/%2e%2e/x", "a\r\nb", "\\\\evil"]
)
async def test_after_signing_in_nobody_is_led_elsewhere(memory: Store, way: str) -> None:
    async with browser(receiver(memory)) as client:
        answer = await sign_in(client, READERS, way=way)
    led_to = urljoin(str(answer.url), answer.headers["location"])
    assert led_to == f"{HOST}/ui" or led_to.startswith(f"{HOST}/ui/"), led_to


REFUSED = [
    *((READERS, name, 400) for name in ("", " ", "x" * 61)),
    *((secret, "Mary Tan", 401) for secret in ("", "wrong", READERS[:-1], READERS + "x", READERS.upper(), OPERATORS)),
]
"""A secret, a name, and the answer, where there is no secret of operators."""


@pytest.mark.parametrize(("secret", "name", "status"), REFUSED)
async def test_whoever_has_no_name_or_not_the_secret_does_not_sign_in(
    memory: Store, secret: str, name: str, status: int
) -> None:
    async with browser(receiver(memory, operators=False)) as client:
        answer = await sign_in(client, secret, name=name)
        assert (answer.status_code, "set-cookie" in answer.headers) == (status, False)
        assert ("Check your name" in answer.text) == (status == 400)
        assert (await client.get("/ui")).status_code == 401


@pytest.mark.parametrize(
    ("reader", "operator", "why"),
    [(READERS, READERS, "same"), ("short", None, "UI_SECRET"), (None, OPERATORS, "none for")],
)
async def test_secrets_that_would_let_in_too_many_are_refused(
    memory: Store, reader: str | None, operator: str | None, why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        Receiver(load_settings(ui_secret=reader, ui_operator_secret=operator), memory)


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_each_sign_in_begins_a_session_that_nobody_could_have_planted(memory: Store) -> None:
    async with signed_in(receiver(memory), READERS) as client:
        planted = client.cookies["voiceflow"]
        assert (await sign_in(client, OPERATORS)).status_code == 303
        assert client.cookies["voiceflow"] != planted
        client.cookies.clear()
        client.cookies.set("voiceflow", planted)
        assert (await client.get("/ui")).status_code == 401, "the session before has ended"
    for made_up in ("made-up", planted, planted[:-2] + "xx"):
        async with browser(receiver(memory)) as client:
            answer = await client.post(
                "/ui/sign-in",
                data={"name": "Ana", "secret": READERS},
                headers={"Cookie": f"voiceflow={made_up}"},
            )
            assert (answer.status_code, made_up in answer.headers["set-cookie"]) == (303, False)


async def test_signing_out_ends_the_session_and_not_only_its_cookie(store: Store) -> None:
    app, other = receiver(store), receiver(store)
    async with signed_in(app) as client:
        stolen = client.cookies["voiceflow"]
        token = dict(Form((await client.get("/ui")).text).hidden)["token"]
        refused = await client.post("/ui/sign-out", data={"token": "wrong"})
        assert refused.status_code == 403
        assert (await client.get("/ui")).status_code == 200
        answer = await client.post("/ui/sign-out", data={"token": token})
        assert (answer.status_code, "voiceflow" in client.cookies) == (303, False)
        for each in (app, other):
            async with browser(each) as thief:
                thief.cookies.set("voiceflow", stolen)
                assert (await thief.get("/ui")).status_code == 401


async def test_the_slow_keys_of_cookies_keep_no_event_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def noted(secret: bytes, **_: object) -> bytes:
        threads.append(get_ident())
        return secret

    monkeypatch.setattr(sessions, "scrypt", noted)
    own = PageSessions(MemoryStore(), secrets=["a new one"], operator_secrets=["another new one"])
    cookie = await own.cookie(own.begin("Mary", PageRole.OPERATOR))
    assert await own.find(cookie) is not None
    assert len(threads) == 2
    assert get_ident() not in threads


async def test_a_session_ends_with_its_time_and_with_its_secret() -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)

    def with_secrets(reader: str, operator: str | None) -> PageSessions:
        return PageSessions(store, secrets=[reader], operator_secrets=[] if operator is None else [operator])

    own = with_secrets("a", "b")
    session = own.begin("Mary", PageRole.OPERATOR)
    cookie = await own.cookie(session)
    assert await own.find(cookie) == session
    assert await with_secrets("a", "b").find(cookie) == session, "all receivers share them"
    for others in (("a", "c"), ("a", None), ("b", "a")):
        assert await with_secrets(*others).find(cookie) is None
    clock.advance(LASTS - timedelta(seconds=2))
    assert await own.find(cookie) == session
    clock.advance(timedelta(seconds=3))
    assert await own.find(cookie) is None


# -- brute force -------------------------------------------------------------------------------------------------------


async def test_wrong_secrets_are_slowed_down_and_then_even_the_right_one_waits(memory: Store) -> None:
    app = receiver(memory)
    async with browser(app) as client:
        tried = [(await sign_in(client, f"wrong-{number}")).status_code for number in range(8)]
        assert tried == [401] * 5 + [429] * 3
        answer = await sign_in(client, READERS)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert f"Try again in {answer.headers['retry-after']} seconds" in answer.text
    async with browser(app, address="192.0.2.8") as another:
        assert (await sign_in(another, READERS)).status_code == 303


async def test_behind_a_trusted_proxy_each_address_has_its_own_limit(memory: Store) -> None:
    app = receiver(memory, trusted_proxies="10.0.0.0/8")
    async with browser(app, address="10.0.0.5") as client:
        client.headers["X-Forwarded-For"] = "192.0.2.1"
        assert [(await sign_in(client, "wrong")).status_code for _ in range(6)] == [401] * 5 + [429]
        client.headers["X-Forwarded-For"] = "192.0.2.2"
        assert (await sign_in(client, READERS)).status_code == 303
    async with browser(app, address="192.0.2.1") as client:
        client.headers["X-Forwarded-For"] = "192.0.2.99"
        assert (await sign_in(client, READERS)).status_code == 429, "a stranger cannot choose an address"


def test_one_more_is_free_a_minute_later() -> None:
    clock, wrong = ManualClock(), WrongSecrets()
    mallory = ip_address("2001:db8::1")
    for _ in range(5):
        assert wrong.wait(mallory, at=clock.now()) is None
        wrong.failed(mallory, at=clock.now())
    assert wrong.wait(mallory, at=clock.now()) == timedelta(minutes=1)
    assert wrong.wait(ip_address("2001:db8::ffff"), at=clock.now()) is not None, "the same /64 is the same machine"
    clock.advance(timedelta(minutes=1))
    assert wrong.wait(mallory, at=clock.now()) is None


def test_a_flood_of_addresses_is_not_remembered_for_ever() -> None:
    clock, wrong = ManualClock(), WrongSecrets()
    for place in range(MOST_ADDRESSES + 500):
        wrong.failed(ip_address(place), at=clock.now())
    assert len(wrong._states) == MOST_ADDRESSES


# -- other sites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://calls.evil.example"},
        {"Origin": "http://calls:81"},
        {**FROM_HERE, "Sec-Fetch-Site": "cross-site"},
        {**FROM_HERE, "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_no_other_site_can_sign_anybody_in(memory: Store, headers: dict[str, str]) -> None:
    transport = httpx.ASGITransport(receiver(memory))
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=headers) as client:
        answer = await sign_in(client, READERS)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_behind_a_proxy_that_renames_the_host_the_word_of_the_browser_counts(memory: Store) -> None:
    headers = {"Origin": "https://calls.example.com", "Sec-Fetch-Site": "same-origin"}
    transport = httpx.ASGITransport(receiver(memory))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.9:8080", headers=headers) as client:
        answer = await sign_in(client, READERS)
    assert (answer.status_code, "Secure" in answer.headers["set-cookie"]) == (303, True)


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_no_secret_reaches_an_address_a_log_or_a_page(memory: Store) -> None:
    answers: list[httpx.Response] = []
    with capture_logs() as logs:
        async with browser(receiver(memory)) as client:
            answers += [await sign_in(client, secret) for secret in ("wrong-hunter2", READERS, OPERATORS)]
            answers.append(await client.get("/ui"))
            answers.append(await client.get("/ui/act/hold?queue=default"))
            # A form that asks for the secret in its address does not exist, and would not be answered.
            answers.append(await client.get("/ui/sign-in", params={"name": "Mary", "secret": "x"}))
        cookie = client.cookies["voiceflow"]
    assert [each["event"] for each in logs].count("somebody signed in to the console") == 2
    told = repr(logs) + "".join(f"{each.text}{each.headers.get('location', '')}" for each in answers)
    for secret in ("wrong-hunter2", READERS, OPERATORS, cookie):
        assert secret not in told
    assert 'method="post"' in (answers[0].text)


async def test_a_form_that_is_too_long_or_none_is_refused(memory: Store) -> None:
    async with browser(receiver(memory)) as client:
        long = await client.post("/ui/sign-in", data={"name": "x" * 2_000_001, "secret": READERS})
        assert (long.status_code, "longer than 2,000,000 bytes" in long.text) == (400, True)
        for content, kind in (
            (b"\x00\xff", "multipart/form-data"),
            (b"--x", "multipart/form-data; boundary=x"),
            (ODD_FORM, 'multipart/form-data; boundary=x; charset="undefined"'),
            (ODD_FORM, 'multipart/form-data; boundary=x; charset="unicode_escape"'),
            (b"{}", "a/b"),
        ):
            answer = await client.post("/ui/sign-in", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 400, kind
