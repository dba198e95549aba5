"""Calls that end as a test says, without a worker or a receiver."""

from __future__ import annotations

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, RedialPolicy, SessionStatus
from voiceflow_worker.core.ports import Store


class Calls:
    """Calls of one queue, placed and ended on demand."""

    def __init__(self, store: Store, *, queue: str = "default") -> None:
        self.store = store
        self.engine = Engine(store, ScriptedVoice(), queue=queue)
        self.queue = self.engine.queue
        self._count = 0

    async def placed(self, *, redial: RedialPolicy | None = None) -> Job:
        """A call that rings: 8x8 said CREATED."""
        self._count += 1
        job = await self.engine.enqueue(number(self._count), redial=redial)
        [sent] = await self.engine.send()
        assert sent.id == job.id
        return sent

    async def end(self, job: Job, status: SessionStatus = SessionStatus.COMPLETED) -> None:
        """The summary of its newest POST comes."""
        await self.engine.summarise(job, status)

    async def ended(self, status: SessionStatus = SessionStatus.COMPLETED) -> Job:
        """A call that was placed and has ended."""
        job = await self.placed()
        await self.end(job, status)
        return job
