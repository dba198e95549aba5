"""Who may come in by the HTTP API, and how refusals are told."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.api.clients import SECRET, Client, api_of, call, findings_of, program
from tests.support.flows import SOURCE
from tests.support.waiting import until
from tests.support.workers import enqueued
from tests.webhooks.receiving import other
from voiceflow_worker import CallQueue, Store, load_settings, open_store
from voiceflow_worker.api import exchange
from voiceflow_worker.api.secrets import ApiSecrets
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.webhooks import PATH, Receiver
from voiceflow_worker.webhooks.events import OtherEvent
from voiceflow_worker.webhooks.menu_events import MenuEvents

pytestmark = pytest.mark.anyio
PATHS = ["/v1/calls", "/v1/calls/default.1", "/v1/openapi.json", "/v1/nothing", "/v1/"]


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_comes_in_without_the_secret(memory: Store, path: str) -> None:
    for secret, challenge in ((None, 'Bearer realm="voiceflow"'), ("wrong", "invalid_token")):
        async with program(memory, secret=secret) as client:
            for method in ("GET", "POST", "PATCH"):
                answer = await client.request(method, path)
                assert answer.status_code == 401
                assert challenge in answer.headers["www-authenticate"]
                findings_of(answer)


SHOWN = {
    f"bearer {SECRET}": 200, f"BEARER   {SECRET}": 200, f"Basic {b64encode(f'user:{SECRET}'.encode()).decode()}": 200,
    f"basic {b64encode(f':{SECRET}'.encode()).decode()}": 200, SECRET: 401, f"Basic {SECRET}": 401, "Basic !": 401,
    f"Basic {b64encode(b'a:wrong').decode()}": 401, "Basic": 401, f"Bearer {SECRET} x": 401, "Bearer": 401, "": 401,
}  # fmt: skip


@pytest.mark.parametrize("value", SHOWN)
async def test_the_secret_is_that_of_bearer_or_the_password_of_basic(client: Client, value: str) -> None:
    assert (await client.get("/v1/calls", headers={"Authorization": value})).status_code == SHOWN[value]


async def test_many_wrong_secrets_are_slowed_down_and_the_right_one_is_always_taken(client: Client) -> None:
    wrong = {"Authorization": "Bearer guessed"}
    answers = [await client.get("/v1/calls", headers=wrong) for _ in range(8)]
    assert [each.status_code for each in answers] == [401] * 5 + [429] * 3
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert "too many failed attempts" in answers[-1].text
    assert (await client.get("/v1/calls")).status_code == 200


async def test_only_the_networks_that_are_allowed_may_use_it(memory: Store) -> None:
    async with program(memory, api_allow="10.0.0.0/8") as client:
        answer = await call(client)
        assert answer.status_code == 403
        findings_of(answer)
    async with program(memory, api_allow="10.0.0.0/8", address="10.1.2.3") as client:
        assert (await call(client)).status_code == 201
    assert len(await CallQueue(memory).find()) == 1


async def test_no_body_is_read_of_who_may_not_send_one_nor_all_of_one_that_is_too_long(client: Client) -> None:
    read = list[int]()

    async def parts() -> AsyncIterator[bytes]:
        for place in range(200):
            read.append(place)
            yield b" " * 100_000

    shown = {"Content-Type": "application/json", "Idempotency-Key": "1"}
    for status, most, more in (
        (401, 0, {"Authorization": "Bearer no"}), (413, 0, {"Content-Length": "1000001"}), (413, 19, {}),
    ):  # fmt: skip
        answer = await client.post("/v1/calls", content=parts(), headers={**shown, **more})
        assert (answer.status_code, len(read) <= most) == (status, True), len(read)


REFUSED: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", "/v1/nothing", {}, 404),
    ("GET", "/v1", {}, 404),  # no redirect: behind a proxy it would lead to http://
    ("GET", "/v1/calls/", {}, 404),
    ("GET", "/v1/calls/%20", {}, 404),
    ("GET", "/v1/calls/%ff", {}, 404),
    ("GET", "/v1/calls/%00", {}, 404),
    ("PATCH", "/v1/calls", {}, 405),
    ("OPTIONS", "/v1/calls", {}, 405),
    ("GET", "/v1/calls?limit=0", {}, 422),
    ("GET", "/v1/calls?limit=1&limit=2", {}, 422),
    ("GET", "/v1/calls?limit=%F1", {}, 400),
    ("GET", "/v1/calls?batch=%ff", {}, 400),
    ("GET", "/v1/calls?after=%00", {}, 400),
    ("GET", "/v1/calls?state=lost", {}, 422),
    ("GET", "/v1/calls?number=1", {}, 422),
    ("GET", "/v1/calls?colour=red", {}, 422),
    ("GET", "/v1/calls/default.1?wait=61", {}, 422),
    ("POST", "/v1/calls", {}, 400),
    ("POST", "/v1/calls", {"Idempotency-Key": "x" * 201}, 400),
    ("POST", "/v1/calls", {"Idempotency-Key": "1", "Content-Type": "text/plain"}, 415),
    ("POST", "/v1/calls", {"Idempotency-Key": "1", "Content-Encoding": "br"}, 415),
]


async def test_every_refusal_is_a_problem(client: Client) -> None:
    for method, path, headers, status in REFUSED:
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == status, (method, path)
        findings_of(answer)
        if status == 405:
            assert "GET" in answer.headers["allow"]


BROKEN = [
    b"", b"{", b"[]", b'"x"', b"nul", b"\xff", b'{"to": NaN}', b'{"to": Infinity}', b'{"to": -Infinity}',
    b'{"to": 1e999}',
    b'{"to": ' + b"9" * 5000 + b"}", b'{"to": "+65", "to": "+66"}', b'{"data": {"a": 1, "a": 1}}', b'{"to": "\\ud800"}',
    b'{"\\udfff": 1}', b'{"say": "a\\u0000b"}', b"[" * 100_000, b'{"data":' * 100 + b"1" + b"}" * 100,
    b'{"to": "+6587654321"} x', "{}".encode("utf-16"), b"{'to': 1}", b'{"to": 1,}', b"/**/{}",
]  # fmt: skip


async def test_a_body_that_two_readers_may_read_differently_is_refused(memory: Store, client: Client) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "1"}
    for body in BROKEN:
        answer = await client.post("/v1/calls", content=body, headers=headers)
        assert answer.status_code in {400, 422}, body[:20]
        assert findings_of(answer)
        assert ("nested too deeply" in answer.json()["detail"]) == body.startswith((b"[[", b'{"data":{"data"'))
        assert not await CallQueue(memory).find()


async def test_the_document_is_openapi(client: Client) -> None:
    answer = await client.get("/v1/openapi.json")
    validate(json.loads(answer.text))


async def test_beyond_the_requests_that_are_worked_on_the_next_come_back_later(client: Client) -> None:
    line = api_of(client).context.line
    for place in range(exchange.MOST_IN_LINE):
        line.acquire_on_behalf_of_nowait(place)
    answer = await call(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    findings_of(answer)
    alarm = await client.post("/v1/hooks/alertmanager?numbers=%2B6587654321", json={})
    assert (alarm.status_code, alarm.headers["retry-after"]) == (503, "1"), "Alertmanager gives up after a 429"
    assert alarm.json()["code"] == answer.json()["code"] == "too_many_requests"
    line.release_on_behalf_of(0)
    assert (await call(client)).status_code == 201
    assert line.borrowed_tokens == exchange.MOST_IN_LINE - 1


async def test_all_that_is_wrong_with_a_request_is_told_at_once_in_the_words_of_json(
    memory: Store, client: Client
) -> None:
    wrong = {"to": "12", "say": "Hello {{nme}}.", "colour": "red", "valid_for": "soon"}
    answer = await client.post("/v1/calls?limit=5", json=wrong)
    found = {(each["pointer"], each.get("parameter"), each["code"]) for each in findings_of(answer)}
    assert answer.status_code == 400
    assert found == {
        (None, "limit", "unknown"), (None, "Idempotency-Key", "unreadable"),
        ("/to", None, "invalid"), ("/colour", None, "unknown"), ("/valid_for", None, "invalid"),
    }  # fmt: skip
    queue = await client.post("/v1/queues/default/hold?x=1", json={"for": "soon", "note": 5})
    assert [each["pointer"] for each in findings_of(queue)] == [None, "/note", "/for"]
    missing = findings_of(await call(client, say="Hello {{nme}}."))
    assert [(each["pointer"], each["detail"]) for each in missing] == [
        ("/data/nme", "has no value, but the text needs it; give nme a value")
    ]
    nothing = findings_of(await call(client, to=None))
    assert ("/to", "missing") in {(each["pointer"], each["code"]) for each in nothing}
    assert not await CallQueue(memory).find()


async def test_the_type_of_a_problem_differs_by_its_kind(client: Client) -> None:
    await client.put("/v1/suppression/+6587654399")
    asked = [
        await call(client, "1", say=""), await call(client, "2", to="+6587654399"), await call(client, ""),
        await client.get("/v1/nothing"), await client.get("/v1/calls", headers={"Authorization": "Bearer no"}),
    ]  # fmt: skip
    kinds = [answer.json()["type"].rpartition(":")[2] for answer in asked]
    assert kinds == ["invalid", "suppressed", "unreadable", "not_found", "wrong_secret"]


@pytest.mark.parametrize("name", ["calls", "batches", "suppression", "audit"])
async def test_each_list_is_read_in_pages_and_no_other_text_is_a_place_in_it(client: Client, name: str) -> None:
    for place in range(3):
        key = f"order-{place}"
        assert (await call(client, key, batch=key)).status_code == 201
        assert (await client.put(f"/v1/suppression/+658765430{place}")).is_success
    whole = (await client.get(f"/v1/{name}")).json()
    (items,) = (value for value in whole.values() if isinstance(value, list))
    assert len(items) >= 3
    assert whole["after"] is None
    found, after = list[object](), None
    while after is not None or not found:
        page = (await client.get(f"/v1/{name}", params={"limit": 2, **({"after": after} if after else {})})).json()
        found += next(value for value in page.values() if isinstance(value, list))
        after = page["after"]
    assert found == items
    for wrong in ("", "nowhere", "other.01K5ZZZZZZZZZZZZZZZZZZZZZZ"):
        answer = await client.get(f"/v1/{name}", params={"after": wrong})
        assert answer.status_code == 422, wrong
        assert [each["parameter"] for each in findings_of(answer)] == ["after"]


LATER = {"not_before": "tomorrow 09:00", "time_zone": "Asia/Singapore", "to": "+6581111111"}
SAYS = {"action": "say", "params": {"text": "x" * 1000, "voiceProfile": "en-US-JennyNeural"}}
CALLS = {"action": "makeCall", "params": {"source": "6531234567", "destination": "6587654321"}}
ALMOST_1_MB = json.dumps({**LATER, "flow": {"callflow": [CALLS, *[SAYS] * 900]}})


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_request_keeps_the_loop_busy_that_answers_the_keys_of_open_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of processor time for one callback, while programs send large bodies and read the longest lists."""
    took, longest, statuses = list[float](), list[float](), set[int]()
    run = asyncio.Handle._run

    def counted(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        took.append(time.thread_time() - began)

    async def asked(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
        statuses.add((await ask()).status_code)

    async with open_store(f"sqlite:///{tmp_path}/calls.db") as store, program(store) as client:
        await enqueued(store, 300)
        for turn in range(3):  # what is loaded at the first time does not count
            took.clear()
            monkeypatch.setattr(asyncio.Handle, "_run", counted)
            async with anyio.create_task_group() as group:
                for place in range(4):
                    headers = {"Idempotency-Key": f"{turn} {place}", "Content-Type": "application/json"}
                    group.start_soon(asked, partial(client.post, "/v1/calls", content=ALMOST_1_MB, headers=headers))
                    group.start_soon(asked, partial(client.get, "/v1/calls?limit=200"))
                    group.start_soon(asked, partial(call, client, f"small {turn} {place}", **LATER))
            monkeypatch.undo()
            longest.append(max(took))
    assert statuses == {200, 201}
    assert min(longest) <= 0.06, longest


async def test_a_request_is_begun_when_no_event_is_being_handled_and_many_events_do_not_stop_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes, ends = anyio.Event(), anyio.Event()
    told: list[str] = []

    async def handled(_: MenuEvents, _event: OtherEvent) -> None:
        comes.set()
        await ends.wait()

    monkeypatch.setattr(MenuEvents, "__call__", handled)

    async def event() -> None:
        assert (await client.post(PATH, json=other("CALL_STATUS"))).status_code == 200
        told.append("event")

    async def asked(key: str) -> None:
        assert (await call(client, key)).status_code == 201
        told.append(key)

    async with anyio.create_task_group() as group:
        group.start_soon(event)
        await comes.wait()
        await asked("while an event is being handled, after a moment")
        monkeypatch.setattr(exchange, "WAITS_FOR_EVENTS", timedelta(minutes=1))
        group.start_soon(asked, "next")
        await anyio.wait_all_tasks_blocked()
        ends.set()
    assert told == ["while an event is being handled, after a moment", "event", "next"]


@pytest.mark.parametrize("name", ["ui_secret", "webhook_secret", "api_key"])
def test_the_secret_is_there_and_opens_nothing_else(name: str) -> None:
    with pytest.raises(SettingsError, match="VOICEFLOW_API_SECRET"):
        ApiSecrets(load_settings())
    with pytest.raises(SettingsError, match=f"VOICEFLOW_{name.upper()} are the same"):
        ApiSecrets(load_settings(api_secret="one-for-all-and-all", **{name: "one-for-all-and-all"}))


async def test_answers_are_counted_by_their_route_and_nothing_that_was_sent_is_a_label(
    client: Client,
) -> None:
    made = (await call(client)).json()["id"]
    for method, path in (("GET", f"/v1/calls/{made}"), ("GET", "/v1/calls/default.7"), ("HEAD", "/v1/calls")):
        await client.request(method, path)
    for method, path in (("SPAM", "/v1/calls"), ("GET", "/v1/+6587654321")):
        await client.request(method, path)
    await client.get("/v1/calls", headers={"Authorization": "Bearer no"})

    async def told() -> set[str]:
        lines = (await client.get("/metrics")).text.splitlines()
        return {each for each in lines if each.startswith("voiceflow_api_") and "_created" not in each}

    counted = {
        ("POST /v1/calls", 201), ("GET /v1/calls/{id}", 200), ("GET /v1/calls/{id}", 404), ("GET /v1/calls", 200),
        ("none", 405), ("none", 404), ("none", 401),
    }  # fmt: skip
    answers = {f'voiceflow_api_answers_total{{route="{route}",status="{status}"}} 1.0' for route, status in counted}
    assert await told() == {*answers, "voiceflow_api_waiting 0.0"}
    async with anyio.create_task_group() as group:
        group.start_soon(client.get, f"/v1/calls/{made}?wait=60")

        async def one_waits() -> bool:
            return "voiceflow_api_waiting 1.0" in await told()

        await until(one_waits)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("prefix", "forwarded", "proxy"),
    [
        ("", None, "127.0.0.1"), ("/calls", "/outer", "127.0.0.1"), ("/api/v1/calls", None, "127.0.0.1"),
        ("/v1", "/of/v1/x/", "127.0.0.1"), ("/v1/v1", None, "127.0.0.1"), ("", "/outer", "127.0.0.1"),
        ("", "/elsewhere", None), ("/calls", "/elsewhere", "192.0.2.9"),
    ],
)  # fmt: skip
async def test_below_any_prefix_all_addresses_have_it_as_its_own_proxies_say(
    memory: Store, prefix: str, forwarded: str | None, proxy: str | None
) -> None:
    settings = load_settings(api_secret=SECRET, source=SOURCE, voice_profile="v", trusted_proxies=proxy)
    receiver = Receiver(settings, memory)
    transport = httpx.ASGITransport(Starlette(routes=[Mount(prefix, app=receiver.app)]))
    whole = ((forwarded or "").rstrip("/") if proxy == "127.0.0.1" else "") + prefix
    async with Client(transport=transport, base_url=f"http://calls{prefix}") as client:
        client.headers["Authorization"] = f"Bearer {SECRET}"
        if forwarded is not None:
            client.headers["X-Forwarded-Prefix"] = forwarded
        document = (await client.get("/v1/openapi.json")).json()
        assert document["servers"] == [{"url": whole or "/"}]
        made = await call(client)
        assert made.headers["location"] == f"{whole}/v1/calls/{made.json()['id']}"
        shown = await client.get(made.headers["location"].removeprefix(whole))
        assert shown.json()["id"] == made.json()["id"]
