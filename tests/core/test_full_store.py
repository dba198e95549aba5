"""A store that is full: nothing is sent that could not be journalled, and it goes on when there is room."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import LEASE, Engine
from tests.support.flows import number
from tests.support.stores import bare
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from voiceflow_worker import CallPolicy, open_store
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.errors import StoreReadOnlyError
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio
CALLS = 8


async def fill(engine: Engine) -> None:
    """Take what room there is."""
    for place in range(1000):
        await engine.queue.hold(batch_id=f"batch-{place}", reason="x" * 500)


async def test_a_full_file_sends_nothing_unjournalled_and_goes_on_with_room(tmp_path: Path) -> None:
    clock, voice = ManualClock(), ScriptedVoice()
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as opened:
        store = bare(opened, SqliteStore)
        engine = Engine(store, voice, policy=CallPolicy(outcomes=OutcomeSource.NONE))
        jobs = [await engine.enqueue(number(place)) for place in range(CALLS)]
        database = store.writer._db
        database.pragma("max_page_count", database.pragma("page_count"))
        with pytest.raises(StoreReadOnlyError):
            await fill(engine)
        ended = anyio.Event()

        async def send() -> None:
            with contextlib.suppress(StoreReadOnlyError):
                await engine.send()
            ended.set()

        def has_ended() -> bool:
            clock.advance(timedelta(seconds=1))
            return ended.is_set()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await until(lambda: ended.is_set() or bool(clock.sleepers))
            sent = len(voice.placed)
            # The answer of a call that was sent may wait for room, too.
            database.pragma("max_page_count", 10**6)
            await until(has_ended)
        journalled = {post.client_request_id for job in jobs for post in (await engine.queue.get(job.id)).posts}
        assert set(voice.client_request_ids) <= journalled
        assert sent < CALLS, "some could not be journalled"
        for _ in range(2):
            clock.advance(LEASE + timedelta(seconds=1))
            await engine.sweeper.sweep()
            await engine.send()
        assert len(voice.placed) == CALLS
        assert {(await engine.state(job)) for job in jobs} == {"accepted"}
