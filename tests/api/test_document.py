"""The OpenAPI document holds: whatever is sent, the answer is one that the document has, and never a failure."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote, urlencode

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.api.clients import CALL, program
from tests.support.other_process import work_here
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.api.http_api import OPERATIONS
from voiceflow_worker.core.base.record_set import unreadable_here

__all__ = ["work_here"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("work_here")]
Json = dict[str, Any]

TEXTS = [
    "", " ", "a", "+6587654321", "6587654321", "default", "unlimited", "2h", "10m", "0s", "-1d", "tomorrow 09:00", "SG",
    "09:00-18:00", "busy,no_answer", "2030-01-31T09:00:00+08:00", "Asia/Singapore", "{{name}}", "{{", "{% x %}", "\x7f",
    "\u202e", "\U0001f4de", "é" * 300, "x" * 5000, "../../etc/passwd", "%00", "' OR 1=1 --", "null", "nan", "1e999",
    "\x00", "\ud800",
]  # fmt: skip
NUMBERS: list[Any] = [0, -1, 1, 5, 60, 0.5, -0.0, 1e308, 2**63, 2**70, -(10**30)]


class Dice:
    """Values for a schema, most of them fit, and some that are anything."""

    def __init__(self, document: Json, seed: int) -> None:
        self._document = document
        self.random = random.Random(seed)

    def value(self, schema: Json, *, depth: int = 0) -> Any:
        if "$ref" in schema:
            schema = cast("Json", self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        if depth > 4 or self.random.random() < 0.15:
            return self.anything(depth)
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kinds = schema.get("type", "string")
        kind = kinds if isinstance(kinds, str) else self.random.choice(kinds)
        match kind:
            case "object":
                properties = schema.get("properties", {})
                required = schema.get("required", ())
                made = {
                    name: self.value(each, depth=depth + 1)
                    for name, each in properties.items()
                    if (name in required and self.random.random() < 0.95) or self.random.random() < 0.25
                }
                return made if self.random.random() < 0.9 else {**made, self.random.choice(TEXTS): 1}
            case "array":
                return [self.value(schema.get("items", {}), depth=depth + 1) for _ in range(self.random.randrange(3))]
            case "integer" | "number":
                return self.random.choice(NUMBERS)
            case "boolean":
                return self.random.choice([True, False])
            case "null":
                return None
            case _:
                return self.random.choice(TEXTS)

    def anything(self, depth: int = 0) -> Any:
        match self.random.randrange(6 if depth < 4 else 4):
            case 0:
                return self.random.choice(NUMBERS)
            case 1 | 2:
                return self.random.choice(TEXTS)
            case 3:
                return self.random.choice([None, True, False])
            case 4:
                return [self.anything(depth + 1) for _ in range(self.random.randrange(3))]
            case _:
                return {self.random.choice(TEXTS): self.anything(depth + 1) for _ in range(self.random.randrange(3))}

    def content(self, schema: Json) -> bytes:
        """A body: JSON of the schema, JSON of anything, or some bytes."""
        value = self.value(schema)
        if "CallRequest" in str(schema) and isinstance(value, dict) and self.random.random() < 0.5:
            value = {**CALL, **value, "to": CALL["to"]}
        body = json.dumps(value).encode()
        if self.random.random() < 0.1:
            cut = self.random.randrange(len(body) + 1)
            body = body[:cut] + self.random.choice([b"", b"\xff", b"}", b"\x00", b'"']) + body[cut:]
        return body


def text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).replace("\ud800", "?")


def request_for(dice: Dice, method: str, path: str, operation: Json, ids: list[str]) -> httpx.Request:
    query: list[tuple[str, str]] = []
    headers = {"Accept": "application/json"}
    for parameter in operation.get("parameters", ()):
        value = text(dice.value(parameter["schema"]))
        if parameter["in"] == "path":
            named = dice.random.choice([*ids, "default", "+6587654321", "+6580000001"])
            path = path.replace(
                f"{{{parameter['name']}}}", quote(named if dice.random.random() < 0.8 else value, safe="+")
            )
        elif parameter["in"] == "header" and dice.random.random() < 0.95:
            headers[parameter["name"]] = f"key-{dice.random.randrange(40)}" if dice.random.random() < 0.9 else "x" * 201
        elif parameter["name"] != "wait" and dice.random.random() < 0.4:
            query.append((parameter["name"], value))
    content = b""
    if "requestBody" in operation:
        [(media_type, of_type), *_] = operation["requestBody"]["content"].items()
        content = dice.content(of_type["schema"])
        headers["Content-Type"] = media_type if dice.random.random() < 0.97 else "text/plain"
    return httpx.Request(method.upper(), f"http://calls{path}?{urlencode(query)}", headers=headers, content=content)


def times_told(schema: Json, value: Any, document: Json, *, at: str = "") -> Iterator[tuple[str, str | None]]:
    """The place and the format of each time in an answer, where the schema says what is there."""
    if "$ref" in schema:
        schema = cast("Json", document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    fits = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(fits) == 1:
        schema = fits[0]
    if isinstance(value, dict):
        for name, each in cast("Json", value).items():
            if name in schema.get("properties", {}):
                yield from times_told(schema["properties"][name], each, document, at=f"{at}/{name}")
    elif isinstance(value, list):
        listed: list[Any] = value
        for each in listed:
            yield from times_told(schema.get("items", {}), each, document, at=at)
    elif isinstance(value, str) and (schema.get("format") == "date-time" or re.fullmatch(_RFC_3339, value)):
        assert re.fullmatch(_RFC_3339, value), (at, value)
        yield at, schema.get("format")


_RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"


async def hold(store: Store, *, rounds: int) -> int:
    """Send requests of every kind, and hold each answer against the document."""
    sent = 0
    async with program(store) as client:
        document = cast("Json", (await client.get("/v1/openapi.json")).json())
        dice, ids = Dice(document, seed=rounds), list[str]()
        for _ in range(rounds):
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    request = request_for(dice, method, path, operation, ids[-5:])
                    request.headers["Authorization"] = client.headers["Authorization"]
                    answer = await client.send(request)
                    told = (method, request.url, request.content[:500], answer.status_code, answer.text[:500])
                    assert answer.status_code < 500, told
                    assert str(answer.status_code) in operation["responses"], told
                    response = operation["responses"][str(answer.status_code)]
                    if "$ref" in response:
                        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
                    [(media_type, of_type)] = response["content"].items()
                    assert answer.headers["content-type"] == media_type, told
                    schema = {**of_type["schema"], "components": document["components"]}
                    errors = list(Draft202012Validator(schema).iter_errors(answer.json()))
                    assert not errors, (errors[0].message, told)
                    for at, told_as in times_told(of_type["schema"], answer.json(), document):
                        assert told_as == "date-time", (at, told)
                    if answer.status_code == 201 and path == "/v1/calls":
                        ids.append(answer.json()["id"])
                    sent += 1
    return sent


async def test_every_answer_is_one_that_the_document_has(memory: Store) -> None:
    assert await hold(memory, rounds=12) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store_url", ["sqlite", "postgres", "redis"], indirect=True)
async def test_every_answer_to_thousands_of_requests_is_one_that_the_document_has(store: Store) -> None:
    assert await hold(store, rounds=300) > 3000


ODD: list[Any] = [
    None, True, 5, -1, 0.5, 1e308, 2**70, "", " ", "x", "a\x00b", "a\ud800", "x" * 5000, "{{x}}", "9" * 40, [], [5],
    ["x"], [[]], {}, {"a": 5}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "99999999999d",
]  # fmt: skip
NEEDED: Json = {
    "/v1/calls": CALL,
    "/v1/campaigns": {"rows": [{"destination": "+6587654321"}], "say": "Hello.", "batch": "march"},
    "/v1/escalations": {"say": "Wake up.", "numbers": ["+6587654321"]},
    "/v1/calls/{id}/resolve": {"note": "seen", "placed": True},
    "/v1/queues/{name}/rate": {"rate": 5},
    "/v1/hooks/alertmanager": {"alerts": []},
}
"""A body that is right, of the operations that need one."""


def odd_bodies(document: Json) -> Iterator[tuple[str, str, Json]]:
    """For each field of each body an odd value, beside a body that is right."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            of_type = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if of_type is not None:
                schema = document["components"]["schemas"][of_type["schema"]["$ref"].rpartition("/")[2]]
                for name in schema["properties"]:
                    yield from ((method, path, {**NEEDED.get(path, {}), name: value}) for value in ODD)


