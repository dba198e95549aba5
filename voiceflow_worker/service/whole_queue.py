"""A queue with everything that is going on in it, as interfaces and metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.status import QueueStatus
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations
from voiceflow_worker.service.scheduled_run import Schedule, read_schedules


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeQueue:
    """The status of a queue, its open escalations, and its schedules."""

    status: QueueStatus
    escalations: list[EscalationStatus]
    schedules: list[Schedule]

    def as_json(self) -> dict[str, object]:
        """The queue as JSON, for scripts."""
        return {
            **self.status.as_json(),
            "escalations": [each.as_json() for each in self.escalations],
            "schedules": [each.as_json() for each in self.schedules],
        }


async def read_queue(calls: CallQueue) -> WholeQueue:
    """Read all of a queue. Raises StoreError."""
    return WholeQueue(
        status=await calls.status(),
        escalations=await Escalations(calls).recent(),
        schedules=await read_schedules(calls.store, calls.name),
    )
