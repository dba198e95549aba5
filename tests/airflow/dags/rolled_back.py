"""A DAG of the tests: a store is put back to a copy from just before the POST, and the task is tried again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator


def _copy_before_the_post_and_die_after_it(folder: Path, name: str, store: str) -> None:
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.client import VoiceClient

    run, post = Worker.run, VoiceClient.place

    async def copied(*args: Any, **kwargs: Any) -> Any:
        _copy(store, folder / name)
        return await run(*args, **kwargs)

    async def died(*args: Any, **kwargs: Any) -> Any:
        await post(*args, **kwargs)
        (folder / f"{name}.died").touch()
        os._exit(9)

    Worker.run = copied  # type: ignore[method-assign]
    VoiceClient.place = died  # type: ignore[method-assign]


def _copy(store: str, to: Path) -> None:
    if store.startswith("redis"):
        import pickle

        import redis

        with redis.Redis.from_url(store) as server:
            to.write_bytes(pickle.dumps({key: server.dump(key) for key in server.scan_iter()}))
    else:
        _copy_file(Path(store.removeprefix("sqlite:///")), to)


def _put_back(copy: Path, store: str) -> None:
    if store.startswith("redis"):
        import pickle

        import redis

        with redis.Redis.from_url(store) as server:
            server.flushall()
            for key, value in pickle.loads(copy.read_bytes()).items():
                server.restore(key, 0, value)
    else:
        _copy_file(copy, Path(store.removeprefix("sqlite:///")))


def _copy_file(source: Path, to: Path) -> None:
    # In a process of its own: this one has the file open, and would lose its locks with the first descriptor closed.
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", program, str(source), str(to)], check=True)


class SetBack:
    """An operator whose first try dies after its POST, and whose second finds the store as it was before the POST."""

    def execute(self, context: Any) -> Any:
        folder = Path(os.environ["VOICEFLOW_TEST_FOLDER"])
        name = f"{context['ti'].task_id}.copy"
        store = os.environ["VOICEFLOW_TEST_STORE_" + self.voiceflow_conn_id.upper()]  # type: ignore[attr-defined]
        if (folder / f"{name}.died").exists():
            _put_back(folder / name, store)
        else:
            _copy_before_the_post_and_die_after_it(folder, name, store)
        return super().execute(context)  # type: ignore[misc]


class SetBackCallOperator(SetBack, VoiceCallOperator):
    """One call."""


class SetBackCampaignOperator(SetBack, VoiceCampaignOperator):
    """A campaign."""


with DAG(
    "rolled_back",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
):
    for place, conn_id in enumerate(("on_sqlite", "on_redis")):
        SetBackCallOperator(
            task_id=f"call_{conn_id}",
            voiceflow_conn_id=conn_id,
            destination=f"+658765050{place}",
            say="Hello.",
            deferrable=False,
            poll_interval=1,
        )
    SetBackCampaignOperator(
        task_id="campaign",
        voiceflow_conn_id="campaign_on_sqlite",
        rows=[{"destination": "+6587650502"}],
        say="Hello.",
        deferrable=False,
        poll_interval=1,
    )
