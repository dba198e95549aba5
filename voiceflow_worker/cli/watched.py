"""The data of `voiceflow watch`: progress, outcomes, workers and holds of a queue or a batch, at one time."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.core.overview.batches import BatchProgress, read_batch, read_queue
from voiceflow_worker.core.overview.gate_story import gate_as_json
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.moment import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A queue with its batches, or one batch, at one time. `holds` are the closed gates that stop the calls."""

    progress: BatchProgress
    totals: Totals
    holds: tuple[Gate, ...]
    workers: int
    has_receiver: bool

    def as_json(self) -> dict[str, object]:
        """The data as a JSON document: the progress as `voiceflow batches` prints it, and more."""
        return {
            "at": rfc3339(self.progress.at),
            **self.progress.as_json(),
            "outcomes": self.totals.outcomes,
            "answered": self.totals.answered,
            "workers": self.workers,
            "receiver": self.has_receiver,
            "holds": [gate_as_json(gate) for gate in self.holds],
        }


async def read_watched(store: Store, queue: str, *, batch_id: str | None = None) -> Watched:
    """Read a queue, or one batch of it. Raises StoreError."""
    heartbeats = Heartbeats(store)
    progress = await (read_queue(store, queue) if batch_id is None else read_batch(store, queue, batch_id))
    gates = [gate for gate in await store.control.gates(queue) if gate.is_closed(at=progress.at)]
    return Watched(
        progress=progress,
        totals=await store.jobs.totals(queue, batch_id=batch_id),
        holds=tuple(gate for gate in gates if batch_id is None or gate.name == batch_id or gate == progress.hold),
        workers=len(await heartbeats.workers(queue)),
        has_receiver=await heartbeats.has_receiver(),
    )
