"""No error in the background ends a worker or cuts a POST: it is told, and the part begins again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, Loss
from tests.support.manual_time import time_passing
from tests.support.voices import GatedVoice, ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import Worker, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.background import LEASE_LENGTH, BackgroundTasks, LeaderLease, Task, failing_here
from voiceflow_worker.core.heartbeats import Heartbeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Write
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.settling import verdicts
from voiceflow_worker.core.settling.reconcile import Reconciler
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VoiceflowError,
)
from voiceflow_worker.service.metrics import metrics_app
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio

ERRORS: tuple[Exception, ...] = (
    VoiceflowError("odd"),
    OSError(24, "Too many open files"),
    ValueError("odd"),
    ExceptionGroup("odd", [ValueError("odd")]),
)
PARTS: dict[str, tuple[type, str]] = {
    "overdue calls were not settled": (Sweeper, "sweep"),
    "old calls were not deleted": (Retention, "run"),
    "the heartbeat was not stored": (Heartbeat, "beat"),
    "the log of 8x8 was not read": (Reconciler, "due"),
    "the store was not checked for lost calls": (RollbackGuard, "watch"),
    "calls were not taken from the queue": (Worker, "_next_check"),
}


class NoLog:
    """The log of 8x8, which is not read here."""

    async def logged_calls(self, **_: object) -> Any:
        raise AssertionError


@pytest.mark.parametrize(("part", "error"), combinations(PARTS, ERRORS))
async def test_a_part_that_fails_is_told_and_begins_again_and_no_post_is_cut(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, part: str, error: Exception
) -> None:
    owner, name = PARTS[part]
    works: Callable[..., Any] = getattr(owner, name)
    failures, is_well = 0, False

    async def fails(self: object, *arguments: object, **options: object) -> object:
        nonlocal failures
        if is_well:
            return await works(self, *arguments, **options)
        failures += 1
        raise error

    monkeypatch.setattr(owner, name, fails)
    queue, voice = await enqueued(store, 2), GatedVoice(bytes_left=True)
    worker = worker_for(store, voice, call_log=NoLog(), local_journal=JournalFiles(tmp_path / "journals"))
    transport = httpx.ASGITransport(metrics_app(queue))
    with capture_logs() as logs:
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://worker") as asking,
            anyio.create_task_group() as group,
            time_passing(clock, step=timedelta(seconds=1)),
        ):

            async def health() -> Any:
                return (await asking.get("/healthz")).json()

            async def told() -> Any:
                return (await health())["status"] == "failing"

            group.start_soon(worker.run)
            await until(lambda: failures >= 2)  # it began again
            await until(told)
            failing = {each["task"]: each["error"] for each in (await health())["failing"]}
            assert failing.keys() <= {part}
            assert str(error).split(" (")[0] in failing[part]
            assert failing[part].startswith("since 20")
            if owner is not Heartbeat:  # without a heartbeat, nobody but the process knows

                async def shown() -> bool:
                    known = [each.message for each in (await read_queue(queue)).conditions if each.check == "faults"]
                    said = [f"failing: {part} (since ", f"; seen by {worker.id})"]
                    return part in (await queue.status()).failing and any(
                        all(map(each.__contains__, said)) for each in known
                    )

                await until(shown)
            is_well = True
            await voice.reached(2)
            voice.open.set()

            async def is_healthy() -> Any:
                return await health() == {"status": "ok"}

            await until(is_healthy)
            worker.stop()
    assert await states(queue) == {"accepted": 2}
    line = next(each for each in logs if each["event"].startswith(part))
    assert line["exc_info"] is not isinstance(error, VoiceflowError)


async def test_an_outage_is_one_cause_for_all_parts_and_is_told_every_ten_seconds(clock: ManualClock) -> None:
    background = BackgroundTasks(clock)
    with capture_logs() as logs:
        for _ in range(21):
            for part in PARTS:
                background.failed(part, StoreUnavailableError("nobody answers"))
            background.failed("old calls were not deleted", ValueError("odd"))
            clock.advance(timedelta(seconds=1))
    told = [(line["error"], line.get("left_out", 0)) for line in logs]
    assert told == [
        ("nobody answers", 0), ("odd", 0), ("nobody answers", 10 * len(PARTS) - 1), ("odd", 9),
        ("nobody answers", 10 * len(PARTS) - 1), ("odd", 9),
    ]  # fmt: skip
    assert background.count.total() == 21 * (len(PARTS) + 1)


FAULTS = (StoreError("refused"), StoreUnavailableError("no such role", passes=False), StoreCorruptError("damaged"))


@pytest.mark.parametrize(("method", "fault"), combinations(["lease", "write", "count"], FAULTS))
async def test_a_drain_ends_with_the_cause_if_no_waiting_mends_it(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, method: str, fault: StoreError
) -> None:
    store, voice = MemoryStore(clock=clock), ScriptedVoice()
    await enqueued(store, 2)
    works: Callable[..., Any] = getattr(store, method)

    async def fails(*arguments: Any, **options: Any) -> Any:
        if method == "write" and not any(write.changes for write in arguments[0].writes):
            return await works(*arguments, **options)
        raise fault

    monkeypatch.setattr(store, method, fails)
    monkeypatch.setattr(verdicts, "SHUTDOWN_TIMEOUT", 0.1)
    with anyio.fail_after(20), pytest.RaisesGroup(type(fault), flatten_subgroups=True) as raised:
        async with time_passing(clock):
            await worker_for(store, voice, rate=50, options={"shutdown_grace": timedelta(0)}).drain()
    assert str(fault) in repr(raised.value)
    assert bool(voice.placed) == (method == "count")


@pytest.mark.parametrize(
    ("fault", "drains"),
    [(StoreUnavailableError("nobody answers"), True), (StoreReadOnlyError("full"), True), (StoreError("odd"), False)],
)
async def test_a_drain_goes_on_when_waiting_mends_it_and_a_worker_in_any_case(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, fault: StoreError, *, drains: bool
) -> None:
    store, voice, faults = MemoryStore(clock=clock), ScriptedVoice(), [fault] * 3
    queue = await enqueued(store, 1)
    works = store.lease

    async def lease(*arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return await works(*arguments, **options)

    monkeypatch.setattr(store, "lease", lease)
    worker = worker_for(store, voice)
    async with time_passing(clock), anyio.create_task_group() as group:
        group.start_soon(worker.drain if drains else worker.run)
        await until(lambda: bool(voice.placed))
        worker.stop()
    assert (await states(queue), faults) == ({"accepted": 1}, [])


async def test_a_step_that_is_seldom_taken_is_tried_again_soon_after_a_fault_of_the_store(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    background, slept = BackgroundTasks(clock), list[float]()
    results: list[Exception | None] = [StoreUnavailableError("away"), StoreUnavailableError("away"), None]

    async def step() -> None:
        if (error := results.pop(0)) is not None:
            raise error

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert bool(background.failing) == (len(slept) < 3), "a fault that is over is forgotten"
        if not results:
            await anyio.sleep_forever()

    monkeypatch.setattr(clock, "sleep", sleep)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(background.run_periodically, "old calls were not deleted", step, every=3600.0))
        await until(lambda: len(slept) == 3)
        group.cancel_scope.cancel()
    assert slept == [5.0, 5.0, 3600.0]


async def test_an_idle_worker_forgets_a_fault_of_the_store_that_is_over(clock: ManualClock) -> None:
    async with open_store("memory://", clock=clock) as opened:
        store = FaultyStore(opened)
        worker = worker_for(store, ScriptedVoice())
        async with anyio.create_task_group() as group, time_passing(clock):
            store.lose(Loss.BEFORE, "lease", times=2)
            group.start_soon(worker.run)
            await until(lambda: "calls were not taken from the queue" in failing_here())
            await until(lambda: not failing_here())
            worker.stop()


async def test_a_verdict_that_was_stored_late_is_no_failure_from_then_on(store: Store, clock: ManualClock) -> None:
    queue, voice = await enqueued(store, 1), GatedVoice(bytes_left=True)
    faulty = FaultyStore(store)
    worker = worker_for(faulty, voice)
    async with anyio.create_task_group() as group, time_passing(clock):
        group.start_soon(worker.run)
        await voice.reached(1)
        faulty.lose(Loss.BEFORE, "write", times=9, when=lambda call: bool(call.stores))
        voice.open.set()
        await until(lambda: Task.VERDICT in worker.failing)

        async def is_stored() -> bool:
            return await states(queue) == {"accepted": 1}

        await until(is_stored)
        stored_at = clock.monotonic()
        await until(lambda: Task.VERDICT not in worker.failing)
        assert clock.monotonic() - stored_at < 5
        worker.stop()


async def test_a_lease_that_was_lost_is_not_renewed_and_what_was_found_under_it_is_not_stored() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        first, second = (LeaderLease(store, "task") for _ in range(2))
        assert await first.take()
        found_under = first.condition
        assert not await second.take()
        clock.advance(LEASE_LENGTH + timedelta(seconds=1))  # it stands still, and another begins and ends meanwhile
        assert await second.take()
        await second.release()
        assert not await first.renew()
        assert await first.take()
        write = Write(conditions=(found_under,), puts=(Put("n", "g", "v", None),))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=clock.now())
        assert answer.result is Result.NOT_FREE
