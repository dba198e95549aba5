"""DAGs of the tests: notifiers, and mapped calls: many, and those of lists that change."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators.voice import VoiceCallOperator

START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow reads it as UTC)
FOLDER = Path(os.environ["VOICEFLOW_TEST_FOLDER"])

with DAG(
    "alarm",
    schedule=None,
    start_date=START,
    on_failure_callback=VoiceCallNotifier(
        numbers=["+6587650101", "+6587650102", "+6587650103"], answer_within=30, say="{{ dag.dag_id }} failed."
    ),
):

    @task
    def break_down() -> None:
        """Fail."""
        raise ValueError("on purpose")

    break_down()

with DAG(
    "deadline",
    schedule=None,
    start_date=START,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=3),
        callback=AsyncCallback(VoiceCallNotifier, kwargs={"numbers": ["+6587650401"], "answer_within": 30}),
    ),
):

    @task
    def be_slow() -> None:
        """Run until the test has seen the call."""
        from tests.support.waiting import wait_until

        wait_until((FOLDER / "deadline.end").exists, "the call of the deadline", within=400, every=0.5)

    be_slow()

with DAG("approval", schedule=None, start_date=START):
    ApprovalOperator(
        task_id="approve",
        subject="Shall the 42 invoices be sent?",
        notifiers=[VoiceCallNotifier(numbers=["+6587650411", "+6587650412"], answer_within=30)],
    )

MANY = int(os.environ.get("VOICEFLOW_TEST_CALLS", "100"))
PATIENT = {"retries": 8, "retry_delay": timedelta(seconds=1)}

with DAG("many", schedule=None, start_date=START, default_args=PATIENT, max_active_tasks=64):

    @task
    def numbers() -> list[str]:
        """So many different numbers."""
        return [f"+65876{place:05d}" for place in range(60000, 60000 + MANY)]

    VoiceCallOperator.partial(task_id="call", say="Hello.", deferrable=True, poll_interval=2).expand(
        destination=numbers()
    )


@task(task_id="numbers")
def listed(run_id: str | None = None) -> list[str]:
    """The numbers of a run; each try reads them again."""
    found: list[str] = json.loads((FOLDER / f"{run_id}.list").read_text(encoding="utf-8"))
    return found


@task.sensor(poke_interval=2, mode="reschedule")
def be_busy(run_id: str | None = None) -> bool:
    """Keep the run running until its file says that it may end."""
    return (FOLDER / f"{run_id}.end").exists()


with DAG("moved", schedule=None, start_date=START, default_args=PATIENT):
    be_busy()
    VoiceCallOperator.partial(task_id="call", say="Hello.", deferrable=True, poll_interval=1).expand(
        destination=listed()
    )

with DAG("ordered", schedule=None, start_date=START):  # as the recipes of docs/airflow.md say when it is
    VoiceCallOperator(
        task_id="call",
        destination="+6587650431",
        say="It is {{ (dag_run.logical_date or dag_run.run_after) | ts }}.",
        valid_until="{{ (dag_run.logical_date or dag_run.run_after) + macros.timedelta(hours=10) }}",
        deferrable=True,
        poll_interval=1,
    )

with DAG("daily", schedule="@daily", start_date=START, end_date=START + timedelta(days=9), catchup=False):
    VoiceCallOperator(
        task_id="call",
        destination="+658765042{{ logical_date.day }}",
        say="Hello.",
        deferrable=True,
        poll_interval=1,
    )