async def try_odd_bodies(store: Store, *, every: int) -> None:
    """Send them; no answer is a failure of the server, and all that was stored can be read again."""
    skipped = unreadable_here()
    async with program(store) as client:
        document = cast("Json", (await client.get("/v1/openapi.json")).json())
        first = await client.post("/v1/calls", json={**CALL, "batch": "march"}, headers={"Idempotency-Key": "first"})
        named = {"{id}": first.json()["id"], "{name}": "default", "{number}": "%2B6580000001"}
        for place, (method, path, body) in enumerate(odd_bodies(document)):
            if place % every:
                continue
            url = path.replace("/batches/{id}", "/batches/march")
            for each, value in named.items():
                url = url.replace(each, value)
            headers = {"Idempotency-Key": f"key-{place}", "Content-Type": "application/json"}
            answer = await client.request(method, url, content=json.dumps(body), headers=headers)
            told = (method, path, body, answer.status_code, answer.text[:500])
            assert answer.status_code < 500, told
            assert str(answer.status_code) in document["paths"][path][method]["responses"], told
        for path in ("calls", "batches", "escalations", "suppression", "audit", "queues/default"):
            assert (await client.get(f"/v1/{path}")).status_code == 200, path
    queue = CallQueue(store)
    assert len(await queue.find(limit=None)) == (await queue.status()).total
    assert (unreadable_here(), (await queue.status()).unreadable.count) == (skipped, 0)


