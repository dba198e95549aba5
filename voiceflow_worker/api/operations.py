"""What `/v1` has: each operation with its reading of a request, and the OpenAPI 3.1 document made of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, TypeAlias, TypeVar, cast, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, StringConstraints, WithJsonSchema

from voiceflow_worker.api.answers import KINDS, LONGEST_TEXT, PROBLEM, Answer
from voiceflow_worker.api.secrets import Right
from voiceflow_worker.asgi import openapi
from voiceflow_worker.asgi.limits import WAIT
from voiceflow_worker.asgi.openapi import JSON, Answers, Schemas, types_of
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.wording import read_duration, read_rate
from voiceflow_worker.model.times import read_time

LONGEST_WAIT = int(WAIT.total_seconds())
MULTIPART = "multipart/form-data"
P = TypeVar("P", bound=str)


class Query(BaseModel):
    """The query of a request. Its names are those of the fields."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """The JSON object in the body of a request. A value has the type of its field, and no other is taken for it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


class Told(BaseModel):
    """A JSON object in an answer, which may get further fields."""


def _whole(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ValueError(f"{value[:40]!r} is no whole number")
    return value


def _read_by(read: Callable[[str], object], kinds: type | UnionType, noun: str) -> BeforeValidator:
    """Reads a value of these kinds as a text."""

    def read_value(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"is not a {noun}")  # noqa: TRY004 - for pydantic
        try:
            return None if value is None else read(str(value))
        except ValueError as error:
            raise ValueError(f"{str(value)[:40]!r} is not a {noun}: {error}") from None

    return BeforeValidator(read_value)


Text: TypeAlias = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]
Duration: TypeAlias = Annotated[
    timedelta | None,
    _read_by(read_duration, str | None, "duration"),
    WithJsonSchema({"type": ["string", "null"], "maxLength": LONGEST_TEXT, "description": "A duration, such as 10m."}),
]
Time: TypeAlias = Annotated[
    datetime | None,
    _read_by(read_time, str | None, "time"),
    WithJsonSchema({"type": ["string", "null"], "format": "date-time", "description": "RFC 3339."}),
]
Since: TypeAlias = Annotated[
    datetime, _read_by(read_time, str, "time"), WithJsonSchema({"type": "string", "format": "date-time"})
]
TimeTold: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in an answer."""
Rate: TypeAlias = Annotated[
    float | None,
    _read_by(read_rate, str | int | float, "rate"),
    WithJsonSchema({"type": ["number", "string"], "description": 'Calls per second, or "unlimited".'}),
]
Says: TypeAlias = Annotated[bool, WithJsonSchema({"type": "string", "enum": ["1", "true", "yes", "0", "false", "no"]})]
Json: TypeAlias = dict[str, Any]


class Nothing(Query):
    """A query without names."""


class Wait(Query):
    """How long to wait."""

    wait: Whole = Field(
        0, ge=0, le=LONGEST_WAIT, description="The most seconds to wait for the end. It may not have come then."
    )


class Preview(Query):
    """Whether a request only asks what it would do."""

    dry_run: Says = Field(default=False, description="1: a preview, which changes nothing.")


class Country(Query):
    """What completes a national number."""

    country: str | None = Field(None, description="The country of a national number, such as SG.")


class PageOf(Query, Generic[P]):
    """A page of a list whose places are of one type."""

    limit: Whole = Field(100, ge=1, le=200, description="The most that a page has.")
    after: P | None = Field(None, description="Continue the list behind a page: its `after`.")


class Note(Body):
    """Why something is done."""

    note: Text | None = Field(None, description="Why; stored with what was done.")


class Fields(RootModel[dict[str, Any]]):
    """The JSON object in the body of a request that is read elsewhere, as a rule by the table of fields.

    `table` is its schema, whose description is the docstring.
    """

    table: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, *, table: Mapping[str, Any]) -> None:
        cast("Any", super()).__init_subclass__()
        cls.table = {**table, "description": " ".join((cls.__doc__ or "").split())}

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: object, _handler: object) -> dict[str, Any]:
        return dict(cls.table)


Handler: TypeAlias = Callable[..., Awaitable[Answer]]
"""A function of an `Asked`, and of the `query` and the `body` of its request, by their names."""
H = TypeVar("H", bound=Handler)
_HOOKS = "/v1/hooks/"
_RINGS = frozenset({"/v1/calls", "/v1/calls/{id}/redial", "/v1/campaigns", "/v1/escalations"})


@dataclass(frozen=True, kw_only=True)
class Operation(openapi.Operation):
    """One method of one path, such as `/v1/calls/{id}`: how its request is read, and what handles it."""

    handle: Handler
    query: type[Query] = Nothing
    body: type[BaseModel] | None = None
    reads: frozenset[str] = frozenset()
    """Which of `query` and `body` the handler is given."""
    files: Mapping[str, str] | None = None
    """The files that may be uploaded beside the body, with what they are."""
    keyed: bool | None = False
    """Whether an Idempotency-Key is needed; None if a preview needs none."""
    check: Callable[..., Awaitable[object]] | None = None
    """Reads the fields of a body, so that what is wrong with them is told beside what is wrong with the rest."""

    @property
    def name(self) -> str:
        """The operation for logs and metrics, without the values in its path."""
        return f"{self.method} {self.path}"

    @property
    def is_hook(self) -> bool:
        """Whether this is the webhook of another system."""
        return self.path.startswith(_HOOKS)

    @property
    def right(self) -> Right:
        """The right that a program needs for this."""
        if self.method == "GET":
            return Right.READ
        return Right.CALL if self.is_hook or self.path in _RINGS else Right.STEER

    @property
    def operation_id(self) -> str:
        """Its name in clients that are made of the document."""
        parts = (part.strip("{}").replace(".", "_") for part in self.path.split("/")[2:])
        return "_".join([self.method.lower(), *parts])

    @property
    def needs_body(self) -> bool:
        """Whether there must be a body."""
        body = self.body
        return body is not None and any(each.is_required() for each in body.model_fields.values())

    def parameter_in_path(self, name: str) -> Mapping[str, object]:
        """What the document tells of a part of the path."""
        return {**super().parameter_in_path(name), "description": _IN_PATH[name]}

    def documented(self, schemas: Schemas) -> dict[str, Any]:
        """The operation in the document."""
        made = super().documented(schemas)
        told = {*_ALWAYS, *((*_OF_BODIES, 400, 422) if self.body is not None else ())}
        parameters = made.pop("parameters", [])
        if parameters:
            told.add(404)
        if self.keyed is not False:
            parameters.append({**_KEY, "required": bool(self.keyed)})
        if self.method != "GET":
            told.add(409)
        for query, schema in self.query.model_json_schema().get("properties", {}).items():
            left_out = {"title", "description", *(["default"] if "enum" in schema else [])}
            described = {key: value for key, value in schema.items() if key not in left_out}
            described_as = schema.get("description", "")
            parameters.append({"name": query, "in": "query", "description": described_as, "schema": _plain(described)})
        if parameters:
            told |= {400, 422}
            made["parameters"] = parameters
        made["responses"] |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(told)}
        if self.files is not None:
            upload, definition = (
                {"type": "string", "contentMediaType": "application/octet-stream"},
                schemas.of(self.body),
            )
            parts_of = {name: {**upload, "description": said} for name, said in self.files.items()}
            made["requestBody"]["content"][MULTIPART] = {
                "schema": {
                    "type": "object",
                    "required": ["definition"],
                    "additionalProperties": False,
                    "properties": {"definition": definition, **parts_of},
                },
                "encoding": {"definition": {"contentType": JSON}},
            }
        return made


class Routes(list[Operation]):
    """The operations of one subject, in the order of their handlers."""

    def on(self, method: str, path: str, answers: type[BaseModel] | Answers, **rules: Any) -> Callable[[H], H]:
        """Make an operation of a handler. The docstring of the handler is the summary in the document.

        The types of its parameters `query` and `body` say what is read, if no rule does. One model has status 200.
        """

        def add(handle: H) -> H:
            reads = {name: kind for name, kind in get_type_hints(handle).items() if name in {"query", "body"}}
            told: Answers = answers if isinstance(answers, Mapping) else {200: (_said(answers), [answers])}
            made: dict[str, Any] = {"method": method, "path": path, "handle": handle, **reads, **rules}
            self.append(Operation(answers=told, reads=frozenset(reads), **made))
            return handle

        return add


def _said(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n\n")[0]


def _plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a parameter that may be left out, without the null that it then is."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    plain = {**schema, **kinds[0]} if len(kinds) == 1 else dict(schema)
    return {
        name: value for name, value in plain.items() if name != "anyOf" and (name != "default" or value is not None)
    }


class Problem(Told):
    """A problem (RFC 9457)."""

    type: str = Field(description="urn:voiceflow:problem: and the code.")
    code: str = Field(description="The kind of the problem, such as invalid or idempotency_key_reused.")
    title: str
    status: int
    detail: str
    findings: list[FindingTold]


class FindingTold(Told):
    """What is wrong, and where: in the body (`pointer`), or in the query, a header or the path (`parameter`)."""

    code: str = Field(description="Such as invalid, missing, unknown, unreadable.")
    pointer: str | None = Field(description="A JSON pointer (RFC 6901) into the body.")
    detail: str
    severity: str = Field(json_schema_extra={"enum": ["error", "warning"]})
    parameter: str | None = None
    voice_code: int | None = Field(None, description="The status code with which 8x8 would answer.")
    row: int | None = Field(None, description="The row of an uploaded file; 1 is its first line.")
    column: str | None = Field(None, description="The column of an uploaded file.")
    kind: str | None = Field(None, description="A word for what is wrong, more exact than the code.")
    fields: list[str] | None = Field(None, description="The fields to change.")


_ALWAYS = (401, 403, 429, 500, 503)
_OF_BODIES = (408, 413, 415)
_IN_PATH = {
    "id": "The id.",
    "name": "The name of the queue.",
    "number": "A phone number, such as +6587654321.",
}
_KEY: Mapping[str, object] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        "The unique key of what is ordered. The same key again is the same order, and rings nobody twice. Quotes "
        'around it, as of a string in a structured field, are no part of it: "k" is k. Only a preview needs none.'
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


def document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """The whole document, but for its `servers`."""
    schemas = Schemas([*types_of(operations), Problem])
    made = openapi.document(
        operations,
        schemas,
        security="secret",
        title="voiceflow-worker",
        version=version,
        description="Phone calls through the 8x8 Voice API: from a queue, never twice, never lost, never late.",
    )
    problem = {PROBLEM: {"schema": schemas.of(Problem)}}
    made["components"]["responses"] = {
        str(status): openapi.response(status, meaning, problem) for status, (_, meaning) in KINDS.items()
    }
    return made
