"""The rules of `write` (`core/ports/store.py`) for stores whose rules run in Python: those in memory and in SQLite.

The stores differ in how they read and write a record, a job, an event. What a write requires, and what its answer is,
stands here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

from voiceflow_worker.core.ports.controls import LIMITS, limits_from
from voiceflow_worker.core.ports.store import (
    CLOSED,
    CLOSED_KEY,
    AtMost,
    Before,
    BulkWrite,
    Condition,
    Delete,
    Handover,
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
    passes_closed,
    refuses_all,
)
from voiceflow_worker.errors import StoreClosedError
from voiceflow_worker.model.jobs.gcra import Pace, SendSlot
from voiceflow_worker.model.jobs.job import Job

DONE = WriteResult(result=Result.DONE)
_NOT_VERIFIED = WriteResult(result=Result.NOT_VERIFIED)
_ROLLED_BACK = WriteResult(result=Result.ROLLED_BACK)
_NEVER = datetime.max.replace(tzinfo=UTC)

At = TypeVar("At")
"""A time, as the store has it."""


class Writing(ABC, Generic[At]):
    """The check and the writing of writes."""

    server: str = ""

    def refused(self, bulk: BulkWrite, at: At, shown: str) -> list[WriteResult] | None:
        """The answers to a bulk write whose guard fails; None for another. Raises StoreClosedError."""
        closed = self.record(CLOSED, CLOSED_KEY, at)
        if closed is not None and not passes_closed(bulk):
            raise StoreClosedError(shown, closed.value)
        if self._is_verified(bulk, at):
            return None
        return [
            DONE if self._was_written(write, self._revision_of(write), at) else _NOT_VERIFIED for write in bulk.writes
        ]

    def _is_verified(self, bulk: BulkWrite, at: At) -> bool:
        if bulk.guard is None:
            return True
        puts = [put for write in bulk.writes for put in write.puts]
        return bulk.guard.server == self.server and self._failed_by(bulk.guard.known, puts, at) is None

    def answer(self, write: Write, at: At) -> WriteResult:
        """Check all of a write, then write all of it."""
        revision = self._revision_of(write)
        if self._was_written(write, revision, at):
            return DONE
        refusal = self._refused_change(write, revision, at) or self._refused_condition(write, at)
        if refusal is not None:
            return refusal
        slot = None if write.slot is None else self._allot(write.slot, at)
        if slot is not None and slot.at is None:
            return WriteResult(result=Result.NO_SLOT, slot=slot)
        self.store(write, at)
        return DONE if slot is None else WriteResult(result=Result.DONE, slot=slot)

    def _revision_of(self, write: Write) -> str | None:
        return None if write.change is None else self.revision(write.change.job.id)

    def _was_written(self, write: Write, revision: str | None, at: At) -> bool:
        """Whether an earlier try has written the write. `revision` is that of its job now."""
        match write.change:
            case Insert():
                return revision is not None
            case Replace(_, job):
                return revision == job.revision
            case Delete():
                return revision is None
            case None:
                puts = {(put.namespace, put.group, put.member): put.value for put in write.puts}
                swaps = [condition for condition in write.conditions if isinstance(condition, Same)]
                return any(
                    (record := self.record(swap.namespace, swap.group, at, swap.member)) is not None
                    and puts.get((swap.namespace, swap.group, swap.member)) == record.value != swap.value
                    for swap in swaps
                )

    def _refused_change(self, write: Write, revision: str | None, at: At) -> WriteResult | None:
        match write.change:
            case Insert(job, over) if job.unique_key is not None:
                owner = self.owner(job.queue, job.unique_key, at)
                if owner is None or (over is not None and self._gives_up(owner, over)):
                    return None
                return WriteResult(result=Result.EXISTS, owner=owner)
            case Replace(replaced) | Delete(Job(revision=replaced)):
                return None if revision == replaced else WriteResult(result=Result.STALE)
            case _:
                return None

    def _gives_up(self, owner: Owner, over: Handover) -> bool:
        """Whether the owner of a key is the one that gives it up, and is as it was."""
        revision = None if over.change is None else over.change.revision
        return owner.job_id == over.owner and self.revision(owner.job_id) == revision

    def _refused_condition(self, write: Write, at: At) -> WriteResult | None:
        all_empty = bool(write.conditions) and self.are_all_empty(write.conditions, at)
        for condition in write.conditions:
            if all_empty and isinstance(condition, AtMost):
                continue
            failed = self._failed_by(condition, write.puts, at)
            if failed is not None:
                return WriteResult(result=Result.NOT_FREE, condition=condition, record=failed[0])
        return None

    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: At) -> tuple[Record | None] | None:
        """The record by which a condition fails; None if it holds."""
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
                key = (namespace, group, member)
                ours = {put.value for put in puts if (put.namespace, put.group, put.member) == key}
                return None if has == value or has in ours or is_owned_by(has or "", owner) else (held,)
            case Before(until):
                return (None,) if self.clock_now() >= until else None

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
    def clock_now(self) -> datetime:
        """The time by the store's own clock."""

    @abstractmethod
    def record(self, namespace: str, group: str, at: At, member: str = "") -> Record | None:
        """A record, if it is current."""

    @abstractmethod
    def group(self, namespace: str, group: str, at: At) -> Sequence[Record]:
        """The current records of a group, in the order of their members."""

    def are_all_empty(self, conditions: Sequence[Condition], at: At) -> bool:  # noqa: ARG002 - for stores that know
        """Whether the store knows at once that all groups of the conditions `AtMost` are empty, as nearly always."""
        return False

    @abstractmethod
    def revision(self, job_id: str) -> str | None:
        """The revision of a job; None if there is no such job."""

    @abstractmethod
    def owner(self, queue: str, key: str, at: At) -> Owner | None:
        """The head of the job that owns a unique key, or of its tombstone."""

    @abstractmethod
    def pace(self, queue: str) -> Pace:
        """The pace of a queue."""

    @abstractmethod
    def set_pace(self, queue: str, pace: Pace) -> None:
        """Store the pace of a queue."""

    @abstractmethod
    def store(self, write: Write, at: At) -> None:
        """Write all parts of a write, which was checked."""


def rolled_back(writes: Sequence[Write], answers: Sequence[WriteResult]) -> list[WriteResult] | None:
    """The answers to writes that were written `together`, if one refusal refuses all; None if there is none."""
    refused = [refuses_all(write, answer) for write, answer in zip(writes, answers, strict=True)]
    if not any(refused):
        return None
    return [
        answer if refuses or answer.result is not Result.DONE else _ROLLED_BACK
        for answer, refuses in zip(answers, refused, strict=True)
    ]
