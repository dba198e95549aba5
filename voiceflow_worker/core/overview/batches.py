"""The progress of batches and of whole queues: calls by state, rate, hold and remaining time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core.audit import LATEST, PAGE, AuditEntry, entries_on
from voiceflow_worker.core.drain import due_count, held_count
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.overview.status import NextCall, next_call
from voiceflow_worker.core.overview.story import gate_as_json
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.names import BatchNames, QueueNames
from voiceflow_worker.core.ports.reading import count_states, gates_at, gates_of, starts_of
from voiceflow_worker.core.ports.trips import gather
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.text.wording import count_of, rfc3339

AT_ONCE = 8
"""The number of batches that are counted at the same time, to save time: a count mostly waits for the store."""
_TO_SEND = (JobState.QUEUED, JobState.LEASED, JobState.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """The progress of one batch, or of a whole queue if `batch_id` is None.

    `rate_now` is in calls per second, over the last 5 seconds. `hold` is the closed gate of the batch or of its queue,
    if any. `ends_at` is the time at which the last call leaves, at the present rate. It is None if no call waits or
    none can leave, and if it cannot be known: if a call waits behind a hold, or is not due by then, because it waits
    for its redial, its window or its time. `unknown` then says why, in words. `next_call` is when the next call may
    begin, if none of the waiting calls may begin now. `ordered` are the last acts of people on the batch.
    """

    queue: str
    batch_id: str | None
    states: Mapping[JobState, int]
    rate_now: float
    hold: Gate | None
    at: datetime
    ends_at: datetime | None
    unknown: str = ""
    next_call: NextCall | None = None
    ordered: tuple[AuditEntry, ...] = ()

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
        return _to_send(self.states)

    @property
    def under_way(self) -> int:
        """The number of calls that are being sent, ringing or in conversation."""
        return sum(self.states[state] for state in (JobState.SENDING, JobState.SUBMITTED))

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
            "next_at": rfc3339(None if self.next_call is None else self.next_call.at),
            "hold": None if self.hold is None else gate_as_json(self.hold),
            "doubts": self.doubts,
            "ordered": [each.as_json() for each in self.ordered],
        }


async def read_queues(store: Store, *, also: str | None = None) -> list[BatchProgress]:
    """The progress of all queues that had a call or a worker, sorted by name. Raises StoreError.

    The queue `also` is included in any case.
    """
    names = {*await QueueNames(store).known(), *([also] if also else [])}
    return [await read_queue(store, queue) for queue in sorted(names)]


async def read_batches(store: Store, queue: str) -> list[BatchProgress]:
    """The progress of each batch that still has calls in this queue, sorted by name. Raises StoreError."""
    now, rates = store.clock.now(), await Heartbeats(store).batches(queue)
    gates = _closed(await gates_of(store, queue), now)
    names = await BatchNames(store, queue).known()
    counted: dict[str, Mapping[JobState, int]] = {}

    async def count(batch_ids: Sequence[str]) -> None:
        for batch_id in batch_ids:
            counted[batch_id] = await count_states(store, queue, batch_id=batch_id)

    await gather(*(partial(count, names[place::AT_ONCE]) for place in range(min(AT_ONCE, len(names)))))
    acts = await entries_on(store, queue, limit=PAGE)
    found = [
        await _of(store, queue, batch_id, counted[batch_id], gates=gates, rate=rates.get(batch_id, 0.0), at=now)
        for batch_id in names
        if sum(counted[batch_id].values())
    ]
    return [replace(each, ordered=tuple(act for act in acts if act.batch == each.batch_id)[:LATEST]) for each in found]


async def read_batch(store: Store, queue: str, batch_id: str) -> BatchProgress:
    """The progress of one batch, with a total of 0 if it is unknown. Raises StoreError."""
    now, rates = store.clock.now(), await Heartbeats(store).batches(queue)
    starts = await starts_of(store, queue, batch_id=batch_id)
    gates = _closed([*starts, *(await gates_at(store, queue, [None, batch_id])).values()], now)
    states = await count_states(store, queue, batch_id=batch_id)
    found = await _of(store, queue, batch_id, states, gates=gates, rate=rates.get(batch_id, 0.0), at=now)
    return replace(found, ordered=tuple(await entries_on(store, queue, batch=batch_id)))


async def read_queue(store: Store, queue: str) -> BatchProgress:
    """The progress of one queue, with a total of 0 if it is unknown. Raises StoreError."""
    now, beats = store.clock.now(), await Heartbeats(store).workers(queue)
    states, gates = await count_states(store, queue), _closed(await gates_of(store, queue), now)
    return await _of(store, queue, None, states, gates=gates, rate=sum(beat.rate for beat in beats), at=now)


async def _of(
    store: Store,
    queue: str,
    batch_id: str | None,
    states: Mapping[JobState, int],
    *,
    gates: Mapping[str | None, Gate],
    rate: float,
    at: datetime,
) -> BatchProgress:
    hold = gates.get(batch_id) or gates.get(None)
    ends_at, unknown = None, ""
    if hold is not None:
        unknown = "on hold"
    elif not rate:
        unknown = "nothing is being sent now"
    elif _to_send(states):
        ends_at = at + timedelta(seconds=_to_send(states) / rate)
        due = await due_count(store, queue, by=ends_at, batch_id=batch_id)
        held = await held_count(store, queue, gates.values(), by=ends_at) if batch_id is None else 0
        later = states[JobState.QUEUED] - due
        if held or later > 0:
            ends_at = None
            waits = ((held, "behind a hold"), (later, "for a redial, a calling window or their time"))
            unknown = ", ".join(f"{count_of(count, 'call')} waiting {why}" for count, why in waits if count > 0)
    return BatchProgress(
        queue=queue,
        batch_id=batch_id,
        states=states,
        rate_now=round(rate, 3),
        hold=hold,
        at=at,
        ends_at=ends_at,
        unknown=unknown,
        next_call=await next_call(store, queue, batch_id=batch_id) if states[JobState.QUEUED] else None,
    )


def _to_send(states: Mapping[JobState, int]) -> int:
    return sum(states[state] for state in _TO_SEND)


def _closed(gates: Iterable[Gate], now: datetime) -> dict[str | None, Gate]:
    """The closed gates by batch; the queue's own gate is under None. The gate of a batch goes before its starts."""
    return {None if gate.scope is GateScope.QUEUE else gate.name: gate for gate in gates if gate.is_closed(at=now)}
