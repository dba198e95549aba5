"""An approval by phone before an irreversible step: 1 goes on, 2 ends the run without an error.

`voiceflow serve` receives and stores the key press, so Airflow needs no open port.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider.operators.voice import VoiceCallOperator

with DAG(
    "approval_by_phone",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    params={"approver": "+6587654321", "invoices": 42},
) as dag:
    call = VoiceCallOperator(
        task_id="ask",
        destination="{{ params.approver }}",
        ask="{{ params.invoices }} invoices are ready. Shall they be sent?",
        keys={"1": "approved", "2": "rejected"},
        valid_for=timedelta(hours=1),
        deferrable=True,
        poll_interval=5,
    )

    @task.short_circuit
    def is_approved(call: Mapping[str, Any]) -> bool:
        """Skip the rest of the run unless the person pressed 1."""
        return bool(call["answer"] == "approved")

    @task
    def send_invoices() -> None:
        """Send the approved invoices."""

    is_approved(call.output) >> send_invoices()
