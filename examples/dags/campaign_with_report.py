"""A campaign from a file, and a report of it: who was reached, which keys were pressed, what is left."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider.operators.voice import VoiceCampaignOperator

with DAG(
    "campaign_with_report",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    params={"file": "/data/people.csv"},
) as dag:
    campaign = VoiceCampaignOperator(
        task_id="campaign",
        file="{{ params.file }}",
        say="Hello {{ name }}. Our shop moves next week.",  # filled for each row; Airflow does not touch it
        valid_for=timedelta(hours=8),
        skip_bad=True,
        deferrable=True,
        poll_interval=5,
        retries=2,
    )

    @task
    def report(told: dict[str, Any]) -> str:
        """The numbers as a sentence; send it wherever your reports go."""
        rate = "nobody yet" if told["answer_rate"] is None else f"{told['answer_rate']:.0%}"
        sentence = f"{told['total']} calls, {rate} answered, {told['rows']['rejected']} bad rows left out"
        print(sentence)
        return sentence

    report(campaign.output)
