"""The sensors, beside a sandbox, without Airflow's database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator
from airflow_provider.sensors.voice import IvrApprovalSensor, VoiceOutcomeSensor
from airflow_provider.triggers.voice import LAG_MARGIN
from tests.airflow.scene import context, jobs_to, surroundings
from tests.support.stage import Stage


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("sensors")) as staged:
        yield staged


def called(on: Stage, number: str, outcome: str = "COMPLETED", **options: Any) -> dict[str, Any]:
    """A call that a task has made."""
    on.order("script", {"destination": number, "outcome": outcome})
    given = {
        "task_id": "t",
        "destination": number,
        "say": "x",
        "deferrable": False,
        "poll_interval": 0.2,
        "fail_on": (),
    }
    result: dict[str, Any] = VoiceCallOperator(**{**given, **options}).execute(context(number))
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
    with pytest.raises(AirflowFailException, match="BUSY"):
        sensor(job_id=busy["id"], fail_on=("BUSY",)).execute(context())
    assert sensor(job_id=busy["id"]).execute(context())["state"] == "unreached"
    with pytest.raises(AirflowException, match="no call default"):
        sensor(job_id="default.01JNOTTHERE").execute(context())


def test_soft_fail_skips_a_deferrable_sensor_at_its_first_look_and_after_its_trigger(on: Stage) -> None:
    failed = called(on, "+6587665081", "FAILED")
    waiting = called(on, "+6587665082", send="worker", wait_for=None)
    past = {"status": "late", "until": "2020-01-01T00:00:00+00:00"}
    for soft, error in ((True, AirflowSkipException), (False, AirflowException)):
        options = {"deferrable": True, "soft_fail": soft}
        with pytest.raises(error):
            sensor(job_id=failed["id"], **options).execute(context())
        for call, event in (
            (failed, {"status": "over"}),
            (waiting, {"status": "error", "error": "x"}),
            (waiting, past),
        ):
            with pytest.raises(error):
                sensor(job_id=call["id"], **options).resume_execution("execute_complete", {"event": event}, context())


def test_a_batch_that_has_no_calls_is_told_after_a_minute(
    on: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    called(on, "+6587665083", batch="reminders")
    misspelt = sensor(batch_id="remindres")
    assert not misspelt.poke(context())
    assert "remindres" not in caplog.text + "".join(capsys.readouterr())
    monkeypatch.setattr("airflow_provider.sensors.voice.UNKNOWN_AFTER", 0)
    assert not misspelt.poke(context())
    logged = caplog.text + "".join(capsys.readouterr())
    assert "batch remindres has no calls" in logged
    assert "did you mean reminders?" in logged


def test_a_wait_that_is_not_over_defers_and_ends_at_its_threshold(on: Stage) -> None:
    done = called(on, "+6587665031")
    waiting = called(on, "+6587665032", send="worker", wait_for=None)
    ids = [done["id"], waiting["id"]]
    with pytest.raises(TaskDeferred):
        sensor(job_ids=ids, deferrable=True).execute(context())
    assert sensor(job_ids=ids, at_least=1, deferrable=True).execute(context())["states"] == {
        "completed": 1,
        "queued": 1,
    }
    with pytest.raises(TaskDeferred):
        sensor(job_ids=ids, deferrable=True).execute_complete(context(), {"status": "look", "job_ids": ids})


@pytest.mark.parametrize(("mode", "waits"), [("reschedule", 7 + LAG_MARGIN), ("poke", 1)])
def test_looks_that_are_rescheduled_are_so_far_apart_that_airflow_notices_the_end_of_each(
    monkeypatch: pytest.MonkeyPatch, mode: str, waits: float
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "7")
    monkeypatch.setattr(BaseSensorOperator, "execute", lambda *_: None)
    looking = sensor(job_id="default.01J", mode=mode, poke_interval=1)
    asking = IvrApprovalSensor(
        task_id="ask", destination="+6587665034", question="Shall it?", mode=mode, poke_interval=1, deferrable=False
    )
    for each in (looking, asking):
        each.execute(context())
        assert each.poke_interval == waits


@pytest.mark.parametrize("given", [{}, {"job_id": "a", "batch_id": "b"}, {"job_id": "a", "wait_for": None}])
def test_a_sensor_of_nothing_or_of_two_things_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exactly one of|wait_for"):
        sensor(**given)


def approval(number: str, **options: Any) -> IvrApprovalSensor:
    given = {
        "task_id": "ask",
        "destination": number,
        "question": "Shall it go on?",
        "deferrable": False,
        "poke_interval": 0.2,
        **options,
    }
    return IvrApprovalSensor(**given)


def pressing(on: Stage, number: str, *keys: str | None, outcome: str = "COMPLETED") -> None:
    on.order("script", {"destination": number, "outcome": outcome, "keys": list(keys)})


def posts_to(on: Stage, number: str) -> int:
    return sum(1 for entry in on.ledger() if entry["destination"] == number)


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
        pressing(on, number, *keys, outcome="NO_ANSWER" if place == 6 else "COMPLETED")
        for _ in range(2):
            task, here = approval(number, **options), context(f"asked{place}")
            if isinstance(expected, tuple):
                with pytest.raises(expected[0], match=expected[1]):
                    task.execute(here)
            else:
                assert task.execute(here) == expected
        assert posts_to(on, number) == 1
    (asked,) = jobs_to(on, "+6587665054")
    assert (asked.data or {})["how"] == "Drücken Sie die 5."


@pytest.mark.parametrize("options", [{"approve": ("7",)}, {"on_reject": "ignore"}, {"send": "there"}])
def test_parameters_without_sense_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"7|ignore|there"):
        approval("+6587665091", **options)
