"""Tasks of one call and of many: stores that were lost or rolled back, cancelled redials, calls in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.airflow.scene import LASTING, TaskState, change, connect, context, end_call, jobs_to, surroundings
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from voiceflow_worker import Job, JobState, SessionStatus


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("redials")) as staged:
        yield staged


def one_call(numbers: list[str], **options: Any) -> VoiceCallOperator:
    return VoiceCallOperator(task_id="t", destination=numbers[0], say="Hello.", **options)


def campaign(numbers: list[str], **options: Any) -> VoiceCampaignOperator:
    rows = [{"destination": number} for number in numbers]
    return VoiceCampaignOperator(task_id="t", rows=rows, say="Hello.", poll_interval=0.2, **options)


def deferred(task: Any, here: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        task.execute(here)
    return raised.value


def fired(trigger: Any) -> Any:
    async def event() -> Any:
        return (await asyncio.wait_for(anext(trigger.run()), 60)).payload

    return asyncio.run(event())


def call_of(on: Stage, number: str, is_so: Callable[[Job], bool] = lambda _: True) -> Job:
    found: list[Job] = []

    def is_there() -> bool:
        found[:] = jobs_to(on, number)
        return len(found) == 1 and is_so(found[0])

    wait_until(is_there, lambda: f"the call to be so: {found}", every=0.1)
    return found[0]


IMPATIENT: dict[str, Any] = {
    "doubt_timeout": timedelta(seconds=0.2),
    "wait_for": "accepted",
    "deferrable": False,
}
MAKES = pytest.mark.parametrize(("make", "number"), [(one_call, "+6587664501"), (campaign, "+6587664502")])


@MAKES
def test_airflows_task_state_knows_the_calls_that_a_lost_store_forgot(
    on: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Any], number: str
) -> None:
    here = context(f"lost {make.__name__}", task_state_store=TaskState())
    make([number], send="worker", wait_for=None).execute(here)
    connect(monkeypatch, on, store=f"sqlite:///{tmp_path / 'another.db'}")
    with pytest.raises(AirflowFailException, match="does not know it"):
        make([number]).execute(here)


@MAKES
def test_a_store_that_was_rolled_back_to_before_the_post_calls_nobody_again(
    on: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Any], number: str
) -> None:
    connect(monkeypatch, on, store=f"sqlite:///{tmp_path / 'calls.db'}")
    here = context("restored", task_state_store=TaskState())
    make([number], send="worker", wait_for=None).execute(here)
    older = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}  # its journals stay
    make([number], wait_for="accepted", deferrable=False).execute(here)
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    for path, content in older.items():
        path.write_bytes(content)
    with pytest.raises(AirflowFailException, match="restored from an older copy"):
        make([number], wait_for="accepted", deferrable=False).execute(here)
    assert [entry["destination"] for entry in on.ledger()].count(number) == 1


LATER: dict[str, Any] = {"redial_on": "busy", "redial_max": 2, "redial_after": "30m"}


@pytest.mark.parametrize(
    ("number", "make"),
    [("+6587664101", one_call), ("+6587664102", campaign)],
)
def test_a_redial_that_a_stop_cancelled_is_made_by_the_next_try_when_it_was_due(
    on: Stage, number: str, make: Callable[..., Any]
) -> None:
    here = context(make.__name__)
    on.order("script", {"destination": number, "outcome": "BUSY"})
    task = make([number], **LATER, deferrable=True)
    deferred(task, here)
    waits = call_of(on, number, lambda call: call.state is JobState.QUEUED and call.attempt == 1)
    task.on_kill()
    assert call_of(on, number).state is JobState.UNREACHED
    for _ in range(2):  # a further try finds it in the queue
        deferred(make([number], **LATER, deferrable=True), here)
        again = call_of(on, number)
        assert (again.state, again.attempt, again.id) == (JobState.QUEUED, 1, waits.id)
        assert abs(again.due_at - waits.due_at) < timedelta(seconds=5)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_the_next_number_of_a_person_is_called_once_by_a_task_that_was_resumed_or_stopped_and_tried_again(
    on: Stage, hasty: None, is_stopped: bool
) -> None:
    mobile, phone, here = f"+658766421{is_stopped:d}", f"+658766422{is_stopped:d}", context(f"next-{is_stopped}")
    on.order("script", [{"destination": mobile, **LASTING}, {"destination": phone, "outcome": "COMPLETED"}])
    given: dict[str, Any] = {
        "task_id": "t",
        "rows": [{"mobile": mobile, "home": phone}],
        "columns": {"destination": ["mobile", "home"]},
        "say": "Hello.",
        "poll_interval": 0.2,
    }
    task = VoiceCampaignOperator(**given, deferrable=True)
    waiting = deferred(task, here).trigger
    end_call(on, mobile, SessionStatus.NO_ANSWER)
    if is_stopped:
        task.on_kill()
    else:
        event = fired(waiting)
        assert event["status"] == "look"
        with suppress(TaskDeferred):
            task.execute_complete(here, event)
    report = VoiceCampaignOperator(**given, deferrable=False).execute(here)
    assert (report["total"], report["states"]["completed"], report["attempts"]) == (1, 1, {"2": 1})
    assert [entry["destination"] for entry in on.ledger() if entry["destination"] in {mobile, phone}] == [mobile, phone]


def test_a_doubt_counts_like_a_failure_and_does_not_keep_a_campaign_from_ending(on: Stage) -> None:
    numbers = [f"+658766420{place}" for place in range(4)]
    on.order("faults", {"destination": numbers[0], "fault": "close", "place": "before"})
    report = campaign(numbers, **IMPATIENT).execute(context("doubt"))
    assert (report["total"], report["states"]["in_doubt"]) == (4, 1)
    with pytest.raises(AirflowException, match="is in doubt"):
        campaign(numbers, **IMPATIENT, fail_ratio=0.2).execute(context("doubt"))


def test_a_deferred_task_looks_a_doubt_up_in_the_log_when_it_is_due(on: Stage, hasty: None) -> None:
    number, here = "+6587664300", context("looked-up")
    on.order("faults", {"destination": number, "fault": "close", "place": "before"})
    task = one_call([number], deferrable=True)
    waiting = deferred(task, here).trigger
    call_of(on, number, lambda call: call.state is JobState.IN_DOUBT)
    change(on, number, due_at=datetime.now(UTC) - timedelta(seconds=1))
    event = fired(waiting)
    assert event["status"] == "look"
    with pytest.raises(TaskDeferred):
        one_call([number], deferrable=True).execute_complete(here, event)
    looked = call_of(on, number)
    assert looked.state is JobState.IN_DOUBT
    assert looked.due_at > datetime.now(UTC)
    assert "no row found" in str(looked.reason)


def test_mapped_calls_fail_only_when_more_of_them_end_badly_than_their_ratio_allows(on: Stage) -> None:
    numbers = [f"+658766440{place}" for place in range(4)]
    for number in numbers[:2]:
        on.order("faults", {"destination": number, "fault": "close", "place": "before"})
    on.order("script", {"destination": numbers[2], **LASTING})

    def end(place: int, ratio: float) -> Any:
        here = context("mapped", map_index=place)
        here["ti"].get_ti_count = lambda **asked: 4 if asked["task_ids"] == ["mapped"] else 0
        return one_call([numbers[place]], fail_ratio=ratio, poll_interval=0.2, **IMPATIENT).execute(here)

    with pytest.raises(AirflowException, match="is in doubt"):
        end(0, 0.2)
    assert end(0, 0.25)["state"] == "in_doubt"
    with pytest.raises(AirflowException, match="is in doubt"):
        end(1, 0.25)
    assert end(1, 0.5)["state"] == "in_doubt"
    assert end(2, 0.25)["state"] == "submitted"
