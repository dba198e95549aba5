"""Options of a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import checked_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Less common options of a worker.

    `lease` is the time for which a worker holds a job before others may take it. It must be longer than a POST takes.
    `shutdown_grace` is the time in which calls in flight may finish when a worker stops. With `batch_id`, only this
    batch is sent. Raises InvalidInputError for a duration that is not a timedelta.
    """

    burst: int = 1
    max_active: int | None = None
    lease: timedelta = timedelta(seconds=60)
    shutdown_grace: timedelta = timedelta(seconds=30)
    batch_id: str | None = None
    policy: CallPolicy = field(default_factory=CallPolicy)

    def __post_init__(self) -> None:
        checked_duration("lease", self.lease)
        checked_duration("shutdown_grace", self.shutdown_grace)
