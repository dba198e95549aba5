"""Tasks without Airflow's database: their surroundings, their contexts, and what the ledger says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import anyio
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.hooks.voice import VoiceFlowHook
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.support.stage import Stage, stage
from voiceflow_worker import CallQueue, Job, Worker, open_store

T = TypeVar("T")

API_KEY = "the-api-key-of-the-tests"
USUAL: dict[str, Any] = {"task_id": "t", "deferrable": False, "poll_interval": 0.2}
STORED: dict[str, Any] = {"send": "worker", "wait_for": None}
_numbers = iter(f"+65876{place}" for place in range(10_000, 60_000))


def context(
    task_id: str = "t", *, run: str = "run", map_index: int = -1, tried: int = 1, age: float = 0, **more: object
) -> dict[str, Any]:
    """The context of one try of one task instance, of a run that was due `age` hours ago."""
    run_after = datetime.now(UTC) - timedelta(hours=age)
    ti = SimpleNamespace(
        dag_id="dag", run_id=run, task_id=task_id, map_index=map_index, try_number=tried, start_date=datetime.now(UTC),
    )  # fmt: skip
    dag_run = SimpleNamespace(dag_id="dag", run_after=run_after, clear_number=0)
    return {"ti": ti, "run_id": run, "dag_run": dag_run, **more}


def number(on: Stage, **script: Any) -> str:
    """A number that no other test calls, and whose calls end as the script says."""
    found = next(_numbers)
    on.order("script", {"destination": found, "outcome": "COMPLETED", **script})
    return found


@contextmanager
def surroundings(folder: Path, *, speed: float = 100) -> Iterator[Stage]:
    """A stage whose store, sandbox and receiver the connection `voiceflow_default` names."""
    with stage(folder, speed=speed) as on, pytest.MonkeyPatch.context() as patched:
        connect(patched, on)
        yield on


def in_queue(on: Stage, act: Callable[[CallQueue], Awaitable[T]]) -> T:
    """Do something with the queue of the stage, at once: a command takes a second to start."""

    async def done() -> T:
        async with open_store(on.store) as store:
            return await act(CallQueue(store))

    return asyncio.run(done())


def jobs_to(on: Stage, number: str) -> Sequence[Job]:
    """The calls to a number, oldest first."""
    return in_queue(on, lambda queue: queue.find(destination=number, limit=None))


def drain(on: Stage, *, within: float = 60.0) -> None:
    """Send what is due, as `voiceflow worker --drain` does, for at most so many seconds."""

    async def drained(queue: CallQueue) -> None:
        async with VoiceFlowHook().get_conn() as voice:
            with anyio.move_on_after(within):
                await Worker(queue.store, voice, rate=None).drain()

    in_queue(on, drained)


def connection(sandbox: str, *, password: str = API_KEY, **extra: object) -> str:
    """A connection, as Airflow's environment has it."""
    usual = {"sub_account": "tests", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    quick = {"rate": "unlimited", "lease": "3s", "window": "any"}
    given = {"conn_type": "voiceflow", "host": sandbox, "password": password, "extra": {**usual, **quick, **extra}}
    return json.dumps(given)


def connect(patched: pytest.MonkeyPatch, on: Stage, **extra: Any) -> None:
    """Set the connection `voiceflow_default` to this stage."""
    patched.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", connection(on.sandbox, **{"store": on.store, **extra}))


def call(to: Any, **options: Any) -> VoiceCallOperator:
    """A task of one call."""
    return VoiceCallOperator(
        **{**USUAL, "destination": to, **({} if "ask" in options else {"say": "Hello."}), **options}
    )


def campaign(rows: Any, **options: Any) -> VoiceCampaignOperator:
    """A task of many calls."""
    return VoiceCampaignOperator(**{**USUAL, "rows": rows, "say": "Hello {{ name }}.", **options})


def row(number: str, name: str = "Ann", **more: object) -> dict[str, Any]:
    """A row of a list."""
    return {"destination": number, "name": name, **more}


def rings(on: Stage, *numbers: str) -> list[int]:
    """How many POSTs came for each of the numbers."""
    called = [entry["destination"] for entry in on.ledger()]
    return [called.count(number) for number in numbers]


def refused(said: str = "", *, is_final: bool = True) -> Any:
    """The block ends with a failure that says this: a final one, or one that Airflow tries again."""

    def is_so(error: BaseException) -> bool:
        return isinstance(error, AirflowFailException) is is_final

    return pytest.RaisesExc(AirflowException, match=f"(?s){said}", check=is_so)


def deferred(task: Any, here: dict[str, Any]) -> Any:
    """The trigger of a task that waits."""
    with pytest.raises(TaskDeferred) as raised:
        task.execute(here)
    return raised.value.trigger


def event_of(trigger: Any, *, within: float = 60) -> Any:
    """What a copy of the trigger says when it fires. Raises TimeoutError."""

    async def fired() -> Any:
        copy = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
        return (await asyncio.wait_for(anext(copy.run()), within)).payload

    return asyncio.run(fired())


def stop(task: Any) -> None:
    """Stop a task in its process, or its trigger in the triggerer, as Airflow does."""
    found = task.on_kill()
    if found is not None:
        asyncio.run(found)
