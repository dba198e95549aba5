"""Lists that change while their tasks are killed, retried and cleared, in a real Airflow.

`VOICEFLOW_TEST_SEED` says which changes and moments (1), `VOICEFLOW_TEST_ROUNDS` how many kills a run gets (4).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.stack import Airflow, whole_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("VOICEFLOW_TEST_SEED", "1"))
ROUNDS = int(os.environ.get("VOICEFLOW_TEST_ROUNDS", "4"))
PEOPLE = 10


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    with whole_stack(tmp_path_factory.mktemp("hostile"), speed=40, extra={"rate": "1.5"}) as started:
        started.stage.order("script", {"outcome": "COMPLETED"})
        yield started


class Run:
    """One run, its list, and a person who changes it."""

    def __init__(self, airflow: Airflow, dag_id: str, run_id: str, place: int, rng: random.Random) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id
        self.rng = rng
        self._next = 87650000 + place * 100
        self.rows = [{"destination": self.number(), "name": "Ann"} for _ in range(PEOPLE)]
        self.write(self.rows)

    def number(self) -> str:
        self._next += 1
        return f"+65{self._next}"

    def write(self, listed: list[Any]) -> None:
        file = self._file("list")
        new = file.with_suffix(".new")
        new.write_text(json.dumps(listed), encoding="utf-8")
        new.replace(file)

    def change(self) -> None:
        """Remove some, correct some, respell some, add some, and put all in another order."""
        rng = self.rng
        rows = [dict(row) for row in self.rows]
        rng.shuffle(rows)
        del rows[: rng.randint(0, min(3, len(rows) - 3))]
        for row in rng.sample(rows, 2):
            row["name"] = f"Ann {rng.randint(0, 999)}"
        for row in rng.sample(rows, 2):
            digits = plain(row["destination"])[3:]
            row["destination"] = rng.choice((digits, f"+65 {digits[:4]} {digits[4:]}", f"0065{digits}", f"+65{digits}"))
        for row in rng.sample(rows, 2):
            row["seen"] = str(rng.random())
        rows += [{"destination": self.number(), "name": "New"} for _ in range(rng.randint(0, 2))]
        rng.shuffle(rows)
        self.rows = rows
        self.write(rows)

    def kill(self, how: int = signal.SIGKILL) -> bool:
        """End the process of the running try, if there is one."""
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._file("pid").read_text(encoding="utf-8")), how)
            self._file("pid").unlink()
            return True
        return False

    def end(self) -> None:
        """Let a run end that is kept running."""
        self._file("end").touch()

    def is_running(self) -> bool:
        return self._file("pid").exists()

    def is_over(self) -> bool:
        return self.airflow.run_state(self.dag_id, self.run_id) in {"success", "failed"}

    def tries(self) -> list[dict[str, Any]]:
        """The notes of each try: the times at which it began and had enqueued its numbers."""
        with suppress(FileNotFoundError):
            return [json.loads(line) for line in self._file("tries").read_text(encoding="utf-8").splitlines()]
        return []

    def enqueued(self) -> int:
        return sum(1 for each in self.tries() if each["what"] == "has enqueued")

    def wait_until_enqueued(self, tries: int) -> None:
        self.airflow.wait(lambda: self.enqueued() >= tries, f"try {tries} of {self.run_id}")

    def _file(self, kind: str) -> Path:
        return self.airflow.home / f"{self.run_id}.{kind}"


def plain(number: str) -> str:
    return f"+65{number.replace(' ', '')[-8:]}"


def judge(airflow: Airflow, runs: list[Run]) -> str:
    """Nobody was called twice, and all who are in a list were called, except for doubts that a kill left."""
    ledger = [entry for entry in airflow.stage.ledger() if entry["rang"]]
    rings = Counter(entry["destination"] for entry in ledger)
    assert [number for number, count in rings.items() if count > 1] == []
    calls = airflow.stage.calls()
    doubts = {call["destination"] for call in calls if call["state"] == "in_doubt"}
    for run in runs:
        # A kill may come when the try has just ended: then nobody reads the list that was changed before it.
        read = next(each["numbers"] for each in reversed(run.tries()) if each["what"] == "has enqueued")
        asked = {plain(row["destination"]) for row in run.rows} & set(map(plain, read))
        assert asked - rings.keys() <= doubts, run.run_id
    tries = sum(each["what"] == "begins" for run in runs for each in run.tries())
    ever = sum(len({plain(number) for each in run.tries() for number in each["numbers"]}) for run in runs)
    removed = ever - sum(len(run.rows) for run in runs)
    return f"{tries} tries; {len(rings)} of {ever} people rang, each once; {removed} removed; {len(doubts)} doubts"


def test_campaigns_that_share_a_batch_are_killed_changed_and_cleared(airflow: Airflow) -> None:
    rng = random.Random(SEED)
    monday = Run(airflow, "hostile_once", "monday", 0, rng)
    airflow.trigger("hostile_once", "monday")
    monday.wait_until_enqueued(1)
    assert monday.kill(signal.SIGTERM)
    assert airflow.wait_for_run("hostile_once", "monday") == "failed"
    stopped = {call["destination"] for call in airflow.stage.calls("--state", "cancelled")}
    assert stopped, "on_kill cancelled the unsent calls"
    monday.rows = [row for row in monday.rows if row["destination"] not in stopped]

    runs = [Run(airflow, "hostile", f"run{place}", place, rng) for place in (1, 2, 3)]
    for run in runs:
        airflow.trigger("hostile", run.run_id)
    killed = 0
    for _ in range(ROUNDS):
        for run in runs:
            airflow.wait(lambda run=run: run.is_running() or run.is_over(), f"a try of {run.run_id}")  # type: ignore[misc]
            time.sleep(rng.uniform(0, 2))  # the moment of the kill is the point
            # The list first: the next try may begin at once.
            if not run.is_over():
                run.change()
                killed += run.kill(signal.SIGTERM if rng.random() < 0.2 else signal.SIGKILL)
    ends = {run.run_id: airflow.wait_for_run("hostile", run.run_id) for run in runs}
    print(ends, f"{killed} killed;", judge(airflow, [monday, *runs]))  # noqa: T201 (with -s)
    assert not stopped & set(airflow.stage.rang())

    for run in runs:
        run.change()
    before = {run.run_id: run.enqueued() for run in runs}
    airflow.cli("tasks", "clear", "hostile", "--yes")
    for run in runs:
        run.wait_until_enqueued(before[run.run_id] + 1)
        airflow.wait_for_run("hostile", run.run_id)
    print("cleared:", judge(airflow, [monday, *runs]))  # noqa: T201
    assert not stopped & set(airflow.stage.rang())


def test_mapped_calls_whose_indexes_move_are_made_once(airflow: Airflow) -> None:
    people = [f"+658766{place:04d}" for place in range(6)]
    listed = airflow.home / "moved.list"
    listed.write_text(json.dumps(people[1:4]), encoding="utf-8")
    airflow.trigger("hostile_mapped", "moved")
    assert airflow.wait_for_run("hostile_mapped", "moved") == "success", airflow.log_tails()
    for numbers in ([people[0], *people[1:4]], [*reversed(people[1:5]), people[0]], [people[5], people[2]]):
        listed.write_text(json.dumps(numbers), encoding="utf-8")
        airflow.cli("tasks", "clear", "hostile_mapped", "--yes")
        airflow.wait(
            lambda numbers=numbers: set(numbers) <= set(airflow.stage.rang()),  # type: ignore[misc]
            "who is new",
        )
        assert airflow.wait_for_run("hostile_mapped", "moved") == "success", airflow.log_tails()
    assert [airflow.posts_to(number) for number in people] == [1] * 6


def test_a_clear_of_a_running_run_calls_nobody_again(airflow: Airflow) -> None:
    run = Run(airflow, "hostile_running", "running", 50, random.Random(SEED))
    first, second, new = run.number(), run.number(), run.number()
    run.write([first, second])
    airflow.trigger("hostile_running", "running")
    for index in (0, 1):
        airflow.wait_for_task("hostile_running", f"call[{index}]", "success", "running")
    run.write([new, first, second])
    airflow.cli("tasks", "clear", "hostile_running", "--task-regex", "numbers", "--downstream", "--yes")
    airflow.wait(lambda: airflow.posts_to(new) == 1, "the new number to be called")
    for index in (0, 1, 2):
        airflow.wait_for_task("hostile_running", f"call[{index}]", "success", "running")
    assert [airflow.posts_to(number) for number in (first, second)] == [1, 1]
    assert airflow.run_state("hostile_running", "running") == "running"
    run.end()
    assert airflow.wait_for_run("hostile_running", "running") == "success", airflow.log_tails()
