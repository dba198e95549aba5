"""Errors of the 8x8 platform in front of the API: the API did not see the request, and nobody was called.

They are JSON objects `{"code", "message", "errorId", "timestamp"}` with 400, 401, 403, 404, 410 or 426, and have none
of the fields of an answer about a call.
"""

from __future__ import annotations

from collections.abc import Mapping

STATUSES = frozenset({400, 401, 403, 404, 410, 426})
"""The HTTP statuses of these errors. With any other status, such a body proves nothing."""

_OF_A_CALL = frozenset({"sessionId", "sessionStatus", "callFlowRequestId", "statusCode", "statusMessage"})


def platform_error(fields: Mapping[str, object]) -> str | None:
    """The error in a JSON object as a clause, with its id for the support of 8x8; None if it is something else."""
    if _OF_A_CALL & fields.keys():
        return None
    code, message, error_id = fields.get("code"), fields.get("message"), fields.get("errorId")
    if isinstance(code, bool) or not isinstance(code, int | str) or not str(code).strip():
        return None
    if not isinstance(message, str):
        return None
    named = f", error id {error_id}" if isinstance(error_id, str) and error_id else ""
    return f"platform error {str(code).strip()}{named}: {message or 'it gave no reason'}"
