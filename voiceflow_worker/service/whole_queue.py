"""A queue with everything that is going on in it, as interfaces and metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.model.text.wording import rfc3339
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.status import QueueStatus
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations
from voiceflow_worker.service.scheduled_run import ScheduledRun, last_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeQueue:
    """The status of a queue at a time, its open escalations, and the last run of each of its schedules."""

    at: datetime
    status: QueueStatus
    escalations: list[EscalationStatus]
    runs: list[ScheduledRun]

    def as_json(self) -> dict[str, object]:
        """The queue as JSON, for scripts."""
        return {
            **self.status.as_json(),
            "escalations": [each.as_json() for each in self.escalations],
            "schedules": [
                {
                    **each.as_json(),
                    "next_at": rfc3339(each.following(self.at)),
                    "overdue_since": rfc3339(each.overdue_since(self.at)),
                }
                for each in self.runs
            ],
        }


async def read_queue(calls: CallQueue) -> WholeQueue:
    """Read all of a queue. Raises StoreError."""
    return WholeQueue(
        at=calls.store.clock.now(),
        status=await calls.status(),
        escalations=await Escalations(calls).recent(),
        runs=await last_runs(calls.store, calls.name),
    )
