"""What a live worker knows is kept until it is stored, whatever its store raises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice, created, turned_away
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import (
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreForgetsError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = pytest.mark.anyio

ANYTHING = (
    StoreUnavailableError("away"),
    StoreUnavailableError("refused", passes=False),
    StoreForgetsError("forgets"),
    StoreCorruptError("a table is not there"),
    StoreVersionError("of another version"),
    StoreError("refused a statement"),
    SettingsError("a role's default was changed"),
    OSError("no file descriptors"),
    ValueError("an answer that cannot be read"),
    RuntimeError("a mistake of ours"),
    ExceptionGroup("a group", [ValueError("within it")]),
)


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[FaultyStore]:
    async with open_store("memory://", clock=clock) as opened:
        yield FaultyStore(opened)


def placed(placement: Placement) -> Verdict:
    return created(placement.client_request_id)


def held(placement: Placement) -> Verdict:
    return turned_away(403, placement.client_request_id, until_opened=True)


@pytest.mark.parametrize(("error", "answer"), combinations(ANYTHING, [placed, held]))
async def test_a_verdict_is_kept_until_it_is_stored(
    store: FaultyStore, clock: ManualClock, error: Exception, answer: Callable[[Placement], Verdict]
) -> None:
    """Every trip fails for a while after the answer; then the store works again."""
    answered_at: list[float] = []
    failed = 0

    async def fails(_: StoreCall) -> None:
        nonlocal failed
        if answered_at and clock.monotonic() < answered_at[0] + 20:
            failed += 1
            raise error

    def answers(placement: Placement) -> Verdict:
        answered_at.append(clock.monotonic())
        return answer(placement)

    voice = ScriptedVoice(answer=answers)
    queue = await enqueued(store, 1)
    worker = worker_for(store, voice)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            while not answered_at or clock.monotonic() < answered_at[0] + 25:
                await clock.sleep(0.5)
            worker.stop()

    store.before = fails
    try:
        await passing(clock, work)
    except* (StoreCorruptError, StoreVersionError):
        pass  # a worker ends for these, and keeps its verdicts until then
    store.before = nothing
    assert failed
    assert "sending" not in await states(queue)
    assert "in_doubt" not in await states(queue)
    assert len(voice.placed) == 1
    assert sum(worker.counts.task_failures.values())
