"""The notifier: one person after the other until somebody acknowledges, and nobody twice for one occasion."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider.notifications.voice import VoiceCallNotifier, announcement, occasion_of
from tests.airflow.scene import context, refused
from tests.support.stage import Stage


def answers(on: Stage, number: str, keys: list[str | None]) -> None:
    on.order("script", {"destination": number, "outcome": "COMPLETED", "keys": keys})


def numbers_called(on: Stage, prefix: str) -> list[str]:
    return [entry["destination"] for entry in on.ledger() if entry["destination"].startswith(prefix)]


def test_the_second_takes_what_the_first_does_not_and_the_third_is_left_alone(on: Stage) -> None:
    numbers = ["+6587662001", "+6587662002", "+6587662003"]
    answers(on, numbers[0], [None])
    answers(on, numbers[1], ["1"])
    notifier = VoiceCallNotifier(numbers=numbers, say="Disk full.", answer_within=30)
    notifier.notify(context("escalates"))
    (pressed,) = [each for each in on.ledger() if each["destination"] == numbers[1]]
    assert json.dumps(pressed).count("Press 1") == 1, "the key is named once"
    assert numbers_called(on, "+658766200") == numbers[:2]
    notifier.notify(context("escalates"))
    assert numbers_called(on, "+658766200") == numbers[:2], "the callback fired twice"


def test_a_long_text_is_cut_so_that_people_are_called(on: Stage) -> None:
    text = "Traceback: line 1. " * 200
    for number, here in (("+6587662031", context("long")), ("+6587662032", context("long", map_index=3))):
        answers(on, number, ["1"])
        VoiceCallNotifier(numbers=[number], say=text, answer_within=30, gather=0).notify(here)
        (entry,) = (entry for entry in on.ledger() if entry["destination"] == number)
        assert "Traceback: line 1.… Press 1" in json.dumps(entry, ensure_ascii=False)


@pytest.mark.anyio
async def test_it_can_be_awaited_with_the_context_of_a_deadline(on: Stage) -> None:
    answers(on, "+6587662041", ["1"])
    deadline = {"dag_run": {"dag_id": "nightly", "dag_run_id": "r"}, "deadline": {"id": "01", "deadline_time": "x"}}
    notifier = VoiceCallNotifier(numbers=["+6587662041"], answer_within=30, context=deadline)
    for _ in range(2):
        result = await notifier.async_notify(deadline)
        assert result.startswith("+6587662041 acknowledged in call default.")
    assert numbers_called(on, "+6587662041") == ["+6587662041"]


def run(**more: Any) -> dict[str, Any]:
    dag_run = SimpleNamespace(dag_id="d", run_id="r", clear_number=0)
    return {"dag_run": dag_run, "run_id": "r", "reason": "task_failure", **more}


def test_a_failed_run_is_one_occasion_whichever_task_its_context_shows_and_a_failed_try_is_another() -> None:
    one = occasion_of({**context("a"), **run()})
    two = occasion_of({**context("b"), **run()})
    assert one == two == ("run", "d", "r", 0)
    tried, other, again = context("one"), context("other"), context("one")
    again["ti"].try_number = 2
    assert len({occasion_of(each) for each in (tried, other, again)}) == 3


def state_of(here: dict[str, Any], state: str) -> dict[str, Any]:
    here["ti"].state = state
    return here


def question(on: Stage, number: str) -> Any:
    """A task that asks people, with a notifier that phones this number."""
    answers(on, number, ["1"])
    return ApprovalOperator(
        task_id="approve", subject="Shall the 42 invoices be sent?", notifiers=[VoiceCallNotifier(numbers=[number])]
    )


def test_who_is_phoned_because_an_approval_waits_hears_its_question_and_is_phoned_once_a_try(on: Stage) -> None:
    task = question(on, "+6587662051")
    here = {**context("approve"), "dag": None, "task": task}
    for _ in range(2):
        for notifier in task.notifiers:
            notifier(here)
    (call,) = (entry for entry in on.ledger() if entry["destination"] == "+6587662051")
    assert "waits for an answer: Shall the 42 invoices be sent?" in json.dumps(call)


def test_the_failure_of_an_approval_is_another_occasion_than_its_wait(on: Stage) -> None:
    here = {**context("approve"), "task": question(on, "+6587662052")}
    failed = {**here, "exception": TimeoutError("nobody answered")}
    assert occasion_of(here) != occasion_of(failed)
    assert "has failed" in announcement(failed)
    assert "The task approve of the pipeline dag has succeeded." in announcement(state_of(here, "success"))


def test_the_instances_of_a_mapped_task_that_fail_have_one_call_that_names_them(on: Stage) -> None:
    answers(on, "+6587662071", ["1"])

    def fails(index: int) -> None:
        notifier = VoiceCallNotifier(numbers=["+6587662071"], answer_within=30, gather=5)
        notifier.notify(context("load_orders", map_index=index))

    with ThreadPoolExecutor() as pool:
        list(pool.map(fails, (4, 0, 7, 0)))
    (call,) = (entry for entry in on.ledger() if entry["destination"] == "+6587662071")
    assert "This is Airflow. 3 instances of the task load orders of the pipeline dag have failed: " in json.dumps(call)
    assert numbers_called(on, "+6587662071") == ["+6587662071"]


def test_a_policy_is_named_instead_of_numbers(on: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "escalations.toml"
    file.write_text('[db]\nnumbers = [["+6587662081", "+6587662082"]]\nanswer_within = "30s"\n')
    monkeypatch.setenv("VOICEFLOW_ESCALATIONS", str(file))
    answers(on, "+6587662081", [None])
    answers(on, "+6587662082", [None])
    with refused("none of", is_final=False):
        VoiceCallNotifier(policy="db").notify(context("by_policy"))
    assert sorted(numbers_called(on, "+658766208")) == ["+6587662081", "+6587662082"]


def test_each_notifier_of_one_event_rings_its_own_people_and_each_event_rings_them(on: Stage) -> None:
    people = ["+6587662091", "+6587662092"]
    for number in people:
        answers(on, number, ["1"])
    first, second = (VoiceCallNotifier(numbers=[number], answer_within=30) for number in people)
    for state, called in (("running", [first]), ("failed", [first, second, first]), ("success", [second])):
        for notifier in called:
            notifier.notify(state_of(context("twofold"), state))
    assert [numbers_called(on, number) for number in people] == [people[:1] * 2, people[1:] * 2]
    said = json.dumps([entry for entry in on.ledger() if entry["destination"] in people])
    counts = [said.count(f"The task twofold of the pipeline dag has {each}.") for each in ("started", "failed")]
    assert counts == [1, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (run(), "The pipeline d has failed."),
        (context("load_orders"), "The task load orders of the pipeline dag has failed."),
        ({"dag_run": {"dag_id": "nightly.load"}, "deadline": {"id": "1"}}, "The pipeline nightly load has missed its"),
        (run(reason="success"), "The pipeline d has succeeded."),
        (state_of(context("a"), "success"), "The task a of the pipeline dag has succeeded."),
        (state_of(context("a"), "up_for_retry"), "has failed, and will be tried again."),
        (context("a", max_tries=1), "has failed, and will be tried again."),
    ],
)
def test_the_announcement_says_what_happened(given: dict[str, Any], said: str) -> None:
    assert said in announcement(given)
