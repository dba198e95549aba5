"""The operator for one call, beside a sandbox, without Airflow's database."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from tests.airflow import scene
from tests.airflow.scene import STORED, call, context, deferred, refused, rings
from tests.support.stage import Stage
from voiceflow_worker import InvalidInputError, JobState, open_store


def test_the_result_is_the_call_whose_outcome_it_has_once_and_a_second_try_finds_it(
    on: Stage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    on.order("script", {"destination": "+6587660001", "outcome": "NO_ANSWER"})
    with caplog.at_level("INFO"):
        first = call("+6587660001").execute(context("first"))
    again = call("+6587660001").execute(context("first"))
    assert (first["state"], first["outcome"]["session_status"]) == ("unreached", "NO_ANSWER")
    assert "outcome" not in first["attempts"][-1]
    assert (first["data"]["airflow_task_id"], again["id"], rings(on, "+6587660001")) == ("first", first["id"], [1])
    logged = caplog.text + "".join(capsys.readouterr())  # where it is depends on the version of Airflow
    assert f"call {first['id']} to +6587660001 ended as unreached (NO_ANSWER" in logged


def test_the_log_says_that_no_worker_is_running_while_the_task_waits(
    on: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"), refused("has not ended within", is_final=False):
        call("+6587660021", send="worker", wait_timeout=timedelta(seconds=1)).execute(context("workerless"))
    assert caplog.text.count("no worker is running: `voiceflow worker` sends due calls") == 1


def test_a_call_keeps_to_its_hours_and_to_its_earliest_time(on: Stage) -> None:
    hours = {"window": "09:00-20:00", "time_zone": "Europe/Berlin", "not_before": "2036-01-31 18:00"}
    result = call("+6587660022", **STORED, **hours).execute(context("hours"))
    assert (result["window"], result["time_zone"]) == ("09:00-20:00 mon-sun", "Asia/Singapore")
    assert result["due_at"] == "2036-02-01T01:00:00.000Z", "when the window opens at the number"
    assert (result["state"], rings(on, "+6587660022")) == ("queued", [0])
    with pytest.raises(InvalidInputError, match="'nine' is not a calling window"):
        call("+6587660022", window="nine")


@pytest.mark.parametrize(
    ("outcome", "fail_on", "fails"),
    [
        ("NO_ANSWER", ("failed", "expired"), False),
        ("NO_ANSWER", ("NO_ANSWER",), True),
        ("BUSY", ("unreached",), True),
        ("FAILED", ("failed", "expired"), True),
        ("FAILED", (), False),
    ],
)
def test_the_outcomes_to_fail_on_fail_for_good(on: Stage, outcome: str, fail_on: tuple[str, ...], fails: bool) -> None:
    number, name = f"+65876601{len(fail_on)}{fails:d}", f"{outcome}{fail_on}"
    on.order("script", {"destination": number, "outcome": outcome})
    before, task = rings(on, number), call(number, fail_on=fail_on, again=True)
    if fails:
        with refused("A retry does not call again"):
            task.execute(context(name))
    else:
        assert task.execute(context(name))["outcome"]["session_status"] == outcome
    assert rings(on, number) == [before[0] + 1]


def says(text: str) -> dict[str, Any]:
    return {"callflow": [{"action": "say", "params": {"text": text, "voiceProfile": "en-IE-EmilyNeural"}}]}


NONE = "rendered a missing value to None"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"destination": "not a number"}, "Nobody was called"),
        ({"destination": ["+6587660003"]}, r"expand\(destination"),
        ({"destination": None}, "destination: is missing"),
        ({"say": None}, r"say=…, flow=… and ivr=…"),
        ({"not_before": "tomorrow"}, "not_before: 'tomorrow' is not a time"),
        *(({"say": text}, NONE) for text in ("None", "Hello None.", "Hello None, your order is ready")),
        ({"say": None, "flow": says("Hello None.")}, NONE),
        ({"say": None, "flow": json.dumps(says("None"))}, NONE),
    ],
)
def test_what_breaks_a_rule_is_refused_before_anything_is_stored(
    on: Stage, options: dict[str, Any], expected: str
) -> None:
    with refused(expected):
        call(**{"to": "+6587660003", **options}).execute(context("bad"))
    found = scene.in_queue(on, lambda queue: queue.find(limit=None))
    assert not [job for job in found if (job.data or {})["airflow_task_id"] == "bad"]
    assert call("+6587660042", say="None of your orders is late.", **STORED).execute(context("of"))


@pytest.mark.parametrize(
    "options", [{"send": "there"}, {"wait_for": "answer"}, {"fail_on": ("lost",)}, {"on_clear": "sometimes"}]
)
def test_unknown_words_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"there|answer|lost|sometimes"):
        call("+6587660003", **options)


def test_a_flow_is_called_as_it_is_with_the_numbers_of_the_task(on: Stage) -> None:
    numbers = {"source": "+6531234567", "destination": "+6500000000"}
    flow = {"callflow": [{"action": "makeCall", "params": numbers}, *says("Hello.")["callflow"]]}
    for number, given in (("+6587660004", flow), ("+6587660005", json.dumps(flow))):
        call(number, say=None, flow=given).execute(context(number))
        assert rings(on, number) == [1]


def test_a_call_whose_worker_died_is_waited_for_and_not_given_out_as_done(on: Stage) -> None:
    first = call("+6587660026", **STORED).execute(context("orphan"))

    async def leased_by_a_dead_worker() -> None:
        async with open_store(on.store) as store:
            now = store.clock.now()
            hour = timedelta(hours=1)
            leased = await store.lease("default", worker_id="dead", limit=100, until=now - hour, now=now)
            assert first["id"] in [job.id for job in leased]

    asyncio.run(leased_by_a_dead_worker())
    with refused("has not ended within", is_final=False):
        call("+6587660026", send="worker", wait_timeout=timedelta(seconds=1)).execute(context("orphan"))
    assert [job.state for job in scene.jobs_to(on, "+6587660026")] == [JobState.QUEUED]


def test_a_stop_while_the_call_is_enqueued_cancels_it(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider.calls.enqueueing import enqueue_once

    task = call("+6587660016", **STORED)

    async def stopped_first(*given: Any, **more: Any) -> Any:
        task.on_kill()
        return await enqueue_once(*given, **more)

    monkeypatch.setattr("airflow_provider.operators.call.enqueue_once", stopped_first)
    with refused("Airflow stopped this task", is_final=False):
        task.execute(context("meanwhile"))
    assert [job.state for job in scene.jobs_to(on, "+6587660016")] == [JobState.CANCELLED]


def test_a_deferred_task_has_no_secret_and_its_wait_is_counted_once_over_all_resumes(on: Stage) -> None:
    on.order("script", {"destination": "+6587660007", **scene.LASTING})
    path, kwargs = deferred(call("+6587660007", deferrable=True), context("deferred")).serialize()
    assert path == "airflow_provider.triggers.voice.VoiceOutcomeTrigger"
    assert VoiceOutcomeTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, kwargs)
    assert not [secret for secret in (scene.API_KEY, on.store) if secret in json.dumps(kwargs)]
    event = {"status": "look", "job_ids": kwargs["job_ids"], "until": kwargs["until"]}
    resumed = call("+6587660007", deferrable=True)
    with pytest.raises(TaskDeferred) as again:
        resumed.execute_complete(context("deferred"), event)
    assert rings(on, "+6587660007") == [1], "resuming calls nobody"
    assert again.value.trigger.serialize()[1]["until"] == kwargs["until"]
    for status, said in (("late", "clear the task to wait for"), ("error", "no such store")):
        with refused(said, is_final=False):
            resumed.execute_complete(context("deferred"), {**event, "status": status, "error": "no such store"})


def test_a_store_that_the_next_try_would_not_see_is_refused_unless_all_workers_share_the_file(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "KubernetesExecutor")
    with refused("another host"):
        call("+6587660011").execute(context("moved"))
    assert scene.jobs_to(on, "+6587660011") == []
    scene.connect(monkeypatch, on, allow_local_store=True)
    assert call("+6587660012", **STORED).execute(context("shared"))["state"] == "queued"


def test_a_post_that_airflow_does_not_note_does_not_leave(on: Stage) -> None:
    class Away(scene.TaskState):
        def set(self, key: str, value: Any, *, retention: object = None) -> None:  # noqa: ARG002 (Airflow's)
            raise ConnectionError("the API server is away")

    with refused("task state cannot be written", is_final=False):
        call("+6587660017").execute(context("unnoted", task_state_store=Away()))
    assert rings(on, "+6587660017") == [0]
    assert call("+6587660017", wait_for="accepted").execute(context("unnoted", task_state_store=scene.TaskState()))
    assert rings(on, "+6587660017") == [1]


def test_a_call_that_nobody_answers_for_a_while_ends_the_wait_and_not_the_call(on: Stage) -> None:
    on.order("script", {"destination": "+6587660014", **scene.LASTING})
    with refused("It goes on without this task", is_final=False):
        call("+6587660014", wait_timeout=timedelta(seconds=0.5)).execute(context("slow"))
    scene.end_call(on, "+6587660014")
    assert call("+6587660014").execute(context("slow"))["state"] == "completed"
    assert rings(on, "+6587660014") == [1]


def test_a_bad_key_holds_the_queue_and_says_so_and_one_call_is_made_once_it_is_right(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.connect(monkeypatch, on, queue="apart")
    on.order("faults", {"destination": "+6587660015", "fault": "status", "status": 401, "times": 1})
    with refused(r"queue apart has been held.*voiceflow resume .*--queue apart"):
        call("+6587660015").execute(context("unauthorized"))
    assert "+6587660015" not in on.rang()
    scene.in_queue(on, lambda queue: queue.resume(), name="apart")
    assert call("+6587660015").execute(context("unauthorized"))["outcome"]
    assert on.rang().count("+6587660015") == 1
