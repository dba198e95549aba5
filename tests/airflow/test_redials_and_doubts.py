"""Tasks of one call and of many: stores that were lost or rolled back, cancelled redials, calls in doubt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider.calls.failures import doubt, fails
from tests.airflow import scene
from tests.airflow.scene import STORED, call, context, deferred, refused, rings
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from voiceflow_worker import Job, JobState, SessionStatus


def campaign(*numbers: str, **options: Any) -> Any:
    return scene.campaign([{"destination": number} for number in numbers], say="Hello.", **options)


def call_of(on: Stage, number: str, is_so: Callable[[Job], bool] = lambda _: True) -> Job:
    found: list[Job] = []

    def is_there() -> bool:
        found[:] = scene.jobs_to(on, number)
        return len(found) == 1 and is_so(found[0])

    wait_until(is_there, lambda: f"the call to be so: {found}", every=0.1)
    return found[0]


UNANSWERED = {"fault": "close", "place": "before"}
IMPATIENT: dict[str, Any] = {"doubt_timeout": timedelta(seconds=0.2), "wait_for": "accepted"}
MAKES = pytest.mark.parametrize(("make", "number"), [(call, "+6587664501"), (campaign, "+6587664502")])


@MAKES
def test_a_store_that_was_rolled_back_calls_nobody_again_and_airflows_task_state_knows_what_a_lost_one_forgot(
    on: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Any], number: str
) -> None:
    scene.connect(monkeypatch, on, store=f"sqlite:///{tmp_path / 'calls.db'}")
    here = context("restored", task_state_store=scene.TaskState())
    make(number, **STORED).execute(here)
    older = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}  # its journals stay
    make(number, wait_for="accepted").execute(here)
    for path in (path for path in tmp_path.iterdir() if path.is_file()):
        path.unlink()
    for path, content in older.items():
        path.write_bytes(content)
    with refused("is in doubt", is_final=False):
        make(number, **IMPATIENT).execute(here)
    scene.connect(monkeypatch, on, store=f"sqlite:///{tmp_path / 'another.db'}")
    with refused("does not know it"):
        make(number).execute(here)
    assert rings(on, number) == [1]


@MAKES
def test_a_redial_that_a_stop_cancelled_is_made_by_the_next_try_when_it_was_due(
    on: Stage, number: str, make: Callable[..., Any]
) -> None:
    later: dict[str, Any] = {"redial_on": "busy", "redial_max": 2, "redial_after": "30m", "deferrable": True}
    number, here = number.replace("45", "41"), context(make.__name__)
    on.order("script", {"destination": number, "outcome": "BUSY"})
    task = make(number, **later)
    deferred(task, here)
    waits = call_of(on, number, lambda call: call.state is JobState.QUEUED and call.attempt == 1)
    task.on_kill()
    assert call_of(on, number).state is JobState.UNREACHED
    waiting: Any = None
    for _ in range(2):  # a further try finds it in the queue
        waiting = deferred(make(number, **later), here)
        again = call_of(on, number)
        assert (again.state, again.attempt, again.id) == (JobState.QUEUED, 1, waits.id)
        assert abs(again.due_at - waits.due_at) < timedelta(seconds=5)
    task.on_kill()  # it comes late
    event = {"status": "over", "job_ids": waiting.job_ids, "batch_id": waiting.batch_id, "began": waiting.began}
    with pytest.raises(TaskDeferred):
        make(number, **later).execute_complete(here, event)
    assert call_of(on, number).state is JobState.QUEUED


@pytest.mark.parametrize("is_stopped", [True, False])
def test_the_next_number_of_a_person_is_called_once_by_a_task_that_was_resumed_or_stopped_and_tried_again(
    on: Stage, hasty: None, is_stopped: bool
) -> None:
    mobile, phone, here = f"+658766421{is_stopped:d}", f"+658766422{is_stopped:d}", context(f"next-{is_stopped}")
    on.order("script", [{"destination": mobile, **scene.LASTING}, {"destination": phone, "outcome": "COMPLETED"}])
    rows, columns = [{"mobile": mobile, "home": phone}], {"destination": ["mobile", "home"]}
    task = scene.campaign(rows, columns=columns, say="Hello.", deferrable=True)
    waiting = deferred(task, here)
    scene.end_call(on, mobile, SessionStatus.NO_ANSWER)
    if is_stopped:
        task.on_kill()
    else:
        assert asyncio.run(scene.event_of(waiting))["status"] == "over"
    report = scene.campaign(rows, columns=columns, say="Hello.").execute(here)
    assert (report["total"], report["states"]["completed"], report["attempts"]) == (1, 1, {"2": 1})
    assert rings(on, mobile, phone) == [1, 1]
    ended = call_of(on, mobile)
    assert [ended.number_of(post) for post in ended.posts] == [mobile, phone]
    assert (fails(ended, ["COMPLETED"]), fails(ended, ["NO_ANSWER"])) == (True, False), "the newest outcome counts"
    assert phone in doubt(ended, store="memory://")


def test_a_doubt_counts_like_a_failure_and_does_not_keep_a_campaign_from_ending(on: Stage) -> None:
    numbers = [f"+658766420{place}" for place in range(4)]
    on.order("faults", {"destination": numbers[0], **UNANSWERED})
    report = campaign(*numbers, **IMPATIENT).execute(context("doubt"))
    assert (report["total"], report["states"]["in_doubt"]) == (4, 1)
    with refused("is in doubt", is_final=False):
        campaign(*numbers, **IMPATIENT, fail_ratio=0.2).execute(context("doubt"))


def test_a_deferred_task_looks_a_doubt_up_in_the_log_when_it_is_due(on: Stage, hasty: None) -> None:
    number = "+6587664300"
    on.order("faults", {"destination": number, **UNANSWERED})
    waiting = deferred(call(number, deferrable=True), context("looked-up"))
    call_of(on, number, lambda call: call.state is JobState.IN_DOUBT)
    scene.change(on, number, due_at=datetime.now(UTC) - timedelta(seconds=1))
    stopped = threading.Event()

    async def watch() -> None:
        watching = asyncio.ensure_future(anext(waiting.run()))
        await asyncio.to_thread(stopped.wait)
        watching.cancel()
        await asyncio.wait({watching})

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(asyncio.run, watch())
        try:
            looked = call_of(on, number, lambda call: "no row found" in str(call.reason))
        finally:
            stopped.set()
        watching.result()
    assert looked.state is JobState.IN_DOUBT
    assert looked.due_at > datetime.now(UTC)
