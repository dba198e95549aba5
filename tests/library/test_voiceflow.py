"""The one object of an own program: its fields, its worker, its sandbox, and what goes wrong around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.flows import flow, number
from tests.support.waiting import until
from tests.support.workers import states
from voiceflow_worker import (
    CallFlowError,
    CallWindow,
    InvalidInputError,
    RedialPolicy,
    SessionStatus,
    Settings,
    Voiceflow,
    open_store,
)
from voiceflow_worker.core.ports.outside import journal_of
from voiceflow_worker.errors import KeyConflictError, SettingsError, StoreUnavailableError

pytestmark = pytest.mark.anyio
SAY = "Your order is ready."
BUSY = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=2, after=timedelta(minutes=5))


async def test_call_in_sandbox_is_completed_and_asked_again_is_the_same() -> None:
    async with Voiceflow.in_sandbox() as (voiceflow, sandbox):
        sandbox.script(number(1), answer=SessionStatus.BUSY)
        sandbox.fault("reset", next=1)
        first = await voiceflow.call(number(0), say=SAY, unique_key="order-42", valid_for="2h")
        assert (await voiceflow.call(number(0), say=SAY, unique_key="order-42", valid_for="2h")).id == first.id
        with pytest.raises(KeyConflictError):
            await voiceflow.call(number(0), say="Another text.", unique_key="order-42", valid_for="2h")
        async with voiceflow.working(rate="unlimited"):
            assert (await voiceflow.queue.wait_for_outcome(first.id)).state == "completed", (
                "after the reset, by its event"
            )
            busy = await voiceflow.call(number(1), say=SAY)
            assert (await voiceflow.queue.wait_for_outcome(busy.id)).state == "unreached"
        assert [call.destination for call in sandbox.calls] == [number(0), number(1)]


async def test_fields_mean_the_same_as_text_and_as_types() -> None:
    async with Voiceflow.in_sandbox() as (voiceflow, _):
        one = await voiceflow.call(
            number(0), say=SAY, valid_for="36h", window="09:00-20:00", batch="march", unique_key="a", priority="5",
            redial_on="busy", redial_max=2, redial_after="5m",
        )  # fmt: skip
        other = await voiceflow.call(
            number(0), say=SAY, valid_for=timedelta(hours=36), window=CallWindow.parse("09:00-20:00"), batch="march",
            unique_key="a", priority=5, redial=BUSY,
        )  # fmt: skip
        assert one.id == other.id
        texts: dict[str, Any] = {
            "valid_for": "36h",
            "window": "09:00-20:00",
            "batch": "march",
            "unique_key": "b",
            "priority": "5",
        }
        with_flow = await voiceflow.queue.enqueue(
            flow(number(1)), redial_on="busy", redial_max=2, redial_after="5m", **texts
        )
        assert (with_flow.batch_id, with_flow.priority, with_flow.redial) == ("march", 5, BUSY)
        assert (with_flow.window, with_flow.validity) == (one.window, one.validity)
        with pytest.raises(CallFlowError) as raised:
            await voiceflow.queue.enqueue(flow(number(3)), valid_for="2x", window="9-25", redial_on="busy")
        assert [each.column for each in raised.value.findings] == ["valid_for", "window"]
        assert (one.batch_id, one.priority, one.redial) == ("march", 5, BUSY)
        own = await voiceflow.call(flow=flow(number(2)))
        assert (own.destination, own.unique_key) == (number(2), None)
        assert (await voiceflow.call(flow=flow(number(2)))).id != own.id


async def test_all_that_is_wrong_with_a_call_is_one_error() -> None:
    async with Voiceflow.in_sandbox() as (voiceflow, _):
        with pytest.raises(InvalidInputError) as raised:
            await voiceflow.call("9123 4567", valid_fro="2h", priority="high", window="9-25")
        assert {each.column for each in raised.value.findings} >= {"to", "valid_fro", "priority", "window"}
        assert "did you mean valid_for?" in str(raised.value)
        with pytest.raises(InvalidInputError, match="the call has no text"):
            await voiceflow.call(number(0))


async def test_unknown_settings_and_limits_are_refused_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICEFLOW_RATE", "7")
    with pytest.raises(SettingsError, match="sotre is not a setting; did you mean store"):
        Voiceflow.from_env(sotre="memory://")
    voiceflow = Voiceflow.from_env(store="memory://", queue="b")
    assert (voiceflow.settings.rate, voiceflow.settings.queue) == (7.0, "b")
    with pytest.raises(RuntimeError, match="is not open"):
        await voiceflow.call(number(0), say=SAY)
    async with voiceflow:
        with pytest.raises(SettingsError, match="the API key is missing"):
            voiceflow.worker()
        with pytest.raises(RuntimeError, match="is open already"):
            await voiceflow.__aenter__()
    async with Voiceflow.in_sandbox() as (other, _):
        with pytest.raises(InvalidInputError, match="rat is no limit of a worker; did you mean rate"):
            other.worker(rat=5)
        with pytest.raises(SettingsError, match="burst"):
            other.worker(burst=0)


async def test_worker_has_the_journal_of_its_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with Voiceflow.in_sandbox(store=url) as (voiceflow, _):
        job = await voiceflow.call(number(0), say=SAY)
        async with voiceflow.working(rate="unlimited"):
            await voiceflow.queue.wait_for_outcome(job.id)
        assert journal_of(voiceflow.store) is not None
    assert await anyio.to_thread.run_sync(lambda: [*tmp_path.glob("calls.db.journals/**/default/*.journal")])
    async with Voiceflow.in_sandbox() as (voiceflow, _):
        assert journal_of(voiceflow.store) is None


class ProgramError(Exception):
    """An error of the embedding program."""


@pytest.mark.parametrize("ends", ["error", "cancel", "group"])
async def test_block_that_ends_badly_leaves_no_call_in_doubt(ends: str) -> None:
    async with Voiceflow.in_sandbox() as (voiceflow, sandbox):
        sandbox.fault("delay", seconds=0.6, next=3)
        for place in range(3):
            await voiceflow.call(number(place), say=SAY)

        async def block() -> None:
            async with voiceflow.working(rate="unlimited") as worker:
                await until(lambda: worker.in_flight == 3)
                await anyio.sleep(0.2)  # the POSTs wait for their answers
                if ends == "error":
                    raise ProgramError("in the block")
                await anyio.sleep_forever()

        if ends == "error":
            with pytest.raises(ProgramError):
                await block()
        else:
            async with anyio.create_task_group() as group:
                task = asyncio.create_task(block()) if ends == "cancel" else None
                if task is None:
                    group.start_soon(block)
                await anyio.sleep(0.3)
                if task is None:
                    group.cancel_scope.cancel()
                else:
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
        assert "in_doubt" not in await states(voiceflow.queue)
        assert len(sandbox.calls) == 3


async def _are_over(voiceflow: Voiceflow) -> bool:
    return await states(voiceflow.queue) == {"completed": 8}


@pytest.mark.parametrize("closes", ["store", "client"])
async def test_closing_the_store_or_the_client_under_a_worker_rings_nobody_twice(
    closes: str, fresh_url: Callable[[str], str]
) -> None:
    url = fresh_url("sqlite")
    async with Voiceflow.in_sandbox(store=url) as (inner, sandbox):
        async with anyio.create_task_group() as group:
            opened = open_store(url)
            store = await opened.__aenter__()
            voiceflow = Voiceflow(inner.settings, store=store if closes == "store" else inner.store)
            await voiceflow.__aenter__()
            for place in range(8):
                await inner.call(number(place), say=SAY)
            worker = voiceflow.worker(rate=20, shutdown_grace="1s", lease="3s")
            group.start_soon(worker.run)
            await until(lambda: len(sandbox.calls) >= 2)
            if closes == "store":
                await opened.__aexit__(None, None, None)
            else:
                await voiceflow.__aexit__(None, None, None)
            await anyio.sleep(0.3)
            worker.stop()
        await voiceflow.__aexit__(None, None, None)
        if closes == "client":
            await opened.__aexit__(None, None, None)
        async with inner.working(rate="unlimited"):
            await until(lambda: _are_over(inner), within=30)
        rang = sorted(call.destination or "" for call in sandbox.calls if call.rang)
        assert rang == [number(place) for place in range(8)]


def test_store_used_on_a_second_event_loop_raises(tmp_path: Path) -> None:
    voiceflow = Voiceflow(Settings(store=f"sqlite:///{tmp_path / 'calls.db'}"))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(voiceflow.__aenter__())
    call = voiceflow.call(number(0), say=SAY, source="+6531234567", voice_profile="en-IE-EmilyNeural")
    with pytest.raises(StoreUnavailableError, match="opened on another event loop"):
        second.run_until_complete(call)
    first.run_until_complete(voiceflow.__aexit__(None, None, None))
    for loop in (first, second):
        loop.close()
