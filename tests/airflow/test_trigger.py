"""The trigger: reads, never sends, fires once, and survives being run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout

from airflow_provider.operators.voice import VoiceCallOperator
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from airflow_provider.triggers import voice
from airflow_provider.triggers.voice import VoiceOutcomeTrigger, _open, shared_store
from tests.airflow.scene import context, drain, surroundings
from tests.support.flows import flow
from tests.support.stage import Stage
from voiceflow_worker import CallQueue, Store, open_store

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("trigger")) as staged:
        yield staged


async def enqueued(on: Stage, *numbers: str, batch_id: str | None = None) -> list[str]:
    async with open_store(on.store) as store:
        queue = CallQueue(store)
        return [(await queue.enqueue(flow(number), batch_id=batch_id)).id for number in numbers]


async def sent(on: Stage) -> None:
    await asyncio.to_thread(drain, on)


async def fired(trigger: VoiceOutcomeTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


async def test_it_fires_when_the_call_is_over(on: Stage, hasty: None) -> None:
    ids = await enqueued(on, "+6587661001")
    waiting = asyncio.create_task(fired(VoiceOutcomeTrigger(job_ids=ids, poll_interval=0.1)))
    twin = asyncio.create_task(fired(VoiceOutcomeTrigger(job_ids=ids, poll_interval=0.1)))
    await asyncio.sleep(0.5)  # several looks of the trigger, which must not fire; no event says that it did not
    assert not waiting.done(), "nobody has sent it yet"
    assert not on.ledger(), "a trigger sends nothing"
    await sent(on)
    event = {"status": "over", "job_ids": ids}
    assert await asyncio.wait_for(waiting, 30) == event
    assert await asyncio.wait_for(twin, 30) == event, "the same event wherever it runs"


async def test_it_resumes_the_task_that_sends_when_a_call_is_due(on: Stage, hasty: None) -> None:
    ids = await enqueued(on, "+6587661002")
    payload = await asyncio.wait_for(fired(VoiceOutcomeTrigger(job_ids=ids, sends=True, poll_interval=0.1)), 30)
    assert payload == {"status": "look", "job_ids": ids}
    await sent(on)


async def test_a_threshold_ends_the_wait_for_several_calls(on: Stage, hasty: None) -> None:
    done = await enqueued(on, "+6587661003", "+6587661004")
    await sent(on)
    await asyncio.wait_for(fired(VoiceOutcomeTrigger(job_ids=done, poll_interval=0.1)), 30)
    (open_one,) = await enqueued(on, "+6587661005")
    ids = [*done, open_one]
    trigger = VoiceOutcomeTrigger(job_ids=ids, enough={"at_least": 2}, poll_interval=0.1)
    assert (await asyncio.wait_for(fired(trigger), 30))["status"] == "over"
    waiting = asyncio.create_task(fired(VoiceOutcomeTrigger(job_ids=ids, poll_interval=0.1)))
    await asyncio.sleep(0.5)  # several looks of the trigger, which must not fire; no event says that it did not
    assert not waiting.done()
    await sent(on)
    await asyncio.wait_for(waiting, 30)
    await enqueued(on, "+6587661006", "+6587661007", batch_id="both")
    waiting = asyncio.create_task(fired(VoiceOutcomeTrigger(batch_id="both", poll_interval=0.1)))
    await sent(on)
    assert await asyncio.wait_for(waiting, 30) == {"status": "over", "batch_id": "both"}


async def test_a_job_that_the_store_does_not_know_is_an_error(on: Stage, hasty: None) -> None:
    payload = await asyncio.wait_for(fired(VoiceOutcomeTrigger(job_ids=["default.01JNOTTHERE"])), 30)
    assert payload["status"] == "error"
    assert "01JNOTTHERE" in payload["error"]


async def test_stopping_the_deferred_task_cancels_its_unsent_calls(on: Stage) -> None:
    ids = await enqueued(on, "+6587661008", "+6587661009")
    await VoiceOutcomeTrigger(job_ids=ids[:1], cancel_on_kill=True).on_kill()
    await VoiceOutcomeTrigger(job_ids=ids[1:], cancel_on_kill=False).on_kill()
    async with open_store(on.store) as store:
        states = [(await CallQueue(store).get(job_id)).state.value for job_id in ids]
    assert states == ["cancelled", "queued"]


def test_it_is_made_again_from_what_it_serializes() -> None:
    first = VoiceOutcomeTrigger(
        job_ids=["a"], sends=True, enough={"ratio": 0.5}, poll_interval=7.0, wait_for="accepted"
    )
    path, kwargs = first.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(__import__(module, fromlist=[name]), name)(**kwargs)
    assert again.serialize() == first.serialize()


def test_a_task_is_not_resumed_before_airflow_has_noticed_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    assert voice.safe_after() == 6.0
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
    assert voice.safe_after() == 2.0


async def test_many_triggers_share_one_store_and_the_last_one_closes_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    seen: list[Store] = []  # all are kept: no two have one id

    async def use() -> None:
        async with shared_store(url) as store:
            seen.append(store)

    await asyncio.gather(*(use() for _ in range(50)))
    assert {id(store) for store in seen} == {id(seen[0])}
    assert not [place for place in _open if place[1] == url]
    await use()
    assert seen[-1] is not seen[0]


async def test_a_store_that_cannot_be_opened_is_an_error_for_all_its_triggers() -> None:
    from voiceflow_worker.errors import StoreError

    async def use() -> None:
        async with shared_store("sqlite:////nowhere/at/all.db"):
            raise AssertionError("it was opened")

    for error in await asyncio.gather(use(), use(), return_exceptions=True):
        assert isinstance(error, StoreError)
    assert not [place for place in _open if "nowhere" in place[1]]


async def test_the_end_of_the_execution_timeout_resumes_the_task(on: Stage, hasty: None) -> None:
    (job_id,) = await enqueued(on, "+6587661096")
    until = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    trigger = VoiceOutcomeTrigger(job_ids=[job_id], poll_interval=0.1, times_out_at=until)
    event = await asyncio.wait_for(fired(trigger), 30)
    assert event == {"status": "timeout", "job_ids": [job_id], "times_out_at": until}


async def test_the_end_of_the_wait_resumes_the_task_which_names_the_call_that_goes_on(on: Stage, hasty: None) -> None:
    (job_id,) = await enqueued(on, "+6587661097")
    until = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    trigger = VoiceOutcomeTrigger(job_ids=[job_id], poll_interval=0.1, until=until)
    event = await asyncio.wait_for(fired(trigger), 30)
    assert event == {"status": "late", "job_ids": [job_id], "until": until}
    goes_on = f"call {job_id} has not ended .* what is queued may still be sent; clear the task"
    task = VoiceCallOperator(task_id="late", destination="+6587661097", say="Hello.", deferrable=True)
    with pytest.raises(AirflowException, match=goes_on):
        await asyncio.to_thread(task.execute_complete, context("late"), event)
    sensor = VoiceOutcomeSensor(task_id="late_sensor", job_id=job_id, deferrable=True)
    with pytest.raises(AirflowSensorTimeout, match=goes_on):
        await asyncio.to_thread(sensor.execute_complete, context("late_sensor"), event)
