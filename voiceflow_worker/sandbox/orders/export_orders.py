"""Orders for the log export: the arrival of rows in the log, and faults of exports."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from voiceflow_worker.sandbox.orders.orders import DestinationOrder, RepeatedOrder


class RowOrder(DestinationOrder):
    """The arrival of the rows of calls to `destination`, or of all calls, in the log: for `times` calls, or for all.

    The rows come `late_seconds`, divided by the sandbox's speed, after the end of the call. `masked` hides the last
    digits of both numbers. With `never` the rows do not come.
    """

    late_seconds: float = Field(default=0, ge=0)
    masked: bool = False
    never: bool = False


class At(StrEnum):
    """The request at which an export goes wrong."""

    START = "start"
    POLL = "poll"
    FILE = "file"


class ExportOrder(RepeatedOrder):
    """The course of the next `times` exports (default 1, null for all).

    They are not ready for `polls` polls, then they end as `status`, with files of `rows_per_file` rows. With `at`, the
    next `times` requests of this kind are answered with `http_status`, and with `retry_after` if given.
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
        """The request that is refused."""
        return self.at

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.at is None) != (self.http_status is None):
            raise ValueError("at and http_status go together")
        if self.retry_after is not None and self.at is None:
            raise ValueError("retry_after needs at and http_status")
        if self.at is not None and self.model_fields_set & {"status", "polls", "rows_per_file"}:
            raise ValueError("`status`, `polls` and `rows_per_file` exclude `at`: with `at` the export is refused")
        return self
