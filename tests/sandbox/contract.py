"""Requests, answers and events, held against the OpenAPI document that the sandbox serves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voiceflow_worker.sandbox.control import description

EVENTS = {
    "SESSION_SUMMARY": "VSS",
    "CALL_ACTION": "VCA",
}
# The rule for the first action names a few of its properties; it is not the whole of it.
_PARTIAL = frozenset({"contains", "allOf"})


@dataclass(frozen=True)
class Exchange:
    """One request to a server, and its answer."""

    method: str
    path: str
    request: bytes
    status: int
    media_type: str
    answer: bytes


@dataclass
class Watched:
    """An ASGI app whose exchanges are kept, save those of the sandbox's control."""

    app: ASGIApp
    exchanges: list[Exchange] = field(default_factory=list[Exchange])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox/"):
            await self.app(scope, receive, send)
            return
        asked, told = bytearray(), bytearray()
        status, media_type = 0, ""

        async def heard() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status, media_type
            if message["type"] == "http.response.start":
                headers = {name.lower(): value.decode() for name, value in message.get("headers", [])}
                status, media_type = message["status"], headers.get(b"content-type", "").partition(";")[0]
            told.extend(message.get("body", b""))
            await send(message)

        await self.app(scope, heard, said)
        self.exchanges.append(Exchange(scope["method"], scope["path"], bytes(asked), status, media_type, bytes(told)))


class Contract:
    """The document, taken strictly: a property that it does not list is a mistake in a request, an answer or an event.

    The document itself allows more, since real accounts may know more. What breaks it is named, none raises.
    """

    def __init__(self) -> None:
        self.document: dict[str, Any] = _closed(json.loads(description()))
        self._paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), operations)
            for path, operations in self.document["paths"].items()
        ]
        self._validator = cache(self._made)

    def problems(self, exchange: Exchange) -> Iterator[str]:
        """What is wrong with a request to the sandbox, and with its answer."""
        operations = [found for path, found in self._paths if path.fullmatch(exchange.path)]
        where = f"{exchange.method} {exchange.path}"
        if len(operations) != 1 or exchange.method.lower() not in operations[0]:
            yield f"{where} is not described"
            return
        operation = operations[0][exchange.method.lower()]
        yield from (f"{where}: {problem}" for problem in self._of_request(operation, exchange))
        yield from (f"{where}: {problem}" for problem in self._of_answer(operation, exchange))

    def problems_of_event(self, content: bytes) -> Iterator[str]:
        """What is wrong with an event that the sandbox sent."""
        event_type = json.loads(content).get("eventType")
        if event_type not in EVENTS:
            yield f"{event_type} is not described"
            return
        body = self.document["webhooks"][EVENTS[event_type]]["post"]["requestBody"]
        schema = body["content"]["application/json"]["schema"]
        yield from (f"{event_type}: {problem}" for problem in self._of_json(schema, content))

    def problems_of(self, name: str, value: object) -> list[str]:
        """What is wrong with a value that ought to be as a named schema says."""
        return _problems(self._validator(json.dumps({"$ref": f"#/components/schemas/{name}"})), value)

    def _of_request(self, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
        body = operation.get("requestBody")
        if body is None:
            if exchange.request:
                yield "the request has a body, which is not described"
        elif exchange.request or body["required"]:
            schema = body["content"]["application/json"]["schema"]
            yield from (f"request {problem}" for problem in self._of_json(schema, exchange.request))

    def _of_answer(self, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
        responses = operation["responses"]
        response = responses.get(str(exchange.status)) or responses.get(f"{exchange.status // 100}XX")
        if response is None:
            yield f"status {exchange.status} is not described"
            return
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response.get("content")
        if content is None:
            return
        if exchange.media_type not in content:
            yield f"{exchange.media_type or 'no media type'} is not described for status {exchange.status}"
        elif exchange.media_type == "application/json":
            schema = content["application/json"]["schema"]
            yield from (f"answer {exchange.status} {problem}" for problem in self._of_json(schema, exchange.answer))

    def _of_json(self, schema: object, content: bytes) -> list[str]:
        try:
            value = json.loads(content)
        except ValueError:
            return [f"is no JSON: {content[:100]!r}"]
        return _problems(self._validator(json.dumps(schema)), value)

    def _made(self, schema: str) -> Draft202012Validator:
        return Draft202012Validator({**json.loads(schema), "components": self.document["components"]})


@cache
def known_contract() -> Contract:
    """The contract, read once for all tests."""
    return Contract()


def _problems(validator: Any, value: object) -> list[str]:
    return [f"at {error.json_path}: {error.message[:500]}" for error in validator.iter_errors(value)]


def _closed(schema: Any) -> Any:
    """The same, and no object may have a property that is not listed."""
    if isinstance(schema, list):
        return [_closed(each) for each in cast("Any", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Any]", schema)
    made = {name: value if name in _PARTIAL else _closed(value) for name, value in given.items()}
    if given.get("type") == "object" and "properties" in given:
        made["additionalProperties"] = False
    return made
