"""The progress of batches and of whole queues: calls by state, rate, hold and remaining time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core.overview.gate_story import gate_as_json
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.batch_names import BatchNames
from voiceflow_worker.core.ports.queue_names import QueueNames
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.moment import rfc3339

AT_ONCE = 8
"""The number of batches that are counted at the same time, to save time: a count mostly waits for the store."""
_TO_SEND = (JobState.QUEUED, JobState.LEASED, JobState.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """The progress of one batch, or of a whole queue if `batch_id` is None.

    `rate_now` is in calls per second, over the last 5 seconds. `hold` is the closed gate of the batch or of its queue,
    if any.
    """

    queue: str
    batch_id: str | None
    states: Mapping[JobState, int]
    rate_now: float
    hold: Gate | None
    at: datetime

    @property
    def total(self) -> int:
        """The number of calls in the store."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """The number of calls that have ended."""
        return sum(self.states[state] for state in FINAL_STATES)

    @property
    def doubts(self) -> int:
        """The number of calls in doubt, which need evidence or a person."""
        return self.states[JobState.IN_DOUBT]

    @property
    def to_send(self) -> int:
        """The number of calls that have not left yet."""
        return sum(self.states[state] for state in _TO_SEND)

    @property
    def under_way(self) -> int:
        """The number of calls that are being sent, ringing or in conversation."""
        return sum(self.states[state] for state in (JobState.SENDING, JobState.SUBMITTED))

    @property
    def ends_at(self) -> datetime | None:
        """The time at which the last call leaves, at the present rate; None if no calls wait or none can leave."""
        if not self.to_send or not self.rate_now or self.hold is not None:
            return None
        return self.at + timedelta(seconds=self.to_send / self.rate_now)

    def as_json(self) -> dict[str, object]:
        """The progress as JSON, for scripts."""
        return {
            **({} if self.batch_id is None else {"batch_id": self.batch_id}),
            "queue": self.queue,
            "total": self.total,
            "states": {state.value: self.states[state] for state in JobState},
            "done": self.done,
            "rate_now": self.rate_now,
            "ends_at": rfc3339(self.ends_at),
            "hold": None if self.hold is None else gate_as_json(self.hold),
            "doubts": self.doubts,
        }


async def read_queues(store: Store, *, also: str | None = None) -> list[BatchProgress]:
    """The progress of all queues that had a worker or a batch, sorted by name. Raises StoreError.

    The queue `also` is included in any case.
    """
    names = {*await QueueNames(store).known(), *await BatchNames.queues(store), *([also] if also else [])}
    return [await read_queue(store, queue) for queue in sorted(names)]


async def read_batches(store: Store, queue: str) -> list[BatchProgress]:
    """The progress of each batch that still has calls in this queue, sorted by name. Raises StoreError."""
    now, rates = store.clock.now(), await Heartbeats(store).batches(queue)
    gates = _closed(await store.control.gates(queue), now)
    names = await BatchNames(store, queue).known()
    counted: dict[str, Mapping[JobState, int]] = {}

    async def count(batch_ids: Sequence[str]) -> None:
        for batch_id in batch_ids:
            counted[batch_id] = await store.jobs.count(queue, batch_id=batch_id)

    await gather(*(partial(count, names[place::AT_ONCE]) for place in range(min(AT_ONCE, len(names)))))
    return [
        _of(queue, batch_id, counted[batch_id], gates, rates.get(batch_id, 0.0), at=now)
        for batch_id in names
        if sum(counted[batch_id].values())
    ]


async def read_batch(store: Store, queue: str, batch_id: str) -> BatchProgress:
    """The progress of one batch, with a total of 0 if it is unknown. Raises StoreError."""
    now, rates = store.clock.now(), await Heartbeats(store).batches(queue)
    gates = _closed(await store.control.gates(queue), now)
    states = await store.jobs.count(queue, batch_id=batch_id)
    return _of(queue, batch_id, states, gates, rates.get(batch_id, 0.0), at=now)


async def read_queue(store: Store, queue: str) -> BatchProgress:
    """The progress of one queue, with a total of 0 if it is unknown. Raises StoreError."""
    now, beats = store.clock.now(), await Heartbeats(store).workers(queue)
    states, gates = await store.jobs.count(queue), _closed(await store.control.gates(queue), now)
    return _of(queue, None, states, gates, sum(beat.rate for beat in beats), at=now)


def _of(
    queue: str,
    batch_id: str | None,
    states: Mapping[JobState, int],
    gates: Mapping[str | None, Gate],
    rate: float,
    *,
    at: datetime,
) -> BatchProgress:
    hold = gates.get(batch_id) or gates.get(None)
    return BatchProgress(queue=queue, batch_id=batch_id, states=states, rate_now=round(rate, 3), hold=hold, at=at)


def _closed(gates: Sequence[Gate], now: datetime) -> dict[str | None, Gate]:
    """The closed gates by batch; the queue's own gate is under None."""
    return {None if gate.scope is GateScope.QUEUE else gate.name: gate for gate in gates if gate.is_closed(at=now)}
