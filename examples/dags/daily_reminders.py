"""Every morning: remind people of their appointments, each by a call of its own.

The rows come from a table in SQLite; use the hook of your own database in their place. A retry, a lost worker or a
cleared task never calls a person a second time on the same day.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

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
        """Who is to be called, and what they are told: one mapping of operator parameters for each call."""
        with closing(sqlite3.connect((params or {})["database"])) as database:
            found = database.execute("SELECT phone, name, at FROM appointments ORDER BY at").fetchall()
        return [{"destination": phone, "say": f"Hello {name}. You are expected at {at}."} for phone, name, at in found]

    call = VoiceCallOperator.partial(
        task_id="call",
        valid_for=timedelta(hours=3),  # nobody is reminded in the evening of what was at noon
        deferrable=True,
        poll_interval=5,
    ).expand_kwargs(appointments())

    @task(trigger_rule="all_done")
    def tell(calls: list[dict[str, Any]]) -> dict[str, int]:
        """How many were reached."""
        reached = sum(1 for each in calls if each["state"] == "completed")
        return {"called": len(calls), "reached": reached}

    tell(call.output)
