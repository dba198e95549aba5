"""The metrics of a worker tell every state from the store, doubts among them: those deserve an alert."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, created, refused, unknown
from voiceflow_worker import JobState, open_store
from voiceflow_worker.cli.sending import metrics_app

pytestmark = pytest.mark.anyio


async def jobs_told(engine: Engine) -> dict[str, int]:
    """What a scrape says of jobs, by their state."""
    transport = httpx.ASGITransport(metrics_app(engine.queue))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        text = (await client.get("/metrics")).text
    told = re.findall(r'^voiceflow_queue_jobs\{queue="default",state="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {state: int(float(count)) for state, count in told}


async def test_every_state_is_reported_and_doubts_go_with_the_evidence() -> None:
    async with open_store("memory://") as store:
        engine = Engine(store, ScriptedVoice(answers=[unknown(), refused(-1014), created()]))
        none = dict.fromkeys((state.value for state in JobState), 0)
        for place in range(3):
            await engine.enqueue(f"+65{80000000 + place}")
        assert await jobs_told(engine) == {**none, "queued": 3}
        sent = await engine.send()
        assert await jobs_told(engine) == {**none, "in_doubt": 1, "failed": 1, "submitted": 1}
        await engine.summarise(next(job for job in sent if job.state is JobState.IN_DOUBT))
        assert await jobs_told(engine) == {**none, "failed": 1, "submitted": 1, "completed": 1}
