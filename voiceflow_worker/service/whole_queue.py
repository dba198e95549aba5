"""A queue with everything that is going on in it, as interfaces and metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.core.overview.status import QueueStatus
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.service.escalation import Escalations
from voiceflow_worker.service.firing import Firing, last_firings
from voiceflow_worker.service.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeQueue:
    """The status of a queue, its open ladders, and the last firing of each of its schedules."""

    status: QueueStatus
    ladders: list[Ladder]
    firings: list[Firing]

    def as_json(self) -> dict[str, object]:
        """The queue as JSON, for scripts."""
        return {
            **self.status.as_json(),
            "escalations": [each.as_json() for each in self.ladders],
            "schedules": [each.as_json() for each in self.firings],
        }


async def read_queue(calls: CallQueue) -> WholeQueue:
    """Read all of a queue. Raises StoreError."""
    return WholeQueue(
        status=await calls.status(),
        ladders=await Escalations(calls).recent(),
        firings=await last_firings(calls.store, calls.name),
    )
