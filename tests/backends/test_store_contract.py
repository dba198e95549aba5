"""The memory store keeps the contract of `core/ports/store.py`, and each sentence of the contract can fail.

A sentence that can fail is broken here, once for all stores.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

import anyio
import pytest

from tests.contract.defects import assert_found
from tests.contract.suite import Opener, StoreContract
from tests.support.seeded import seed
from voiceflow_worker.backends.memory.store import Memory, MemoryStore
from voiceflow_worker.backends.writing import Writing
from voiceflow_worker.core.ports.store import Store, is_owned_by


class TestMemory(StoreContract):
    test_processes_ring_each_call_once_and_lose_none = None  # type: ignore[assignment]  # it has one process

    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()

        def opened() -> AbstractAsyncContextManager[Store]:
            return nullcontext(store)

        return opened


EACH = "return [self.answer(write, now) for write in bulk.writes]"
REFUSED = "    if refusal is not None:\n        return refusal\n"
REPEAT = "        return DONE\n    refusal ="
WRITTEN = "return self.memory.write(bulk, now)"
OWNERS = "test_conditions_pass_over_the_records_of_their_owner_and_of_the_past"
MODES = "test_a_put_does_what_its_mode_says"
AGAIN = "test_a_bulk_write_that_is_written_again_changes_counts_and_tells_nothing"
GROUPS = "test_conditions_concern_whole_groups_and_no_others"
SERVER = "test_for_another_server_nothing_is_written"
GATES = "test_a_closed_gate_keeps_its_jobs_back"
SLOTS = "test_a_refused_write_takes_no_slot_and_a_repeat_gets_none"
COUNTED = "test_the_jobs_in_a_state_that_are_due_are_counted"

MUTATIONS: dict[str, tuple[Callable[..., Any], str, str, str]] = {
    "each write sees the beginning": (
        Memory.write, EACH,
        ("from tests.support.copied import copied\n"
         "    found = [copied(self).answer(write, now) for write in bulk.writes]\n"
         "    return [a if a.result.name != 'DONE' else self.answer(w, now) for a, w in zip(found, bulk.writes)]"),
        "test_a_write_sees_what_the_earlier_ones_of_its_bulk_write_wrote",
    ),
    "records are written before conditions are checked": (
        Writing._refused_condition, "    for condition in write.conditions:",
        "    for put in write.puts:\n        self._put(put, at)\n    for condition in write.conditions:",
        "test_a_condition_is_checked_before_the_writes_own_records_are_written",
    ),
    "a refusal keeps the job moved": (
        Writing.answer, REFUSED, f"    [self._change(each) for each in write.changes if refusal]\n{REFUSED}",
        "test_of_a_refused_write_nothing_is_written",
    ),
    "a refusal ends the bulk write": (
        Memory.write, EACH,
        ("found = []\n"
         "    for write in bulk.writes:\n"
         "        found.append(found[-1] if found and found[-1].result.name != 'DONE' else self.answer(write, now))\n"
         "    return found"),
        "test_a_refused_write_keeps_no_other_from_being_written",
    ),
    "one refusal refuses no other": (
        Writing.answer, REFUSED,
        ("    for each in write.changes if refusal and len(write.changes) > 1 else ():\n"
         f"        self.answer(Write(changes=(each,)), at)\n{REFUSED}"),
        "test_of_several_changes_one_refusal_refuses_all",
    ),
    "only the first owner is told": (
        Writing._refused_changes, "owners=owners", "owners=dict([*owners.items()][:1])",
        "test_the_owners_of_all_keys_that_are_taken_are_told",
    ),
    "the reason is not told": (
        Writing._refused_condition, "record=failed[0]", "record=None",
        "test_a_failed_condition_tells_its_key_its_value_and_its_end",
    ),
    "a limit tells any record": (
        Writing._failed_by, "[len(counted) - most - 1]", "[0]",
        "test_a_limit_tells_the_record_with_whose_end_it_holds_again",
    ),
    "conditions forget their owner": (Writing._failed_by, " if not is_owned_by(each.value, owner)", "", OWNERS),
    "an owner is any beginning of an id": (is_owned_by, '(f"{owner}.", f"{owner} ")', "owner", OWNERS),
    "conditions see ended records": (
        Writing._failed_by, "self.group(namespace, group, at)", "self.group(namespace, group, at.replace(year=2000))",
        OWNERS,
    ),
    "a group is its first record": (Memory.group, "at < each.ends_at]", "at < each.ends_at][:1]", GROUPS),
    "a group is a prefix": (
        Memory.group, "in self._held(namespace, group)",
        "in (one for of in self.recorded.get(namespace, {}) if group in of for one in self._held(namespace, of))",
        GROUPS,
    ),
    "gates of batches are ignored": (
        Writing._failed_by, "if has == value:", "if has == value or (namespace == 'gate' and member):",
        "test_a_closed_gate_refuses_and_an_open_one_does_not",
    ),
    "tombstones are ignored": (
        Memory.job_of_key, "return buried if now < until else None", "return None", "test_a_taken_key_tells_its_owner",
    ),
    "the owner has no digest": (Memory.owner, "job.body_digest", "''", "test_a_taken_key_tells_its_owner"),
    "every put replaces": (Memory._put, "if current is not None:", "if False:", MODES),
    "an end beats no end": (Memory._put, "lasts = current.ends_at or _NEVER", "lasts = current.ends_at or now", MODES),
    "ended records are kept": (
        Memory._put, "put.group, now, put.member", "put.group, now.replace(year=2000), put.member",
        "test_an_ended_record_stands_in_no_puts_way",
    ),
    "drops forget the value": (
        Memory.store, " and drop.value in {None, held.value}", "", "test_a_drop_deletes_a_record_that_has_its_value",
    ),
    "a repeat is refused": (Writing.answer, "if self._was_written(write, revisions, at):", "if False:", AGAIN),
    "a repeat is told again": (
        Writing.answer, REPEAT, f"        self.store(Write(puts=write.puts, events=write.events), at)\n{REPEAT}", AGAIN,
    ),
    "a repeat is counted again": (
        Writing.answer, REPEAT,
        f"        [self._count(one.job, one.tally) for one in write.changes if not isinstance(one, Delete)]\n{REPEAT}",
        AGAIN,
    ),
    "a late repeat wins": (
        Writing._refused_condition, "in write.conditions",
        "in [one for one in write.conditions if not isinstance(one, Same)]",
        "test_a_repeat_that_comes_after_a_later_write_changes_nothing",
    ),
    "it is checked, and then written": (
        MemoryStore.write, WRITTEN,
        ("from tests.support.copied import copied\n"
         "    found = copied(self.memory).write(bulk, now)\n"
         "    await checkpoint()\n"
         "    for place, write in enumerate(bulk.writes):\n"
         "        if found[place].result.name == 'DONE':\n"
         "            self.memory.write(BulkWrite(writes=(replace(write, conditions=()),)), now)\n"
         "    return found"),
        "test_two_writes_that_contradict_each_other_are_never_both_written",
    ),
    "any server will do": (Writing._is_verified, "bulk.guard.server == self.server and ", "", SERVER),
    "what was known is forgotten": (
        Writing._is_verified, " and self._failed_by(bulk.guard.known, own, at) is None", "",
        "test_without_what_the_store_certainly_had_nothing_is_written",
    ),
    "an unverified write forgets what was written": (
        Writing.refused, "DONE if self._was_written(write, self._revisions_of(write), at) else ", "", SERVER,
    ),
    "an unverified write is done": (
        Memory.write, "return answers", "return [self.answer(write, now) for write in bulk.writes] and answers",
        SERVER,
    ),
    "events come late": (
        Memory.store, "    if write.wakes is not None:",
        ("    if len(write.events) == 2 and self.sequence % 4 == 0:\n"
         "        self.later = self.events.pop(self.sequence - 1)\n"
         "    elif hasattr(self, 'later'):\n"
         "        self.events[self.later.sequence] = self.later\n"
         "    if write.wakes is not None:"),
        "test_no_reader_is_passed_by_an_event",
    ),
    "answers stay in the line": (
        MemoryStore.write, WRITTEN,
        ("self.line = [*getattr(self, 'line', []), self.memory.write(bulk, now)]\n"
         "    await checkpoint()\n"
         "    return self.line.pop(0)"),
        "test_a_caller_that_gave_up_leaves_its_answer_to_nobody",
    ),
    "leases ignore gates": (Memory.lease, "if is_closed(self.record(GATES, queue, now)):", "if False:", GATES),
    "leases ignore gates of batches": (Memory.lease, "(job.batch_id and is_closed", "(False and is_closed", GATES),
    "leases ignore limits": (
        Memory._room, "if limits.max_active is None:", "if True:", "test_no_more_calls_are_open_than_allowed",
    ),
    "leases ignore their batch": (
        Memory.lease, "and batch in {None, job.batch_id}", "", "test_a_batch_can_be_leased_alone",
    ),
    "leases take what expired": (
        Memory.lease, "and not job.is_expired(at=now)", "", "test_what_is_no_longer_valid_is_left_to_the_sweep",
    ),
    "leases are not counted": (
        Memory.lease, "tally_change(old, job)", "{}", "test_a_leased_job_is_its_workers_until_the_lease_ends",
    ),
    "a rate is not changed": (
        Writing._allot, "    if after != pace:",
        "    if after.tat < pace.tat:\n        return SendSlot(None, found.next_at)\n    if after != pace:",
        "test_a_new_rate_counts_from_the_last_slot",
    ),
    "refused writes take slots": (
        Writing.answer, REFUSED, f"    refusal and write.slot and self._allot(write.slot, at)\n{REFUSED}", SLOTS,
    ),
    "repeats get a slot": (
        Writing.answer, "        return DONE\n    refusal",
        "        return WriteResult(result=Result.DONE, slot=write.slot and self._allot(write.slot, at))\n    refusal",
        SLOTS,
    ),
    "ended records are read": (
        Memory.records, "] = {}", "] = {}\n    now = now.replace(year=2000)",
        "test_records_of_several_namespaces_are_read_at_once",
    ),
    "pages forget their group": (
        Memory.records, " if each.group is None else [each.group]", "", "test_a_page_goes_on_after_a_record",
    ),
    "pruning has no limit": (Memory.prune, "del over[max(limit, 0) :]", "", "test_what_is_over_is_pruned_in_slices"),
    "pruning forgets its queue": (
        Memory.prune, "queue_of(event.job_id) == queue and ", "",
        "test_events_of_one_queue_are_pruned_and_what_is_not_over_stays",
    ),
    "due jobs forget the time": (Memory.count, "read.has", "replace(read, by=None).has", COUNTED),
    "due jobs forget their state": (Memory.count, "read.has", "replace(read, state=JobState.QUEUED).has", COUNTED),
    "a key is another in each queue": (
        Memory.job_of_key, "if key in self.keys:", "if False:",
        "test_a_key_belongs_to_one_call_over_all_queues",
    ),
    "a gate is never closed": (
        Writing._failed_by, "if has == value:", "if True:",
        "test_nothing_is_written_under_a_gate_whose_closing_has_returned",
    ),
    "slots are not spaced": (Writing._allot, "if after != pace:", "if False:", "test_workers_share_the_rate"),
    "leases forget holds": (
        Memory.lease, "(job.batch_id and self.group(", "(False and self.group(",
        "test_each_hold_of_a_batch_keeps_its_calls_back_until_it_is_dropped",
    ),
    "counters leave a write out": (
        Memory._count, "[name] += amount", "[name] = amount", "test_counters_are_the_sums_of_what_writes_carry",
    ),
    "events are read the newest first": (
        MemoryStore.events, "islice(found,", "islice(reversed([*found]),", "test_events_are_read_in_order_by_queue",
    ),
    "reads forget the order": (
        Memory._search, "(job.due_at, job.id)", "job.id", "test_each_read_has_all_its_jobs_in_its_order",
    ),
    "reads end at a page": (
        Memory._search, "return found if", "return found[:999] if", "test_a_thousand_jobs_are_found_at_once",
    ),
    "wakes are not counted": (
        Memory.store, "if write.wakes is not None:", "if False:",
        "test_each_write_that_wakes_the_queue_raises_its_count",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("function", "was", "now", "test"), MUTATIONS.values(), ids=MUTATIONS)
def test_the_contract_finds_that(
    function: Callable[..., Any], was: str, now: str, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence that is broken on purpose turns its test red."""
    seed(monkeypatch, function, was, now)
    anyio.run(partial(assert_found, test, MemoryStore(), within=2))
