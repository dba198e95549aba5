"""The memory store keeps the contract of `core/ports/store.py`, and each sentence of the contract can fail."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.contract.defects import assert_found
from tests.contract.suite import QUEUE, CopyContract, Opener, StoreContract
from tests.support.copied import copied
from voiceflow_worker.backends import writing
from voiceflow_worker.backends.memory.store import Memory, MemoryStore
from voiceflow_worker.backends.writing import DONE
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.ports.reads import Counted, Due
from voiceflow_worker.core.ports.store import (
    CLOSED,
    AtMost,
    BulkWrite,
    Condition,
    Delete,
    Mode,
    Owner,
    Page,
    Put,
    Record,
    Result,
    Same,
    Slot,
    Store,
    Wanted,
    Write,
    WriteResult,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job, JobState


class TestMemory(StoreContract, CopyContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()

        def opened() -> AbstractAsyncContextManager[Store]:
            return nullcontext(store)

        return opened


Found = tuple[Record | None] | None


class EachWriteSeesTheBeginning(Memory):
    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        checked = [copied(self).answer(write, now) for write in bulk.writes]
        return [
            self.answer(write, now) if each == DONE else each for write, each in zip(bulk.writes, checked, strict=True)
        ]


class RecordsBeforeConditions(Memory):
    def _refused_condition(self, write: Write, at: datetime) -> WriteResult | None:
        for put in write.puts:
            self._put(put, at)
        return super()._refused_condition(write, at)


class ARefusalKeepsTheJobMoved(Memory):
    def _refused_condition(self, write: Write, at: datetime) -> WriteResult | None:
        refused = super()._refused_condition(write, at)
        if refused is not None:
            for change in write.changes:
                self._change(change)
        return refused


class ARefusalEndsTheBulkWrite(Memory):
    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        answers: list[WriteResult] = []
        for write in bulk.writes:
            is_over = any(each != DONE for each in answers)
            answers.append(WriteResult(result=Result.STALE) if is_over else self.answer(write, now))
        return answers


class OneRefusalRefusesNoOther(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        found = super().answer(write, at)
        if found.result in {Result.STALE, Result.EXISTS} and len(write.changes) > 1:
            for change in write.changes:
                super().answer(replace(write, changes=(change,)), at)
        return found


class OnlyTheFirstOwnerIsTold(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        found = super().answer(write, at)
        return replace(found, owners=dict(list(found.owners.items())[:1]))


class TheReasonIsNotTold(Memory):
    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: datetime) -> Found:
        return None if super()._failed_by(condition, puts, at) is None else (None,)


class ALimitTellsAnyRecord(Memory):
    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: datetime) -> Found:
        found = super()._failed_by(condition, puts, at)
        if found is not None and isinstance(condition, AtMost):
            return (self.group(condition.namespace, condition.groups[0], at)[0],)
        return found


class ConditionsForgetTheirOwner(Memory):
    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: datetime) -> Found:
        return super()._failed_by(
            replace(condition, except_owner=None) if isinstance(condition, AtMost) else condition, puts, at
        )


class AGroupIsItsFirstRecord(Memory):
    def group(self, namespace: str, group: str, at: datetime) -> list[Record]:
        return super().group(namespace, group, at)[:1]


class AGroupIsAPrefix(Memory):
    def group(self, namespace: str, group: str, at: datetime) -> list[Record]:
        found = (each for each in self.recorded.get(namespace, {}) if each.startswith(group))
        return [record for each in found for record in super(AGroupIsAPrefix, self).group(namespace, each, at)]


class ConditionsSeeEndedRecords(Memory):
    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: datetime) -> Found:
        return super()._failed_by(condition, puts, at - timedelta(days=1))


class GatesOfBatchesAreIgnored(Memory):
    def _failed_by(self, condition: Condition, puts: Sequence[Put], at: datetime) -> Found:
        is_of_batch = isinstance(condition, Same) and condition.namespace == GATES and condition.member
        return None if is_of_batch else super()._failed_by(condition, puts, at)


class TombstonesAreIgnored(Memory):
    def job_of_key(self, queue: str, key: str, now: datetime) -> Job | None:  # noqa: ARG002
        return self.jobs[self.keys[queue, key]] if (queue, key) in self.keys else None


class TheOwnerHasNoDigest(Memory):
    def owner(self, queue: str, key: str, at: datetime) -> Owner | None:
        owner = super().owner(queue, key, at)
        return owner and replace(owner, body_digest="")


class EveryPutReplaces(Memory):
    def _put(self, put: Put, now: datetime) -> None:
        super()._put(replace(put, mode=Mode.ALWAYS), now)


class AnEndBeatsNoEnd(Memory):
    def _put(self, put: Put, now: datetime) -> None:
        standing = self.record(put.namespace, put.group, now, put.member)
        forever = standing is not None and standing.ends_at is None and put.mode in {Mode.EXTEND, Mode.LONGER}
        super()._put(replace(put, mode=Mode.ALWAYS) if forever else put, now)


class EndedRecordsAreKept(Memory):
    def _put(self, put: Put, now: datetime) -> None:
        super()._put(put, now - timedelta(days=1))


class DropsForgetTheValue(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        return super().answer(replace(write, drops=tuple(replace(drop, value=None) for drop in write.drops)), at)


class ARepeatIsRefused(Memory):
    def _was_written(self, write: Write, revisions: Sequence[str | None], at: datetime) -> bool:  # noqa: ARG002
        return False


class ARepeatIsToldAndCountedAgain(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        if self._was_written(write, self._revisions_of(write), at):
            super().answer(Write(puts=write.puts, events=write.events), at)
            for change in write.changes:
                if not isinstance(change, Delete):
                    self._count(change.job, change.tally)
        return super().answer(write, at)


class ALateRepeatWins(Memory):
    def _refused_condition(self, write: Write, at: datetime) -> WriteResult | None:
        return super()._refused_condition(
            replace(write, conditions=tuple(n for n in write.conditions if not isinstance(n, Same))), at
        )


class AnyServerWillDo(Memory):
    def _is_verified(self, bulk: BulkWrite, at: datetime) -> bool:
        guard = None if bulk.guard is None else replace(bulk.guard, server=self.server)
        return super()._is_verified(replace(bulk, guard=guard), at)


class WhatWasKnownIsForgotten(Memory):
    def _is_verified(self, bulk: BulkWrite, at: datetime) -> bool:  # noqa: ARG002
        return bulk.guard is None or bulk.guard.server == self.server


class AnUnverifiedWriteForgetsWhatWasWritten(Memory):
    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        if not self._is_verified(bulk, now):
            return [WriteResult(result=Result.NOT_VERIFIED)] * len(bulk.writes)
        return super().write(bulk, now)


class AnUnverifiedWriteIsDone(Memory):
    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        written = super().write(replace(bulk, guard=None), now)
        return written if self._is_verified(bulk, now) else [WriteResult(result=Result.NOT_VERIFIED)] * len(bulk.writes)


class ClosedStoresTakeWrites(Memory):
    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        closing, self.recorded[CLOSED] = self.recorded.get(CLOSED, {}), {}
        answers = super().write(bulk, now)
        self.recorded[CLOSED] |= closing
        return answers


class EventsComeLate(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        answer = super().answer(write, at)
        if len(write.events) == 2 and self.sequence % 4 == 0:  # the first of two is told later than the second
            self.later = self.events.pop(self.sequence - 1)
        elif hasattr(self, "later"):
            self.events[self.later.sequence] = self.later
        return answer


class LeasesIgnore(Memory):
    """A lease that overlooks one thing."""

    overlooked = ""

    def lease(self, queue: str, *, limit: int, now: datetime, batch: str | None, **rest: Any) -> list[Job]:
        kept, self.recorded = self.recorded, dict(self.recorded)
        self.recorded.pop(self.overlooked, None)
        jobs = super().lease(queue, limit=limit, now=now, batch=batch, **rest)
        self.recorded = kept
        return jobs


class LeasesIgnoreGates(LeasesIgnore):
    overlooked = "gate"


class LeasesIgnoreLimits(LeasesIgnore):
    overlooked = "limit"


class LeasesForgetTheReserve(Memory):
    def _room(self, queue: str, now: datetime) -> tuple[int, int]:
        return (super()._room(queue, now)[0],) * 2


class LeasesIgnoreTheirBatch(Memory):
    def lease(self, queue: str, **rest: Any) -> list[Job]:
        return super().lease(queue, **{**rest, "batch": None})


class LeasesTakeWhatExpired(Memory):
    def lease(self, queue: str, *, now: datetime, **rest: Any) -> list[Job]:
        for job in self.jobs.values():
            self.jobs[job.id] = replace(job, valid_until=None)
        return super().lease(queue, now=now, **rest)


class LeasesAreNotCounted(Memory):
    def lease(self, queue: str, **rest: Any) -> list[Job]:
        before = copied(self)
        jobs = super().lease(queue, **rest)
        self.live = before.live
        return jobs


class ARateIsNotChanged(Memory):
    def _allot(self, slot: Slot, at: datetime) -> SendSlot:
        before = self.paces.get(slot.queue)
        found = super()._allot(slot, at)
        if before is not None and self.paces[slot.queue].tat < before.tat:
            self.paces[slot.queue] = replace(self.paces[slot.queue], tat=before.tat)
            return SendSlot(None, found.next_at)
        return found


class RefusedWritesTakeSlots(Memory):
    def _refused_condition(self, write: Write, at: datetime) -> WriteResult | None:
        refusal = super()._refused_condition(write, at)
        if refusal is not None and write.slot is not None:
            self._allot(write.slot, at)
        return refusal


class RepeatsGetASlot(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        answer = super().answer(write, at)
        if write.slot is not None and answer == DONE:
            return replace(answer, slot=self._allot(write.slot, at))
        return answer


class TotalsOfABatchStay(Memory):
    def _count_pruned(self, job: Job, tally: Any) -> None:
        for name, amount in tally.items():
            self.pruned[job.queue, job.batch_id][name] -= amount


class EndedRecordsAreRead(Memory):
    def records(self, wanted: Wanted, now: datetime) -> dict[str, list[Record]]:
        return super().records(wanted, now - timedelta(days=1))


class PagesForgetTheirGroup(Memory):
    def records(self, wanted: Wanted, now: datetime) -> dict[str, list[Record]]:
        wider = {n: replace(each, group=None) if isinstance(each, Page) else each for n, each in wanted.items()}
        return super().records(wider, now)


class PruningHasNoLimit(Memory):
    def prune(self, queue: str, now: datetime, events_before: datetime, limit: int) -> int:
        return super().prune(queue, now, events_before, max(limit, 1000))


class PruningForgetsItsQueue(Memory):
    def prune(self, queue: str, now: datetime, events_before: datetime, limit: int) -> int:
        return sum(
            super(PruningForgetsItsQueue, self).prune(each, now, events_before, limit) for each in (QUEUE, queue)
        )


class DueJobsForgetTheTime(Memory):
    def count(self, read: Counted) -> int:
        return super().count(replace(read, by=None))


class DueJobsForgetTheirState(Memory):
    def count(self, read: Counted) -> int:
        return super().count(replace(read, state=JobState.QUEUED) if isinstance(read, Due) else read)


class WakesAreNotCounted(Memory):
    def answer(self, write: Write, at: datetime) -> WriteResult:
        return super().answer(replace(write, wakes=None), at)


class ChecksAndThenWrites(MemoryStore):
    """Another write may come between the check and the write."""

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        checked = copied(self.memory).write(bulk, now)
        await checkpoint()
        free = [replace(write, conditions=()) for write, each in zip(bulk.writes, checked, strict=True) if each == DONE]
        self.memory.write(BulkWrite(writes=tuple(free)), now)
        return checked


class AnswersStayInTheLine(MemoryStore):
    """The answer that a cancelled caller did not take is given to the next."""

    line: list[Sequence[WriteResult]]

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        self.line = [*getattr(self, "line", []), self.memory.write(bulk, now)]
        await checkpoint()
        return self.line.pop(0)


MUTATIONS: dict[type[Memory | MemoryStore], str] = {
    EachWriteSeesTheBeginning: "test_a_write_sees_what_the_earlier_ones_of_its_bulk_write_wrote",
    RecordsBeforeConditions: "test_a_condition_is_checked_before_the_writes_own_records_are_written",
    ARefusalKeepsTheJobMoved: "test_of_a_refused_write_nothing_is_written",
    ARefusalEndsTheBulkWrite: "test_a_refused_write_keeps_no_other_from_being_written",
    OneRefusalRefusesNoOther: "test_of_several_changes_one_refusal_refuses_all",
    OnlyTheFirstOwnerIsTold: "test_the_owners_of_all_keys_that_are_taken_are_told",
    TheReasonIsNotTold: "test_a_failed_condition_tells_its_key_its_value_and_its_end",
    ALimitTellsAnyRecord: "test_a_limit_tells_the_record_with_whose_end_it_holds_again",
    ConditionsForgetTheirOwner: "test_conditions_pass_over_the_records_of_their_owner_and_of_the_past",
    AGroupIsItsFirstRecord: "test_conditions_concern_whole_groups_and_no_others",
    AGroupIsAPrefix: "test_conditions_concern_whole_groups_and_no_others",
    ConditionsSeeEndedRecords: "test_conditions_pass_over_the_records_of_their_owner_and_of_the_past",
    GatesOfBatchesAreIgnored: "test_a_closed_gate_refuses_and_an_open_one_does_not",
    TombstonesAreIgnored: "test_a_taken_key_tells_its_owner",
    TheOwnerHasNoDigest: "test_a_taken_key_tells_its_owner",
    EveryPutReplaces: "test_a_put_does_what_its_mode_says",
    AnEndBeatsNoEnd: "test_a_put_does_what_its_mode_says",
    EndedRecordsAreKept: "test_an_ended_record_stands_in_no_puts_way",
    DropsForgetTheValue: "test_a_drop_deletes_a_record_that_has_its_value",
    ARepeatIsRefused: "test_a_bulk_write_that_is_written_again_changes_counts_and_tells_nothing",
    ARepeatIsToldAndCountedAgain: "test_a_bulk_write_that_is_written_again_changes_counts_and_tells_nothing",
    ALateRepeatWins: "test_a_repeat_that_comes_after_a_later_write_changes_nothing",
    ChecksAndThenWrites: "test_two_writes_that_contradict_each_other_are_never_both_written",
    AnyServerWillDo: "test_for_another_server_nothing_is_written",
    WhatWasKnownIsForgotten: "test_without_what_the_store_certainly_had_nothing_is_written",
    AnUnverifiedWriteForgetsWhatWasWritten: "test_for_another_server_nothing_is_written",
    AnUnverifiedWriteIsDone: "test_for_another_server_nothing_is_written",
    ClosedStoresTakeWrites: "test_a_closed_store_takes_nothing_but_its_opening",
    EventsComeLate: "test_no_reader_is_passed_by_an_event",
    AnswersStayInTheLine: "test_a_caller_that_gave_up_leaves_its_answer_to_nobody",
    LeasesIgnoreGates: "test_a_closed_gate_keeps_its_jobs_back",
    LeasesIgnoreLimits: "test_no_more_calls_are_open_than_allowed",
    LeasesForgetTheReserve: "test_some_of_the_open_calls_are_kept_for_urgent_ones",
    LeasesIgnoreTheirBatch: "test_a_batch_can_be_leased_alone",
    LeasesTakeWhatExpired: "test_what_is_no_longer_valid_is_left_to_the_sweep",
    LeasesAreNotCounted: "test_a_leased_job_is_its_workers_until_the_lease_ends",
    ARateIsNotChanged: "test_a_new_rate_counts_from_the_last_slot",
    RefusedWritesTakeSlots: "test_a_refused_write_takes_no_slot_and_a_repeat_gets_none",
    RepeatsGetASlot: "test_a_refused_write_takes_no_slot_and_a_repeat_gets_none",
    TotalsOfABatchStay: "test_deleted_jobs_stay_in_the_totals_of_their_batch_while_it_has_jobs",
    EndedRecordsAreRead: "test_records_of_several_namespaces_are_read_at_once",
    PagesForgetTheirGroup: "test_a_page_goes_on_after_a_record",
    PruningHasNoLimit: "test_what_is_over_is_pruned_in_slices",
    PruningForgetsItsQueue: "test_events_of_one_queue_are_pruned_and_what_is_not_over_stays",
    DueJobsForgetTheTime: "test_the_jobs_in_a_state_that_are_due_are_counted",
    DueJobsForgetTheirState: "test_the_jobs_in_a_state_that_are_due_are_counted",
    WakesAreNotCounted: "test_each_write_that_wakes_the_queue_raises_its_count",
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__)
def test_the_contract_finds_that(mutation: type[Memory | MemoryStore]) -> None:
    """A sentence that is broken on purpose turns its test red."""
    store = mutation() if issubclass(mutation, MemoryStore) else MemoryStore(memory=mutation())
    anyio.run(partial(assert_found, MUTATIONS[mutation], store, within=2))


def test_an_owner_is_a_whole_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract finds that `q.j` is taken for the owner of what `q.jj.1` has."""
    monkeypatch.setattr(writing, "is_owned_by", lambda value, owner: owner is not None and value.startswith(owner))
    test = StoreContract().test_conditions_pass_over_the_records_of_their_owner_and_of_the_past
    with pytest.raises(AssertionError):
        anyio.run(test, MemoryStore())
