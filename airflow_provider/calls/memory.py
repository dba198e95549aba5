"""What a task instance leaves in the store for its later tries, beside its calls: in which batches they are."""

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
class Memory:
    """The batches and the numbers that the tries of a task instance have named so far.

    `has_older_calls`: some of its calls were handed in by an older release, which knew a row by all of its columns.
    """

    batches: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    has_older_calls: bool = False

    def with_batch(self, batch_id: str) -> Memory:
        """The same, and this batch."""
        return replace(self, batches=tuple(dict.fromkeys((*self.batches, batch_id))))

    def with_number(self, number: str) -> Memory:
        """The same, and this number."""
        return replace(self, numbers=tuple(dict.fromkeys((*self.numbers, number))))


async def recall(queue: CallQueue, identity: TaskIdentity) -> Memory | None:
    """What earlier tries left; None for nothing."""
    place = _place(identity)
    found = await queue.store.records.get(NAMESPACE, [place], now=queue.store.clock.now())
    if place not in found:
        return None
    told = json.loads(found[place])
    return Memory(
        batches=tuple(told.get("batches", ())),
        numbers=tuple(told.get("numbers", ())),
        has_older_calls=bool(told.get("has_older_calls")),
    )


async def remember(queue: CallQueue, identity: TaskIdentity, memory: Memory) -> None:
    """Leave this for later tries: before anything is handed in, so that a killed try has left it."""
    now = queue.store.clock.now()
    told = json.dumps({"batches": memory.batches, "numbers": memory.numbers, "has_older_calls": memory.has_older_calls})
    await queue.store.records.put(NAMESPACE, {_place(identity): told}, expires_at=now + KEPT_FOR, now=now)


def _place(identity: TaskIdentity) -> str:
    return f"{identity.scope()}/{identity.map_index}"
