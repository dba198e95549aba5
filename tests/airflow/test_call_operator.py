"""The operator for one call, beside a sandbox, without Airflow's database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator
from tests.airflow.scene import API_KEY, LASTING, TaskState, connect, context, end_call, in_queue, jobs_to, surroundings
from tests.support.stage import Stage
from voiceflow_worker import InvalidInputError, JobState, open_store


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("calls")) as staged:
        yield staged


def call(to: str, **options: Any) -> VoiceCallOperator:
    given = {"task_id": "t", "destination": to, "say": "Hello.", "deferrable": False, "poll_interval": 0.2, **options}
    return VoiceCallOperator(**given)


def posts_to(on: Stage, number: str) -> int:
    return sum(1 for entry in on.ledger() if entry["destination"] == number)


def test_the_result_is_the_call_and_a_second_try_finds_it(on: Stage) -> None:
    on.order("script", {"destination": "+6587660001", "outcome": "COMPLETED"})
    first = call("+6587660001").execute(context("first"))
    again = call("+6587660001").execute(context("first"))
    assert (first["state"], first["outcome"]["session_status"]) == ("completed", "COMPLETED")
    assert again["id"] == first["id"]
    assert posts_to(on, "+6587660001") == 1
    assert first["data"]["airflow_task_id"] == "first"


def test_the_log_says_how_the_call_ended_and_the_result_has_its_outcome_once(
    on: Stage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    on.order("script", {"destination": "+6587660020", "outcome": "NO_ANSWER"})
    with caplog.at_level("INFO"):
        result = call("+6587660020").execute(context("logged"))
    logged = caplog.text + "".join(capsys.readouterr())  # where it is depends on the version of Airflow
    assert f"call {result['id']} to +6587660020 ended as unreached (NO_ANSWER" in logged
    assert result["outcome"]["session_status"] == "NO_ANSWER"
    assert "outcome" not in result["attempts"][-1]


def test_the_log_says_that_no_worker_is_running_while_the_task_waits(
    on: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"), pytest.raises(AirflowException, match="has not ended within"):
        call("+6587660021", send="worker", wait_timeout=timedelta(seconds=1)).execute(context("workerless"))
    assert caplog.text.count("no worker is running: `voiceflow worker` sends due calls") == 1


def test_a_call_keeps_to_its_hours_and_to_its_earliest_time(on: Stage) -> None:
    hours = {"window": "09:00-20:00", "time_zone": "Europe/Berlin", "not_before": "2036-01-31 18:00"}
    result = call("+6587660022", send="worker", wait_for=None, **hours).execute(context("hours"))
    assert (result["window"], result["time_zone"]) == ("09:00-20:00 mon-sun", "Asia/Singapore")
    assert result["due_at"] == "2036-02-01T01:00:00.000Z", "when the window opens at the number"
    with pytest.raises(InvalidInputError, match="'nine' is not a calling window"):
        call("+6587660022", window="nine")
    with pytest.raises(AirflowFailException, match="not_before: 'tomorrow' is not a time"):
        call("+6587660022", not_before="tomorrow").execute(context("vague"))


@pytest.mark.parametrize(
    ("number", "outcome", "fail_on", "fails"),
    [
        ("+6587660101", "NO_ANSWER", ("failed", "expired"), False),
        ("+6587660102", "NO_ANSWER", ("NO_ANSWER",), True),
        ("+6587660103", "BUSY", ("unreached",), True),
        ("+6587660104", "FAILED", ("failed", "expired"), True),
        ("+6587660105", "FAILED", (), False),
    ],
)
def test_the_outcomes_to_fail_on_fail_for_good(
    on: Stage, number: str, outcome: str, fail_on: tuple[str, ...], fails: bool
) -> None:
    on.order("script", {"destination": number, "outcome": outcome})
    task = call(number, fail_on=fail_on)
    here = context(number)
    if fails:
        with pytest.raises(AirflowFailException, match="A retry does not call again"):
            task.execute(here)
    else:
        assert task.execute(here)["outcome"]["session_status"] == outcome
    assert posts_to(on, number) == 1


def test_a_call_that_breaks_a_rule_is_refused_before_anything_is_stored(on: Stage) -> None:
    with pytest.raises(AirflowFailException, match="Nobody was called"):
        call("not a number").execute(context("bad"))
    found = in_queue(on, lambda queue: queue.find(limit=None))
    assert not [job for job in found if (job.data or {})["airflow_task_id"] == "bad"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"destination": ["+6587660003"]}, r"expand\(destination"),
        ({"say": None}, r"say=…, flow=… and ivr=…"),
        ({"destination": None}, "destination: is missing"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(on: Stage, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(AirflowFailException, match=expected):
        call("+6587660003", **options).execute(context("odd"))


def test_a_text_with_a_value_that_rendered_to_none_is_refused(on: Stage) -> None:
    for text in ("None", "Hello None.", "Hello None, your order is ready"):
        flow = {"callflow": [{"action": "say", "params": {"text": text, "voiceProfile": "en-IE-EmilyNeural"}}]}
        for options in ({"say": text}, {"say": None, "flow": flow}):
            with pytest.raises(AirflowFailException, match="rendered a missing value to None"):
                call("+6587660040", **options).execute(context("none"))
    assert posts_to(on, "+6587660040") == 0
    assert call("+6587660042", say="None of your orders is late.", wait_for=None).execute(context("of"))


@pytest.mark.parametrize(
    "options", [{"send": "there"}, {"wait_for": "answer"}, {"fail_on": ("lost",)}, {"on_clear": "sometimes"}]
)
def test_unknown_words_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"there|answer|lost|sometimes"):
        call("+6587660003", **options)


def test_a_flow_is_called_as_it_is_with_the_numbers_of_the_task(on: Stage) -> None:
    flow = {
        "callflow": [
            {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6500000000"}},
            {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
        ]
    }
    for place, given in enumerate((flow, json.dumps(flow))):
        number = f"+658766000{4 + place}"
        call(number, say=None, flow=given).execute(context(f"flow{place}"))
        assert posts_to(on, number) == 1


def test_a_worker_sends_if_the_operator_says_so(on: Stage) -> None:
    result = call("+6587660006", send="worker", wait_for=None).execute(context("left"))
    assert result["state"] == "queued"
    assert posts_to(on, "+6587660006") == 0


def test_a_call_whose_worker_died_is_waited_for_and_not_given_out_as_done(on: Stage) -> None:
    first = call("+6587660026", send="worker", wait_for=None).execute(context("orphan"))

    async def leased_by_a_dead_worker() -> None:
        async with open_store(on.store) as store:
            now = store.clock.now()
            hour = timedelta(hours=1)
            leased = await store.lease("default", worker_id="dead", limit=100, until=now - hour, now=now)
            assert first["id"] in [job.id for job in leased]

    asyncio.run(leased_by_a_dead_worker())
    task = call("+6587660026", send="worker", wait_timeout=timedelta(seconds=1))
    with pytest.raises(AirflowException, match="has not ended within"):
        task.execute(context("orphan"))
    assert [job.state for job in jobs_to(on, "+6587660026")] == [JobState.QUEUED]


def test_a_stop_while_the_call_is_enqueued_cancels_it(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider.calls.enqueueing import enqueue_once

    task = call("+6587660016", send="worker", wait_for=None)

    async def stopped_first(*given: Any, **more: Any) -> Any:
        task.on_kill()
        return await enqueue_once(*given, **more)

    monkeypatch.setattr("airflow_provider.operators.voice_task.enqueue_once", stopped_first)
    with pytest.raises(AirflowException, match="Airflow stopped this task"):
        task.execute(context("meanwhile"))
    assert [job.state for job in jobs_to(on, "+6587660016")] == [JobState.CANCELLED]


def test_a_deferred_task_has_no_secret(on: Stage) -> None:
    on.order("script", {"destination": "+6587660007", **LASTING})
    task = call("+6587660007", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context("deferred"))
    path, kwargs = deferred.value.trigger.serialize()
    assert path == "airflow_provider.triggers.voice.VoiceOutcomeTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert API_KEY not in json.dumps(kwargs)
    assert on.store not in json.dumps(kwargs)
    assert posts_to(on, "+6587660007") == 1
    event = {"status": "look", "job_ids": kwargs["job_ids"], "until": kwargs["until"]}
    with pytest.raises(TaskDeferred) as again:
        call("+6587660007", deferrable=True).execute_complete(context("deferred"), event)
    assert posts_to(on, "+6587660007") == 1, "resuming calls nobody"
    assert again.value.trigger.serialize()[1]["until"] == kwargs["until"], (
        "the time of the wait is counted once over all resumes"
    )
    over = {**event, "status": "late", "until": "2026-01-01T00:00:00+00:00"}
    with pytest.raises(AirflowException, match="clear the task to wait for"):
        call("+6587660007", deferrable=True).execute_complete(context("deferred"), over)


def test_an_error_of_the_trigger_fails_the_try(on: Stage) -> None:
    with pytest.raises(AirflowException, match="no such store"):
        call("+6587660007").execute_complete(context(), {"status": "error", "job_ids": ["x"], "error": "no such store"})


@pytest.mark.parametrize("cancels", [True, False])
def test_stopping_cancels_an_unsent_call_unless_the_user_says_otherwise(on: Stage, cancels: bool) -> None:
    def enqueued() -> VoiceCallOperator:
        task = call("+6587660008", send="worker", wait_for=None, cancel_on_kill=cancels)
        found.append(task.execute(context(f"killed-{cancels}"))["id"])
        return task

    found: list[str] = []
    enqueued().on_kill()
    (first,) = (job for job in jobs_to(on, "+6587660008") if job.id == found[0])
    assert first.state is (JobState.CANCELLED if cancels else JobState.QUEUED)
    enqueued()
    assert (found[1] == found[0]) is not cancels, "after a stop, the next try makes a new one"


def test_the_link_leads_to_the_call_and_is_stored_empty_because_airflow_logs_an_error_about_a_missing_one(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlinked, refused, linked = context("unlinked"), context("refused"), context("linked")
    call("+6587660013", send="worker", wait_for=None).execute(unlinked)
    with pytest.raises(AirflowFailException):
        call("not a number").execute(refused)
    assert [here["ti"].pushed for here in (unlinked, refused)] == [{"voiceflow_call": ""}] * 2
    connect(monkeypatch, on, ui_url="https://calls.example.com/")
    result = call("+6587660010", send="worker", wait_for=None).execute(linked)
    assert linked["ti"].pushed == {"voiceflow_call": f"https://calls.example.com/ui/calls/{result['id']}"}


def test_a_store_that_the_next_try_would_not_see_is_refused_unless_all_workers_share_the_file(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "KubernetesExecutor")
    with pytest.raises(AirflowFailException, match="another host"):
        call("+6587660011").execute(context("moved"))
    assert posts_to(on, "+6587660011") == 0
    connect(monkeypatch, on, allow_local_store=True)
    assert call("+6587660012", send="worker", wait_for=None).execute(context("shared"))["state"] == "queued"


def test_a_post_that_airflow_does_not_note_does_not_leave(on: Stage) -> None:
    class Away(TaskState):
        def set(self, key: str, value: Any, *, retention: object = None) -> None:  # noqa: ARG002 (Airflow's)
            raise ConnectionError("the API server is away")

    with pytest.raises(AirflowException, match="task state cannot be written") as raised:
        call("+6587660017").execute(context("unnoted", task_state_store=Away()))
    assert not isinstance(raised.value, AirflowFailException), "a retry goes on"
    assert posts_to(on, "+6587660017") == 0
    assert call("+6587660017", wait_for="accepted").execute(context("unnoted", task_state_store=TaskState()))
    assert posts_to(on, "+6587660017") == 1


def test_a_call_that_nobody_answers_for_a_while_ends_the_wait_and_not_the_call(on: Stage) -> None:
    on.order("script", {"destination": "+6587660014", **LASTING})
    with pytest.raises(AirflowException, match="It goes on without this task") as raised:
        call("+6587660014", wait_timeout=timedelta(seconds=0.5)).execute(context("slow"))
    assert not isinstance(raised.value, AirflowFailException), "a retry waits on"
    end_call(on, "+6587660014")
    assert call("+6587660014").execute(context("slow"))["state"] == "completed"
    assert posts_to(on, "+6587660014") == 1


def test_a_bad_key_holds_the_queue_and_says_so_and_one_call_is_made_once_it_is_right(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, on, queue="apart")
    on.order("faults", {"destination": "+6587660015", "fault": "status", "status": 401, "times": 1})
    with pytest.raises(AirflowFailException, match=r"queue apart has been held.*voiceflow resume .*--queue apart"):
        call("+6587660015").execute(context("unauthorized"))
    assert "+6587660015" not in on.rang()
    in_queue(on, lambda queue: queue.resume(), name="apart")
    assert call("+6587660015").execute(context("unauthorized"))["outcome"]
    assert on.rang().count("+6587660015") == 1
