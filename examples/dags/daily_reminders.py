"""Daily reminders: every morning, one call for each appointment.

The rows come from a table in SQLite; use the hook of your own database instead. No retry, lost worker or cleared task
calls a person a second time on the same day, and a run that is a day late calls nobody.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider.operators.voice import VoiceCallOperator

with DAG(
    "daily_reminders",
    schedule="0 9 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    catchup=False,
    params={"database": "/data/appointments.db"},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
) as dag:

    @task
    def appointments(params: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """Return the calls of the day, each as a mapping of operator parameters."""
        with closing(sqlite3.connect((params or {})["database"])) as database:
            found = database.execute("SELECT phone, name, at FROM appointments ORDER BY at").fetchall()
        today = f"{datetime.now(UTC):%d %B}"
        say = "Hello {}. You are expected today, {}, at {}."
        return [{"destination": phone, "say": say.format(name, today, at)} for phone, name, at in found]

    call = VoiceCallOperator.partial(
        task_id="call",
        valid_for=timedelta(hours=3),  # no reminders after the appointment
        deferrable=True,
        poll_interval=5,
    ).expand_kwargs(appointments())

    @task(trigger_rule="all_done")
    def count(calls: list[dict[str, Any]]) -> dict[str, int]:
        """Count the people who were reached."""
        reached = sum(1 for each in calls if each["state"] == "completed")
        return {"called": len(calls), "reached": reached}

    count(call.output)
