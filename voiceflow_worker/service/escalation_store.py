"""Escalations in the store: how they are read, and the writes that begin, change, end and begin them again.

An escalation that is open is a record in the group of its queue, so that all open ones are one page. One that has ended
is a record in a group of its own, which is a condition of every POST of its calls (`core.writes`). A list has both in
the order of their times. So nothing here takes longer because many escalations have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from voiceflow_worker.core.base.identity import new_revision, queue_of
from voiceflow_worker.core.base.reading import find_jobs, gates_at
from voiceflow_worker.core.base.record_set import json_codec, newest_first, report_unreadable
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import Ending
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Condition,
    Drop,
    Edit,
    Key,
    Order,
    Page,
    Put,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.writes import ENDED_ESCALATION, LONG_KEPT, all_or_none, changed
from voiceflow_worker.errors import EscalationNotFoundError, InvalidInputError, StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import EncodedBody
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    UNSENT,
    Alarm,
    EscalationRecord,
    EscalationState,
    FoundEscalation,
)

OPEN: Final = "escalation"
LISTED: Final = "escalation-list"
"""Namespaces, in the group of the queue: escalations that are open, and the list of all, the newest first."""
ALARMS: Final = "alarm"
"""Namespace, in the group of the queue: what is known of alerts, by a digest of their fingerprints."""
NO_WORKER, HELD, NOT_SENT = "no_worker", "held", "not_sent"
"""Why nothing can call: no worker runs, the queue or the batch is held, or calls do not leave though a worker runs."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What decides whether calls of a queue leave now: its gates, those of batches, and its workers."""

    queue: str
    at: datetime
    gates: Mapping[str | None, Gate]
    workers: Sequence[WorkerBeat]

    def cancelled(self, found: FoundEscalation) -> Gate | None:
        """The gate of its batch, if that was cancelled."""
        gate = self.gates.get(found.batch_id)
        return gate if gate is not None and gate.state is GateState.CANCELLED else None

    def blocked(self, found: FoundEscalation) -> tuple[str, str] | None:
        """Why nothing can call for an escalation, as a word and a clause; None if something can, or if it has ended."""
        calls = [found.jobs.get(step) for step in found.waiting]
        is_resting = found.record.not_before is not None and self.at < found.record.not_before
        is_under_way = any(job is not None and job.state not in UNSENT for job in calls)
        if not found.record.is_open or is_under_way or found.is_over or is_resting:
            return None
        whys = [self.kept_back(found, job) for job in calls]
        return None if None in whys else next(iter(whys), None)

    def kept_back(self, found: FoundEscalation, job: Job | None) -> tuple[str, str] | None:
        """Why a call of an escalation that has not left cannot leave now, as a word and a clause; None if it can."""
        within = found.escalation.answer_within
        for gate in self.gates.values():
            if gate.keeps_back(found.batch_id, at=self.at + within):
                return HELD, closed_in_words(gate)
        if not any(beat.batch_id in {None, found.batch_id} for beat in self.workers):
            return NO_WORKER, f"no worker of queue {self.queue} runs"
        if job is not None and self.at >= job.created_at + 2 * within and job.reason_kind is None:
            return NOT_SENT, f"its call is not sent{f': {job.reason}' if job.reason else ''}"
        return None


