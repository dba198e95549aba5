"""Calls in a store that people act on: in doubt, and ended."""

from __future__ import annotations

from datetime import timedelta

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallPolicy, Job, Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus


async def in_doubt(store: Store, count: int = 1, *, valid_for: timedelta | None = None) -> tuple[Engine, list[Job]]:
    policy = CallPolicy() if valid_for is None else CallPolicy(submit_window=valid_for, clock_skew=timedelta())
    engine = Engine(store, ScriptedVoice(answer=lambda _: unknown()), policy=policy)
    for place in range(count):
        await engine.enqueue(number(place), batch_id="march")
    jobs = await engine.send()
    assert {job.state for job in jobs} == {JobState.IN_DOUBT}
    return engine, jobs


async def ended(store: Store, status: SessionStatus = SessionStatus.BUSY, *, to: str = "+6587654321") -> Job:
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(to, batch_id="march")
    (job,) = await engine.send()
    await engine.summarise(job, status)
    return await engine.queue.get(job.id)
