"""Signing in to the pages: sessions, roles, and what is tried against them."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urljoin

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from tests.console.signing_in import (
    FROM_HERE,
    HOST,
    OPERATORS,
    READERS,
    Form,
    browser,
    enqueued,
    receiver,
    sign_in,
    signed_in,
)
from voiceflow_worker import Receiver, Store, load_settings
from voiceflow_worker.console.sign_in import LASTS
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


async def test_the_cookie_is_kept_from_scripts_and_from_other_sites(memory: Store) -> None:
    async with browser(receiver(memory)) as client:
        plain = (await sign_in(client, READERS)).headers["set-cookie"]
        client.headers["Origin"] = "https://calls"
        over_tls = (await sign_in(client, READERS)).headers["set-cookie"]
    parts = {part.strip().lower() for part in plain.split(";")[1:]}
    assert parts == {"httponly", "samesite=lax", "max-age=43200", "path=/ui"}
    assert ("secure" in plain, "secure" in over_tls) == (False, True)


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


async def test_a_form_of_a_session_that_has_ended_does_nothing_and_says_so(memory: Store) -> None:
    await enqueued(memory, batch="march")
    address = "/ui/act/hold?queue=default&batch=march"
    async with signed_in(receiver(memory)) as client:
        form = Form((await client.get(address)).text)
        assert (await client.post("/ui/sign-out")).status_code == 303
        closed = await client.post("/ui/act/hold", data=form.values(note="wait"))
        assert (closed.status_code, "nothing was done. Sign in in a new tab" in closed.text) == (401, True)
        assert not await gates_of(memory, "default")
        await sign_in(client, OPERATORS)
        assert (await client.post("/ui/act/hold", data=form.values(note="wait"))).status_code == 303
    assert len(await gates_of(memory, "default")) == 1


async def test_a_session_holds_on_each_receiver_until_its_time_or_a_secret_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_in(receiver(store)) as client:
        cookie = client.cookies["voiceflow"]

    async def status(value: str = cookie, **settings: Any) -> int:
        app = Receiver(load_settings(**{"ui_secret": READERS, "ui_operator_secret": OPERATORS, **settings}), store).app
        async with browser(app) as other:
            other.cookies.set("voiceflow", value)
            return (await other.get("/ui/campaign")).status_code

    assert await status() == 200
    for name, value in (("ui_secret", "another-one-of-readers"), ("ui_operator_secret", None)):
        assert await status(cookie, **{name: value}) == 401, "a secret has changed"
    assert await status(f"{cookie[:-2]}xx") == await status("made-up") == 401
    named = {"auth_header": "X-User", "trusted_proxies": "10.0.0.1"}
    assert await status(ui_secret=None, ui_operator_secret=None, **named) == 401, "nobody signs in by a secret there"
    now = time.time()
    for later, expected in ((LASTS.total_seconds() - 60, 200), (LASTS.total_seconds() + 60, 401)):
        monkeypatch.setattr(time, "time", lambda at=now + later: at)
        assert await status() == expected, later


async def test_one_wrong_secret_is_tried_a_second_and_the_right_one_at_once(memory: Store) -> None:
    app, began = receiver(memory), anyio.current_time()
    ended: list[float] = []

    async def wrong() -> None:
        async with browser(app) as client:
            assert (await sign_in(client, "wrong")).status_code == 401
        ended.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(wrong)
        await anyio.sleep(0.1)
        async with browser(app) as client:
            assert (await sign_in(client, READERS)).status_code == 303
        assert ended == []
    assert ended[0] >= 1
    assert ended[1] >= 2


async def test_a_form_that_is_no_form_is_refused(memory: Store) -> None:
    async with browser(receiver(memory)) as client:
        for content, kind in (
            (b"\x00\xff", "multipart/form-data"),
            (b"--x", "multipart/form-data; boundary=x"),
            (ODD_FORM, 'multipart/form-data; boundary=x; charset="undefined"'),
            (b"{}", "a/b"),
        ):
            answer = await client.post("/ui/sign-in", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 400, kind


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
    assert (answer.status_code, "secure" in answer.headers["set-cookie"]) == (303, True)


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
