"""The check whether a queue is drained, and the counts of jobs that remain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.overview.status import due_count, held_count
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import count_states, gates_of
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource

SOON = timedelta(seconds=15)
"""A drain also waits for jobs that come due within this time, such as retries after a refused connection."""

SHORT_HOLD = timedelta(minutes=5)
"""A drain also waits for a hold that ends by itself within this time, such as the hold after a 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """The counts of jobs left in a drained queue. `held` counts due jobs behind `holds`, the closed gates."""

    later: int
    held: int
    holds: tuple[Gate, ...]
    doubts: int
    submitted: int

    @property
    def stopped_by_hold(self) -> bool:
        """Whether due jobs were left because a gate is closed."""
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
        """Whether the drain is over: no job is leased, sending or due soon, and no receiver awaits a summary.

        Due jobs behind a hold count only if the hold ends by itself within `SHORT_HOLD`.
        """
        if _are_under_way(await self._counts()):
            return False
        now = self._store.clock.now()
        closed = await self._closed(now)
        soon = _soon(closed, now)
        due = await due_count(self._store, self._queue, by=soon, batch_id=self._batch_id)
        if due > await self._held(closed, soon):
            return False
        short = [gate for gate in closed if gate.until is not None and gate.until - now <= SHORT_HOLD]
        if short and await self._held(short, soon):
            return False
        # Counted again: another worker may have leased a job before the due jobs were counted.
        counts = await self._counts()
        if _are_under_way(counts):
            return False
        awaited = counts[JobState.SUBMITTED] and self._policy.outcomes is OutcomeSource.WEBHOOK
        return not (awaited and await self._heartbeats.has_receiver())

    async def result(self) -> DrainResult:
        """Counts of the jobs that are left now."""
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

    async def _counts(self) -> Mapping[JobState, int]:
        return await count_states(self._store, self._queue, batch_id=self._batch_id)

    async def _closed(self, now: datetime) -> list[Gate]:
        # A cancelled batch is not a hold: the drain waits until the sweep has ended its jobs.
        gates = await gates_of(self._store, self._queue)
        return [gate for gate in gates if gate.state is GateState.HELD and gate.is_closed(at=now)]

    async def _held(self, closed: list[Gate], by: datetime) -> int:
        return await held_count(self._store, self._queue, closed, by=by, batch_id=self._batch_id)


def _are_under_way(counts: Mapping[JobState, int]) -> bool:
    return bool(counts[JobState.LEASED] or counts[JobState.SENDING])


def _soon(closed: list[Gate], now: datetime) -> datetime:
    """The latest due time of jobs that a drain waits for: `SOON` after the last timed hold ends, or else after now."""
    return max([now, *(gate.until for gate in closed if gate.until is not None)]) + SOON
