"""The answers of the HTTP API: JSON documents, and problems (RFC 9457), which name all that is wrong at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError

from voiceflow_worker.actions import ActionRefusedError, UnknownSubjectError
from voiceflow_worker.asgi.openapi import JSON
from voiceflow_worker.errors import (
    CallFlowError,
    ChangedSinceError,
    IllegalMoveError,
    IntakeError,
    InvalidInputError,
    JobNotFoundError,
    KeyConflictError,
    OtherRequestError,
    OvertakenError,
    RequestInProgressError,
    StaleJobError,
    StoreError,
    SuppressedNumberError,
    UnreadFilesError,
    VoiceflowError,
)
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.text.wording import count_of

PROBLEM = "application/problem+json"
MOST_FINDINGS = 1000
LONGEST_TEXT = 1000
RETRY = {"Retry-After": "2"}
INVALID, MISSING, UNKNOWN, UNREADABLE = "invalid", "missing", "unknown", "unreadable"
"""Codes of findings: a value that cannot be, one that is not there, a name that is not known, text that is no JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: a JSON document, or nothing. `location` is the path of what was made."""

    document: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong. `pointer` is its place in the JSON body (RFC 6901), `parameter` one outside of it.

    `voice_code` is the status code with which 8x8 would answer. `row` and `column` are the place in an uploaded file.
    `kind` is a word for what is wrong, and `fields` are those to change.
    """

    code: str = INVALID
    pointer: str | None = None
    detail: str
    severity: str = "error"
    parameter: str | None = None
    voice_code: int | None = None
    row: int | None = None
    column: str | None = None
    kind: str | None = None
    fields: Sequence[str] = ()

    def as_json(self) -> dict[str, object]:
        """The fault for programs. What only some faults have is there only if it is known."""
        given = asdict(self) | {"fields": [*self.fields] or None}
        return {name: value for name, value in given.items() if value is not None or name == "pointer"}


def shortened(faults: Sequence[Fault]) -> list[Fault]:
    """The first of many faults, the errors before the warnings, and one that says how many are left out."""
    if len(faults) <= MOST_FINDINGS:
        return list(faults)
    listed = sorted(faults, key=lambda fault: fault.severity != "error")[:MOST_FINDINGS]
    left = f"{count_of(len(faults) - MOST_FINDINGS, 'more finding')} not listed, of {len(faults)} in all"
    return [*listed, Fault(detail=left, code="more", severity="warning")]


@dataclass(eq=False)
class ProblemError(Exception):
    """Raised to answer a request with a problem. `detail` is a sentence, and `faults` say what is wrong where.

    `code` names the kind of the problem: by default, what its status stands for.
    """

    status: int
    detail: str
    _: KW_ONLY
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        super().__init__(self.detail)
        self.code = self.code or KINDS[self.status][0]

    def answer(self) -> Answer:
        """The problem as an answer. One of a request has a finding at least."""
        whole = Fault(detail=self.detail, code=str(self.code), fields=Finding(message=self.detail).fields)
        faults = self.faults or ((whole,) if self.status < 500 else ())
        document = {
            "type": f"urn:voiceflow:problem:{self.code}",
            "code": self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "findings": [fault.as_json() for fault in shortened(faults)],
        }
        return Answer(document, self.status, headers=self.headers or {}, media_type=PROBLEM)


KINDS: Mapping[int, tuple[str, str]] = {
    400: (UNREADABLE, "The request cannot be read: its JSON, its query, or its Idempotency-Key."),
    401: ("wrong_secret", "The secret is missing or wrong."),
    403: ("not_allowed", "The network may not use the API (VOICEFLOW_API_ALLOW), or the program lacks the right."),
    404: ("not_found", "There is nothing with this name."),
    405: ("wrong_method", "This path does not have this method."),
    408: ("too_slow", "The body did not arrive in time."),
    409: ("conflict", "This cannot be done now; the detail says why."),
    413: ("too_long", "The body is too long."),
    415: ("wrong_media_type", "The body is not of the type that is read here."),
    422: (INVALID, "What was asked cannot be done; each finding says what is wrong, and where. Nothing was changed."),
    429: ("too_many_requests", "Too many requests at once. Try again after Retry-After."),
    500: ("failed", "The server failed; its log has the reason. With the same key, it is safe to try again."),
    503: ("unavailable", "The store is unavailable, or busy. Try again after Retry-After, with the same key."),
}
"""The code and the meaning of each status of a problem."""
KEY_REUSED, KEY_IN_USE = "idempotency_key_reused", "idempotency_key_in_use"
"""The codes of the two problems of an Idempotency-Key: another request has it, or is still in progress."""
_ERRORS: tuple[tuple[type[VoiceflowError], int, str | None], ...] = (
    (JobNotFoundError, 404, None),
    (UnknownSubjectError, 404, None),
    (ActionRefusedError, 409, None),
    (UnreadFilesError, 409, None),
    (ChangedSinceError, 409, "changed_meanwhile"),
    (OvertakenError, 409, None),
    (IllegalMoveError, 409, "wrong_state"),
    (StaleJobError, 409, "changed_meanwhile"),
    (KeyConflictError, 422, KEY_REUSED),
    (OtherRequestError, 422, KEY_REUSED),
    (RequestInProgressError, 409, KEY_IN_USE),
    (SuppressedNumberError, 422, "suppressed"),
    (InvalidInputError, 422, None),
    (IntakeError, 503, "interrupted"),
)


