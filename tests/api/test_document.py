"""The OpenAPI document holds: whatever is sent, the answer is one that the document has, and never a failure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote, urlencode

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.api.clients import CALL, Client, program
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.api.app import fast_api
from voiceflow_worker.core.base.record_set import unreadable_here

pytestmark = pytest.mark.anyio
Json = dict[str, Any]

VALUES: list[Any] = [
    None, True, False, 0, 1, 5, 60, -1, 0.5, -0.0, 1e308, 2**63, 2**70, -(10**30), [], [5], ["x"], [[]], {}, {"a": 5},
    "", " ", "a", "+6587654321", "6587654321", "default", "march", "unlimited", "2h", "10m", "0s", "-1d", "SG", "1",
    "tomorrow 09:00", "09:00-18:00", "busy,no_answer", "2030-01-31T09:00:00+08:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00", "99999999999d", "Asia/Singapore", "{{name}}", "{{", "{% x %}", "\x7f", "\u202e",
    "\U0001f4de", "é" * 300, "x" * 5000, "9" * 40, "../../etc/passwd", "%00", "' OR 1=1 --", "null", "nan", "1e999",
    "a\x00b", "a\ud800", '"x"', "*",
]  # fmt: skip
"""What each part of a request may be: some values fit it, and most are odd."""
OPERATIONS = sum(len(methods) for methods in fast_api().openapi()["paths"].values())
NEEDED: Json = {
    "/v1/calls": CALL,
    "/v1/campaigns": {"rows": [{"destination": "+6587654321"}], "say": "Hello.", "batch": "april"},
    "/v1/escalations": {"say": "Wake up.", "numbers": ["+6587654321"]},
    "/v1/calls/{id}/redial": {"post": 0},
    "/v1/calls/{id}/resolve": {"note": "seen", "placed": True, "post": 1},
    "/v1/batches/{id}/resume": {"since": "2030-01-01T00:00:00Z", "most": 1},
    "/v1/queues/{name}/resume": {"since": "2030-01-01T00:00:00Z", "most": 1},
    "/v1/queues/{name}/rate": {"rate": 5},
    "/v1/hooks/alertmanager": {"alerts": [{"status": "firing", "startsAt": "2026-11-26T03:10:00Z"}]},
}
"""The body of an operation that needs one."""


def requests(document: Json, named: dict[str, str]) -> Iterator[tuple[str, str, dict[tuple[str, str], Any]]]:
    """Of each operation the request that is right, and then those in which one part is another value."""
    for is_right in (True, False):
        for path, methods in document["paths"].items():
            subject = {name: named.get(path.split("/")[2], "+6580000001") for name in re.findall(r"{(\w+)}", path)}
            for method, operation in methods.items():
                right: dict[tuple[str, str], Any] = {("path", name): value for name, value in subject.items()}
                right |= {("body", name): value for name, value in NEEDED.get(path, {}).items()}
                parts = [
                    (each["in"], each["name"]) for each in operation.get("parameters", ()) if each["name"] != "wait"
                ]
                if of_type := operation.get("requestBody", {}).get("content", {}).get("application/json"):
                    schema = of_type["schema"]
                    if "$ref" in schema:
                        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                    parts += [("body", name) for name in [*schema.get("properties", ()), "colour"]]
                if is_right:
                    yield method, path, right
                else:
                    yield from ((method, path, {**right, part: value}) for part in parts for value in VALUES)


async def send(client: Client, method: str, path: str, given: dict[tuple[str, str], Any]) -> httpx.Response:
    """Send a request of these parts."""
    parts: dict[str, Json] = {"path": {}, "query": {}, "header": {}, "body": {}}
    for (where, name), value in given.items():
        is_text = where == "body" or isinstance(value, str)
        parts[where][name] = value if is_text else json.dumps(value)
    for name, value in parts["path"].items():
        path = path.replace(f"{{{name}}}", quote(value, safe="+", errors="surrogatepass"))
    return await client.request(
        method,
        f"{path}?{urlencode(parts['query'], errors='surrogatepass')}",
        headers={name: value.encode(errors="surrogatepass") for name, value in parts["header"].items()},
        content=json.dumps(parts["body"]) if parts["body"] else None,
    )


def check_times(schema: Json, value: Any, document: Json, *, at: str = "") -> None:
    """What an answer has where the schema says so is a time, and nothing else is one."""
    if "$ref" in schema:
        schema = cast("Json", document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    fits = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    schema = fits[0] if len(fits) == 1 else schema
    if isinstance(value, dict):
        for name in value.keys() & schema.get("properties", {}).keys():
            check_times(schema["properties"][name], value[name], document, at=f"{at}/{name}")
    elif isinstance(value, list):
        for each in value:
            check_times(schema.get("items", {}), each, document, at=at)
    elif isinstance(value, str) and value not in VALUES:
        is_time = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) is not None
        assert is_time == (schema.get("format") == "date-time"), (at, value)


async def hold(store: Store, *, every: int) -> None:
    """Send such requests, hold each answer against the document, and read again all that was stored."""
    skipped, failed = unreadable_here(), set[str]()
    async with program(store) as client:
        document = cast("Json", (await client.get("/v1/openapi.json")).json())
        body = {**NEEDED["/v1/calls"], "batch": "march"}
        ordered = await client.post("/v1/calls", json=body, headers={"Idempotency-Key": "first"})
        named, first = {"calls": ordered.json()["id"], "batches": "march", "queues": "default"}, OPERATIONS
        for place, (method, path, given) in enumerate(requests(document, named)):
            if place >= first and place % every:
                continue
            answer = await send(client, method, path, {("header", "Idempotency-Key"): f"key-{place}", **given})
            told = (method, path, given, answer.status_code, answer.text[:500])
            assert answer.status_code < 500 or answer.json()["code"] == "nobody_called", told
            operation = document["paths"][path][method]
            name = str(answer.status_code) if answer.is_success else "default"
            assert name in operation["responses"], told
            response = operation["responses"][name]
            if answer.status_code == 204:
                continue
            [(media_type, of_type)] = response["content"].items()
            assert answer.headers["content-type"] == media_type, told
            schema = {**of_type["schema"], "components": document["components"]}
            errors = list(Draft202012Validator(schema).iter_errors(answer.json()))
            assert not errors, (errors[0].message, told)
            check_times(of_type["schema"], answer.json(), document)
            if place < first and not answer.is_success:
                failed.add(path)
        for name in ("calls", "batches", "suppression", "audit", "queues/default"):
            assert (await client.get(f"/v1/{name}")).status_code == 200, name
    by_state = {"/v1/calls/{id}/resolve", "/v1/hooks/alertmanager", "/v1/suppression/{number}"}
    assert failed == {*by_state, "/v1/batches/{id}/resume", "/v1/queues/{name}/resume"}
    queue = CallQueue(store)
    assert len(await queue.find(limit=None)) == (await queue.status()).total
    assert (unreadable_here(), (await queue.status()).unreadable.count) == (skipped, 0)


async def test_every_answer_is_one_that_the_document_has_and_what_was_stored_can_be_read(store: Store) -> None:
    await hold(store, every=59)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store_url", ["sqlite", "postgres", "redis"], indirect=True)
async def test_every_answer_to_thousands_of_requests_is_one_that_the_document_has(store: Store) -> None:
    await hold(store, every=5)


async def test_every_route_is_in_the_document_under_a_name_of_its_own(client: Client) -> None:
    document = cast("Json", (await client.get("/v1/openapi.json")).json())
    assert sum(len(methods) for methods in document["paths"].values()) == OPERATIONS
    paths = document["paths"]
    needed = {path for path in paths if paths[path].get("post", {}).get("requestBody", {}).get("required")}
    assert needed == {
        "/v1/calls",
        "/v1/campaigns",
        "/v1/escalations",
        "/v1/calls/{id}/redial",
        "/v1/calls/{id}/resolve",
        "/v1/batches/{id}/resume",
        "/v1/queues/{name}/resume",
        "/v1/hooks/alertmanager",
    }
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def schemas_in(value: Any, *, at: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema of a document, with its place."""
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, dict | list):
            yield from schemas_in(each, at=f"{at}/{name}")
    if isinstance(value, dict) and ({"type", "enum"} & set(value)) and "/properties" not in at[-11:]:
        yield at, cast("Json", value)


