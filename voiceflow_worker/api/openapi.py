"""The OpenAPI 3.1 document of the HTTP API, made of what each route says about itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from voiceflow_worker.api.answers import JSON, LONGEST_TEXT, PROBLEM, Answer
from voiceflow_worker.api.exchange import LONGEST_KEY, Asked, Route

PROBLEMS = {
    400: "The request cannot be read: its JSON, its query, or its Idempotency-Key.",
    401: "The secret is missing or wrong.",
    403: "The network may not use the HTTP API (VOICEFLOW_API_ALLOW).",
    404: "There is nothing with this name.",
    405: "This path does not have this method.",
    406: "The answer would be JSON, which the Accept header excludes.",
    408: "The body did not arrive in time.",
    409: "This cannot be done as things stand; the detail says why.",
    412: "This has changed since the answer with the ETag in If-Match. Nothing was done.",
    413: "The body is too long.",
    415: "The body is not of the type that is read here.",
    422: "What was asked cannot be done; each finding says what is wrong, and where. Nothing was changed.",
    429: "Too many requests at once, or too many wrong secrets. Try again after Retry-After.",
    500: "The server failed; its log has the reason. With the same key, it is safe to try again.",
    503: "The store is away, or busy. Try again after Retry-After, with the same key.",
}
_ALWAYS = (401, 403, 406, 429, 500, 503)
_OF_BODIES = (408, 413, 415)

KEY: Mapping[str, object] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": (
        "The unique key of what is ordered. The same key again is the same order, and rings nobody twice. Quotes "
        'around it, as of a string in a structured field, are no part of it: "k" is k.'
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


IF_MATCH: Mapping[str, object] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what was shown: if that has changed since, the answer is 412, and nothing is done.",
    "schema": {"type": "string"},
}


def ref(name: str) -> dict[str, object]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def in_path(name: str, description: str) -> dict[str, object]:
    """A parameter in the path."""
    return {
        "name": name, "in": "path", "required": True, "description": description,
        "schema": {"type": "string", "minLength": 1},
    }  # fmt: skip


def in_query(name: str, description: str, schema: Mapping[str, object] | None = None) -> dict[str, object]:
    """An optional parameter in the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}}


def operation(
    summary: str,
    *,
    answers: Mapping[int, tuple[str, Mapping[str, object] | None]],
    problems: Sequence[int] = (),
    parameters: Sequence[Mapping[str, object]] = (),
    body: Mapping[str, object] | None = None,
    body_required: bool = True,
    media_types: Sequence[str] = (JSON,),
) -> dict[str, object]:
    """An operation. `answers` are descriptions and schemas by status; `problems` are further statuses of problems."""
    told = {*problems, *_ALWAYS, *((*_OF_BODIES, 400) if body is not None else ()), *((400, 422) if parameters else ())}
    if any(parameter["in"] == "path" for parameter in parameters):
        told.add(404)
    responses: dict[str, object] = {}
    for status, (description, schema) in answers.items():
        content: dict[str, object] = {} if schema is None else {JSON: {"schema": schema}}
        responses[str(status)] = {"description": description, **({"content": content} if content else {})}
    for status in sorted(told):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    made: dict[str, object] = {"summary": summary, "responses": responses}
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        of_body = {media_type: {"schema": body} for media_type in media_types}
        made["requestBody"] = {"required": body_required, "content": of_body}
    return made


def document(routes: Iterable[Route], schemas: Mapping[str, object], *, version: str) -> dict[str, object]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        name = "_".join([route.method.lower(), *(part.strip("{}") for part in route.path.split("/")[2:])])
        paths.setdefault(route.path, {})[route.method.lower()] = {
            "operationId": name.replace(".", "_"),
            **route.doc,
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "voiceflow-worker",
            "version": version,
            "description": "Phone calls through the 8x8 Voice API: from a queue, never twice, never lost, never late.",
        },
        "security": [{"secret": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"secret": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_SHARED, **schemas},
            "responses": {
                str(status): {
                    "description": description,
                    "content": {PROBLEM: {"schema": ref("Problem")}},
                    **({"headers": {"Retry-After": {"schema": {"type": "string"}}}} if status in {429, 503} else {}),
                }
                for status, description in PROBLEMS.items()
            },
        },
    }


def described(routes: Sequence[Route], schemas: Mapping[str, object], *, version: str) -> Route:
    """The route of the document itself."""

    async def show(_: Asked) -> Answer:
        return Answer(shown)

    doc = operation("This document.", answers={200: ("The document.", OBJECT)})
    own = Route(method="GET", path="/v1/openapi.json", handle=show, doc=doc)
    shown = document([*routes, own], schemas, version=version)
    return own


NOTE: Mapping[str, object] = ref("Note")
# Generators of clients read an object without this, or a list without `items`, as one that holds nothing.
OBJECT: Mapping[str, object] = {"type": "object", "additionalProperties": True}
OBJECT_OR_NULL: Mapping[str, object] = {**OBJECT, "type": ["object", "null"]}


def one_of(words: Iterable[str]) -> dict[str, object]:
    """One of these texts."""
    return {"type": "string", "enum": list(words)}


_TEXT_OR_NULL = {"type": ["string", "null"]}
_SHARED: Mapping[str, object] = {
    "Finding": {
        "type": "object",
        "description": "What is wrong, and where. A `path` is that in the request body of 8x8.",
        "required": ["file", "row", "column", "path", "code", "severity", "message"],
        "properties": {
            "file": _TEXT_OR_NULL,
            "row": {"type": ["integer", "null"]},
            "column": _TEXT_OR_NULL,
            "path": _TEXT_OR_NULL,
            "code": {"type": ["integer", "null"]},
            "severity": one_of(["error", "warning"]),
            "message": {"type": "string"},
        },
    },
    "Note": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "note": {**_TEXT_OR_NULL, "maxLength": LONGEST_TEXT, "description": "Why; kept with what was done."}
        },
    },
    "Problem": {
        "type": "object",
        "description": "A problem (RFC 9457).",
        "required": ["type", "title", "status", "detail", "findings"],
        "properties": {
            "type": {"type": "string"},
            "code": {
                **_TEXT_OR_NULL,
                "description": "Such as idempotency_key_reused (422), idempotency_key_in_use (409).",
            },
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "findings": {"type": "array", "items": ref("Finding")},
        },
    },
}