async def test_an_odd_value_of_a_field_is_answered_and_stored_so_that_it_can_be_read(store: Store) -> None:
    await try_odd_bodies(store, every=101)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store_url", ["sqlite", "postgres", "redis"], indirect=True)
async def test_many_odd_values_of_every_field_are_answered_and_stored_so_that_they_can_be_read(store: Store) -> None:
    await try_odd_bodies(store, every=5)


async def test_every_route_is_in_the_document_under_a_name_of_its_own(memory: Store) -> None:
    async with program(memory) as client:
        document = cast("Json", (await client.get("/v1/openapi.json")).json())
    found = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert found == {(each.path, each.method.lower()) for each in OPERATIONS}
    paths = document["paths"]
    needed = {path for path in paths if paths[path].get("post", {}).get("requestBody", {}).get("required")}
    assert needed == {
        "/v1/calls",
        "/v1/campaigns",
        "/v1/escalations",
        "/v1/calls/{id}/resolve",
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


async def test_generators_of_clients_can_read_every_schema(memory: Store) -> None:
    """openapi-typescript and its like take an object without properties, or a list without items, for an empty one."""
    async with program(memory) as client:
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


async def test_no_model_of_a_generated_client_has_the_name_of_another(memory: Store) -> None:
    """openapi-python-client leaves out a model, and all that refers to it, if its name is taken."""
    async with program(memory) as client:
        document = cast("Json", (await client.get("/v1/openapi.json")).json())
    schemas = document["components"]["schemas"]
    made = {within: name for name, schema in schemas.items() for within in models_within(schema, name)}
    assert len(made) > 20
    assert not {within: name for within, name in made.items() if within in schemas}
