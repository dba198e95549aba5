"""OpenAPI 3.1 documents, made of the operations of an app and of the types that they read and answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic import TypeAdapter

JSON = "application/json"
Answers: TypeAlias = Mapping[Any, tuple[str, Sequence[Any]]]
"""By status (or by all of a hundred, such as "4XX") the meaning of an answer, and the types of JSON that it may be.

Of none of them it is any JSON object.
"""


_NAMES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path, such as `/v1/calls/{id}`. The docstring of what handles it is its summary."""

    method: str
    path: str
    handle: Callable[..., Awaitable[Any] | Any]
    answers: Answers
    body: Any = None
    """The type of the JSON in the request."""
    is_open: bool = False
    """Whether it needs no secret."""

    @property
    def operation_id(self) -> str:
        """Its name in clients that are made of the document."""
        return self.handle.__name__.strip("_")

    @property
    def needs_body(self) -> bool:
        """Whether there must be a body."""
        return self.body is not None

    def parameter_in_path(self, name: str) -> Mapping[str, object]:
        """What the document tells of a part of the path."""
        return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}

    def documented(self, schemas: Schemas) -> dict[str, Any]:
        """The operation in the document."""
        summary, _, description = (self.handle.__doc__ or "").partition("\n\n")
        made: dict[str, Any] = {"operationId": self.operation_id, "summary": summary}
        if description:
            made["description"] = " ".join(description.split())
        made["responses"] = {
            str(status): response(status, meaning, schemas.content(kinds))
            for status, (meaning, kinds) in self.answers.items()
        }
        if parameters := [self.parameter_in_path(name) for name in _NAMES.findall(self.path)]:
            made["parameters"] = parameters
        if self.is_open:
            made["security"] = []
        if self.body is not None:
            made["requestBody"] = {"required": self.needs_body, "content": schemas.content([self.body])}
        return made


class Schemas:
    """The schemas of types of JSON. What has a name is among the components of the document."""

    def __init__(self, types: Iterable[Any]) -> None:
        kinds = list(dict.fromkeys(types))
        made, told = TypeAdapter.json_schemas(
            [(str(place), "validation", TypeAdapter(kind)) for place, kind in enumerate(kinds)],
            ref_template="#/components/schemas/{model}",
        )
        self.components: Mapping[str, Any] = untitled(told.get("$defs", {}))
        self._of = {kind: untitled(made[str(place), "validation"]) for place, kind in enumerate(kinds)}

    def of(self, kind: Any) -> Mapping[str, object]:
        """The schema of a type."""
        return cast("Mapping[str, object]", self._of[kind])

    def content(self, kinds: Sequence[Any]) -> dict[str, Any]:
        """The content of a request or an answer that is one of these."""
        shapes = [self.of(each) for each in kinds] or [{"type": "object", "additionalProperties": True}]
        return {JSON: {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}}


def response(status: int | str, meaning: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One answer in the document."""
    made: dict[str, Any] = {"description": meaning}
    if content:
        made["content"] = content
    if status in {429, 503, "5XX"}:
        made["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
    return made


def document(operations: Sequence[Operation], schemas: Schemas, *, security: str, **info: str) -> dict[str, Any]:
    """A whole document. `security` is the name of the secret that a request has in its Authorization header."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = each.documented(schemas)
    return {
        "openapi": "3.1.0",
        "info": info,
        "security": [{security: []}],
        "paths": paths,
        "components": {
            "securitySchemes": {security: {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.components,
        },
    }


def types_of(operations: Iterable[Operation]) -> list[Any]:
    """The types that operations read and answer."""
    bodies = [each.body for each in operations if each.body is not None]
    return [*bodies, *(kind for each in operations for _, kinds in each.answers.values() for kind in kinds)]


def untitled(schema: Any) -> Any:
    """A schema without the titles that pydantic gives to its parts."""
    if isinstance(schema, list):
        return list(map(untitled, cast("Iterable[Any]", schema)))
    if not isinstance(schema, dict):
        return schema
    given = cast("Mapping[str, Any]", schema)
    return {name: untitled(each) for name, each in given.items() if name != "title" or not isinstance(each, str)}