async def test_generators_of_clients_can_read_every_schema(client: Client) -> None:
    """openapi-typescript and its like take an object without properties, or a list without items, for an empty one."""
    document = cast("Json", (await client.get("/v1/openapi.json")).json())
    found = list(schemas_in(document["paths"])) + list(schemas_in(document["components"]["schemas"]))
    assert len(found) > 150
    for at, schema in found:
        kinds = schema.get("type", [])
        assert kinds, at
        assert "object" not in kinds or {"properties", "additionalProperties"} & set(schema), at
        assert "array" not in kinds or "items" in schema, at


def models_within(schema: Json, name: str) -> Iterator[str]:
    """The names that generators of clients make for the objects and the choices within a schema, as they nest."""
    for field, each in schema.get("properties", {}).items():
        within = name + "".join(f"{part[:1].upper()}{part[1:]}" for part in field.split("_"))
        for one in (each, each.get("items", {}), *each.get("anyOf", ())):
            if "$ref" not in one and ("enum" in one or "object" in str(one.get("type"))):
                yield from (within, f"{within}Item")
            yield from models_within(one, within)


async def test_no_model_of_a_generated_client_has_the_name_of_another(client: Client) -> None:
    """openapi-python-client leaves out a model, and all that refers to it, if its name is taken."""
    document = cast("Json", (await client.get("/v1/openapi.json")).json())
    schemas = document["components"]["schemas"]
    made = {within: name for name, schema in schemas.items() for within in models_within(schema, name)}
    assert len(made) > 20
    assert not {within: name for within, name in made.items() if within in schemas}
