"""Records of a task's calls for later tries, in the store and in Airflow's task state (since 3.3).

The record in the store prevents second calls. If the store is lost, emptied or replaced, Airflow's task state still
shows that there was a call: the state survives a crash, a retry and a clear.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, InvalidInputError

NAMESPACE = "airflow-tasks"
KEPT_FOR = timedelta(days=400)
"""The lifetime of a record, which is the same as the lifetime of a unique key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """The batches and numbers that the tries of a task instance have used so far."""

    batches: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def with_batch(self, batch_id: str) -> TaskRecord:
        """Return this record with a batch added."""
        return replace(self, batches=tuple(dict.fromkeys((*self.batches, batch_id))))

    def with_number(self, number: str) -> TaskRecord:
        """Return this record with a number added."""
        return replace(self, numbers=tuple(dict.fromkeys((*self.numbers, number))))


async def load_record(queue: CallQueue, identity: TaskIdentity) -> TaskRecord | None:
    """Return the record of earlier tries, or None if there is none."""
    key = _key(identity)
    found = await queue.store.records.get(NAMESPACE, [key], now=queue.store.clock.now())
    if key not in found:
        return None
    saved = json.loads(found[key])
    return TaskRecord(batches=tuple(saved["batches"]), numbers=tuple(saved["numbers"]))


async def save_record(queue: CallQueue, identity: TaskIdentity, record: TaskRecord) -> None:
    """Save the record in the store. A task does this before it enqueues calls, so that later tries find them all."""
    now = queue.store.clock.now()
    saved = {"batches": record.batches, "numbers": record.numbers}
    await queue.store.records.put(NAMESPACE, {_key(identity): json.dumps(saved)}, expires_at=now + KEPT_FOR, now=now)


def _key(identity: TaskIdentity) -> str:
    return f"{identity.scope()}/{identity.map_index}"


log = logging.getLogger(__name__)

KEY = "voiceflow_calls"


class AirflowTaskState:
    """Airflow's task state of one task instance. It is always empty before Airflow 3.3."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state = context.get("task_state_store")

    def load(self) -> Mapping[str, Any] | None:
        """Return the state that an earlier try saved (see `save`), or None if there is none or it cannot be read."""
        if self._state is None:
            return None
        try:
            saved = self._state.get(KEY)
        except Exception:  # noqa: BLE001 - the record in the store is still read
            log.warning("Airflow's task state cannot be read; earlier calls are looked up only in the store")
            return None
        return cast("Mapping[str, Any]", saved) if isinstance(saved, Mapping) else None

    def save(self, state: Mapping[str, str]) -> None:
        """Save `{"job_id", "store"}` or `{"batch_id", "store"}`, which name what this task instance has enqueued."""
        if self._state is None or self.load() == state:
            return
        try:
            self._state.set(KEY, dict(state), retention=KEPT_FOR)
        except Exception:  # noqa: BLE001 - the record in the store prevents second calls
            log.warning("Airflow's task state cannot be written; only the store has a record of %s", state)


def refuse_unknown_calls(saved: Mapping[str, Any] | None, *, store: str) -> None:
    """Raise InvalidInputError if Airflow's task state (`saved`) names a call, although the store has none."""
    if saved is None:
        return
    what = f"call {saved['job_id']}" if "job_id" in saved else f"batch {saved.get('batch_id')}"
    raise InvalidInputError(
        f"an earlier try of this task enqueued {what} in the store {saved.get('store')}, but the store {store} does "
        "not have it. The store was emptied or restored from an older copy, or the connection now names another store. "
        "Nothing was sent, because a person might be called a second time. Restore the earlier store and clear this "
        "task. If your 8x8 account shows that nobody was called, start a new run of the DAG instead"
    )
