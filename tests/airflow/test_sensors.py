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


def test_one_call_comes_back_as_json(on: Stage) -> None:
    call = called(on, "+6587665001")
    assert sensor(job_id=call["id"]).execute(context())["outcome"]["session_status"] == "COMPLETED"


def test_several_calls_come_back_as_counts(on: Stage) -> None:
    calls = [called(on, f"+658766501{place}") for place in range(2)]
    counts = sensor(job_ids=calls).execute(context())
    assert counts == {"total": 2, "states": {"completed": 2}, "job_ids": [call["id"] for call in calls]}
    assert sensor(job_ids=[]).execute(context())["total"] == 0


def test_a_batch_comes_back_as_its_report(on: Stage) -> None:
    for place in range(2):
        called(on, f"+658766502{place}", batch="sensed")
    assert sensor(batch_id="sensed").execute(context())["states"]["completed"] == 2


def test_soft_fail_skips_a_deferrable_sensor_at_its_first_look_and_after_its_trigger(on: Stage) -> None:
    failed = called(on, "+6587665081", "FAILED")
    waiting = called(on, "+6587665082", send="worker", wait_for=None)
    for soft, error in ((True, AirflowSkipException), (False, AirflowException)):
        options = {"deferrable": True, "soft_fail": soft}
        with pytest.raises(error):
            sensor(job_id=failed["id"], **options).execute(context())
        with pytest.raises(error):
            sensor(job_id=failed["id"], **options).execute_complete(context(), {"status": "over"})
        with pytest.raises(error):
            sensor(job_id=waiting["id"], **options).execute_complete(context(), {"status": "error", "error": "x"})
        past = {"status": "look", "until": "2020-01-01T00:00:00+00:00"}
        with pytest.raises(error):
            sensor(job_id=waiting["id"], **options).execute_complete(context(), past)


def test_a_batch_that_has_no_calls_is_told_after_a_minute(
    on: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    called(on, "+6587665083", batch="reminders")
    misspelt = sensor(batch_id="remindres")
    assert not misspelt.poke(context())
    assert "remindres" not in caplog.text + "".join(capsys.readouterr())
    monkeypatch.setattr("airflow_provider.sensors.outcome.UNKNOWN_AFTER", 0)
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


def test_outcomes_to_fail_on_fail_it(on: Stage) -> None:
    busy = called(on, "+6587665041", outcome="BUSY")
    with pytest.raises(AirflowFailException, match="BUSY"):
        sensor(job_id=busy["id"], fail_on=("BUSY",)).execute(context())
    assert sensor(job_id=busy["id"]).execute(context())["state"] == "unreached"


def test_a_call_that_the_store_does_not_know_is_an_error(on: Stage) -> None:
    with pytest.raises(AirflowException, match="no call default"):
        sensor(job_id="default.01JNOTTHERE").execute(context())


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


def test_the_key_that_was_pressed_is_the_result_and_a_second_try_asks_nobody(on: Stage) -> None:
    pressing(on, "+6587665051", "1")
    for _ in range(2):
        assert approval("+6587665051").execute(context("approved")) == "1"
    assert posts_to(on, "+6587665051") == 1


@pytest.mark.parametrize(("way", "error"), [("fail", AirflowFailException), ("skip", AirflowSkipException)])
def test_a_rejection_fails_or_skips(on: Stage, way: str, error: type[Exception]) -> None:
    number = f"+658766506{len(way)}{ord(way[0]) % 10}"[:11]
    pressing(on, number, "2")
    with pytest.raises(error, match=r"pressed 2 \(rejected\)"):
        approval(number, on_reject=way).execute(context(f"rejected-{way}"))


def test_a_rejection_can_be_a_result_for_a_branch(on: Stage) -> None:
    pressing(on, "+6587665071", "2")
    assert approval("+6587665071", on_reject="return").execute(context("branching")) == "2"


def test_choices_of_its_own(on: Stage) -> None:
    pressing(on, "+6587665072", "5")
    task = approval("+6587665072", choices={"5": "now", "6": "tomorrow"}, approve=("5", "6"))
    assert task.execute(context("own")) == "5"


def test_the_sentence_with_the_keys_may_be_another(on: Stage) -> None:
    pressing(on, "+6587665073", "1")
    assert approval("+6587665073", how="Drücken Sie die 1.").execute(context("how")) == "1"
    (asked,) = jobs_to(on, "+6587665073")
    assert (asked.data or {})["how"] == "Drücken Sie die 1."


@pytest.mark.parametrize("outcome", ["NO_ANSWER", "COMPLETED"])
def test_silence_fails_unless_it_is_allowed(on: Stage, outcome: str) -> None:
    number = "+6587665085" if outcome == "COMPLETED" else "+6587665084"
    pressing(on, number, None, None, None, outcome=outcome)
    with pytest.raises(AirflowFailException, match="nobody pressed a key"):
        approval(number).execute(context(f"silent-{outcome}"))
    assert approval(number, on_silence="return").execute(context(f"silent-{outcome}")) is None
    assert posts_to(on, number) == 1


@pytest.mark.parametrize("options", [{"approve": ("7",)}, {"on_reject": "ignore"}, {"send": "there"}])
def test_parameters_without_sense_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"7|ignore|there"):
        approval("+6587665091", **options)
