"""A call that is cancelled at each place of its way: one row a place, with what is stored of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import ScriptedEngine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import all_blocked, time_passing
from tests.support.voices import GatedVoice, ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import set_limits
from voiceflow_worker import JobState
from voiceflow_worker.backends.local_journal import JournalFile, JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.store import BulkWrite, Slot, Write
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio


class Stage:
    """A call on its way that waits at one place, until `goes_on` is set."""

    def __init__(self, clock: ManualClock, folder: Path) -> None:
        self.clock = clock
        self.store = FaultyStore(MemoryStore(clock=clock))
        self.folder = folder
        self.journal: JournalFiles | None = None
        self.voice: Any = ScriptedVoice()
        self.rate: float | None = None
        self.goes_on = anyio.Event()

    async def wait(self, *_: object) -> None:
        await self.goes_on.wait()


async def connecting(stage: Stage, _: pytest.MonkeyPatch) -> None:
    stage.voice = GatedVoice(bytes_left=False)


async def entry(stage: Stage, _: pytest.MonkeyPatch) -> None:
    async def waits(call: StoreCall) -> None:
        if any(job.state is JobState.SENDING for job in call.stores):
            await stage.wait()

    stage.store.before = waits


async def line(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def append(*_: object) -> None:
        await stage.wait()

    stage.journal = JournalFiles(stage.folder)
    monkeypatch.setattr(JournalFile, "append", append)


async def slot(stage: Stage, _: pytest.MonkeyPatch) -> None:
    now, stage.rate = stage.clock.now(), 5
    await set_limits(stage.store, "default", Limits(rate=5))
    await stage.store.write(BulkWrite(writes=(Write(slot=Slot("default", now, now)),)), now=now)


async def answer(stage: Stage, _: pytest.MonkeyPatch) -> None:
    stage.voice = GatedVoice(bytes_left=True)


async def verdict(stage: Stage, _: pytest.MonkeyPatch) -> None:
    stage.store.lose(
        Loss.BEFORE, "write", times=3, when=lambda call: any(j.state is JobState.SUBMITTED for j in call.stores)
    )


class Row(NamedTuple):
    """Where a call is cancelled, and what is stored then: its state, and the verdict on its POST, if it has one."""

    place: Callable[[Stage, pytest.MonkeyPatch], Awaitable[None]]
    state: JobState
    verdict: VerdictKind | None = None


ROWS = (
    Row(connecting, JobState.QUEUED),
    Row(entry, JobState.QUEUED, VerdictKind.NOT_SENT),
    Row(line, JobState.QUEUED, VerdictKind.NOT_SENT),
    Row(slot, JobState.QUEUED, VerdictKind.NOT_SENT),
    Row(answer, JobState.IN_DOUBT, VerdictKind.UNKNOWN),
    Row(verdict, JobState.SUBMITTED, VerdictKind.CREATED),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.place.__name__ for row in ROWS])
async def test_a_cancelled_call_goes_back_unless_a_byte_has_left(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    stage = Stage(clock, tmp_path)
    await row.place(stage, monkeypatch)
    engine = ScriptedEngine(stage.store, clock, voice=stage.voice, local_journal=stage.journal, rate=stage.rate)
    job = await engine.enqueue()
    async with engine.at_work(), anyio.create_task_group() as entries:
        entries.start_soon(engine.sender.run)
        async with anyio.create_task_group() as group:
            (dispatch,) = await engine.prepare()
            group.start_soon(engine.sender.send, dispatch)
            await all_blocked()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await all_blocked()
                stage.goes_on.set()
                async with time_passing(clock):
                    await until(lambda: not (engine.sender.on_their_way or engine.verdicts.waiting))
        entries.cancel_scope.cancel()
    found = await engine.queue.get(job.id)
    assert (found.state, found.attempt) == (row.state, int(row.verdict in {VerdictKind.UNKNOWN, VerdictKind.CREATED}))
    assert (found.posts[-1].verdict if found.posts else None) is row.verdict
