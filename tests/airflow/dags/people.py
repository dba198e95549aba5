# dags: alarm, approval, campaign, many
"""DAGs of the tests: a notifier, approvals, a campaign, many mapped calls."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from airflow_provider.sensors.voice import IvrApprovalSensor

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

ASKED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("approved", "+6587650201", {"deferrable": True}),
    ("rejected", "+6587650202", {"deferrable": False, "mode": "reschedule", "on_reject": "skip"}),
    ("refused", "+6587650203", {"deferrable": True}),
    ("silent", "+6587650204", {"deferrable": True, "on_silence": "return"}),
)

with DAG("approval", schedule=None, start_date=START):
    for name, number, options in ASKED:
        IvrApprovalSensor(task_id=name, destination=number, question="Shall the run go on?", poke_interval=1, **options)

with DAG("campaign", schedule=None, start_date=START):

    @task
    def people() -> list[dict[str, Any]]:
        """The table."""
        return [{"destination": f"+658765030{place}", "name": f"Customer {place}"} for place in range(5)]

    VoiceCampaignOperator(task_id="call", rows=people(), say="Hello {{ name }}.", deferrable=True, poll_interval=1)

MANY = int(os.environ.get("VOICEFLOW_TEST_CALLS", "200"))
PATIENT = {"retries": 8, "retry_delay": timedelta(seconds=1)}

with DAG("many", schedule=None, start_date=START, default_args=PATIENT, max_active_tasks=64):

    @task
    def numbers() -> list[str]:
        """So many different numbers."""
        return [f"+65876{place:05d}" for place in range(60000, 60000 + MANY)]

    VoiceCallOperator.partial(task_id="call", say="Hello.", deferrable=True, poll_interval=2).expand(
        destination=numbers()
    )
