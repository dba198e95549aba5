"""What the routes of `/v1` share: the models of bodies and answers, and parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, TypeAlias, cast

from fastapi import Header, Path, Query
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from voiceflow_worker.api.problems import LONGEST_TEXT
from voiceflow_worker.asgi.limits import WAIT
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.wording import read_duration, read_rate
from voiceflow_worker.model.times import read_time


class Body(BaseModel):
    """The JSON object in the body of a request. A value has the type of its field, and no other is taken for it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


class Told(BaseModel):
    """A JSON object in an answer, which may get further fields."""


class Fields(RootModel[dict[str, Any]]):
    """The JSON object in the body of a request that is read by the table of fields. `table` is its schema."""

    table: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, *, table: Mapping[str, Any]) -> None:
        cast("Any", super()).__init_subclass__()
        cls.table = {**table, "description": " ".join((cls.__doc__ or "").split())}

    @model_validator(mode="after")
    def _is_finite(self) -> Self:
        json.dumps(self.root, ensure_ascii=False, allow_nan=False).encode()
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: object, _handler: object) -> dict[str, Any]:
        return dict(cls.table)


def _read_by(read: Callable[[str], object], kinds: type | UnionType, noun: str) -> BeforeValidator:
    """Read a value of these kinds as a text."""

    def read_value(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"is not a {noun}")  # noqa: TRY004 - for pydantic
        try:
            return None if value is None else read(str(value))
        except ValueError as error:
            raise ValueError(f"{str(value)[:40]!r} is not a {noun}: {error}") from None

    return BeforeValidator(read_value)


Json: TypeAlias = dict[str, Any]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
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

_KEY = Header(
    alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY, pattern="^[!-~]([ -~]*[!-~])?$",
    description="The unique key of what is made. The same key again is the same thing, and rings nobody twice.",
)  # fmt: skip
Key: TypeAlias = Annotated[str, _KEY]
KeyOfStart: TypeAlias = Annotated[str | None, _KEY]
Id: TypeAlias = Annotated[str, Path(alias="id")]
Wait: TypeAlias = Annotated[
    int,
    Query(
        ge=0, le=int(WAIT.total_seconds()),
        description="The most seconds to wait for the end. It may not have come then.",
    ),
]  # fmt: skip
QueueName: TypeAlias = Annotated[str | None, Query(description="The queue, if it is not that of the server.")]
Country: TypeAlias = Annotated[str | None, Query(description="The country of a national number, such as SG.")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=200, description="The most that a page has.")]


def place(pattern: str) -> Any:
    """Return the parameter `after` of a list whose places have this pattern."""
    return Query(pattern=pattern, description="Continue the list behind a page: its `after`.")


class Note(Body):
    """Why something is done."""

    note: Text | None = Field(default=None, description="Why; stored with what was done.")


class HoldRequest(Note):
    """A hold, which lasts until somebody resumes, or for so long."""

    lasts: Duration = Field(default=None, alias="for")


NO_NOTE, NO_HOLD = Note(), HoldRequest()


class ResumeRequest(Note):
    """The end of a hold: of the one that began at this time, and of no other."""

    since: Since = Field(description="The `since` of the hold.")
    most: int = Field(ge=0, le=1_000_000_000, description="How many calls may ring at most, such as all that wait.")


class Gate(Told):
    """A hold, or that there is none."""

    scope: str = Field(json_schema_extra={"enum": ["queue", "batch"]})
    name: str
    state: str = ""
    since: TimeTold | None = None
    until: TimeTold | None
    reason: str | None
