"""In a real Airflow, beside a sandbox that keeps a ledger of what rang."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from tests.airflow.stack import Airflow, whole_stack
from tests.support.processes import voiceflow

ROWS = int(os.environ.get("VOICEFLOW_TEST_ROWS", "20000"))
pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    # A POST dies at 8x8 soon, so that a person may soon say that it was not placed.
    short = {"submit_window": "10s", "clock_skew": "1s"}
    with whole_stack(tmp_path_factory.mktemp("stack"), extra=short) as started:
        yield started


def test_enqueue_defer_outcome_branch(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650001", "outcome": "COMPLETED"})
    airflow.trigger("whole_way")
    assert airflow.wait_for_run("whole_way") == "success", airflow.log_tails()
    tasks = airflow.tasks("whole_way")
    assert (tasks["answered"], tasks["not_answered"]) == ("success", "skipped")
    assert [airflow.posts_to(f"+658765000{place}") for place in (1, 2, 3)] == [1, 1, 1]


def test_a_run_that_is_ordered_for_later_is_of_its_own_time(airflow: Airflow) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    airflow.stage.order("script", {"destination": "+6587650431", "outcome": "COMPLETED"})
    airflow.order("ordered", "one", later)
    assert airflow.wait_for_run("ordered") == "success", airflow.log_tails()
    (call,) = airflow.stage.calls("--number", "+6587650431")
    assert datetime.fromisoformat(call["valid_until"]) == later + timedelta(hours=10)
    times = airflow.rows("SELECT run_after < logical_date FROM dag_run WHERE dag_id = 'ordered'")
    assert [bool(*each) for each in times] == [True], "run_after is the time of the order"
    (entry,) = [each for each in airflow.stage.ledger() if each["destination"] == call["destination"]]
    assert later.isoformat() in " ".join(entry["heard"])


def test_the_xcoms_and_logs_of_a_task_are_small_and_have_no_key(airflow: Airflow) -> None:
    call = airflow.xcom("whole_way", "deferred")
    assert (call["state"], call["destination"]) == ("completed", "+6587650001")
    assert len(json.dumps(call)) < 8_000
    left = [str(row) for table in ("xcom", "trigger") for row in airflow.rows(f"SELECT * FROM {table}")]
    assert not [row for row in left if "the-api-key-of-the-tests" in row]


def test_a_task_that_is_killed_before_or_right_after_its_post_goes_on_to_the_outcome_of_one(airflow: Airflow) -> None:
    airflow.trigger("killed")
    assert airflow.wait_for_run("killed") == "success", airflow.log_tails()
    for place, task_id in enumerate(("deferred", "waiting", "handed_in", "leased"), 1):
        assert (airflow.tries("killed", task_id), airflow.posts_to(f"+658765001{place}")) == (2, 1), task_id
        assert airflow.xcom("killed", task_id)["outcome"]["session_status"]


def test_a_doubt_fails_the_task_with_the_remedy_and_goes_on_once_it_was_resolved(airflow: Airflow) -> None:
    airflow.trigger("killed_unknowably")
    assert airflow.wait_for_run("killed_unknowably") == "failed", airflow.log_tails()
    assert airflow.posts_to("+6587650015") == 0
    (call,) = airflow.stage.calls("--number", "+6587650015")
    assert call["state"] == "in_doubt"
    said = f"voiceflow calls resolve {call['id']} --placed|--not-placed --post 1 "
    assert said in logs(airflow, "killed_unknowably", "call")

    def resolved() -> bool:
        words = ("calls", "resolve", call["id"], "--not-placed", "--note", "not in the calls of the account")
        return voiceflow(*words, env=airflow.stage.env).wait() == 0

    airflow.wait(resolved, "the POST's validity to pass")
    airflow.cli("tasks", "clear", "killed_unknowably", "--yes")
    airflow.wait(lambda: airflow.run_state("killed_unknowably") == "success", "the cleared run")
    assert airflow.posts_to("+6587650015") == 1


def test_a_clear_calls_again_if_the_operator_says_so_and_a_retry_never_does(airflow: Airflow) -> None:
    """Also with lower retries, which make the same sum of tries."""
    sums = "SELECT task_id, map_index, max_tries FROM task_instance WHERE dag_id = 'cleared' ORDER BY 1, 2"
    found: list[object] = []
    airflow.trigger("cleared")
    for tries in (1, 2, 3):
        if tries == 3:
            (airflow.home / "retries").write_text("2")
            airflow.cli("dags", "reserialize")
        if tries > 1:
            airflow.cli("tasks", "clear", "cleared", "--yes")
        airflow.wait(lambda tries=tries: airflow.tries("cleared", "same") == tries, "the tasks to run")  # type: ignore[misc]
        assert airflow.wait_for_run("cleared") == "success", airflow.log_tails()
        assert airflow.tries("cleared", "again") == tries + 1, "its first try died"
        assert [airflow.posts_to(f"+658765002{place}") for place in (1, 2, 3, 4)] == [tries, 1, tries, tries]
        found.append(airflow.rows(sums))
    assert found[1] == found[2]


def test_the_execution_timeout_of_a_deferred_task_cancels_what_has_not_been_sent(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650053", "outcome": "COMPLETED", "drop": True})
    airflow.trigger("timed_out")
    assert airflow.wait_for_run("timed_out") == "failed", airflow.log_tails()
    names = ("call", "people", "ringing", "sensor")
    assert airflow.tasks("timed_out") == {**dict.fromkeys(names, "failed"), "unsent": "success"}
    for task_id in names:
        assert "took longer than its execution_timeout" in logs(airflow, "timed_out", task_id)
    found = [airflow.stage.calls("--number", f"+658765005{place}")[0]["state"] for place in (1, 2, 3, 4)]
    assert found == ["cancelled", "cancelled", "submitted", "queued"], "a sensor cancels nothing"
    assert [airflow.posts_to(f"+658765005{place}") for place in (1, 2, 3, 4)] == [0, 0, 1, 0]


def test_the_next_tries_of_cleared_tasks_make_what_the_late_stops_of_the_first_have_cancelled(airflow: Airflow) -> None:
    people = [f"+658765006{place}" for place in (0, 1, 2, 9)]
    airflow.trigger("taken_over")
    for task_id in ("people", "call"):
        airflow.wait_for_task("taken_over", task_id, "deferred")
    airflow.cli("tasks", "clear", "taken_over", "--yes")

    def waits_again(task_id: str) -> bool:
        was_told = "unsent calls were cancelled" in logs(airflow, "taken_over", task_id)
        return was_told and airflow.tasks("taken_over")[task_id] == "deferred"

    def are_queued() -> bool:
        waiting = [call["destination"] for call in airflow.stage.calls() if call["state"] == "queued"]
        return set(people) <= set(waiting) and all(map(waits_again, ("people", "call")))

    # What the stop of the first try cancels after that is made again by the second one.
    airflow.wait(are_queued, "the second tries, and the ends of the first")
    assert voiceflow("worker", "--drain", env=airflow.stage.env).wait() == 0
    assert airflow.wait_for_run("taken_over") == "success", airflow.log_tails()
    assert [airflow.posts_to(number) for number in people] == [1, 1, 1, 1]


def test_a_large_campaign_that_is_stopped_rings_nobody_and_other_calls_of_its_batch_do(airflow: Airflow) -> None:
    airflow.trigger("stopped")
    airflow.wait_for_task("stopped", "other", "success")
    airflow.wait_for_task("stopped", "deferred", "deferred")
    airflow.wait(lambda: "calls have ended" in logs(airflow, "stopped", "waiting"), "the other to store its calls")
    before = airflow.stage.states().get("cancelled", 0)
    for task_id in ("deferred", "waiting"):
        airflow.mark("stopped", task_id, "failed")

    def are_stopped() -> bool:
        found = airflow.stage.status()
        staged = sum(each["calls"] for each in found["staged"])
        return bool(found["states"].get("cancelled", 0) - before + staged == ROWS)

    airflow.wait(are_stopped, "all of the calls to be stopped")
    voiceflow("worker", "--drain", env=airflow.stage.env).wait()
    assert airflow.posts_to("+6587650070") == 1
    assert not [entry for entry in airflow.stage.ledger() if entry["destination"].startswith("+65877")]
    for task_id in ("deferred", "waiting"):
        said = ("unsent calls were cancelled", "the stop of batch shared takes longer than Airflow waits")
        assert any(each in logs(airflow, "stopped", task_id) for each in said)
    airflow.wait(lambda: airflow.run_state("stopped") == "failed", "the run to end")


def test_a_hold_that_a_person_gave_stands_through_marks_and_clears_with_and_without_again(airflow: Airflow) -> None:
    numbers = [f"+658765009{place}" for place in range(4)]
    airflow.trigger("held")

    def are(*states: str) -> None:
        def is_so() -> bool:
            newest = {call["destination"]: call["state"] for call in airflow.stage.calls("--batch", "held")}
            return [newest.get(number) for number in numbers] == [*states]

        airflow.wait(is_so, f"the calls to be {states}")

    def are_sent(*posts: int) -> None:
        airflow.stage.run("worker", "--drain")
        assert [airflow.posts_to(number) for number in numbers] == [*posts]

    def clear() -> None:
        airflow.cli("tasks", "clear", "held", "--yes")

    are(*["queued"] * 4)
    for place, state in product(range(2), ("people", "call")):
        airflow.wait_for_task("held", f"{state}{place}", "running" if place else "deferred")
    airflow.stage.run("hold", "--batch", "held")
    for task_id in airflow.tasks("held"):
        airflow.mark("held", task_id, "failed")
    are(*["cancelled"] * 4)
    clear()
    are(*["queued"] * 4)  # a clear makes again what a stop has cancelled
    are_sent(0, 0, 0, 0)
    ids = [call["id"] for call in airflow.stage.calls("--batch", "held", "--state", "queued")]
    airflow.stage.run("calls", "cancel", *ids, "--yes")
    assert airflow.wait_for_run("held") == "failed", "a person cancelled its calls"
    clear()
    are("queued", "cancelled", "queued", "queued")  # of a campaign only what `again` names
    are_sent(0, 0, 0, 0)
    airflow.stage.run("resume", "--batch", "held")
    are_sent(1, 0, 1, 1)


def logs(airflow: Airflow, dag_id: str, task_id: str) -> str:
    """The logs of all tries and instances of a task."""
    found = airflow.home.glob(f"logs/dag_id={dag_id}/**/task_id={task_id}/**/*.log*")
    return "".join(path.read_text(errors="replace") for path in found).replace('\\"', '"')


def test_airflow_lists_the_provider_and_tests_its_connections_without_showing_a_key(airflow: Airflow) -> None:
    assert "voiceflow-worker" in airflow.cli("providers", "list", "--output", "json")
    assert "Connection success!" in airflow.cli("connections", "test", "voiceflow_default")
    said = airflow.cli("connections", "test", "voiceflow_wrong", check=False)
    assert "Connection failed!" in said, said
    assert ("cannot be reached" in said, "another-key" in said) == (True, False)


def test_a_deferred_task_of_dags_test_reads_a_connection_of_the_database(airflow: Airflow) -> None:
    extra = json.loads(airflow.env["AIRFLOW_CONN_VOICEFLOW_DEFAULT"])["extra"]
    named = ("--conn-host", airflow.stage.sandbox, "--conn-password", "any-key", "--conn-extra", json.dumps(extra))
    airflow.cli("connections", "add", "voiceflow_added", "--conn-type", "voiceflow", *named)
    said = airflow.cli("dags", "test", "hello")
    assert "isn't defined" not in said, said
    (call,) = airflow.stage.calls("--number", "+6587650081")
    assert call["state"] in {"completed", "unreached"}, said


def test_a_failing_dag_phones_one_after_the_other_until_somebody_acknowledges(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650101", "outcome": "COMPLETED", "keys": [None]})
    airflow.stage.order("script", {"destination": "+6587650102", "outcome": "COMPLETED", "keys": ["1"]})
    airflow.trigger("alarm")
    assert airflow.wait_for_run("alarm") == "failed"
    airflow.wait(lambda: airflow.posts_to("+6587650102") == 1, "the second number to be phoned")
    acknowledged = ("calls", "list", "--number", "+6587650102", "--json")

    def taken() -> bool:
        (call,) = [json.loads(line) for line in voiceflow(*acknowledged, env=airflow.stage.env).stdout]
        return bool(call["outcome"]) and call["outcome"]["digits"] == "1"

    airflow.wait(taken, "the key of the second")
    time.sleep(2)  # a third call would leave at once; there is no event for a call that is not made
    assert [airflow.posts_to(f"+658765010{place}") for place in (1, 2, 3)] == [1, 1, 0]


def test_a_missed_deadline_phones_while_the_dag_still_runs(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650401", "outcome": "COMPLETED", "keys": ["1"]})
    airflow.trigger("deadline")
    airflow.wait(lambda: airflow.posts_to("+6587650401") == 1, "the call")
    assert airflow.run_state("deadline") == "running"
    (airflow.home / "deadline.end").touch()
    assert airflow.wait_for_run("deadline") == "success"
    airflow.wait(lambda: airflow.rows("SELECT state FROM callback") == [("success",)], "Airflow to store the result")
    assert airflow.posts_to("+6587650401") == 1


def test_people_are_phoned_when_an_approval_waits(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650411", "outcome": "COMPLETED", "keys": [None]})
    airflow.stage.order("script", {"destination": "+6587650412", "outcome": "COMPLETED", "keys": ["1"]})
    airflow.trigger("approval")
    airflow.wait(lambda: airflow.posts_to("+6587650412") == 1, "the second number to be phoned")
    waits = {"awaiting_input", "deferred"}  # before Airflow 3.3 the task is deferred
    airflow.wait(lambda: airflow.tasks("approval")["approve"] in waits, "the approval to wait")
    assert [airflow.posts_to(f"+658765041{place}") for place in (1, 2)] == [1, 1]
    (entry,) = (each for each in airflow.stage.ledger() if each["destination"] == "+6587650412")
    assert "Shall the 42 invoices be sent?" in json.dumps(entry)


def test_mapped_calls_whose_indexes_move_are_made_once_while_the_run_goes_on_and_when_it_has_ended(
    airflow: Airflow,
) -> None:
    people = [f"+658766{place:04d}" for place in range(6)]

    def listed(*places: int) -> None:
        (airflow.home / "one.list").write_text(json.dumps([people[place] for place in places]), encoding="utf-8")

    def are_called(count: int) -> None:
        for index in range(count):
            airflow.wait_for_task("moved", f"call[{index}]", "success")

    listed(1, 2)
    airflow.trigger("moved")
    are_called(2)
    listed(0, 1, 2)
    airflow.cli("tasks", "clear", "moved", "--task-regex", "numbers", "--downstream", "--yes")
    airflow.wait(lambda: airflow.posts_to(people[0]) == 1, "the new number to be called")
    are_called(3)
    assert airflow.run_state("moved") == "running"
    (airflow.home / "one.end").touch()
    assert airflow.wait_for_run("moved") == "success", airflow.log_tails()
    for places in ((4, 3, 2, 1, 0), (5, 2)):
        listed(*places)
        airflow.cli("tasks", "clear", "moved", "--yes")
        airflow.wait(lambda last=places[0]: airflow.posts_to(people[last]) == 1, "who is new")  # type: ignore[misc]
        assert airflow.wait_for_run("moved") == "success", airflow.log_tails()
    assert [airflow.posts_to(number) for number in people] == [1] * 6


def test_a_backfill_calls_once_for_each_of_its_runs_and_not_again_when_it_is_made_once_more(airflow: Airflow) -> None:
    dates = ("--dag-id", "daily", "--from-date", "2026-01-01", "--to-date", "2026-01-03")
    second_tries = "SELECT run_id FROM task_instance WHERE dag_id = 'daily' AND try_number > 1"

    def are_made_twice() -> bool:
        # While another backfill goes on, and while its own database, a file, is locked, Airflow refuses it.
        airflow.cli("backfill", "create", *dates, "--reprocess-behavior", "completed", check=False)
        return len(airflow.rows(second_tries)) == 3

    airflow.wait(are_made_twice, "a second try in each run")
    for day in (1, 2, 3):
        assert airflow.wait_for_run("daily", f"backfill__2026-01-0{day}T00:00:00+00:00") == "success"
    assert [airflow.posts_to(f"+658765042{day}") for day in (1, 2, 3, 4)] == [1, 1, 1, 0]
