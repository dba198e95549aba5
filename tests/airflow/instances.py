"""Instances of tasks that make one call each, beside a store and an 8x8 with scripted answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow_provider.calls.enqueueing import RequestedCall, enqueue_once
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import OnClear
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Job

TASK = TaskIdentity(dag_id="d", run_id="r", task_id="t", max_tries=1)


class Instances:
    """A store, and the instances of one task."""

    def __init__(self, engine: Engine, voice: ScriptedVoice, clock: ManualClock) -> None:
        self.engine = engine
        self.voice = voice
        self.clock = clock

    @property
    def queue(self) -> CallQueue:
        return self.engine.queue

    async def enqueue(
        self,
        identity: TaskIdentity = TASK,
        *,
        to: str = "+6587654321",
        say: str = "Hello.",
        on_clear: OnClear = OnClear.SAME_CALL,
        batch_id: str = "b",
        unique_key: str | None = None,
    ) -> Job:
        said = {"to": to, "say": say, "voice_profile": "en-IE-EmilyNeural", "source": "+6531234567", "batch": batch_id}
        wanted = RequestedCall(fields={**said, "valid_for": "2h"}, unique_key=unique_key)
        return await enqueue_once(self.queue, wanted, identity, on_clear=on_clear)

    async def instance(
        self, index: int, number: str, *, cleared: int = 0, max_tries: int | None = None, **more: Any
    ) -> Job:
        """The call of one instance of a mapped task."""
        tries = 1 + cleared if max_tries is None else max_tries
        identity = replace(TASK, map_index=index, clear_number=cleared, max_tries=tries)
        return await self.enqueue(identity, to=number, batch_id=identity.batch_id(), **more)

    async def expanded(
        self, numbers: Sequence[str], *, cleared: int = 0, order: Sequence[int] | None = None
    ) -> list[Job]:
        """Each instance of an expansion, in the order in which they run."""
        jobs: dict[int, Job] = {}
        for index in order if order is not None else range(len(numbers)):
            jobs[index] = await self.instance(index, numbers[index], cleared=cleared)
        return [jobs[index] for index in sorted(jobs)]

    async def posts(self) -> int:
        await self.engine.send()
        return len(self.voice.placed)

    async def rings(self, *numbers: str) -> list[int]:
        for _ in range(4):  # a second call to one number waits until the first has ended
            for job in await self.engine.send():
                await self.engine.summarise(job)
            self.clock.advance(timedelta(minutes=1))
        jobs = await self.queue.find(limit=None)
        called = Counter(job.destination for job in jobs for post in job.posts if post.may_have_rung)
        return [called[number] for number in numbers]
