"""Orders for the log export: rows that come late or never, and exports that fail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from voiceflow_worker.sandbox.orders.orders import DestinationOrder, RepeatedOrder


class RowOrder(DestinationOrder):
    """An order for the log rows of the next `times` calls (null: all calls), to `destination` if it is set.

    The rows come `late_seconds`, divided by the sandbox's speed, after the end of the call. With `never`, the rows do
    not come.
    """

    late_seconds: float = Field(default=0, ge=0)
    never: bool = False


class ExportOrder(RepeatedOrder):
    """An order for the next `times` exports (default 1, null for all).

    An export ends as `status`. With `http_status`, the request that begins it is refused with this status.
    """

    times: int | None = Field(default=1, ge=1)
    status: Literal["succeeded", "empty", "failed", "cancelled", "error"] | None = None
    http_status: int | None = Field(default=None, ge=400, le=599)
