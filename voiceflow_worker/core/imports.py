"""Imports of campaigns that have not ended: their calls are staged until the last one is stored.

The record of an import (`core.ports.controls.STARTS`) exists in each of its batches while it stores calls. It is a
condition of each of these calls, and of the end of the import: so an import that was continued, released or discarded
meanwhile stores nothing more. If its process dies, the record stays, and its calls stay staged. They ring only when the
import is continued, or by an order that names them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from voiceflow_worker.core.base.reading import calls_of_start, due_count
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import start_put
from voiceflow_worker.core.ports.store import Before, BulkWrite, Condition, Drop, Result, Same, Write
from voiceflow_worker.core.settling.changes import ROUNDS, Changes
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import rfc3339

PAGE = 500
"""The most staged calls that are discarded in one bulk write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """The conditions of new calls, and the import that they belong to: its `token`, and its records by batch."""

    conditions: tuple[Condition, ...] = ()
    token: str | None = None
    records: Mapping[str | None, Same] = field(default_factory=dict[str | None, Same])

    def required(self, batch_id: str | None) -> tuple[Condition, ...]:
        """The conditions of a new call of this batch: the record of the import exists there, too."""
        record = self.records.get(batch_id)
        return self.conditions if record is None else (*self.conditions, record)

    def lost(self, queue: str, failed: Condition | None) -> IntakeError:
        """The error of an enqueue that a condition has ended."""
        if (batch := next((each for each, record in self.records.items() if record == failed), None)) is not None:
            return IntakeError.taken_over(batch)
        return IntakeError.lost(queue, until=failed.until if isinstance(failed, Before) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedImport:
    """An import that has not ended, and the number of `calls` that it holds."""

    gate: Gate
    calls: int

    def as_json(self) -> dict[str, object]:
        """The import as JSON, for scripts."""
        return {"batch_id": self.gate.name, "calls": self.calls, "since": rfc3339(self.gate.since)}


def record_of(start: Gate) -> Same:
    """The condition that an import has not ended."""
    put = start_put(start)
    return Same(put.namespace, put.group, put.value, put.member)


def ending(starts: Collection[Gate], *, queue: str) -> Write:
    """The end of imports, under the condition that each of their records exists. Their calls may be leased then."""
    records = tuple(record_of(each) for each in starts)
    drops = tuple(Drop(each.namespace, each.group, each.value, each.member) for each in records)
    return Write(conditions=records, drops=drops, wakes=queue)


async def end_imports(store: Store, queue: str, starts: Collection[Gate]) -> bool:
    """Let the staged calls of these imports be sent, all in one write; False if one has ended or changed meanwhile.

    Raises StoreError.
    """
    if not starts:
        return True
    bulk = BulkWrite(writes=(ending(starts, queue=queue),))
    (answer,) = await store.write(bulk, now=store.clock.now())
    return answer.result is Result.DONE


async def staged_imports(store: Store, starts: Iterable[Gate]) -> list[StagedImport]:
    """These imports, the oldest first, with the number of their staged calls. Raises StoreError."""
    return [
        StagedImport(gate=each, calls=await due_count(store, each.queue, batch_id=each.name, start=each.start))
        for each in sorted(starts, key=lambda each: each.since)
    ]


async def discard_imports(store: Store, queue: str, starts: Sequence[Gate], *, reason: str, policy: CallPolicy) -> int:
    """End the staged calls of these imports as cancelled, in slices, then the imports; returns the number of calls.

    An import that still stores calls ends first: from then on it stores nothing more. After a kill in the middle, the
    rest stays staged, and the same order goes on. Raises StoreError.
    """
    changes, ended = Changes(store, policy), 0
    for start in starts:
        at = store.clock.now()
        left = replace(start, reason=reason, since=at)  # so that the import itself finds that its record is gone
        if not await _stage(store, [left], same=(record_of(start),)):
            continue  # it has ended, or somebody else discards it
        cancel = partial(lifecycle.cancel, at=at, reason=reason, policy=policy, kind=ReasonKind.REMOVED)
        for _ in range(ROUNDS):  # a call that somebody else has changed meanwhile is looked at again
            found = 0
            async with aclosing(calls_of_start(store, left, limit=PAGE)) as pages:
                async for page in pages:
                    found += len(page)
                    ended += await changes.change_all(page, cancel) if page else 0
            if not found:
                await end_imports(store, queue, [left])
                break
    return ended


async def _stage(store: Store, starts: Sequence[Gate], *, same: tuple[Same, ...] = ()) -> bool:
    """Store the records of these imports in one write; False if something is not the `same` any more."""
    puts = tuple(map(start_put, starts))
    write = Write(conditions=same, puts=puts)
    (answer,) = await store.write(BulkWrite(writes=(write,)), now=store.clock.now())
    return answer.result is Result.DONE
