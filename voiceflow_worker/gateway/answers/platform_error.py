"""Errors of the 8x8 platform in front of the API: the API did not see the request, and nobody was called.

They are JSON objects `{"code", "message", "errorId", "timestamp"}` with 400, 401, 403, 404, 410 or 426, and have none
of the fields of an answer about a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STATUSES = frozenset({400, 401, 403, 404, 410, 426})
"""The HTTP statuses of these errors. With any other status, such a body proves nothing."""

_OF_A_CALL = frozenset({"sessionId", "sessionStatus", "callFlowRequestId", "statusCode", "statusMessage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformError:
    """One such error. `error_id` is for the support of 8x8; it may be empty."""

    code: str
    message: str
    error_id: str


def read_platform_error(fields: Mapping[str, Any]) -> PlatformError | None:
    """The error in the fields of a JSON object; None if it is something else."""
    if _OF_A_CALL & fields.keys():
        return None
    code, message, error_id = fields.get("code"), fields.get("message"), fields.get("errorId")
    if isinstance(code, bool) or not isinstance(code, int | str) or not str(code).strip():
        return None
    if not isinstance(message, str):
        return None
    return PlatformError(
        code=str(code).strip(), message=message, error_id=error_id if isinstance(error_id, str) else ""
    )
