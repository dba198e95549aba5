"""A task's surroundings without Airflow's database: a connection, a context, a sandbox with a receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from airflow_provider.hooks.voice import VoiceFlowHook
from tests.support.engine import Engine
from tests.support.stage import Stage, stage
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, Job, SessionStatus, Worker, open_store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.model.copying import replace

T = TypeVar("T")

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


def in_queue(on: Stage, act: Callable[[CallQueue], Awaitable[T]], *, name: str = "default") -> T:
    """Do something with a queue of the stage, at once: a command takes a second to start."""

    async def done() -> T:
        async with open_store(on.store) as store:
            return await act(CallQueue(store, name))

    return asyncio.run(done())


def jobs_to(on: Stage, number: str) -> Sequence[Job]:
    """The calls to a number, oldest first."""
    return in_queue(on, lambda queue: queue.find(destination=number, limit=None))


def change(on: Stage, number: str, **fields: Any) -> None:
    """Change the call to a number, as if time had passed."""
    (job,) = jobs_to(on, number)
    in_queue(on, lambda queue: Changes(queue.store, CallPolicy()).change(job.id, lambda job: replace(job, **fields)))


def drain(on: Stage) -> None:
    """Send what is due, as `voiceflow worker --drain` does."""

    async def drained(queue: CallQueue) -> None:
        async with VoiceFlowHook().get_client() as voice:
            await Worker(queue.store, voice, queue=queue.name, rate=None).drain()

    in_queue(on, drained)


LASTING: dict[str, Any] = {"outcome": "COMPLETED", "drop": True}
"""The script of a call that has not ended for the store until a test calls `end_call`, however slow the test is."""


def end_call(on: Stage, number: str, status: SessionStatus = SessionStatus.COMPLETED) -> None:
    """Report the end of a `LASTING` call."""
    (job,) = jobs_to(on, number)
    in_queue(on, lambda queue: Engine(queue.store, ScriptedVoice()).summarise(job, status))


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
