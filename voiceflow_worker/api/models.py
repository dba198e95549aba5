"""What the routes of `/v1` share: the models of bodies and answers, and parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, cast

from fastapi import Header, Path, Query
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    create_model,
    model_validator,
)

from voiceflow_worker.api.problems import LONGEST_TEXT, FoundProblem
from voiceflow_worker.asgi.limits import WAIT
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.wording import read_duration, read_rate
from voiceflow_worker.model.times import read_time


class Body(BaseModel):
    """The JSON object in the body of a request. A value has the type of its field, and no other is taken for it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


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
TimeOf: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
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


_List: Any = list


def answer_of(name: str, said: str, always: str, /, **fields: Any) -> Any:
    """Make the model of a JSON object in an answer, to which further fields may be added.

    `always` names the fields that are never null. The others may be.
    """
    described: Any = {
        field: (kind, ...) if field in always.split() else (kind | None, None) for field, kind in fields.items()
    }
    return create_model(name, __doc__=said, **described)


Outcome: Final = answer_of(
    "Outcome", "How a call, or an attempt of it, ended.", "", session_status=str, code=int, message=str,
    started_at=TimeOf, ended_at=TimeOf, seconds=float, digits=str, answer=str, legs=list[Json],
)  # fmt: skip
Attempt: Final = answer_of(
    "Attempt", "One POST to 8x8.", "number client_request_id",
    number=int, destination=str, client_request_id=str, began_at=TimeOf,
    answered_at=TimeOf, session_id=str, verdict=str, code=int, message=str, valid_until=TimeOf, outcome=Outcome,
)  # fmt: skip
Call: Final = answer_of(
    "Call", "A call, as `voiceflow calls show --json` prints it.",
    "id queue state result destination further_numbers priority created_at attempt attempts",
    id=str, queue=str, state=JobState, result=str,
    unique_key=str, batch_id=str, source=str, destination=str, further_numbers=list[str], priority=int,
    created_at=TimeOf, due_at=TimeOf, valid_until=TimeOf, attempt=int, session_id=str, client_request_id=str,
    outcome=Outcome, answer=str, data=Json, reason=str, attempts=_List[Attempt], waits=str,
)  # fmt: skip
Calls: Final = answer_of("Calls", "A page of calls; `after` is null at its end.", "calls", calls=_List[Call], after=str)
_REPORTED: dict[str, Any] = {"batch_id": str, "total": int, "states": dict[str, int]}
_PROGRESS: dict[str, Any] = {
    **_REPORTED, "queue": str, "done": int, "doubts": int, "rate_now": float, "ends_at": TimeOf, "hold": Json,
}  # fmt: skip
_ALWAYS = "batch_id queue total states done doubts"
_REPORT: dict[str, Any] = {
    **_REPORTED, "outcomes": dict[str, int], "answered": int, "answer_rate": float, "answers": dict[str, int],
    "seconds": float,
}  # fmt: skip
BatchReport: Final = answer_of(
    "BatchReport", "The report of a batch.", "batch_id total states outcomes answers", **_REPORT
)
BatchProgress: Final = answer_of(
    "BatchProgress", "A batch, as `voiceflow batches --json` prints it.", _ALWAYS, **_PROGRESS
)
Batch: Final = answer_of("Batch", "A batch, with its report.", _ALWAYS, **_REPORT | _PROGRESS, ended=bool)
Batches: Final = answer_of("Batches", "A page of batches.", "batches", batches=_List[BatchProgress], after=str)
CancelledBatch: Final = answer_of(
    "CancelledBatch", "The calls that were cancelled.", "batch_id cancelled", batch_id=str, cancelled=int
)
Gate: Final = answer_of(
    "Gate", "A hold, or that there is none.", "scope name state",
    scope=str, name=str, state=str, since=TimeOf, until=TimeOf, reason=str,
)  # fmt: skip
Suppressed: Final = answer_of(
    "Suppressed", "A number on the list.", "number since", number=str, since=TimeOf, until=TimeOf, reason=str
)
SuppressedNumbers: Final = answer_of(
    "SuppressedNumbers", "A page of the list.", "numbers", numbers=_List[Suppressed], after=str
)
Enqueued: Final = answer_of(
    "Enqueued", "What was enqueued, as `voiceflow enqueue --json` prints it.",
    "enqueued duplicates rejected plan findings",
    batch_id=str, enqueued=int,
    duplicates=int, replaced=int, removed=int, rejected=int, plan=dict[str, int], findings=list[FoundProblem],
    preview=Json,
)  # fmt: skip
Notified: Final = answer_of(
    "Notified", "The batches of the alerts that fire.", "message batches",
    message=str, batches=list[str], not_taken=list[str],
)  # fmt: skip
