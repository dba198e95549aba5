"""The status of a queue, for people and dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voiceflow_worker.core.numbers.health import NumberHealth, OddNumber
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.overview.waiting import NextCall, WaitingCounts, next_call, read_waiting
from voiceflow_worker.core.ports import Limits, Order, Query, Store
from voiceflow_worker.core.ports.reading import count_states, find_jobs, gates_of, limits_of
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.moment import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The counts, doubts and holds of a queue. `rate_now` is the rate of the last 5 seconds, in calls per second.

    `oldest_due_seconds` is how long the oldest due call has been due. `next_call` is when the next call may begin, if
    none of the waiting calls may begin now.
    """

    queue: str
    states: Mapping[JobState, int]
    due: int
    oldest_due_seconds: float | None
    limits: Limits | None
    rate_now: float
    workers: int
    holds: tuple[Gate, ...]
    next_call: NextCall | None = None
    waiting: WaitingCounts = field(default_factory=WaitingCounts)
    has_receiver: bool = False
    odd_numbers: tuple[OddNumber, ...] = ()

    @property
    def doubts(self) -> int:
        """The number of calls in doubt, which need a person or evidence."""
        return self.states[JobState.IN_DOUBT]

    @property
    def total(self) -> int:
        """The number of all jobs of the queue."""
        return sum(self.states.values())

    def as_json(self) -> dict[str, object]:
        """The status as JSON, for scripts."""
        return {
            "queue": self.queue,
            "states": {state.value: self.states[state] for state in JobState},
            "due": self.due,
            "oldest_due_seconds": self.oldest_due_seconds,
            "next_at": rfc3339(None if self.next_call is None else self.next_call.at),
            "rate": {"limit": self.limits.rate if self.limits else None, "now": self.rate_now},
            "workers": self.workers,
            "holds": [
                {"scope": gate.scope.value, "name": gate.name, "until": rfc3339(gate.until), "reason": gate.reason}
                for gate in self.holds
            ],
            "waiting": self.waiting.as_json(),
            "waiting_is_exact": self.waiting.is_exact,
            "receiver": self.has_receiver,
            "doubts": self.doubts,
            "numbers": [each.as_json() for each in self.odd_numbers],
            "total": self.total,
        }


async def read_status(store: Store, queue: str) -> QueueStatus:
    """Read the status of one queue."""
    now = store.clock.now()
    due = (await count_states(store, queue, due_before=now))[JobState.QUEUED]
    oldest = await find_jobs(
        store, Query(queue=queue, states=frozenset({JobState.QUEUED}), due_before=now, order=Order.DUE, limit=1)
    )
    heartbeats = Heartbeats(store)
    beats = await heartbeats.workers(queue)
    limits = await limits_of(store, queue)
    holds = tuple(gate for gate in await gates_of(store, queue) if gate.is_closed(at=now))
    return QueueStatus(
        queue=queue,
        states=await count_states(store, queue),
        due=due,
        oldest_due_seconds=round((now - oldest[0].due_at).total_seconds(), 3) if oldest else None,
        limits=limits,
        rate_now=round(sum(beat.rate for beat in beats), 3),
        workers=len(beats),
        holds=holds,
        next_call=await next_call(store, queue),
        waiting=await read_waiting(
            store,
            queue,
            holds=holds,
            sending=bool(beats),
            limited=limits is not None and (limits.rate is not None or limits.max_active is not None),
        ),
        has_receiver=await heartbeats.has_receiver(),
        odd_numbers=tuple(await NumberHealth(store).standing()),
    )
