"""DAGs of the tests: campaigns and mapped calls whose lists change between tries, and whose tries are killed."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator

START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow reads it as UTC)
TRIED: dict[str, Any] = {"retries": 20, "retry_delay": timedelta(seconds=1)}


def _file(name: str) -> Path:
    return Path(os.environ["VOICEFLOW_TEST_FOLDER"]) / name


def listed(run_id: str) -> list[Any]:
    """The rows of a run; each try reads them again."""
    found: list[Any] = json.loads(_file(f"{run_id}.list").read_text(encoding="utf-8"))
    return found


class WatchedCampaignOperator(VoiceCampaignOperator):
    """A campaign operator that writes down the process of each try, and what it enqueued when."""

    def execute(self, context: Any) -> Any:
        _file(f"{context['run_id']}.pid").write_text(str(os.getpid()), encoding="utf-8")
        return super().execute(context)

    def _started(self, context: Any) -> Any:
        self._tell(context, "begins")
        started = super()._started(context)
        self._tell(context, "has enqueued")
        return started

    def _tell(self, context: Any, what: str) -> None:
        note = {"at": time.time(), "what": what, "numbers": [row["destination"] for row in self.rows]}
        with _file(f"{context['run_id']}.tries").open("a", encoding="utf-8") as tries:
            tries.write(f"{json.dumps(note)}\n")


def campaign(**options: Any) -> VoiceCampaignOperator:
    """A campaign in a batch that is the same for all runs."""
    return WatchedCampaignOperator(
        task_id="call",
        rows="{{ listed(run_id) }}",
        say="Hello {{ name }}.",
        country="SG",
        batch="hostile",
        deferrable=False,
        poll_interval=1,
        doubt_timeout=timedelta(seconds=3),
        **options,
    )


NATIVE: dict[str, Any] = {"render_template_as_native_obj": True, "user_defined_macros": {"listed": listed}}

with DAG("hostile", schedule=None, start_date=START, default_args=TRIED, max_active_runs=8, **NATIVE):
    campaign()

with DAG("hostile_once", schedule=None, start_date=START, max_active_runs=8, **NATIVE):
    campaign()

with DAG("hostile_mapped", schedule=None, start_date=START, default_args=TRIED):

    @task
    def numbers(run_id: str | None = None) -> list[str]:
        """The numbers to call."""
        return listed(str(run_id))

    VoiceCallOperator.partial(task_id="call", say="Hello.", deferrable=True, poll_interval=1).expand(
        destination=numbers()
    )

with DAG("hostile_running", schedule=None, start_date=START, default_args=TRIED):

    @task.sensor(poke_interval=2, mode="reschedule")
    def be_busy(run_id: str | None = None) -> bool:
        """Keep the run running until its file says that it may end."""
        return _file(f"{run_id}.end").exists()

    be_busy()

    @task(task_id="numbers")
    def running_numbers(run_id: str | None = None) -> list[str]:
        """The numbers to call."""
        return listed(str(run_id))

    VoiceCallOperator.partial(task_id="call", say="Hello.", deferrable=True, poll_interval=1).expand(
        destination=running_numbers()
    )
