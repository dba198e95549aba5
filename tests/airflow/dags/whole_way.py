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

    owner, name = {
        "handed_in": (Worker, "run"),
        "leased": (Journal, "begin"),
        "journaled": (VoiceClient, "place"),
        "posted": (VoiceClient, "place"),
    }[place]
    work = getattr(owner, name)

    def die() -> None:
        died.touch()
        os._exit(9)

    async def dies(*args: Any, **kwargs: Any) -> None:
        if place == "journaled":
            await kwargs["before_first_byte"]()  # else it is known that nothing has left
        if place == "posted":
            await work(*args, **kwargs)
        die()

    setattr(owner, name, dies)


def dag(name: str, **options: Any) -> DAG:
    """A DAG of the tests, whose `options` are those of its tasks."""
    return DAG(name, schedule=None, start_date=START, default_args={"say": "Hello.", "poll_interval": 1, **options})


def call(task_id: str, number: str, *, dies: str | None = None, **options: Any) -> VoiceCallOperator:
    """A task of one call, whose process dies once, if it does."""
    if dies is None:
        return VoiceCallOperator(task_id=task_id, destination=f"+65876500{number}", **options)
    return DyingCallOperator(task_id=task_id, destination=f"+65876500{number}", dies=dies, **options)


with dag("whole_way", **QUICK):
    deferred = call("deferred", "01", say="Hello of {{ dag.dag_id }}.", deferrable=True)
    call("waiting", "02", deferrable=False)
    enqueued = call("enqueued", "03", wait_for=None)
    job_id = "{{ ti.xcom_pull(task_ids='enqueued')['id'] }}"
    sensed = VoiceOutcomeSensor(task_id="sensed_deferred", job_id=job_id, deferrable=True, poke_interval=1)
    looked = VoiceOutcomeSensor(task_id="sensed", job_id=job_id, mode="reschedule", poke_interval=2, deferrable=False)

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
    enqueued >> [sensed, looked]

with dag("killed", **QUICK):
    call("deferred", "11", dies="posted", deferrable=True)
    call("waiting", "12", dies="posted", deferrable=False)
    call("handed_in", "13", dies="handed_in", deferrable=True)
    call("leased", "14", dies="leased", deferrable=False)

with dag("killed_unknowably", **{**QUICK, "retries": 1}):
    # Nothing has left, but the journal was written: only evidence or a person can settle the doubt.
    call("call", "15", dies="journaled", deferrable=True, doubt_timeout=timedelta(seconds=8))

RETRIES = Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / "retries"
"""The file with the retries of a DAG that a test changes between two runs of its tasks."""

with dag("cleared", **{**QUICK, "retries": int(RETRIES.read_text()) if RETRIES.exists() else 3}, on_clear="call_again"):
    call("again", "21", dies="posted", deferrable=False)
    call("same", "22", deferrable=False, on_clear="same_call")
    VoiceCallOperator.partial(task_id="mapped").expand(destination=["+6587650023", "+6587650024"])

with dag("timed_out", execution_timeout=timedelta(seconds=20), deferrable=True):
    call("call", "51", send="worker")
    VoiceCampaignOperator(task_id="people", rows=[{"destination": "+6587650052"}], send="worker")
    call("ringing", "53")
    unsent = call("unsent", "54", send="worker", wait_for=None)
    unsent >> VoiceOutcomeSensor(
        task_id="sensor", job_id="{{ ti.xcom_pull(task_ids='unsent')['id'] }}", poke_interval=1
    )

STOPPED: dict[str, Any] = {"send": "worker", "again": True}

with dag("taken_over", **STOPPED, deferrable=True):
    VoiceCampaignOperator(task_id="people", rows=[{"destination": f"+658765006{place}"} for place in range(3)])
    call("call", "69")

MANY = [{"destination": f"+65877{place:05}"} for place in range(int(os.environ.get("VOICEFLOW_TEST_ROWS", "20000")))]

with dag("stopped", **STOPPED, batch="shared"):
    VoiceCampaignOperator(task_id="deferred", rows=MANY[::2], deferrable=True)
    VoiceCampaignOperator(task_id="waiting", rows=MANY[1::2], deferrable=False)
    VoiceCampaignOperator(task_id="other", rows=[{"destination": "+6587650070"}], deferrable=True, wait_for=None)

with dag("held", send="worker", batch="held"):
    for place, wait in enumerate((True, False)):
        people = {"task_id": f"people{place}", "rows": [{"destination": f"+658765009{place}"}], "deferrable": wait}
        VoiceCampaignOperator(**people, again="cancelled" if wait else False)
        call(f"call{place}", f"9{place + 2}", deferrable=wait)

with dag("hello", retries=2):
    call("call", "81", deferrable=True, voiceflow_conn_id="voiceflow_added")
