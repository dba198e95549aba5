"""Records of a task's calls for later tries, in the store and in Airflow's task state (since 3.3).

The record in the store prevents second calls. If the store is lost, emptied or replaced, Airflow's task state still
shows that there was a call: the state survives a crash, a retry and a clear.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, InvalidInputError
from voiceflow_worker.core.ports.record_set import RecordSet, text_records

NAMESPACE = "airflow-tasks"
BAD_ENDS = "airflow-bad-ends"
KEPT_FOR = timedelta(days=400)
"""The lifetime of a record, which is the same as the lifetime of a unique key."""


def _batches(queue: CallQueue, identity: TaskIdentity) -> RecordSet[str]:
    return text_records(queue.store, NAMESPACE, keep_for=KEPT_FOR).within(f"{identity.scope()}/{identity.map_index}")


async def recorded_batches(queue: CallQueue, identity: TaskIdentity) -> list[str]:
    """Return the batches in which the tries of a campaign task have enqueued calls."""
    return [batch_id for batch_id, _ in await _batches(queue, identity).all()]


async def record_batch(queue: CallQueue, identity: TaskIdentity, batch_id: str) -> None:
    """Record a batch. A try does this before it enqueues calls, so that later tries find them all."""
    await _batches(queue, identity).put({batch_id: ""})


async def bad_ends(queue: CallQueue, identity: TaskIdentity, *, is_bad: bool, total: int) -> int:
    """Record whether the call of this instance of a mapped task ended badly, and count those of all its instances.

    Only instances below `total` count: a clear may have made their number smaller.
    """
    records = text_records(queue.store, BAD_ENDS, keep_for=KEPT_FOR).within(identity.scope())
    index = f"{identity.map_index}"
    # Recorded before the count, so that of several instances that end together, the last one counts all.
    await (records.put({index: ""}) if is_bad else records.remove([index]))
    return sum(int(each) < total for each, _ in await records.all())


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

    def save(self, state: Mapping[str, str | None]) -> None:
        """Save `{"job_id", "unique_key", "store"}` or `{"batch_id", "store"}`: what this task instance has enqueued."""
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
