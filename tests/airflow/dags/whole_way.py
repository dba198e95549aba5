"""DAGs of the tests: enqueue, defer, outcome, branch; and tasks that are killed around their POST."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from airflow_provider.sensors.voice import VoiceOutcomeSensor

START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow reads it as UTC)
QUICK: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=1)}


class DyingCallOperator(VoiceCallOperator):
    """An operator whose process dies once, at a point in its call's life."""

    def __init__(self, *, dies: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dies = dies

    def execute(self, context: Any) -> Any:
        died = Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / f"{context['ti'].dag_id}.{context['ti'].task_id}.died"
        if not died.exists():
            _die(self.dies, died)
        return super().execute(context)


def _die(place: str, died: Path) -> None:
    """Arrange that this process ends at this place, and leave a mark that it did."""
    from voiceflow_worker.core.sending.journal import Journal
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient

    post = VoiceClient.place

    def die() -> None:
        died.touch()
        os._exit(9)

    async def at_once(*_: Any, **__: Any) -> Any:
        die()

    async def after_post(*args: Any, **kwargs: Any) -> Any:
        await post(*args, **kwargs)
        die()

    match place:
        case "handed_in":
            Worker.run = at_once  # type: ignore[method-assign]
        case "leased":
            Journal.begin = at_once  # type: ignore[method-assign]
        case "journaled":
            VoiceClient.place = at_once  # type: ignore[method-assign]
        case "posted":
            VoiceClient.place = after_post  # type: ignore[method-assign]


with DAG("whole_way", schedule=None, start_date=START, default_args=QUICK):
    deferred = VoiceCallOperator(
        task_id="deferred",
        destination="+6587650001",
        say="Hello of {{ dag.dag_id }}.",
        deferrable=True,
        poll_interval=1,
    )
    waiting = VoiceCallOperator(
        task_id="waiting", destination="+6587650002", say="Hello.", deferrable=False, poll_interval=1
    )
    enqueued = VoiceCallOperator(task_id="enqueued", destination="+6587650003", say="Hello.", wait_for=None)
    sensed_deferred = VoiceOutcomeSensor(
        task_id="sensed_deferred",
        job_id="{{ ti.xcom_pull(task_ids='enqueued')['id'] }}",
        deferrable=True,
        poke_interval=1,
    )
    sensed = VoiceOutcomeSensor(
        task_id="sensed",
        job_id="{{ ti.xcom_pull(task_ids='enqueued')['id'] }}",
        mode="reschedule",
        poke_interval=2,
        deferrable=False,
    )

    @task.branch
    def answered_or_not(call: Mapping[str, Any]) -> str:
        return "answered" if call["outcome"]["session_status"] == "COMPLETED" else "not_answered"

    @task
    def answered() -> None:
        """Somebody answered."""

    @task
    def not_answered() -> None:
        """Nobody answered."""

    answered_or_not(deferred.output) >> [answered(), not_answered()]
    enqueued >> [sensed_deferred, sensed]

with DAG("killed_after", schedule=None, start_date=START, default_args=QUICK):
    DyingCallOperator(
        task_id="deferred", dies="posted", destination="+6587650011", say="Hello.", deferrable=True, poll_interval=1
    )
    DyingCallOperator(
        task_id="waiting", dies="posted", destination="+6587650012", say="Hello.", deferrable=False, poll_interval=1
    )

with DAG("killed_before", schedule=None, start_date=START, default_args=QUICK):
    DyingCallOperator(
        task_id="handed_in", dies="handed_in", destination="+6587650013", say="Hello.", deferrable=True, poll_interval=1
    )
    DyingCallOperator(
        task_id="leased", dies="leased", destination="+6587650014", say="Hello.", deferrable=False, poll_interval=1
    )

with DAG("killed_unknowably", schedule=None, start_date=START, default_args={**QUICK, "retries": 1}):
    # Nothing has left, but the journal was written: only evidence or a person can settle the doubt.
    DyingCallOperator(
        task_id="call",
        dies="journaled",
        destination="+6587650015",
        say="Hello.",
        deferrable=True,
        poll_interval=1,
        doubt_timeout=timedelta(seconds=8),
    )

with DAG("cleared", schedule=None, start_date=START, default_args=QUICK):
    DyingCallOperator(
        task_id="again",
        dies="posted",
        destination="+6587650021",
        say="Hello.",
        deferrable=False,
        poll_interval=1,
        on_clear="call_again",
    )
    VoiceCallOperator(task_id="same", destination="+6587650022", say="Hello.", deferrable=False, poll_interval=1)

RETRIES = Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / "retries"
"""The file with the retries of a DAG that a test changes between two runs of its tasks."""

with DAG(
    "lowered",
    schedule=None,
    start_date=START,
    default_args={"retries": int(RETRIES.read_text()) if RETRIES.exists() else 3, "on_clear": "call_again"},
):
    VoiceCallOperator(task_id="one", destination="+6587650031", say="Hello.", poll_interval=1)
    VoiceCallOperator.partial(task_id="mapped", say="Hello.", poll_interval=1).expand(
        destination=["+6587650032", "+6587650033"]
    )

with DAG(
    "timed_out",
    schedule=None,
    start_date=START,
    default_args={"execution_timeout": timedelta(seconds=20), "deferrable": True},
):
    VoiceCallOperator(task_id="call", destination="+6587650051", say="Hello.", send="worker", poll_interval=1)
    VoiceCampaignOperator(
        task_id="people", rows=[{"destination": "+6587650052"}], say="Hello.", send="worker", poll_interval=1
    )
    VoiceCallOperator(task_id="ringing", destination="+6587650053", say="Hello.", poll_interval=1)
    unsent = VoiceCallOperator(
        task_id="unsent", destination="+6587650054", say="Hello.", send="worker", wait_for=None, poll_interval=1
    )
    unsent >> VoiceOutcomeSensor(
        task_id="sensor", job_id="{{ ti.xcom_pull(task_ids='unsent')['id'] }}", poke_interval=1
    )

STOPPED: dict[str, Any] = {"say": "Hello.", "send": "worker", "poll_interval": 1, "again": True}

with DAG("taken_over", schedule=None, start_date=START, default_args={**STOPPED, "deferrable": True}):
    VoiceCampaignOperator(task_id="people", rows=[{"destination": f"+658765006{place}"} for place in range(3)])
    VoiceCallOperator(task_id="call", destination="+6587650069")

MANY = [{"destination": f"+65877{place:05}"} for place in range(int(os.environ.get("VOICEFLOW_TEST_ROWS", "20000")))]

with DAG("stopped", schedule=None, start_date=START, default_args=STOPPED):
    VoiceCampaignOperator(task_id="deferred", rows=MANY[::2], batch="shared", deferrable=True)
    VoiceCampaignOperator(task_id="waiting", rows=MANY[1::2], batch="shared", deferrable=False)
    VoiceCampaignOperator(
        task_id="other", rows=[{"destination": "+6587650070"}], batch="shared", deferrable=True, wait_for=None
    )

with DAG("late", schedule=None, start_date=START, default_args={**STOPPED, "deferrable": True}):
    VoiceCallOperator(
        task_id="call",
        destination="+6587650071",
        wait_timeout=timedelta(seconds=5),
        valid_until="{{ dag_run.run_after + macros.timedelta(hours=10) }}",
    )
