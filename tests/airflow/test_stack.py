"""In a real Airflow, beside a sandbox that keeps a ledger of what rang."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.airflow.stack import Airflow, whole_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(3000)]
CALLS = int(os.environ.get("VOICEFLOW_TEST_CALLS", "50"))


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    with whole_stack(tmp_path_factory.mktemp("stack"), {"VOICEFLOW_TEST_CALLS": str(CALLS)}) as started:
        yield started


def posts(airflow: Airflow, *numbers: str) -> list[int]:
    asked = Counter(entry["destination"] for entry in airflow.stage.ledger())
    return [asked[number] for number in numbers]


def test_a_question_is_asked_and_its_answer_chooses_the_way(airflow: Airflow) -> None:
    airflow.stage.order("script", {"destination": "+6587650001", "outcome": "COMPLETED", "keys": ["1"]})
    airflow.trigger("whole_way")
    assert airflow.wait_for_run("whole_way") == "success", airflow.log_tails()
    tasks = airflow.tasks("whole_way")
    assert (tasks["send"], tasks["keep"]) == ("success", "skipped")
    assert posts(airflow, "+6587650001", "+6587650002") == [1, 1]
    assert airflow.xcom("whole_way", "ask")["answer"] == "approved"


def test_a_try_that_is_killed_before_or_right_after_its_post_is_gone_on_with(airflow: Airflow) -> None:
    airflow.trigger("killed")
    assert airflow.wait_for_run("killed") == "success", airflow.log_tails()
    assert [airflow.tries("killed", f"call{place}") for place in range(3)] == [2, 2, 2]
    assert posts(airflow, *(f"+658765001{place}" for place in range(3))) == [1, 1, 1]


def test_marked_failed_and_timed_out_tasks_are_held_and_a_clear_goes_on_unless_a_person_holds_them(
    airflow: Airflow,
) -> None:
    people = [f"+65876500{ten}{place}" for place in (0, 1) for ten in (2, 3, 4)]  # those of people1 at the end
    names = [f"{kind}{place}" for place in (0, 1) for kind in ("call", "people")]
    airflow.trigger("stopped")
    for name in names:
        airflow.wait_for_task("stopped", name, "deferred" if name.endswith("0") else "running")
    airflow.wait(lambda: {*people} <= {each["destination"] for each in airflow.stage.calls()}, "the calls")
    for name in names:
        airflow.mark("stopped", name, "failed")
    airflow.trigger("timed")
    assert airflow.wait_for_run("timed") == "failed"

    def held() -> dict[str, str]:
        holds = airflow.stage.status()["holds"]
        return {each["name"]: each["reason"] for each in holds}

    airflow.wait(lambda: len(held()) == 5, "five holds")
    assert all("Airflow stopped task " in reason for reason in held().values())
    airflow.stage.run("worker", "--drain")
    assert posts(airflow, *people, "+6587650051") == [0] * 7
    by_person = next(name for name, reason in held().items() if "people1" in reason)
    airflow.stage.run("hold", "--batch", by_person, "--note", "a person's")
    airflow.cli("tasks", "clear", "stopped", "--yes")
    airflow.wait(lambda: len(held()) == 2, "the next tries to open their holds")
    airflow.stage.run("worker", "--drain")
    assert posts(airflow, *people, "+6587650051") == [1, 1, 1, 1, 0, 0, 0]
    airflow.mark("stopped", "people1", "failed")
    airflow.cli("tasks", "clear", "stopped", "--yes")
    airflow.wait(lambda: airflow.tasks("stopped")["people1"] == "running", "the third try")
    airflow.stage.run("worker", "--drain")
    assert (posts(airflow, people[-1]), by_person in held()) == ([0], True), "a person's hold stays"
    airflow.stage.run("resume", "--batch", by_person)
    airflow.stage.run("worker", "--drain")
    assert airflow.wait_for_run("stopped") == "success", airflow.log_tails()
    assert posts(airflow, *people, "+6587650051") == [1, 1, 1, 1, 1, 1, 0]


def test_a_backfill_calls_nobody_about_last_week_unless_it_may_and_then_once_for_each_run(airflow: Airflow) -> None:
    for dag_id in ("daily", "daily_in_time"):
        dates = ("--dag-id", dag_id, "--from-date", "2026-01-01", "--to-date", "2026-01-03")
        twice = f"SELECT run_id FROM task_instance WHERE dag_id = '{dag_id}' AND try_number > 1"

        def is_made_twice(dates: tuple[str, ...] = dates, twice: str = twice) -> bool:
            # While another backfill goes on, and while its own database, a file, is locked, Airflow refuses it.
            airflow.cli("backfill", "create", *dates, "--reprocess-behavior", "completed", check=False)
            return len(airflow.rows(twice)) == 3

        airflow.wait(is_made_twice, "a second try in each run", within=900)
        runs = [f"backfill__2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3)]
        states = [airflow.wait_for_run(dag_id, run) for run in runs]
        assert states == ["success" if dag_id == "daily" else "failed"] * 3
    assert posts(airflow, *(f"+658765008{day}" for day in (1, 2, 3))) == [1, 1, 1]
    assert posts(airflow, *(f"+658765007{day}" for day in (1, 2, 3))) == [0, 0, 0]
    logs = [path.read_text(errors="replace") for path in airflow.home.glob("logs/dag_id=daily_in_time/**/*.log")]
    assert all("max_lateness" in text for text in logs)


def test_every_mapped_number_is_called_once_whatever_is_killed(airflow: Airflow) -> None:
    airflow.stage.order("script", {"outcome": "COMPLETED"})

    def ended() -> int:
        states = Counter(airflow.tasks("many").values())
        return states["success"] + states["failed"]

    with airflow.stage.worker("--rate", "5"):
        airflow.trigger("many")
        for share, component in ((0.1, "scheduler"), (0.3, "triggerer"), (0.5, "scheduler"), (0.7, "triggerer")):
            so_many = int(3 * CALLS * share)
            airflow.wait(lambda so_many=so_many: ended() >= so_many, f"{so_many} calls", within=900)  # type: ignore[misc]
            airflow.kill(component)
            airflow.start(component)
        state = airflow.wait_for_run("many", within=1500)
    numbers = [f"+658{place}{number:06d}" for place in range(3) for number in range(CALLS)]
    # A process killed between its journal and its POST leaves a doubt: nobody was called, and there is no evidence.
    doubts = {call["destination"] for call in airflow.stage.calls("--state", "in_doubt")} & {*numbers}
    found = dict(zip(numbers, posts(airflow, *numbers), strict=True))
    assert max(found.values()) == 1
    assert {number for number, count in found.items() if not count} <= doubts
    retried = airflow.rows("SELECT COUNT(*) FROM task_instance WHERE dag_id = 'many' AND try_number > 1")
    print(json.dumps({"POSTs": sum(found.values()), "doubts": len(doubts), "retried": retried[0][0], "state": state}))  # noqa: T201 (with -s)