class EscalationStore:
    """The records of the escalations of one queue."""

    def __init__(self, queue: CallQueue) -> None:
        self.queue = queue
        self.store: Store = queue.store

    async def snapshot(self, batches: Iterable[str]) -> QueueSnapshot:
        """What decides now whether calls of the queue and these batches leave. Raises StoreError."""
        return QueueSnapshot(
            queue=self.queue.name,
            at=self.store.clock.now(),
            gates=await gates_at(self.store, self.queue.name, [None, *batches]),
            workers=await Heartbeats(self.store).workers(self.queue.name),
        )

    async def read(self, ids: Iterable[str], *, strict: bool = True) -> dict[str, FoundEscalation]:
        """The escalations with these ids, open or ended; unknown ones are left out. Raises as `found` does."""
        wanted = [each for each in dict.fromkeys(ids) if queue_of(each) == self.queue.name]
        if not wanted:
            return {}
        records = await self.store.records(
            {OPEN: [(self.queue.name, each) for each in wanted], ENDED_ESCALATION: wanted}, now=self.store.clock.now()
        )
        texts = {record.group: record.value for record in records[ENDED_ESCALATION]}
        texts |= {record.member: record.value for record in records[OPEN]}
        return await self.found(texts, strict=strict)

    async def get(self, escalation_id: str) -> FoundEscalation:
        """The escalation with this id. Raises EscalationNotFoundError and StoreError."""
        found = (await self.read([escalation_id])).get(escalation_id)
        if found is None:
            raise EscalationNotFoundError(escalation_id)
        return found

    async def found(self, texts: Mapping[str, str], *, strict: bool = False) -> dict[str, FoundEscalation]:
        """The escalations in these records, by their ids, with their calls.

        One that only a newer version can read is left out and logged; if `strict`, it raises StoreVersionError.
        """
        read: dict[str, tuple[EscalationRecord, Escalation]] = {}
        for escalation_id, text in texts.items():
            try:
                read[escalation_id] = _read(text)
            except (InvalidInputError, KeyError, TypeError, ValueError) as error:
                if strict:
                    raise _newer(escalation_id) from None
                report_unreadable(f"escalation {escalation_id}", error)
        jobs: dict[str, dict[int, Job]] = {each: {} for each in read}
        found = {
            each: FoundEscalation(each, record, texts[each], escalation, jobs[each])
            for each, (record, escalation) in read.items()
        }
        keys: dict[str, tuple[str, int]] = {}
        for each in found.values():
            called = (step.step for step in each.record.finished_steps if step.call_id is not None)
            for step in (*called, *each.waiting):
                keys[key_of(each.id, step)] = (each.id, step)
        if keys:
            for job in await find_jobs(self.store, ByKey(self.queue.name, tuple(keys))):
                escalation_id, step = keys[job.unique_key or ""]
                jobs[escalation_id][step] = job
        return found

    async def all_open(self) -> dict[str, FoundEscalation]:
        """The open escalations. Raises StoreError."""
        texts = await open_texts(self.store, self.queue.name)
        return await self.found(texts.get(self.queue.name, {}))

    async def listed(
        self, *, after: str = "", limit: int, since: datetime | None = None
    ) -> tuple[list[FoundEscalation], str | None]:
        """A page of the list, the newest first, and where the next page begins; None at the end.

        The time of an escalation is that at which it began, began again or ended. With `since`, the list ends there.
        """
        page = Page(group=self.queue.name, after=(self.queue.name, after) if after else None, limit=limit)
        records = (await self.store.records({LISTED: page}, now=self.store.clock.now()))[LISTED]
        last = "~" if since is None else _list_key(since, "~")
        members = [record.member for record in records if record.member <= last]
        ids = [member.partition(" ")[2] for member in members]
        found = await self.read(ids, strict=False)
        is_end = len(members) < limit
        return [found[each] for each in ids if each in found], None if is_end or not members else members[-1]

    def change(
        self,
        escalation_id: str,
        was: FoundEscalation | None,
        new: EscalationRecord,
        *,
        conditions: Iterable[Condition] = (),
        puts: Iterable[Put] = (),
    ) -> Write:
        """The write that begins an escalation, or replaces its record if that is still as it `was` read."""
        ends_at = None if new.is_open else self.store.clock.now() + LONG_KEPT
        stored, drops = [self.put(escalation_id, new)], list[Drop]()
        before, at = None, _list_key(new.listed_at, escalation_id)
        name = self.queue.name
        as_was = [Same(OPEN, name, None, escalation_id), Same(ENDED_ESCALATION, escalation_id, None)]
        if was is not None:
            as_was, before = [self.unchanged(was)], _list_key(was.record.listed_at, escalation_id)
            if was.record.is_open != new.is_open:
                namespace, group, member = _place(escalation_id, is_open=was.record.is_open)
                drops.append(Drop(namespace, group, was.text, member))
        if before != at:
            drops += [] if before is None else [Drop(LISTED, name, None, before)]
            stored.append(Put(LISTED, name, "", ends_at, member=at))
        write = Write(conditions=(*as_was, *conditions), puts=(*stored, *puts), drops=tuple(drops))
        if new.is_open:
            return write
        ended = Ending(about=(escalation_id,), queue=name, puts=write.puts, drops=write.drops)
        return replace(write, orders=(ended,))

    def ending(self, found: FoundEscalation) -> Sequence[Order]:
        """The order that has ended an escalation, as far as its record shows it."""
        was = replace(found, record=replace(found.record, state=EscalationState.OPEN))
        return self.change(found.id, was, found.record).orders

    def joining(
        self,
        found: FoundEscalation,
        alarms: Sequence[Alarm],
        *,
        left_out: int,
        conditions: Iterable[Condition],
        puts: Iterable[Put],
    ) -> Write:
        """The write by which the first calls of an escalation tell further alarms, if they have not left."""
        new = found.record.joined(alarms, left_out=left_out)
        write = self.change(found.id, found, new, conditions=conditions, puts=puts)
        told, changes = replace(found, record=new), list[Edit]()
        for job in found.jobs.values():
            # A worker that has taken the call waits for a busy phone, or is about to send: it takes the call again.
            waits = lifecycle.release(job, at=self.store.clock.now()) if job.state is JobState.LEASED else job
            body = EncodedBody.of(told.spoken.call(job.number).validated()).stored
            edited = replace(waits, body=body, data=checked_data(told.data()), revision=new_revision())
            changes.append(Edit(job.revision, edited, tally_change(job, edited)))
        return replace(write, changes=tuple(changes), wakes=self.queue.name if changes else None)

    def unchanged(self, found: FoundEscalation) -> Same:
        """That nobody has changed the escalation since it was read."""
        namespace, group, member = _place(found.id, is_open=found.record.is_open)
        return Same(namespace, group, found.text, member)

    def put(self, escalation_id: str, record: EscalationRecord) -> Put:
        """The next record of an escalation, with a token of its own, as a compare-and-swap wants it."""
        namespace, group, member = _place(escalation_id, is_open=record.is_open)
        ends_at = None if record.is_open else self.store.clock.now() + LONG_KEPT
        return Put(namespace, group, record.text(), ends_at, member=member)

    async def write(
        self,
        found: FoundEscalation,
        new: EscalationRecord,
        *,
        takes_back: Iterable[Job] = (),
        reason: str = "",
        conditions: Iterable[Condition] = (),
    ) -> bool:
        """Replace the record of an escalation, and take calls back in the same step, or do nothing of it.

        Returns False if something has changed since it was read. Raises StoreError.
        """
        now = self.store.clock.now()
        parts = [self.change(found.id, found, new, conditions=conditions)]
        for job in takes_back:
            ended = lifecycle.cancel(job, at=now, reason=reason, policy=self.queue.policy)
            parts.append(changed(job, ended, at=now)[1])
        (answer,) = await self.store.write(BulkWrite(writes=(all_or_none(parts),)), now=now)
        return answer.result is Result.DONE


