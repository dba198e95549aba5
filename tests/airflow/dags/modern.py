# dags 3: deadline, batch_watch
"""DAGs of the tests for Airflow 3: a deadline, and a DAG that runs when a batch has finished."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

with contextlib.suppress(ImportError):
    from airflow.sdk import DAG, Asset, AssetWatcher, task
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

    from airflow_provider.notifications.voice import VoiceCallNotifier
    from airflow_provider.triggers.voice import VoiceBatchTrigger

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

    finished = Asset(
        "finished-campaigns",
        watchers=[
            AssetWatcher(
                name="batches",
                trigger=VoiceBatchTrigger(watcher="tests", batch_prefix="campaign.", poll_interval=1, quiet_for=2),
            )
        ],
    )

    with DAG("batch_watch", schedule=[finished], start_date=START, catchup=False):

        @task
        def tell() -> None:
            """A batch has finished."""

        tell()
