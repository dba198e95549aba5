"""The errors of 8x8's platform, which stands before the API: the request reached the door, and nothing was called.

They are JSON objects `{"code", "message", "errorId", "timestamp"}` with 400, 401, 403, 404, 410 or 426, and have none
of the fields of an answer about a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STATUSES = frozenset({400, 401, 403, 404, 410, 426})
"""The HTTP statuses with which they come. With another one, such a body proves nothing."""

_OF_A_CALL = frozenset({"sessionId", "sessionStatus", "callFlowRequestId", "statusCode", "statusMessage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformError:
    """What the platform said; `error_id` is what 8x8's support asks for, empty when there was none."""

    code: str
    message: str
    error_id: str


def read_platform_error(fields: Mapping[str, Any]) -> PlatformError | None:
    """The error in the fields of a JSON object; None when it is something else, or only resembles one."""
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
