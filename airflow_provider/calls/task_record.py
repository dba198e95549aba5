"""Records of a task's calls for its later tries: in the store, and in Airflow's task state (3.3).

The store prevents second calls. If it is lost, emptied or replaced, Airflow still knows that there was a call: its
task state survives a crash, a retry and a clear.
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
"""As long as a store keeps unique keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """The batches and the numbers of all tries of a task instance so far.

    `has_older_calls`: an older release, which identified a row by all of its columns, enqueued some of its calls.
    """

    batches: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    has_older_calls: bool = False

    def with_batch(self, batch_id: str) -> TaskRecord:
        """This record and a batch."""
        return replace(self, batches=tuple(dict.fromkeys((*self.batches, batch_id))))

    def with_number(self, number: str) -> TaskRecord:
        """This record and a number."""
        return replace(self, numbers=tuple(dict.fromkeys((*self.numbers, number))))


async def load_record(queue: CallQueue, identity: TaskIdentity) -> TaskRecord | None:
    """The record of earlier tries; None if there is none."""
    key = _key(identity)
    found = await queue.store.records.get(NAMESPACE, [key], now=queue.store.clock.now())
    if key not in found:
        return None
    saved = json.loads(found[key])
    return TaskRecord(
        batches=tuple(saved.get("batches", ())),
        numbers=tuple(saved.get("numbers", ())),
        has_older_calls=bool(saved.get("has_older_calls")),
    )


async def save_record(queue: CallQueue, identity: TaskIdentity, record: TaskRecord) -> None:
    """Save the record: before any call is enqueued, so that a killed try has saved it."""
    now = queue.store.clock.now()
    saved = {"batches": record.batches, "numbers": record.numbers, "has_older_calls": record.has_older_calls}
    await queue.store.records.put(NAMESPACE, {_key(identity): json.dumps(saved)}, expires_at=now + KEPT_FOR, now=now)


def _key(identity: TaskIdentity) -> str:
    return f"{identity.scope()}/{identity.map_index}"


log = logging.getLogger(__name__)

KEY = "voiceflow_calls"


class AirflowTaskState:
    """The task state of one task instance; empty before Airflow 3.3."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state = context.get("task_state_store")

    def load(self) -> Mapping[str, Any] | None:
        """The state that an earlier try saved, `{"job_id" or "batch_id", "store"}`; None if there is none."""
        if self._state is None:
            return None
        try:
            saved = self._state.get(KEY)
        except Exception:  # noqa: BLE001 - an unreadable state must not keep the store from being asked
            log.warning("Airflow's task state cannot be read; only the store is asked for earlier calls")
            return None
        return cast("Mapping[str, Any]", saved) if isinstance(saved, Mapping) else None

    def save(self, state: Mapping[str, str]) -> None:
        """Save the call or batch that this task instance has enqueued."""
        if self._state is None or self.load() == state:
            return
        try:
            self._state.set(KEY, dict(state), retention=KEPT_FOR)
        except Exception:  # noqa: BLE001 - the store prevents second calls; this is a second record
            log.warning("Airflow's task state cannot be written; only the store knows of %s", state)


def refuse_unknown_calls(saved: Mapping[str, Any] | None, *, store: str) -> None:
    """Raise InvalidInputError if Airflow has `saved` a call; for a store that does not know it."""
    if saved is None:
        return
    what = f"call {saved['job_id']}" if "job_id" in saved else f"batch {saved.get('batch_id')}"
    raise InvalidInputError(
        f"an earlier try of this task enqueued {what} in the store {saved.get('store')}, and the store {store} does "
        "not know it: it was emptied, restored from an older copy, or the connection now names another. Calling now "
        "could call a person twice, so nothing was sent. Bring that store back and clear this task; or, if your 8x8 "
        "account shows that nobody was called, run the DAG anew"
    )
