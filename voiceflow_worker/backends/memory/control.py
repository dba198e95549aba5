"""Gates, limits and departure times over the reference of the memory store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.memory.reference import Memory, MemoryDomain
from voiceflow_worker.core.ports import Control, Limits, Slots
from voiceflow_worker.core.store_port import GATES, LIMITS, Unit, gate_from, limits_from, limits_put
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import JobState


class MemoryControl(Control):
    """The port `Control` in memory."""

    def __init__(self, domain: MemoryDomain) -> None:
        self._domain = domain

    @property
    def _memory(self) -> Memory:
        return self._domain.memory

    async def configure(self, queue: str, limits: Limits) -> None:
        await checkpoint()
        self._memory.answer(Unit(puts=(limits_put(queue, limits),), wakes=queue), self._domain.clock.now())

    async def limits(self, queue: str) -> Limits | None:
        await checkpoint()
        record = self._memory.record(LIMITS, queue, self._domain.clock.now())
        return None if record is None else limits_from(record)

    async def gates(self, queue: str) -> Sequence[Gate]:
        await checkpoint()
        return self._gates(queue)

    def _gates(self, queue: str) -> list[Gate]:
        records = self._memory.recorded.get(GATES, {}).values()
        gates = [gate_from(each) for each in records if each.key.partition(" ")[0] == queue]
        return [gate for gate in gates if gate.state is not GateState.OPEN]

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        await checkpoint()
        queued = {
            job.batch_id for job in self._memory.jobs.values() if (job.queue, job.state) == (queue, JobState.QUEUED)
        }
        cancelled = (each for each in self._gates(queue) if each.state is GateState.CANCELLED and each.name in queued)
        return list(islice(cancelled, limit))

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        await checkpoint()
        batches = {job.batch_id for job in self._memory.jobs.values() if job.queue == queue}
        spent = [
            each
            for each in self._memory.recorded.get(GATES, {}).values()
            if (gate := gate_from(each)).queue == queue
            and gate.scope is GateScope.BATCH
            and gate.is_spent(at=before)
            and gate.name not in batches
        ]
        for each in spent:
            del self._memory.recorded[GATES][each.key]
        return len(spent)

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        taken = await self._domain.take(queue, wanted=wanted, horizon=horizon, now=now)
        return Slots(taken.times, taken.next_at)
