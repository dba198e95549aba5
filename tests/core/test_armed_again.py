"""A call that was cancelled before it was sent and is armed again has all its redials left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio
ONCE = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=30))


@pytest.fixture
def engine() -> Engine:
    return Engine(MemoryStore(clock=ManualClock()), ScriptedVoice())


async def test_arming_again_before_anything_was_sent_uses_up_no_redial(engine: Engine) -> None:
    job = await engine.enqueue(redial=ONCE)
    for _ in range(2):
        await engine.queue.cancel(job.id)
        assert (await engine.queue.redial(job.id)).redials == 0
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    granted = await engine.queue.get(job.id)
    assert (granted.state.value, granted.redials) == ("queued", 1)
    # The redial itself, cancelled and armed again, stays the one that was granted.
    await engine.queue.cancel(job.id)
    assert (await engine.queue.redial(job.id)).redials == 1


async def test_calling_again_after_a_post_is_a_redial(engine: Engine) -> None:
    job = await engine.enqueue()
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    assert (await engine.queue.redial(job.id)).redials == 1
    await engine.send()
    await engine.summarise(job, SessionStatus.COMPLETED)
    found = await engine.queue.get(job.id)
    assert (found.state.value, [post.redial for post in found.posts], found.notes[1:]) == ("completed", [0, 1], ())
