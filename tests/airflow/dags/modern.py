# dags 3: deadline
"""The DAG of the tests for Airflow 3: a deadline."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

with contextlib.suppress(ImportError):
    from airflow.sdk import DAG, task
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

    from airflow_provider.notifications.voice import VoiceCallNotifier

    START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow reads it as UTC)

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
            """Take longer than the deadline."""
            import time

            time.sleep(8)  # longer than the deadline of the DAG, which is what is tested

        be_slow()