def problem_of(error: Exception, faults: Sequence[Fault] = ()) -> ProblemError:
    """The problem that an error is told as, with the faults of its findings."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, TimeoutError):
        return ProblemError(503, "the store did not answer in time; try again", headers=RETRY)
    if isinstance(error, StoreError):
        return ProblemError(503, f"{error.in_public}; try again", headers=RETRY)
    found = next((each for each in _ERRORS if isinstance(error, each[0])), None)
    if found is None:
        return ProblemError(500, "the server failed; its log has the reason")
    _, status, code = found
    said = error.headline if isinstance(error, CallFlowError) else str(error)
    detail = said[:LONGEST_TEXT] if faults else said
    headers = RETRY if status == 503 else {"Retry-After": "1"} if code == KEY_IN_USE else None
    return ProblemError(status, detail, faults=faults, headers=headers, code=code)


def refused(faults: Sequence[Fault]) -> ProblemError:
    """The problem of a request with these faults."""
    first = faults[0]
    where = f"{first.parameter or first.pointer}: " if first.parameter or first.pointer else ""
    detail = f"{where}{first.detail}" if len(faults) == 1 else f"the request has {len(faults)} faults: see the findings"
    return ProblemError(400 if any(each.code == UNREADABLE for each in faults) else 422, detail, faults=faults)


def bad(detail: str, *, parameter: str | None = None) -> ProblemError:
    """The problem of a request that cannot be read."""
    return ProblemError(400, detail, faults=[Fault(detail=detail, code=UNREADABLE, parameter=parameter)])


def unfit(detail: str, *, parameter: str | None = None) -> ProblemError:
    """The problem of a request that can be read, and has something that does not fit."""
    return ProblemError(422, detail, faults=[Fault(detail=detail, parameter=parameter)])


_INDEX = re.compile(r"\[(\d+)\]")
_FLOW = "flow"
"""The field of a body that is a call flow."""


def pointer_to(*parts: str | int) -> str:
    """The JSON pointer of a place, by its names and positions."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def fault_of(
    found: Finding, *, body: Mapping[str, Any], schema: Mapping[str, Any], query: Collection[str] = ()
) -> Fault:
    """A finding as a fault of a request: its place is that in the `body`, in the query, or in an uploaded file.

    `schema` is that of the body, with its fields; `query` are names that only the query can have.
    """
    row, column, names = found.row, found.column, schema.get("properties", {})
    told: dict[str, Any] = {
        "detail": found.message, "severity": found.severity.value, "voice_code": found.code,
        "kind": found.kind, "fields": found.fields,
    }  # fmt: skip
    if row is not None and not isinstance(body.get("rows"), list):
        return Fault(row=row, column=column, **told)
    if row is None and column in query:
        return Fault(parameter=column, **told)
    place: list[str | int] = [] if row is None else ["rows", row - 1]
    code = INVALID
    if column is not None and row is None:
        is_missing = column in schema.get("required", ()) and body.get(column) is None
        code = MISSING if is_missing else UNKNOWN if column in body and column not in names else INVALID
        place += _place_of(column, body=body, names=names)
    elif column is not None:
        place.append(column)
    elif found.path is not None:
        place += [_FLOW, *filter(None, _INDEX.sub(r".\1", found.path.removeprefix("$")).split("."))]
    return Fault(code=code, pointer=pointer_to(*place) if place else None, **told)


def _place_of(column: str, *, body: Mapping[str, Any], names: Mapping[str, Any]) -> Sequence[str]:
    """The place of a column in a body: a field of it, or a name in one that holds names. Others belong into `data`."""
    if column in body or column in names or "data" not in names:
        return [column]
    flow_given = body.get(_FLOW)
    return [_FLOW if isinstance(flow_given, dict) and column in flow_given else "data", column]


def faults_of(error: ValidationError, *, query: type[BaseModel] | None = None) -> list[Fault]:
    """What pydantic found, as faults of a body or of this query."""
    found: list[Fault] = []
    for each in error.errors(include_url=False):
        place, kind = each["loc"], each["type"]
        match kind:
            case "missing":
                code, detail = MISSING, "is missing"
            case "extra_forbidden":
                known = "" if query is None else f"; known: {', '.join(query.model_fields) or 'none'}"
                code, detail = UNKNOWN, f"is not a known name{known}"
            case "value_error":
                code, detail = INVALID, str(each.get("ctx", {}).get("error"))
            case "string_pattern_mismatch":  # only of cursors
                code, detail = INVALID, "is not the `after` of a page of this list"
            case _:
                code, detail = INVALID, f"{each['msg'][:1].lower()}{each['msg'][1:]}"
        where = pointer_to(*(each for each in place if not str(each).startswith("function-")))
        if query is not None:
            found.append(Fault(detail=detail, code=code, parameter=str(place[0])[:40]))
        else:
            found.append(Fault(detail=detail, code=code, pointer=where[:200]))
    return found
