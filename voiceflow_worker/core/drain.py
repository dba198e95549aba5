"""Whether a queue, or a batch of it, is drained: what is in progress, due, or behind a hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.base.reading import count_states, due_count, find_jobs, gates_of
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, HoldKind
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource

MOST_NEXT = 100
"""The most queued calls that are read for the time of the next call, by due time."""


async def held_count(
    store: Store, queue: str, holds: Iterable[Gate], *, by: datetime, batch_id: str | None = None
) -> int:
    """Return the number of queued jobs that are due by this time and behind these closed gates."""
    gates = [gate for gate in holds if gate.scope is GateScope.QUEUE or batch_id in {None, gate.name}]
    if any(gate.scope is GateScope.QUEUE for gate in gates):
        return await due_count(store, queue, by=by, batch_id=batch_id)
    closed = sorted({gate.name for gate in gates})
    totals = await store.totals(queue, batches=closed)
    queued = [name for name, each in zip(closed, totals, strict=True) if each.states[JobState.QUEUED]]
    return sum([await due_count(store, queue, by=by, batch_id=name) for name in queued])


SOON = timedelta(seconds=15)
"""A drain also waits for jobs that come due within this time, such as retries after a refused connection."""

SHORT_HOLD = timedelta(minutes=5)
"""A drain also waits for a hold that ends by itself within this time, such as the hold after a 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """The counts of jobs left in a drained queue. `held` counts due jobs behind `holds`, the closed gates.

    `sent` counts the POSTs of this worker that left.

    `submitted` counts calls that 8x8 has accepted and whose outcome is still awaited: none if no outcomes are
    (`OUTCOMES=none`), or if all have come. What became of the calls is in `CallQueue.report`.
    """

    later: int
    held: int
    holds: tuple[Gate, ...]
    doubts: int
    submitted: int
    sent: int = 0

    @property
    def stopped_by_hold(self) -> bool:
        """True if due jobs were left because a gate is closed."""
        return self.held > 0


class DrainCheck:
    """Checks whether a queue, or one batch of it, is drained."""

    def __init__(self, store: Store, *, queue: str, batch_id: str | None, policy: CallPolicy) -> None:
        self._store = store
        self._queue = queue
        self._batch_id = batch_id
        self._policy = policy
        self._heartbeats = Heartbeats(store)

    async def is_done(self) -> bool:
        """Return whether the drain is over: no job is leased, sending or due soon, and no receiver awaits a summary.

        A job whose lease has ended and that no version here can read does not count: no sweep can move it.
        Due jobs behind a hold count only if the hold ends by itself within `SHORT_HOLD`, as that of an import may.
        """
        if await self._are_under_way(await self._counts()):
            return False
        now = self._store.clock.now()
        closed = await self._closed(now)
        soon = _soon(closed, now)
        due = await due_count(self._store, self._queue, by=soon, batch_id=self._batch_id)
        if due > await self._held(closed, soon):
            return False
        short = [gate for gate in closed if _is_short(gate, now)]
        if short and await self._held(short, soon):
            return False
        # Counted again: another worker may have leased a job before the due jobs were counted.
        counts = await self._counts()
        if await self._are_under_way(counts):
            return False
        awaited = counts[JobState.SUBMITTED] and self._policy.outcomes is OutcomeSource.WEBHOOK
        return not (awaited and await self._heartbeats.has_receiver())

    async def result(self) -> DrainResult:
        """Return counts of the jobs that are left now."""
        now = self._store.clock.now()
        counts = await self._counts()
        closed = await self._closed(now)
        held = await self._held(closed, _soon(closed, now))
        return DrainResult(
            later=counts[JobState.QUEUED] - held,
            held=held,
            holds=tuple(closed),
            doubts=counts[JobState.IN_DOUBT],
            submitted=counts[JobState.SUBMITTED],
        )

    async def _are_under_way(self, counts: Mapping[JobState, int]) -> bool:
        for state in (JobState.LEASED, JobState.SENDING):
            if counts[state]:
                ended = Due(queue=self._queue, state=state, by=self._store.clock.now(), limit=MOST_NEXT)
                all_of_queue = await count_states(self._store, self._queue)
                if await self._store.count(ended) < all_of_queue[state] or await find_jobs(self._store, ended):
                    return True
        return False

    async def _counts(self) -> Mapping[JobState, int]:
        return await count_states(self._store, self._queue, batch_id=self._batch_id)

    async def _closed(self, now: datetime) -> list[Gate]:
        # A cancelled batch is not a hold: the drain waits until the sweep has ended its jobs.
        gates = await gates_of(self._store, self._queue)
        return [gate for gate in gates if gate.state is GateState.HELD and gate.is_closed(at=now)]

    async def _held(self, closed: list[Gate], by: datetime) -> int:
        return await held_count(self._store, self._queue, closed, by=by, batch_id=self._batch_id)


def _is_short(gate: Gate, now: datetime) -> bool:
    """Return whether a hold ends by itself soon, or is that of an import which began lately."""
    if gate.holder is HoldKind.IMPORT:
        return now - gate.since < SHORT_HOLD
    return gate.until is not None and gate.until - now <= SHORT_HOLD


def _soon(closed: list[Gate], now: datetime) -> datetime:
    """Return the latest due time of jobs that a drain waits for: `SOON` after now or the last short hold."""
    return max([now, *(gate.until for gate in closed if gate.until is not None)]) + SOON
