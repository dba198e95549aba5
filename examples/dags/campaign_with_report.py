"""A campaign from a file, and a report of its outcomes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

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
        say="Hello {{ name }}. Our shop moves next week.",  # rendered for each row, not by Airflow
        window="09:00-20:00",
        valid_for=timedelta(hours=8),
        skip_bad=True,
        deferrable=True,
        poll_interval=5,
        retries=2,
    )

    @task
    def report(result: dict[str, Any]) -> str:
        """Return the figures as a sentence, for your reports."""
        rate = "nobody yet" if result["answer_rate"] is None else f"{result['answer_rate']:.0%}"
        sentence = f"{result['total']} calls, {rate} answered"
        print(sentence)
        return sentence

    report(campaign.output)
