"""The answers of the HTTP API: JSON documents, and problems (RFC 9457) for what was refused or has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from voiceflow_worker.actions import ActionRefusedError, UnknownSubjectError
from voiceflow_worker.errors import (
    ChangedSinceError,
    EscalationNotFoundError,
    IllegalMoveError,
    IntakeError,
    InvalidInputError,
    JobNotFoundError,
    KeyConflictError,
    OtherRequestError,
    StaleJobError,
    StoreError,
    VoiceflowError,
)
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.wording import count_of

JSON, PROBLEM = "application/json", "application/problem+json"
MOST_FINDINGS = 1000
LONGEST_TEXT = 1000
RETRY = {"Retry-After": "2"}
KEY_REUSED, KEY_IN_USE = "idempotency_key_reused", "idempotency_key_in_use"
"""The codes of the two problems of an Idempotency-Key: another request has it, or is still in progress."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: a JSON document, or nothing."""

    document: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON


def etag(seen: str) -> dict[str, str]:
    """The header that tells what a program has seen, for `If-Match` of an action."""
    return {"ETag": f'"{seen}"'}


def shortened(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The first of many findings, the errors before the warnings, and one that says how many are left out."""
    if len(findings) <= MOST_FINDINGS:
        return findings
    listed = sorted(findings, key=lambda found: not found.is_error)[:MOST_FINDINGS]
    left = f"{count_of(len(findings) - MOST_FINDINGS, 'more finding')} not listed, of {len(findings)} in all"
    return (*listed, Finding(message=left, severity=Severity.WARNING))


class ProblemError(Exception):
    """Raised to answer a request with a problem. `detail` is a sentence, and `findings` say what is wrong where.

    `code` names the kind of the problem for programs, where they have more to tell apart than the status.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        findings: Sequence[Finding] = (),
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        self.status: int = status
        self.detail: str = detail
        self.findings: tuple[Finding, ...] = tuple(findings)
        self.headers: dict[str, str] = dict(headers or {})
        self.code: str | None = code
        super().__init__(detail)

    def answer(self) -> Answer:
        """The problem as an answer."""
        document = {
            "type": "about:blank" if self.code is None else f"urn:voiceflow:problem:{self.code}",
            "code": self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "findings": [found.as_json() for found in shortened(self.findings)],
        }
        return Answer(document, self.status, headers=self.headers, media_type=PROBLEM)


_STATUS: tuple[tuple[type[VoiceflowError], int], ...] = (
    (JobNotFoundError, 404),
    (EscalationNotFoundError, 404),
    (UnknownSubjectError, 404),
    (ActionRefusedError, 409),
    (ChangedSinceError, 412),
    (IllegalMoveError, 409),
    (StaleJobError, 409),
    (InvalidInputError, 422),
    (IntakeError, 503),
)


def problem_of(error: VoiceflowError | TimeoutError) -> ProblemError:
    """The problem that an error of this library is told as. Each error of an input has a finding at least."""
    if isinstance(error, TimeoutError):
        return ProblemError(503, "the store did not answer in time; try again", headers=RETRY)
    if isinstance(error, StoreError):
        return ProblemError(503, f"{error.in_public}; try again", headers=RETRY)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    findings = getattr(error, "findings", ())
    detail = str(error).partition("\n")[0].rstrip(":")[:LONGEST_TEXT] if findings else str(error)
    if not findings and status < 500:
        findings = [Finding(message=detail)]
    code = KEY_REUSED if isinstance(error, KeyConflictError | OtherRequestError) else None
    return ProblemError(status, detail, findings=findings, headers=RETRY if status == 503 else None, code=code)


def bad(detail: str) -> ProblemError:
    """The problem of a request that cannot be read."""
    return ProblemError(400, detail, findings=[Finding(message=detail)])


def unfit(detail: str) -> ProblemError:
    """The problem of a request that can be read, and has something that does not fit."""
    return ProblemError(422, detail, findings=[Finding(message=detail)])
