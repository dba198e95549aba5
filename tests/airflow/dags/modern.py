# dags 3: deadline, approval, asked, on_answer
"""The DAGs of the tests for Airflow 3: a deadline, an approval, and a DAG that an answer starts."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    from airflow.providers.standard.operators.hitl import ApprovalOperator
    from airflow.sdk import DAG, Asset, AssetWatcher, task
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

    from airflow_provider.notifications.voice import VoiceCallNotifier
    from airflow_provider.sensors.voice import IvrApprovalSensor
    from airflow_provider.triggers.events import VoiceEventTrigger

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
            """Run until the test has seen the call."""
            from tests.support.waiting import wait_until

            end = Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / "deadline.end"
            wait_until(end.exists, "the call of the deadline", within=400, every=0.5)

        be_slow()

    with DAG("approval", schedule=None, start_date=START):
        ApprovalOperator(
            task_id="approve",
            subject="Shall the 42 invoices be sent?",
            notifiers=[VoiceCallNotifier(numbers=["+6587650411", "+6587650412"], answer_within=30)],
        )

    with DAG("asked", schedule=None, start_date=START):
        IvrApprovalSensor(
            task_id="ask",
            destination="{{ dag_run.conf['number'] }}",
            question="Shall we come?",
            on_reject="return",
            poke_interval=1,
        )

    answered = Asset(
        "answered", watchers=[AssetWatcher(name="yes", trigger=VoiceEventTrigger(answers=["yes"], poll_interval=1))]
    )

    with DAG("on_answer", schedule=[answered], start_date=START):

        @task
        def note(triggering_asset_events: Any = None) -> None:
            """Write down the events that started this run."""
            found = [event.extra["payload"] for event in triggering_asset_events[answered]]
            with (Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / "answers.jsonl").open("a") as file:
                file.writelines(json.dumps(each) + "\n" for each in found)

        note()
