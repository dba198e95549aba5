"""A record in the store for the later tries of a task instance: the batches and numbers that it has used."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue

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
