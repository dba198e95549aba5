"""Orders for the log export: rows that come late or never, and faults of exports."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from voiceflow_worker.sandbox.orders.orders import DestinationOrder, RepeatedOrder


class RowOrder(DestinationOrder):
    """An order for the log rows of the next `times` calls (null: all calls), to `destination` if it is set.

    The rows come `late_seconds`, divided by the sandbox's speed, after the end of the call. `masked` hides the last
    digits of both numbers. With `never`, the rows do not come.
    """

    late_seconds: float = Field(default=0, ge=0)
    masked: bool = False
    never: bool = False


class At(StrEnum):
    """The kind of request that fails."""

    START = "start"
    POLL = "poll"
    FILE = "file"


class ExportOrder(RepeatedOrder):
    """An order for the next `times` exports (default 1, null for all).

    An export is unfinished for the first `polls` status requests. Then it ends as `status`, with `rows_per_file` rows
    in a file. `at` is a kind of request. With it, no export is changed: the next `times` requests of that kind fail
    with `http_status`, and with `retry_after` if it is set.
    """

    times: int | None = Field(default=1, ge=1)
    status: Literal["succeeded", "empty", "failed", "cancelled", "error"] | None = None
    polls: int = Field(default=1, ge=0)
    rows_per_file: int = Field(default=10_000, ge=1)
    at: At | None = None
    http_status: int | None = Field(default=None, ge=400, le=599)
    retry_after: float | str | None = None

    @property
    def occasion(self) -> At | None:
        """The kind of request that the order makes fail; None if it changes exports."""
        return self.at

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.at is None) != (self.http_status is None):
            raise ValueError("give both 'at' and 'http_status', or neither")
        if self.retry_after is not None and self.at is None:
            raise ValueError("'retry_after' needs 'at' and 'http_status'")
        if self.at is not None and self.model_fields_set & {"status", "polls", "rows_per_file"}:
            raise ValueError(
                "with 'at', requests fail and exports do not change: omit 'status', 'polls' and 'rows_per_file'"
            )
        return self
