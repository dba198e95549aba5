"""Each write of a worker fails, once and lastingly: it goes on, or says why not, and sends nothing unjournalled."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import LEASE, Engine
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import passing, time_passing
from tests.support.stores import EVERY
from tests.support.voices import GatedVoice, ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import at_work, enqueued, in_state, states, worker_for, worker_with_files
from voiceflow_worker import JobState, Worker, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.sending.journal import Dispatch
from voiceflow_worker.core.settling import verdicts
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict

pytestmark = pytest.mark.anyio

CALLS, BEFORE = 60, 8
JOURNAL_FILE = {"write": "the write of the journal file", "fsync": "the sync of the journal file"}
IN_STORE = {
    "the journal entry": ("write", JobState.SENDING),
    "the verdict": ("write", JobState.ACCEPTED),
    "the lease": ("lease", None),
    "all of the store": ("", None),
}
SAID = {
    JOURNAL_FILE["write"]: {Task.JOURNAL_FILE},
    JOURNAL_FILE["fsync"]: {Task.JOURNAL_FILE},
    "the journal entry": {Task.JOURNAL},
    "the verdict": {Task.VERDICT},
    "the lease": {Task.LEASE},
    "all of the store": {Task.LEASE, Task.VERDICT},
}


class Busy(ScriptedVoice):
    """Answers come while other calls leave."""

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        await anyio.sleep(0.03)
        return await super().place(placement, before_first_byte=before_first_byte)


class Faults:
    """Faults of one write of a worker: so many of the next ones fail."""

    def __init__(self, which: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._which = which
        self._store = store
        self._left = 0
        for name, of_file in JOURNAL_FILE.items():
            if which == of_file:
                monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def begin(self, times: int) -> None:
        name, state = IN_STORE.get(self._which, ("", None))
        if self._which in IN_STORE:
            self._store.lose(Loss.BEFORE, name, times=times, when=lambda call: state is None or _stores(call, state))
        else:
            self._left = times

    @property
    def left(self) -> int:
        return self._left or self._store.still_to_lose

    def _failing(self, works: Callable[..., Any]) -> Callable[..., Any]:
        def may_fail(fd: int, *data: bytes) -> Any:
            if self._left and Path(f"/proc/self/fd/{fd}").readlink().suffix == ".journal":
                self._left -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return works(fd, *data)

        return may_fail


def _stores(call: StoreCall, state: JobState) -> bool:
    return any(job.state is state for job in call.stores)


@pytest.mark.parametrize(("which", "kind", "lasts"), combinations(SAID, EVERY, ["once", "for good"]))
async def test_a_worker_goes_on_after_a_failed_write_or_says_why_not_and_ends(
    which: str, kind: str, lasts: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_url, tmp_path = request.getfixturevalue("fresh_url"), request.getfixturevalue("tmp_path")
    monkeypatch.setattr(verdicts, "SHUTDOWN_TIMEOUT", 0.2)
    async with open_store(fresh_url(kind)) as store:
        faulty, voice, options = FaultyStore(store), Busy(), {"shutdown_grace": timedelta(seconds=0.5)}
        faults, queue = Faults(which, faulty, monkeypatch), await enqueued(store, CALLS)

        def worker(**more: Any) -> Worker:
            files = JournalFiles(tmp_path / "journals")
            return worker_for(faulty, voice, local_journal=files, rate=200, options={**options, **more})

        async with at_work(first := worker(lease=timedelta(seconds=2))):
            await until(lambda: len(voice.placed) >= BEFORE)
            faults.begin(1 if lasts == "once" else 10**9)
            if lasts != "once":
                await until(lambda: first.failing.keys() >= SAID[which])
            else:
                await until(lambda: not faults.left)
                await in_state(store, JobState.ACCEPTED, CALLS)
        faults.begin(0)
        async with at_work(worker()):  # it calls the others
            await until(lambda: len(voice.placed) == CALLS)
            await until(lambda: _has_ended(queue))
        assert max(map(voice.rang.count, voice.rang)) == 1
        doubts = (await states(queue)).get("in_doubt", 0)  # answers that a worker could not store before it ended
        assert not doubts or (lasts == "for good" and Task.VERDICT in SAID[which])


async def _has_ended(queue: Any) -> bool:
    return (await states(queue)).keys() <= {"accepted", "in_doubt"}


class Counting(MemoryStore):
    """A store that counts how often it was asked for calls, and finds none if it `lies`."""

    leases, lies = 0, False

    async def lease(self, *given: Any, **more: Any) -> Sequence[Job]:
        self.leases += 1
        return [] if self.lies else await super().lease(*given, **more)


HEADER = 200
"""Bytes; the first line of a file is shorter, and with an entry it is longer."""


async def test_a_worker_that_cannot_write_its_journal_file_takes_no_calls(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room_for_entries(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_file() and os.fstat(fd).st_size > HEADER:
            raise OSError(errno.ENOSPC, "No space left on device")

    store, voice = Counting(clock=clock), ScriptedVoice()
    worker = worker_with_files(store, voice, tmp_path)
    async with time_passing(clock, step=timedelta(seconds=1)), anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await until(lambda: store.leases > 0)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_room_for_entries)
            before, queue = store.leases, await enqueued(store, CALLS)
            await until(lambda: Task.JOURNAL_FILE in worker.failing)
            leases = store.leases
            await clock.sleep(timedelta(minutes=10).total_seconds())
            assert store.leases == leases <= before + CALLS
            failing = await Heartbeats(store).failing("default")
            assert "check the disk of its VOICEFLOW_STATE_DIR" in failing[Task.JOURNAL_FILE]
            assert (await states(queue), voice.placed) == ({"queued": CALLS}, [])
        await in_state(store, JobState.ACCEPTED, CALLS)
        assert Task.JOURNAL_FILE not in worker.failing
        worker.stop()
    assert len(voice.placed) == CALLS


FEW = 8
SLOWLY = timedelta(milliseconds=20)
"""A step of time at which a Redis on a busy machine is quick enough for a call to leave in time."""


def begins(call: StoreCall) -> bool:
    """Whether this stores a journal entry."""
    return any(job.state is JobState.SENDING for job in call.stores)


async def begun(engine: Engine, dispatch: Dispatch, clock: ManualClock) -> Dispatch:
    """The call after the try to store its journal entry."""
    found: list[Dispatch] = []

    async def begin() -> None:
        found.extend(await engine.begin([dispatch]))

    await passing(clock, begin)
    return found[0]


@pytest.mark.parametrize("rate", [None, 50])
@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.slow)])
async def test_calls_whose_journal_entries_were_given_up_ring_once_and_none_is_in_doubt(
    any_store: Store, clock: ManualClock, loss: Loss, times: int, rate: float | None
) -> None:
    store = FaultyStore(any_store)
    store.lose(loss, "write", times=times, when=begins)
    queue, voice = await enqueued(store, FEW), ScriptedVoice()
    async with time_passing(clock, step=SLOWLY):
        await worker_for(store, voice, rate=rate).drain()
    assert await states(queue) == {"accepted": FEW}
    assert len(voice.placed) == len({placement.client_request_id.split(".")[1] for _, placement in voice.placed})


async def test_the_verdict_waits_for_a_store_that_stays_away_and_settles_a_doubt(
    any_store: Store, clock: ManualClock
) -> None:
    store, voice = FaultyStore(any_store), ScriptedVoice()
    engine, sweeper = Engine(store, voice), Engine(any_store, ScriptedVoice())
    job = await engine.enqueue()
    store.lose(Loss.AFTER, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()
    unsent = await begun(engine, dispatch, clock)
    store.lose(Loss.BEFORE, "write", "jobs", times=30)
    clock.advance(LEASE + timedelta(seconds=1))
    await sweeper.sweeper.sweep()
    assert await sweeper.state(job) == "in_doubt"

    async def send() -> None:
        await engine.finish(unsent)

    await passing(clock, send)
    after = await engine.queue.get(job.id)
    assert (after.state, after.attempt, voice.placed) == (JobState.QUEUED, 0, [])
    assert "its journal entry could not be stored" in (after.reason or "")


async def test_an_entry_that_another_worker_stored_meanwhile_is_not_taken_for_the_own_one(
    any_store: Store, clock: ManualClock
) -> None:
    """It has the same number, and its phone rings."""
    store = FaultyStore(any_store)
    engine, gated = Engine(store, ScriptedVoice()), GatedVoice(bytes_left=True)
    other = Engine(any_store, gated)
    job = await engine.enqueue()
    store.lose(Loss.BEFORE, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()
    unsent = await begun(engine, dispatch, clock)
    clock.advance(LEASE + timedelta(seconds=1))
    await other.sweeper.sweep()
    async with anyio.create_task_group() as group:
        group.start_soon(other.send)
        await gated.reached(1)
        await engine.finish(unsent)
        assert await engine.state(job) == "sending"
        gated.open.set()
    assert await engine.state(job) == "submitted"


async def test_an_entry_that_arrives_after_it_was_given_up_is_not_stored(any_store: Store, clock: ManualClock) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    job = await engine.enqueue()
    late: list[StoreCall] = []

    async def delayed(call: StoreCall) -> None:
        if begins(call):
            late.append(call)

    store.before = delayed
    store.lose(Loss.BEFORE, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()

    async def given_up() -> None:
        for unsent in await engine.begin([dispatch]):
            await engine.finish(unsent)

    await passing(clock, given_up)
    await late[0].carry_out()
    after = await engine.queue.get(job.id)
    assert (after.state, after.post_count) == (JobState.QUEUED, 0)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ValueError("odd")], ids=str)
async def test_an_unexpected_error_of_the_store_is_such_a_failure_too(
    any_store: Store, clock: ManualClock, fault: Exception
) -> None:
    store, voice = FaultyStore(any_store), ScriptedVoice()
    failed = 0

    async def fail(call: StoreCall) -> None:
        nonlocal failed
        if begins(call) and failed < 3:
            failed += 1
            raise fault

    store.after = fail
    queue = await enqueued(store, FEW)
    async with time_passing(clock, step=SLOWLY):
        await worker_for(store, voice).drain()
    assert await states(queue) == {"accepted": FEW}
    assert (len(voice.placed), failed) == (FEW, 3)


async def test_a_worker_that_is_stopped_says_so_while_its_grace_lasts(any_store: Store, clock: ManualClock) -> None:
    store = FaultyStore(any_store)
    queue, voice = await enqueued(store, FEW), ScriptedVoice()
    worker = worker_for(store, voice)

    async def stop(call: StoreCall) -> None:
        if begins(call):
            store.lose(Loss.BEFORE, "write", times=20)
            store.before = FaultyStore(any_store).before
            worker.stop()

    store.before = stop
    async with time_passing(clock, step=SLOWLY):
        await worker.run()
    assert (await states(queue), voice.placed) == ({"queued": FEW}, [])
    assert store.still_to_lose == 0


def leases(call: StoreCall) -> bool:
    """Whether this leases calls."""
    return call.name == "lease"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("rate", [None, 50])
@pytest.mark.parametrize("moment", [leases, begins])
async def test_cancelled_worker_finishes_or_requeues_the_calls_that_it_took(
    any_store: Store, clock: ManualClock, moment: Callable[[StoreCall], bool], rate: float | None
) -> None:
    """As by `asyncio.wait_for`, which no scope shields from."""
    store, voice = FaultyStore(any_store), ScriptedVoice()
    queue = await enqueued(store, FEW)
    task = asyncio.ensure_future(worker_for(store, voice, rate=rate).run())

    async def cut(call: StoreCall) -> None:
        if moment(call) and not voice.placed:
            task.cancel()
            await asyncio.sleep(0)

    store.after = cut
    async with time_passing(clock, step=SLOWLY):
        with pytest.raises(asyncio.CancelledError):
            await task
    sent = len(voice.placed)
    assert await states(queue) == +Counter(queued=FEW - sent, accepted=sent)
