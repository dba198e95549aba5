"""DAGs of the tests: each number of one DAG begins alike, and the last two digits are those of the task."""

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
        died = Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / f"{context['ti'].task_id}.died"
        if not died.exists():
            _die(self.dies, died)
        return super().execute(context)


def _die(place: str, died: Path) -> None:
    """Arrange that this process ends at this place, and leave a mark that it did."""
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient

    owner, name = {"enqueued": (Worker, "drain"), "posted": (VoiceClient, "place")}[place]
    work = getattr(owner, name)

    async def dies(*args: Any, **kwargs: Any) -> None:
        if place == "posted":
            await work(*args, **kwargs)
        died.touch()  # noqa: ASYNC240 - the last act of its process
        os._exit(9)

    setattr(owner, name, dies)


def dag(name: str, **options: Any) -> DAG:
    """A DAG whose `options` are those of its tasks."""
    return DAG(name, schedule=None, start_date=START, default_args={"poll_interval": 1, **options})


with dag("whole_way", **QUICK):
    asked = VoiceCallOperator(
        task_id="ask", destination="+6587650001", deferrable=True,
        ask="42 invoices. Send them?", keys={"1": "approved", "2": "rejected"},
    )  # fmt: skip
    enqueued = VoiceCallOperator(task_id="enqueue", destination="+6587650002", say="Hello.", wait_for=None)
    job_id = "{{ ti.xcom_pull(task_ids='enqueue')['id'] }}"
    deferred = VoiceOutcomeSensor(task_id="sense_deferred", job_id=job_id, deferrable=True, poke_interval=1)
    looked = VoiceOutcomeSensor(task_id="sense", job_id=job_id, mode="reschedule", poke_interval=2, deferrable=False)

    @task.branch
    def choose(call: Mapping[str, Any]) -> str:
        return "send" if call["answer"] == "approved" else "keep"

    @task
    def send() -> None:
        """Send the invoices."""

    @task
    def keep() -> None:
        """Keep them."""

    choose(asked.output) >> [send(), keep()]
    enqueued >> [deferred, looked]

with dag("killed", say="Hello.", **QUICK):
    for place, (dies, defers) in enumerate((("posted", True), ("posted", False), ("enqueued", True))):
        DyingCallOperator(task_id=f"call{place}", destination=f"+658765001{place}", dies=dies, deferrable=defers)

with dag("stopped", send="worker", say="Hello."):
    for place, defers in enumerate((True, False)):
        VoiceCallOperator(task_id=f"call{place}", destination=f"+658765002{place}", deferrable=defers)
        rows = [{"destination": f"+658765003{place}"}, {"destination": f"+658765004{place}"}]
        VoiceCampaignOperator(task_id=f"people{place}", rows=rows, deferrable=defers)

with dag("timed", send="worker", say="Hello.", execution_timeout=timedelta(seconds=15)):
    VoiceCallOperator(task_id="call", destination="+6587650051", deferrable=True)

for name, lateness in (("daily", None), ("daily_in_time", timedelta(hours=24))):
    with DAG(name, schedule="@daily", start_date=START, end_date=START + timedelta(days=9), catchup=False):
        VoiceCallOperator(
            task_id="call",
            destination=f"+65876500{7 if lateness else 8}{{{{ logical_date.day }}}}",
            say="Hello.",
            deferrable=True,
            poll_interval=1,
            max_lateness=lateness,
        )

MANY = int(os.environ.get("VOICEFLOW_TEST_CALLS", "50"))

with dag("many", say="Hello.", retries=8, retry_delay=timedelta(seconds=1)):
    ways: tuple[dict[str, Any], ...] = ({"deferrable": True}, {"deferrable": True, "send": "worker"}, {})
    for place, options in enumerate(ways):
        VoiceCallOperator.partial(task_id=f"call{place}", **options).expand(
            destination=[f"+658{place}{number:06d}" for number in range(MANY)]
        )
