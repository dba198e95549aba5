"""Problems (RFC 9457): the errors of the library and of a request as JSON, with all that is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from voiceflow_worker.actions import ActionRefusedError, UnknownSubjectError
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
    StaleJobError,
    StoreError,
    SuppressedNumberError,
    UnreadFilesError,
    VoiceflowError,
)
from voiceflow_worker.finding import Finding

PROBLEM: Final = "application/problem+json"
MOST_FINDINGS = 1000
LONGEST_TEXT = 1000
INVALID, MISSING, UNKNOWN, UNREADABLE = "invalid", "missing", "unknown", "unreadable"
"""Codes of findings: a value that cannot be, one that is not there, a name that is not known, text that is no JSON."""


class FoundProblem(BaseModel):
    """What is wrong, and where: in the body (`pointer`), or in the query, a header or the path (`parameter`)."""

    code: str = Field(default=INVALID, description="Such as invalid, missing, unknown, unreadable.")
    pointer: str | None = Field(default=None, description="A JSON pointer (RFC 6901) into the body.")
    detail: str
    severity: str = Field(default="error", json_schema_extra={"enum": ["error", "warning"]})
    parameter: str | None = None
    voice_code: int | None = Field(default=None, description="The status code with which 8x8 would answer.")
    row: int | None = Field(default=None, description="The row of an uploaded file; 1 is its first line.")
    column: str | None = None
    kind: str | None = Field(default=None, description="A word for what is wrong, more exact than the code.")
    fields: list[str] | None = Field(default=None, description="The fields to change.")


class Problem(BaseModel):
    """A problem (RFC 9457). `type` is urn:voiceflow:problem: and the code."""

    type: str
    code: str
    title: str
    status: int
    detail: str
    findings: list[FoundProblem]


class ProblemError(HTTPException):
    """Raised to answer a request with a problem. `code` names its kind: by default, that of its status."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        findings: Sequence[FoundProblem] = (),
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code: str = code or _CODES.get(status, INVALID)
        self.findings: Sequence[FoundProblem] = findings

    def response(self) -> Response:
        """Return the problem as an answer. One of a request has a finding at least."""
        whole = [FoundProblem(detail=self.detail, code=self.code)] if self.status_code < 500 else []
        document = {
            "type": f"urn:voiceflow:problem:{self.code}",
            "code": self.code,
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "findings": as_json(self.findings or whole),
        }
        return Response(orjson.dumps(document), self.status_code, self.headers, PROBLEM)


def as_json(findings: Sequence[FoundProblem]) -> list[dict[str, object]]:
    """Return findings as JSON: of many, the errors first, and one that says how many are left out."""
    listed = list(findings)
    if (left := len(listed) - MOST_FINDINGS) > 0:
        listed = sorted(listed, key=lambda each: each.severity != "error")[:MOST_FINDINGS]
        listed.append(
            FoundProblem(
                detail=f"{left} more findings not listed, of {len(findings)} in all", code="more", severity="warning"
            )
        )
    return [{**each.model_dump(exclude_none=True), "pointer": each.pointer} for each in listed]


_CODES: Final = {
    400: UNREADABLE, 401: "wrong_secret", 403: "not_allowed", 404: "not_found", 405: "wrong_method", 409: "conflict",
    413: "too_long", 422: INVALID, 500: "failed", 503: "unavailable",
}  # fmt: skip
RETRY: Final = {"Retry-After": "2"}
_ERRORS: Mapping[tuple[type[VoiceflowError], ...], tuple[int, str | None]] = {
    (JobNotFoundError, UnknownSubjectError): (404, None),
    (ActionRefusedError, UnreadFilesError, OvertakenError): (409, None),
    (ChangedSinceError, StaleJobError): (409, "changed_meanwhile"),
    (IllegalMoveError,): (409, "wrong_state"),
    (KeyConflictError, OtherRequestError): (422, "idempotency_key_reused"),
    (SuppressedNumberError,): (422, "suppressed"),
    (InvalidInputError,): (422, None),
    (IntakeError,): (503, "interrupted"),
}
"""The first that fits counts."""


