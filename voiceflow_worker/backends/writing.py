"""The rules of `write` (`core/ports/store.py`) for stores whose rules run in Python: those in memory and in SQLite.

The stores differ in how they read and write a record, a job, an event. What a write requires, and what its answer is,
is here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

from voiceflow_worker.core.ports.controls import LIMITS, limits_from
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Condition,
    Delete,
    Insert,
    Owner,
    Put,
    Record,
    Replace,
    Result,
    Same,
    Slot,
    Write,
    WriteResult,
    is_owned_by,
)
from voiceflow_worker.model.jobs.gcra import Pace, SendSlot
from voiceflow_worker.model.jobs.job import Job

DONE = WriteResult(result=Result.DONE)
_NOT_VERIFIED = WriteResult(result=Result.NOT_VERIFIED)
_NEVER = datetime.max.replace(tzinfo=UTC)

At = TypeVar("At")
"""A time, as the store has it."""
OwnValues = Mapping[tuple[str, str, str], Sequence[str]]
"""What the puts of a write store, in their order, by namespace, group and member."""


def own_values(puts: Iterable[Put]) -> OwnValues:
    """Return what these puts store. A write may have as many conditions as puts: each finds its own by its key."""
    own = defaultdict[tuple[str, str, str], list[str]](list)
    for put in puts:
        own[put.namespace, put.group, put.member].append(put.value)
    return own


class Writing(ABC, Generic[At]):
    """The check and the writing of writes."""

    server: str = ""

    def refused(self, bulk: BulkWrite, at: At) -> list[WriteResult] | None:
        """Return the answers to a bulk write whose guard fails; None for another."""
        if self._is_verified(bulk, at):
            return None
        return [
            DONE if self._was_written(write, self._revisions_of(write), at) else _NOT_VERIFIED for write in bulk.writes
        ]

    def _is_verified(self, bulk: BulkWrite, at: At) -> bool:
        if bulk.guard is None:
            return True
        own = own_values(put for write in bulk.writes for put in write.puts)
        return bulk.guard.server == self.server and self._failed_by(bulk.guard.known, own, at) is None

    def answer(self, write: Write, at: At) -> WriteResult:
        """Check all of a write, then write all of it."""
        revisions = self._revisions_of(write)
        if self._was_written(write, revisions, at):
            return DONE
        refusal = self._refused_changes(write, revisions, at) or self._refused_condition(write, at)
        if refusal is not None:
            return refusal
        slot = None if write.slot is None else self._allot(write.slot, at)
        if slot is not None and slot.at is None:
            return WriteResult(result=Result.NO_SLOT, slot=slot)
        self.store(write, at)
        return DONE if slot is None else WriteResult(result=Result.DONE, slot=slot)

    def _revisions_of(self, write: Write) -> Sequence[str | None]:
        return [self.revision(change.job.id) for change in write.changes]

    def _was_written(self, write: Write, revisions: Sequence[str | None], at: At) -> bool:
        """Return True if an earlier try has written the write. `revisions` are those of its jobs now."""
        if not write.changes:
            own = own_values(write.puts)
            return any(self._was_swapped(each, own, at) for each in write.conditions if isinstance(each, Same))
        are_gone = True
        for change, revision in zip(write.changes, revisions, strict=True):
            match change:
                case Insert() if revision is not None:
                    return True
                case Replace(_, Job(revision=new)) if revision == new:
                    return True
                case Delete() if revision is None:
                    pass
                case _:
                    are_gone = False
        return are_gone

    def _was_swapped(self, swap: Same, own: OwnValues, at: At) -> bool:
        """Return True if a put of a write is stored where it was to replace another value."""
        ours = own.get((swap.namespace, swap.group, swap.member), ())
        record = self.record(swap.namespace, swap.group, at, swap.member) if ours else None
        return record is not None and ours[-1] == record.value != swap.value

    def _refused_changes(self, write: Write, revisions: Sequence[str | None], at: At) -> WriteResult | None:
        owners: dict[str, Owner] = {}
        for change, revision in zip(write.changes, revisions, strict=True):
            job = change.job
            if isinstance(change, Insert):
                if job.unique_key is not None and (owner := self.owner(job.unique_key, at)) is not None:
                    owners[job.id] = owner
            elif revision != (change.revision if isinstance(change, Replace) else job.revision):
                return WriteResult(result=Result.STALE)
        return WriteResult(result=Result.EXISTS, owners=owners) if owners else None

    def _refused_condition(self, write: Write, at: At) -> WriteResult | None:
        own = own_values(write.puts)
        for condition in write.conditions:
            failed = self._failed_by(condition, own, at)
            if failed is not None:
                return WriteResult(result=Result.NOT_FREE, condition=condition, record=failed[0])
        return None

    def _failed_by(self, condition: Condition, own: OwnValues, at: At) -> tuple[Record | None] | None:
        """Return the record by which a condition fails; None if it holds."""
        match condition:
            case AtMost(namespace, groups, most, owner):
                for group in groups:
                    counted = [each for each in self.group(namespace, group, at) if not is_owned_by(each.value, owner)]
                    if len(counted) > most:
                        return (sorted(counted, key=lambda each: each.ends_at or _NEVER)[len(counted) - most - 1],)
                return None
            case Same(namespace, group, value, member, owner):
                held = self.record(namespace, group, at, member)
                has = None if held is None else held.value
                if has == value:
                    return None
                ours = own.get((namespace, group, member), ())
                return None if has in ours or is_owned_by(has or "", owner) else (held,)

    def _allot(self, slot: Slot, at: At) -> SendSlot:
        limits = limits_from(self.record(LIMITS, slot.queue, at))
        if limits.rate is None:
            return SendSlot(slot.after, slot.after)
        pace = self.pace(slot.queue)
        after, found = pace.allot(rate=limits.rate, burst=limits.burst, after=slot.after, until=slot.until)
        if after != pace:
            self.set_pace(slot.queue, after)
        return found

    # --- what a store reads and writes ---

    @abstractmethod
    def record(self, namespace: str, group: str, at: At, member: str = "") -> Record | None: ...

    @abstractmethod
    def group(self, namespace: str, group: str, at: At) -> Sequence[Record]:
        """Return the current records of a group, in the order of their members."""

    @abstractmethod
    def revision(self, job_id: str) -> str | None: ...

    @abstractmethod
    def owner(self, key: str, at: At) -> Owner | None:
        """Return the head of the job that owns a unique key, or of its tombstone."""

    @abstractmethod
    def pace(self, queue: str) -> Pace: ...

    @abstractmethod
    def set_pace(self, queue: str, pace: Pace) -> None: ...

    @abstractmethod
    def store(self, write: Write, at: At) -> None:
        """Write all parts of a write, which was checked."""
