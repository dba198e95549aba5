"""The scheduler (with its workers), the triggerer and again the scheduler are killed while many calls are made."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.airflow.stack import Airflow, whole_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(3000)]

CALLS = int(os.environ.get("VOICEFLOW_TEST_CALLS", "100"))
AT_ONCE = 6
"""The tasks that run at once, and that are killed with a scheduler."""

SOON_NOTICED = {
    "VOICEFLOW_TEST_CALLS": str(CALLS),
    "AIRFLOW__CORE__PARALLELISM": str(AT_ONCE),
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


def ended(airflow: Airflow) -> int:
    states = Counter(airflow.tasks("many").values())
    return states["success"] + states["failed"]


def test_every_number_is_called_once_whatever_is_killed(tmp_path: Path) -> None:
    components = ("api-server", "scheduler", "triggerer", "dag-processor")
    with whole_stack(tmp_path, speed=40, components=components, config=SOON_NOTICED) as airflow:
        airflow.stage.order("script", {"outcome": "COMPLETED"})
        airflow.trigger("many")
        for share, component in ((0.1, "scheduler"), (0.3, "triggerer"), (0.5, "scheduler"), (0.7, "triggerer")):
            so_many = int(CALLS * share)
            airflow.wait(lambda so_many=so_many: ended(airflow) >= so_many, f"{so_many} calls", within=900)  # type: ignore[misc]
            airflow.kill(component)
            airflow.start(component)
        state = airflow.wait_for_run("many", within=1500)
        posts = Counter(entry["destination"] for entry in airflow.stage.ledger())
        assert max(posts.values()) == 1
        # A process killed between its journal and its POST leaves a doubt: nobody was called, and there is no evidence.
        doubts = {call["destination"] for call in airflow.stage.calls("--state", "in_doubt")} - set(posts)
        assert len(posts) == CALLS - len(doubts)
        assert len(doubts) <= 2 * AT_ONCE
        assert state == ("failed" if doubts else "success"), airflow.log_tails()
        retried = airflow.rows("SELECT COUNT(*) FROM task_instance WHERE dag_id = 'many' AND try_number > 1")
        print(f"{len(posts)} POSTs to {len(posts)} numbers, {len(doubts)} doubts, {retried[0][0]} tasks were retried")  # noqa: T201 (with -s)
