"""The trigger: it waits, sends only if its task does, fires once, and survives being run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_provider.hooks.voice import _open, shared_store
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from airflow_provider.triggers import voice
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from tests.airflow.scene import call, context, drain, event_of, refused, rings
from tests.support.flows import flow
from tests.support.stage import Stage
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.errors import StoreError

pytestmark = pytest.mark.anyio


async def enqueued(on: Stage, *numbers: str, batch: str | None = None) -> list[str]:
    async with open_store(on.store) as store:
        queue = CallQueue(store)
        return [(await queue.enqueue(flow(number), batch=batch)).id for number in numbers]


async def states(on: Stage, ids: list[str]) -> list[str]:
    async with open_store(on.store) as store:
        return [(await CallQueue(store).get(job_id)).state.value for job_id in ids]


async def sent(on: Stage) -> None:
    await asyncio.to_thread(drain, on)


def waiting(*, copies: int = 1, **given: Any) -> asyncio.Future[list[Mapping[str, Any]]]:
    """The events of so many copies of a trigger."""
    triggers = [VoiceOutcomeTrigger(**{"poll_interval": 0.1, **given}) for _ in range(copies)]
    return asyncio.gather(*map(event_of, triggers))


async def still_waits(future: asyncio.Future[Any]) -> bool:
    await asyncio.sleep(0.5)  # several looks of the trigger, which must not fire; no event says that it did not
    return not future.done()


async def test_it_and_its_copies_fire_when_the_call_is_over_and_send_nothing(on: Stage, hasty: None) -> None:
    ids = await enqueued(on, "+6587661001")
    events = waiting(job_ids=ids, copies=2)
    assert await still_waits(events), "nobody has sent it yet"
    assert not on.ledger()
    await sent(on)
    assert await events == [{"status": "over", "job_ids": ids}] * 2


async def test_copies_of_a_trigger_whose_task_sends_send_what_is_due_once(on: Stage, hasty: None) -> None:
    ids = await enqueued(on, "+6587661002")
    assert await waiting(job_ids=ids, sends=True, copies=3) == [{"status": "over", "job_ids": ids}] * 3
    assert rings(on, "+6587661002") == [1]


async def test_a_trigger_that_is_cancelled_while_it_sends_cuts_no_call(on: Stage, hasty: None) -> None:
    numbers = [f"+65876619{place:02d}" for place in range(40)]
    ids = await enqueued(on, *numbers, batch="cut")
    trigger = asyncio.create_task(event_of(VoiceOutcomeTrigger(batch_id="cut", sends=True, poll_interval=0.1)))
    async with asyncio.timeout(60):
        while not any(rings(on, *numbers)):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
        for _ in range(3):
            trigger.cancel()
            await asyncio.sleep(0.01)
        await asyncio.wait({trigger})
    assert trigger.cancelled()
    await sent(on)
    assert rings(on, *numbers) == [1] * 40
    assert not {*await states(on, ids)} & {"queued", "in_doubt"}


async def test_the_wait_for_several_calls_ends_with_the_last(on: Stage, hasty: None) -> None:
    done = await enqueued(on, "+6587661003", "+6587661004")
    await sent(on)
    await waiting(job_ids=done)
    ids = [*done, *await enqueued(on, "+6587661005")]
    await enqueued(on, "+6587661006", "+6587661007", batch="both")
    all_of_them, both = waiting(job_ids=ids), waiting(batch_id="both")
    assert await still_waits(all_of_them)
    await sent(on)
    await all_of_them
    assert await both == [{"status": "over", "batch_id": "both"}]


async def test_a_job_that_the_store_does_not_know_is_an_error(on: Stage, hasty: None) -> None:
    (event,) = await waiting(job_ids=["default.01JNOTTHERE"])
    assert (event["status"], "01JNOTTHERE" in event["error"]) == ("error", True)


def test_a_task_is_not_resumed_before_airflow_has_noticed_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for interval, seconds in (("5", 6.0), ("0", 2.0)):
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", interval)
        assert voice.safe_after() == seconds


async def test_many_triggers_share_one_store_and_the_last_one_closes_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    seen: list[Store] = []  # all are kept: no two have one id

    async def use(url: str) -> None:
        async with shared_store(url) as store:
            seen.append(store)

    await asyncio.gather(*(use(url) for _ in range(50)))
    assert {id(store) for store in seen} == {id(seen[0])}
    await use(url)
    assert seen[-1] is not seen[0]
    nowhere = "sqlite:////nowhere/at/all.db"
    for error in await asyncio.gather(use(nowhere), use(nowhere), return_exceptions=True):
        assert isinstance(error, StoreError), "it is an error for all"
    assert not [place for place in _open if place[1] in {url, nowhere}]


@pytest.mark.parametrize(("end", "status"), [("times_out_at", "timeout"), ("until", "late")])
async def test_the_end_of_a_time_limit_resumes_the_task_which_names_the_call_that_goes_on(
    on: Stage, hasty: None, end: str, status: str
) -> None:
    (job_id,) = await enqueued(on, "+6587661096")
    until = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    given: dict[str, Any] = {"job_ids": [job_id], end: until}
    (event,) = await waiting(**given)
    assert event == {"status": status, "job_ids": [job_id], end: until}
    if status == "late":
        goes_on = f"call {job_id} has not ended .* what is queued may still be sent; clear the task"
        with refused(goes_on, is_final=False):
            await asyncio.to_thread(call("+6587661096", deferrable=True).execute_complete, context("late"), event)
        sensor = VoiceOutcomeSensor(task_id="late_sensor", job_id=job_id, deferrable=True)
        with pytest.raises(AirflowSensorTimeout, match=goes_on):
            await asyncio.to_thread(sensor.execute_complete, context("late_sensor"), event)
