"""An alert by phone when the nightly load fails: people on call are phoned in turn until one of them presses 1.

A `voiceflow worker` makes the calls.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider.notifications.voice import VoiceCallNotifier

with DAG(
    "nightly_load",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    catchup=False,
    params={"on_call": ["+6587654321", "+6587654322"], "break_down": False},
) as dag:

    @task(
        retries=0,
        on_failure_callback=VoiceCallNotifier(
            numbers="{{ params.on_call | join(',') }}",
            say="The nightly load has failed at {{ ti.task_id }}.",
            every=timedelta(minutes=2),
        ),
    )
    def load(params: dict[str, object] | None = None) -> None:
        """Load what has changed since yesterday."""
        if (params or {}).get("break_down"):
            raise RuntimeError("the source of the data is not available")

    load()