async def open_texts(store: Store, queue: str | None) -> dict[str, dict[str, str]]:
    """The records of the open escalations of a queue, or of all, by queue and id. Raises StoreError."""
    found: dict[str, dict[str, str]] = {}
    after: Key | None = None
    while True:
        page = Page(group=queue, after=after)
        records = (await store.records({OPEN: page}, now=store.clock.now()))[OPEN]
        for record in records:
            found.setdefault(record.group, {})[record.member] = record.value
        if len(records) < page.limit:
            return found
        after = (records[-1].group, records[-1].member)


def key_of(escalation_id: str, step: int) -> str:
    """The unique key of the call of a step."""
    return f"{escalation_id}/{step}"


def _place(escalation_id: str, *, is_open: bool) -> tuple[str, str, str]:
    """The namespace, group and member of an escalation that is open, or has ended."""
    return (OPEN, queue_of(escalation_id), escalation_id) if is_open else (ENDED_ESCALATION, escalation_id, "")


def _list_key(at: datetime, escalation_id: str) -> str:
    """The place of an escalation in the list: later times come first."""
    return f"{newest_first(at)} {escalation_id}"


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[EscalationRecord, Escalation]:
    """The record in a stored text, and its escalation. Open ones are looked at each second, and seldom change."""
    record: EscalationRecord = json_codec(EscalationRecord).value(text)
    return record, Escalation.stored(record.escalation)


def _newer(escalation_id: str) -> StoreVersionError:
    return StoreVersionError(
        f"escalation {escalation_id} cannot be read, perhaps because a newer version of voiceflow-worker wrote it, "
        "which carries on with it"
    )