def problem_of(error: Exception, findings: Sequence[FoundProblem] = ()) -> ProblemError:
    """Return the problem of an error."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        return ProblemError(error.status_code, error.detail, headers=error.headers)
    if isinstance(error, TimeoutError | StoreError):
        said = error.in_public if isinstance(error, StoreError) else "the store did not answer in time"
        return ProblemError(503, f"{said}; try again", headers=RETRY)
    status, code = next((each for kinds, each in _ERRORS.items() if isinstance(error, kinds)), (500, None))
    if status == 500:
        return ProblemError(500, "the server failed; its log has the reason")
    said = error.headline if isinstance(error, CallFlowError) else str(error)
    headers = RETRY if status == 503 else None
    return ProblemError(status, said[:LONGEST_TEXT], findings=findings, headers=headers, code=code)


def invalid(error: RequestValidationError) -> ProblemError:
    """Return the problem of a request in which pydantic found faults: in its path, query, headers and body."""
    found: list[FoundProblem] = []
    for each in error.errors():
        where, *place = each["loc"]
        code = {"missing": MISSING, "extra_forbidden": UNKNOWN, "json_invalid": UNREADABLE}.get(each["type"], INVALID)
        given: dict[str, Any] = {"parameter": str(place[0])} if where != "body" else {"pointer": pointer_to(*place)}
        said = str(each.get("ctx", {}).get("error", "")) if each["type"] == "value_error" else ""
        said = "is missing" if code == MISSING else said
        if code == UNREADABLE:
            given, said = {}, f"the body is not JSON: {each['ctx']['error']}"
        found.append(FoundProblem(detail=said or f"{each['msg'][:1].lower()}{each['msg'][1:]}", code=code, **given))
    return refused(found, 400 if any(each.code == UNREADABLE for each in found) else 422)


def refused(found: Sequence[FoundProblem], status: int = 422) -> ProblemError:
    """Return the problem of a request with these findings."""
    place = found[0].parameter or found[0].pointer
    one = f"{place}: {found[0].detail}" if place else found[0].detail
    detail = one if len(found) == 1 else f"the request has {len(found)} faults: see the findings"
    return ProblemError(status, detail, findings=found)


def pointer_to(*parts: str | int) -> str:
    """Return the JSON pointer of a place, by its names and positions."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def finding_of(
    found: Finding, *, body: Mapping[str, Any], schema: Mapping[str, Any], query: Collection[str] = ()
) -> FoundProblem:
    """Return a finding of a list or a call as one of a request: in its `body`, its query, or in an uploaded file.

    `schema` is that of the body, with its fields; `query` are names that only the query can have.
    """
    row, column, names = found.row, found.column, schema.get("properties", {})
    said: dict[str, Any] = {
        "detail": str(found.message), "severity": found.severity.value, "voice_code": found.code, "kind": found.kind,
        "fields": list(found.fields) or None,
    }  # fmt: skip
    if row is not None and not isinstance(body.get("rows"), list):
        return FoundProblem(row=row, column=column, **said)
    if row is not None:
        place: list[str | int] = ["rows", row - 1, *([] if column is None else [column])]
    elif column in query:
        return FoundProblem(parameter=column, **said)
    elif column is not None:
        is_missing = column in schema.get("required", ()) and body.get(column) is None
        said["code"] = MISSING if is_missing else UNKNOWN if column in body and column not in names else INVALID
        place = [column] if column in body or column in names or "data" not in names else ["data", column]
    elif found.path is not None:
        path = re.sub(r"\[(\d+)\]", r".\1", found.path.removeprefix("$"))
        place = ["flow", *filter(None, path.split("."))]
    else:
        place = []
    return FoundProblem(pointer=pointer_to(*place) if place else None, **said)
