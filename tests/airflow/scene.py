"""A task's surroundings without Airflow's database: a connection, a context, a sandbox with a receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.stage import Stage, stage

API_KEY = "the-api-key-of-the-tests"


class TaskState:
    """Airflow's task state store (3.3), in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, *, retention: object = None) -> None:  # noqa: ARG002 (Airflow's)
        self.kept[key] = value


def context(
    task_id: str = "t", *, run: str = "run", map_index: int = -1, max_tries: int = 0, **more: object
) -> dict[str, Any]:
    """The context of one try of one task instance."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="dag",
        run_id=run,
        task_id=task_id,
        map_index=map_index,
        max_tries=max_tries,
        try_number=1,
        pushed=pushed,
        xcom_push=lambda *, key, value: pushed.__setitem__(key, value),
    )
    return {"ti": ti, **more}


@contextmanager
def surroundings(folder: Path, *, speed: float = 100) -> Iterator[Stage]:
    """A stage whose store, sandbox and receiver the connection `voiceflow_default` names."""
    with stage(folder, speed=speed) as on, pytest.MonkeyPatch.context() as patched:
        connect(patched, on)
        yield on


def connect(patched: pytest.MonkeyPatch, on: Stage, *, password: str = API_KEY, **extra: object) -> None:
    """Set the connection `voiceflow_default` to this stage."""
    connection: Mapping[str, Any] = {
        "conn_type": "voiceflow",
        "host": on.sandbox,
        "password": password,
        "extra": {
            "sub_account": "tests",
            "store": on.store,
            "source": "+6531234567",
            "voice_profile": "en-IE-EmilyNeural",
            "rate": "unlimited",
            "lease": "3s",
            **extra,
        },
    }
    patched.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", json.dumps(connection))
