"""An approval by phone before an irreversible step: 1 goes on, 2 ends the run without an error.

`voiceflow serve` receives and stores the key press, so Airflow needs no open port.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider.sensors.voice import IvrApprovalSensor

with DAG(
    "approval_by_phone",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    params={"approver": "+6587654321", "invoices": 42},
) as dag:
    approved = IvrApprovalSensor(
        task_id="ask",
        destination="{{ params.approver }}",
        question="{{ params.invoices }} invoices are ready. Shall they be sent?",
        on_reject="skip",
        on_silence="fail",
        deferrable=True,
        poke_interval=5,
        timeout=timedelta(hours=1).total_seconds(),
    )

    @task
    def send_invoices() -> None:
        """Send the approved invoices."""

    approved >> send_invoices()
