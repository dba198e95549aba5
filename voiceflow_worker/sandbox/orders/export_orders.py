"""Orders for the log export: how rows come into the log, and how exports go wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voiceflow_worker.sandbox.orders.orders import same_number


class RowOrder(BaseModel):
    """How the rows of calls to `destination`, or of all where it is absent or "*", come into the log.

    For `times` calls, or for all. `late_seconds` from the end of a call to its rows are divided by the sandbox's speed,
    `masked` hides the last digits of both numbers, `never` keeps the rows out of the log for good.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str | None = None
    times: int | None = Field(default=None, ge=1)
    late_seconds: float = Field(default=0, ge=0)
    masked: bool = False
    never: bool = False

    @property
    def for_destination(self) -> str | None:
        """The destination it is for; None for every one."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))

    @property
    def count(self) -> int | None:
        """For how many calls it stands; None for all."""
        return self.times


class At(StrEnum):
    """At which request an export goes wrong."""

    START = "start"
    POLL = "poll"
    FILE = "file"


class ExportOrder(BaseModel):
    """How the next `times` exports go (once unless given, all if null).

    `polls` times they are not ready yet, then they end as `status`; their rows come in files of `rows_per_file`. With
    `at`, instead, the next `times` requests of this kind are answered `http_status`, with `retry_after` if it is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int | None = Field(default=1, ge=1)
    status: Literal["succeeded", "empty", "failed", "cancelled", "error"] | None = None
    polls: int = Field(default=1, ge=0)
    rows_per_file: int = Field(default=10_000, ge=1)
    at: At | None = None
    http_status: int | None = Field(default=None, ge=400, le=599)
    retry_after: float | str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.at is None) != (self.http_status is None):
            raise ValueError("at and http_status go together")
        if self.retry_after is not None and self.at is None:
            raise ValueError("retry_after needs at and http_status")
        if self.at is not None and self.model_fields_set & {"status", "polls", "rows_per_file"}:
            raise ValueError("status, polls and rows_per_file are for exports that begin; leave at out")
        return self

    @property
    def for_destination(self) -> None:
        """An export is of all destinations."""
        return None

    @property
    def count(self) -> int | None:
        """For how many it stands; None for all."""
        return self.times
