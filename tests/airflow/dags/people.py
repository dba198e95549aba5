# dags: alarm, many
"""DAGs of the tests: a notifier, and many mapped calls."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators.voice import VoiceCallOperator

START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow reads it as UTC)

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
