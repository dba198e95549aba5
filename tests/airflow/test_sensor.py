"""The sensor and its trigger, beside a sandbox, without Airflow's database."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider.sensors.voice import VoiceOutcomeSensor
from airflow_provider.triggers import voice
from tests.airflow.scene import STORED, call, campaign, context, deferred, drain, event_of, number, refused, row
from tests.support.stage import Stage


def sensor(**options: Any) -> VoiceOutcomeSensor:
    return VoiceOutcomeSensor(**{"task_id": "s", "deferrable": False, "poke_interval": 0.2, **options})


def test_calls_come_back_as_json_as_a_list_and_as_the_report_of_their_batch(on: Stage, hasty: None) -> None:
    made = [call(number(on), **STORED).execute(context(f"made{place}")) for place in range(2)]
    batch = campaign([row(number(on))], **STORED).execute(context("batch"))["batch_id"]
    assert not sensor(job_id=made[0]["id"]).poke(context())
    waiting: list[dict[str, Any]] = [{"job_ids": made}, {"batch_id": batch}]
    triggers = [deferred(sensor(deferrable=True, **given), context()) for given in waiting]
    drain(on)
    for trigger, given in zip(triggers, waiting, strict=True):
        sensor(**given).execute_complete(context(), event_of(trigger))
    assert sensor(job_id=made[0]["id"]).execute(context())["outcome"]["session_status"] == "COMPLETED"
    assert [each["id"] for each in sensor(job_ids=made).execute(context())] == [each["id"] for each in made]
    assert sensor(job_ids=[]).execute(context()) == []
    assert sensor(batch_id=batch).execute(context())["states"]["completed"] == 1


def test_a_call_that_ended_badly_fails_the_task_or_skips_it_and_an_unknown_one_may_come(on: Stage) -> None:
    made = call(number(on, outcome="FAILED"), fail_on=()).execute(context("bad"))
    with refused("failed"):
        sensor(job_id=made).execute(context())
    with pytest.raises(AirflowSkipException):
        sensor(job_id=made, soft_fail=True).execute(context())
    with refused("no call default", is_final=False):
        sensor(job_id="default.01JNOTTHERE").execute(context())


def test_a_task_is_not_queued_again_before_airflow_has_noticed_the_end_of_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BaseSensorOperator, "execute", lambda *_: None)
    for interval, seconds in (("5", 6.0), ("0", 2.0)):
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", interval)
        assert voice.safe_after() == seconds
        for mode, waits in (("reschedule", seconds), ("poke", 1)):
            looking = sensor(job_id="default.01J", mode=mode, poke_interval=1)
            looking.execute(context())
            assert looking.poke_interval == waits
