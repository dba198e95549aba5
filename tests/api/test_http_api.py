"""Who may come in by the HTTP API, and how refusals are told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.api.clients import SECRET, Client, call, findings_of, program
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE
from tests.support.waiting import until
from voiceflow_worker import CallQueue, Store, load_settings
from voiceflow_worker.api import app, asked
from voiceflow_worker.api.secrets import ApiSecrets
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.webhooks import Receiver

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


@pytest.mark.parametrize("value", [f"bearer {SECRET}", f"BEARER   {SECRET}"])
async def test_the_secret_is_that_of_bearer(client: Client, value: str) -> None:
    assert (await client.get("/v1/calls", headers={"Authorization": value})).status_code == 200
    for wrong in (SECRET, f"Basic {SECRET}", f"Bearer {SECRET} x", "Bearer", ""):
        assert (await client.get("/v1/calls", headers={"Authorization": wrong})).status_code == 401


async def test_wrong_secrets_wait_for_each_other_and_the_right_one_for_nobody(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WRONG_SECRET_TAKES", 0.2)
    began, took = anyio.current_time(), list[float]()

    async def guess() -> None:
        assert (await client.get("/v1/calls", headers={"Authorization": "Bearer guessed"})).status_code == 401
        took.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(guess)
        await anyio.wait_all_tasks_blocked()
        assert (await client.get("/v1/calls")).status_code == 200
        assert not took
    assert [each > 0.2 * place for place, each in enumerate(took, 1)] == [True] * 3


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
    ("GET", "/v1/calls?limit=%F1", {}, 422),
    ("GET", "/v1/calls?after=%00", {}, 422),
    ("GET", "/v1/calls?state=lost", {}, 422),
    ("GET", "/v1/calls?number=1", {}, 422),
    ("GET", "/v1/calls?colour=red", {}, 422),
    ("GET", "/v1/calls/default.1?wait=61", {}, 422),
    ("POST", "/v1/calls", {}, 422),
    ("POST", "/v1/calls", {"Idempotency-Key": "x" * 201}, 422),
    ("POST", "/v1/calls", {"Idempotency-Key": "1", "Content-Type": "text/plain"}, 422),
    ("POST", "/v1/calls", {"Idempotency-Key": "1", "Content-Encoding": "br"}, 400),
]


async def test_every_refusal_is_a_problem(client: Client) -> None:
    for method, path, headers, status in REFUSED:
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == status, (method, path)
        findings_of(answer)


BROKEN = [
    b"", b"{", b"[]", b'"x"', b"nul", b"\xff", b'{"to": NaN}', b'{"to": Infinity}', b'{"to": -Infinity}',
    b'{"to": 1e999}',
    b'{"to": ' + b"9" * 5000 + b"}", b'{"to": "\\ud800"}',
    b'{"\\udfff": 1}', b'{"say": "a\\u0000b"}', b"[" * 100_000, b'{"data":' * 100 + b"1" + b"}" * 100,
    b'{"to": "+6587654321"} x', "{}".encode("utf-16"), b"{'to': 1}", b'{"to": 1,}', b"/**/{}",
]  # fmt: skip


async def test_a_body_that_is_no_json_or_no_text_is_refused(memory: Store, client: Client) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "1"}
    for body in BROKEN:
        answer = await client.post("/v1/calls", content=body, headers=headers)
        assert answer.status_code in {400, 422}, body[:20]
        assert findings_of(answer)
        assert not await CallQueue(memory).find()


async def test_the_document_is_openapi(client: Client) -> None:
    answer = await client.get("/v1/openapi.json")
    validate(json.loads(answer.text))


async def test_so_many_are_worked_on_at_once_and_others_wait(memory: Store) -> None:
    at_once, most = 0, 0

    async def counts(_: StoreCall) -> None:
        nonlocal at_once, most
        at_once, most = at_once + 1, max(most, at_once + 1)
        await anyio.sleep(0.001)
        at_once -= 1

    async with program(FaultyStore(memory, before=counts)) as client, anyio.create_task_group() as group:
        for place in range(40):
            group.start_soon(call, client, f"order-{place}")
    assert 1 < most <= asked.AT_ONCE
    assert len(await CallQueue(memory).find()) == 40


async def test_all_that_is_wrong_with_a_request_is_told_at_once_in_the_words_of_json(
    memory: Store, client: Client
) -> None:
    wrong = {"to": "12", "say": "Hello {{nme}}.", "colour": "red", "valid_for": "soon"}
    answer = await call(client, **wrong)
    found = {(each["pointer"], each["code"]) for each in findings_of(answer)}
    assert answer.status_code == 422
    assert found == {("/to", "invalid"), ("/colour", "unknown"), ("/valid_for", "invalid")}
    queue = await client.post("/v1/queues/default/hold", json={"for": "soon", "note": 5, "x": 1})
    assert [each["pointer"] for each in findings_of(queue)] == ["/note", "/for", "/x"]
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
    assert kinds == ["invalid", "suppressed", "invalid", "not_found", "wrong_secret"]


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


def test_the_secret_is_there() -> None:
    with pytest.raises(SettingsError, match="VOICEFLOW_API_SECRET"):
        ApiSecrets(load_settings())


async def test_answers_are_counted_by_their_route_and_nothing_that_was_sent_is_a_label(
    client: Client,
) -> None:
    made = (await call(client)).json()["id"]
    for method, path in (("GET", f"/v1/calls/{made}"), ("GET", "/v1/calls/default.7"), ("GET", "/v1/calls")):
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


@pytest.mark.parametrize("prefix", ["", "/calls", "/api/v1/calls", "/v1", "/v1/v1"])
async def test_below_any_prefix_all_addresses_have_it(memory: Store, prefix: str) -> None:
    receiver = Receiver(load_settings(api_secret=SECRET, source=SOURCE, voice_profile="v"), memory)
    transport = httpx.ASGITransport(Starlette(routes=[Mount(prefix, app=receiver.app)]))
    async with Client(transport=transport, base_url=f"http://calls{prefix}") as client:
        client.headers["Authorization"] = f"Bearer {SECRET}"
        document = (await client.get("/v1/openapi.json")).json()
        assert document.get("servers", [{"url": ""}]) == [{"url": prefix}]
        made = await call(client)
        assert made.headers["location"] == f"{prefix}/v1/calls/{made.json()['id']}"
        shown = await client.get(made.headers["location"].removeprefix(prefix))
        assert shown.json()["id"] == made.json()["id"]
