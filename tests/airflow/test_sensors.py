"""The sensors, beside a sandbox, without Airflow's database."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider.sensors.voice import IvrApprovalSensor, VoiceOutcomeSensor
from airflow_provider.triggers.voice import LAG_MARGIN
from tests.airflow.scene import STORED, call, context, jobs_to, refused, rings
from tests.support.stage import Stage


def called(on: Stage, number: str, outcome: str = "COMPLETED", **options: Any) -> dict[str, Any]:
    """A call that a task has made."""
    on.order("script", {"destination": number, "outcome": outcome})
    result: dict[str, Any] = call(number, **{"fail_on": (), **options}).execute(context(number))
    return result


def sensor(**options: Any) -> VoiceOutcomeSensor:
    return VoiceOutcomeSensor(**{"task_id": "s", "deferrable": False, "poke_interval": 0.2, **options})


def test_calls_come_back_as_json_as_counts_and_as_the_report_of_their_batch(on: Stage) -> None:
    calls = [called(on, f"+658766501{place}", batch="sensed") for place in range(2)]
    ids = [call["id"] for call in calls]
    assert sensor(job_id=ids[0]).execute(context())["outcome"]["session_status"] == "COMPLETED"
    assert sensor(job_ids=calls).execute(context()) == {"total": 2, "states": {"completed": 2}, "job_ids": ids}
    assert sensor(job_ids=[]).execute(context())["total"] == 0
    assert sensor(batch_id="sensed").execute(context())["states"]["completed"] == 2
    busy = called(on, "+6587665041", outcome="BUSY")
    with refused("BUSY"):
        sensor(job_id=busy["id"], fail_on=("BUSY",)).execute(context())
    assert sensor(job_id=busy["id"]).execute(context())["state"] == "unreached"
    with refused("no call default", is_final=False):
        sensor(job_id="default.01JNOTTHERE").execute(context())


@pytest.mark.parametrize("deferrable", [True, False])
def test_soft_fail_skips_what_has_ended_badly_or_not_in_time_in_both_ways_of_waiting_and_nothing_else(
    on: Stage, deferrable: bool
) -> None:
    failed = called(on, f"+658766508{deferrable:d}", "FAILED")["id"]
    waiting = called(on, f"+658766509{deferrable:d}", **STORED)["id"]
    unknown, late = "default.01JNOTTHERE", {"status": "late", "until": "2020-01-01T00:00:00+00:00"}

    def ended(job_id: str, event: dict[str, Any] | None, soft_fail: bool) -> type[BaseException]:
        sensing = sensor(job_id=job_id, deferrable=deferrable, soft_fail=soft_fail, timeout=0)
        resume = partial(sensing.resume_execution, "execute_complete", {"event": event})
        with pytest.raises(AirflowException) as raised:
            (sensing.execute if event is None else resume)(context())
        return raised.type

    assert [ended(failed, None, soft) for soft in (False, True)] == [AirflowFailException, AirflowSkipException]
    assert [ended(unknown, None, soft) for soft in (False, True)] == [AirflowException] * 2
    if deferrable:
        assert [ended(waiting, late, soft) for soft in (False, True)] == [AirflowSensorTimeout, AirflowSkipException]
        away = {"status": "error", "error": "no call default.01JNOTTHERE"}
        assert [ended(unknown, away, soft) for soft in (False, True)] == [AirflowException] * 2
    else:
        assert [ended(waiting, None, soft) for soft in (False, True)] == [AirflowSensorTimeout, AirflowSkipException]


def test_a_batch_that_has_no_calls_is_told_after_a_minute(
    on: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    called(on, "+6587665083", batch="reminders")
    monkeypatch.setattr("airflow_provider.calls.waiting.WAIT_LOOK", 0)
    misspelt = sensor(batch_id="remindres")
    assert not misspelt.poke(context())
    assert "remindres" not in caplog.text + "".join(capsys.readouterr())
    monkeypatch.setattr("airflow_provider.calls.waiting.UNKNOWN_AFTER", 0)
    assert not misspelt.poke(context())
    logged = caplog.text + "".join(capsys.readouterr())
    assert "batch remindres has no calls" in logged
    assert "did you mean reminders?" in logged


def test_a_wait_that_is_not_over_defers(on: Stage) -> None:
    done = called(on, "+6587665031")
    waiting = called(on, "+6587665032", **STORED)
    ids = [done["id"], waiting["id"]]
    with pytest.raises(TaskDeferred):
        sensor(job_ids=ids, deferrable=True).execute(context())
    with pytest.raises(TaskDeferred):
        sensor(job_ids=ids, deferrable=True).execute_complete(context(), {"status": "look", "job_ids": ids})


@pytest.mark.parametrize(("mode", "waits"), [("reschedule", 7 + LAG_MARGIN), ("poke", 1)])
def test_looks_that_are_rescheduled_are_so_far_apart_that_airflow_notices_the_end_of_each(
    monkeypatch: pytest.MonkeyPatch, mode: str, waits: float
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "7")
    monkeypatch.setattr(BaseSensorOperator, "execute", lambda *_: None)
    looking = sensor(job_id="default.01J", mode=mode, poke_interval=1)
    for each in (looking, approval("+6587665034", mode=mode, poke_interval=1)):
        each.execute(context())
        assert each.poke_interval == waits


@pytest.mark.parametrize("given", [{}, {"job_id": "a", "batch_id": "b"}, {"job_id": "a", "wait_for": None}])
def test_a_sensor_of_nothing_or_of_two_things_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exactly one of|wait_for"):
        sensor(**given)


def approval(number: str, **options: Any) -> IvrApprovalSensor:
    given = {"task_id": "ask", "destination": number, "deferrable": False, "poke_interval": 0.2, **options}
    return IvrApprovalSensor(question="Shall it go on?", **given)


def test_the_key_that_was_pressed_is_the_result_or_skips_or_fails_and_a_second_try_asks_nobody(on: Stage) -> None:
    ended: list[tuple[dict[str, Any], list[str | None], Any]] = [
        ({}, ["1"], "1"),
        ({"on_reject": "return"}, ["2"], "2"),
        ({"on_reject": "fail"}, ["2"], (AirflowFailException, r"pressed 2 \(rejected\)")),
        ({"on_reject": "skip"}, ["2"], (AirflowSkipException, r"pressed 2 \(rejected\)")),
        ({"choices": {"5": "now", "6": "later"}, "approve": ("5", "6"), "how": "Drücken Sie die 5."}, ["5"], "5"),
        ({}, [None] * 3, (AirflowFailException, "nobody pressed a key")),
        ({"on_silence": "return"}, [None] * 3, None),
    ]
    for place, (options, keys, expected) in enumerate(ended):
        number = f"+658766505{place}"
        outcome = "NO_ANSWER" if place == 6 else "COMPLETED"
        on.order("script", {"destination": number, "outcome": outcome, "keys": keys})
        for _ in range(2):
            task, here = approval(number, **options), context(f"asked{place}")
            if isinstance(expected, tuple):
                with pytest.raises(expected[0], match=expected[1]):
                    task.execute(here)
            else:
                assert task.execute(here) == expected
        assert rings(on, number) == [1]
    (asked,) = jobs_to(on, "+6587665054")
    assert (asked.data or {})["how"] == "Drücken Sie die 5."


@pytest.mark.parametrize("options", [{"approve": ("7",)}, {"on_reject": "ignore"}, {"send": "there"}])
def test_parameters_without_sense_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"7|ignore|there"):
        approval("+6587665091", **options)
