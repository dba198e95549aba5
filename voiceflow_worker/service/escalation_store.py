"""Escalations in the store: how they are read, and the writes that begin, change, close and begin them again.

The definition of an escalation is one record, and its end is another (`core.writes.EscalationEnd`), whose absence is a
condition of every call that is made for it, and of every POST of these. A list of each queue has those that are open,
and another one all of them, in the order of their times. So nothing here takes longer because many escalations have
ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import structlog

from voiceflow_worker.core.admission import CallRequest, CheckedCall, new_job
from voiceflow_worker.core.base.identity import (
    batch_puts,
    new_job_ids,
    new_revision,
    new_revisions,
    queue_of,
    queue_put,
)
from voiceflow_worker.core.base.reading import find_jobs, gates_at
from voiceflow_worker.core.base.record_set import json_codec, newest_first, record_pages, report_unreadable
from voiceflow_worker.core.heartbeats import FRESH, Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Condition,
    Drop,
    Edit,
    Page,
    Put,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.writes import (
    ENDED_ESCALATION,
    ESCALATION,
    LONG_KEPT,
    EscalationEnd,
    changed,
    inserted,
)
from voiceflow_worker.errors import (
    EscalationNotFoundError,
    IntakeError,
    InvalidInputError,
    KeyConflictError,
    StoreVersionError,
    SuppressedNumberError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.country_windows import CountryWindows, first_opening
from voiceflow_worker.model.flows.callflow import EncodedBody
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind, RedialPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.gates import closed_in_words
from voiceflow_worker.service.escalation import Escalation
from voiceflow_worker.service.escalation_state import (
    UNSENT,
    Alarm,
    AlarmRecord,
    EscalationRecord,
    EscalationStatus,
    Turn,
)

DEFINED: Final = "escalation"
"""Namespace of the definitions of escalations, by their ids."""
OPEN: Final = "escalation-open"
LISTED: Final = "escalation-list"
"""Namespaces, in the group of the queue: the ids of those that are open, and the list of all, the newest first."""
ALARMS: Final = "alarm"
"""Namespace, in the group of the queue: what is known of alerts, by a digest of their fingerprints."""
NO_WORKER, HELD, NOT_SENT = "no_worker", "held", "not_sent"
"""Why nothing can call: no worker runs, the queue or the batch is held, or calls do not leave though a worker runs."""
_ONCE = RedialPolicy(on=frozenset(), limit=0, after=timedelta())

_log = structlog.get_logger("voiceflow.escalation")


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What decides whether calls of a queue leave now: its gates, those of batches, and its workers."""

    queue: str
    at: datetime
    gates: Mapping[str | None, Gate]
    workers: Sequence[WorkerBeat]

    def blocked(self, found: EscalationStatus) -> tuple[str, str] | None:
        """Why nothing can call for an escalation, as a word and a clause; None if something can, or if it has ended."""
        is_resting = found.record.not_before is not None and self.at < found.record.not_before
        turns = [turn for turn in found.turn(self.at) if not found.is_over(turn, self.at)]
        calls = list(map(found.job, turns))
        if not found.is_open or is_resting or any(job is not None and job.state not in UNSENT for job in calls):
            return None
        whys = [self.kept_back(found, job) for job in calls]
        return None if None in whys else next(iter(whys), None)

    def kept_back(self, found: EscalationStatus, job: Job | None) -> tuple[str, str] | None:
        """Why a call of an escalation that has not left cannot leave now, as a word and a clause; None if it can."""
        within = found.ordered.answer_within
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
            workers=await Heartbeats(self.store).workers(self.queue.name, within=FRESH),
        )

    async def read(self, ids: Iterable[str], *, strict: bool = False) -> dict[str, EscalationStatus]:
        """The escalations with these ids, open or ended, with their calls; unknown ones are left out.

        One that only a newer version can read is left out and logged; if `strict`, it raises StoreVersionError.
        """
        wanted = [each for each in dict.fromkeys(ids) if queue_of(each) == self.queue.name]
        if not wanted:
            return {}
        now = self.store.clock.now()
        records = await self.store.records({DEFINED: wanted, ENDED_ESCALATION: wanted}, now=now)
        end_of = {record.group: record.value for record in records[ENDED_ESCALATION]}
        read: dict[str, EscalationStatus] = {}
        for escalation_id, text, *_ in records[DEFINED]:
            try:
                record, escalation, uncallable = _read(text)
                end = json_codec(EscalationEnd).value(end_of[escalation_id]) if escalation_id in end_of else None
            except (InvalidInputError, ValueError) as error:
                if strict:
                    why = "perhaps because a newer version of voiceflow-worker wrote it, which carries on with it"
                    raise StoreVersionError(f"escalation {escalation_id} cannot be read, {why}") from None
                report_unreadable(f"escalation {escalation_id}", error)
                continue
            read[escalation_id] = EscalationStatus(
                id=escalation_id, record=record, text=text, ordered=escalation, uncallable=uncallable, at=now, end=end
            )
        return await self._with_calls(read) if read else {}

    async def _with_calls(self, read: Mapping[str, EscalationStatus]) -> dict[str, EscalationStatus]:
        """The escalations with their calls, and with those of their alarms that are over."""
        # Whatever gives an alarm to an escalation changes its definition, which was read before.
        alarms = await self.alarms({each.mark for found in read.values() for each in found.record.alarms})
        keys = {
            turn.key(found.id): found.id
            for found in read.values()
            for number in found.rounds
            for step in found.every(number)
            for turn in step
        }
        jobs: dict[str, dict[str, Job]] = {each: {} for each in read}
        for job in await find_jobs(self.store, ByKey(self.queue.name, tuple(keys))):
            jobs[keys[job.unique_key or ""]][job.unique_key or ""] = job
        return {
            found.id: replace(
                found, jobs=jobs[found.id],
                over=frozenset(each.mark for each in found.record.alarms if alarms[each.mark][1].is_over(found.id)),
            )
            for found in read.values()
        }  # fmt: skip

    async def alarms(self, marks: Iterable[str]) -> dict[str, tuple[str | None, AlarmRecord]]:
        """The text of what is known of each of these alarms, None if there is none, and what it says, by its mark.

        Raises StoreError.
        """
        read: dict[str, tuple[str | None, AlarmRecord]] = {mark: (None, AlarmRecord()) for mark in marks}
        if read:
            keys = {ALARMS: [(self.queue.name, mark) for mark in read]}
            for each in (await self.store.records(keys, now=self.store.clock.now()))[ALARMS]:
                record = AlarmRecord()
                with suppress(ValueError):  # that of another version is replaced
                    record = json_codec(AlarmRecord).value(each.value)
                read[each.member] = (each.value, record)
        return read

    async def get(self, escalation_id: str) -> EscalationStatus:
        """The escalation with this id. Raises EscalationNotFoundError and StoreError."""
        found = (await self.read([escalation_id], strict=True)).get(escalation_id)
        if found is None:
            raise EscalationNotFoundError(escalation_id)
        return found

    async def all_open(self) -> dict[str, EscalationStatus]:
        """The open escalations. Raises StoreError."""
        return await self.read((await open_ids(self.store, self.queue.name)).get(self.queue.name, ()))

    async def listed(
        self, *, after: str = "", limit: int, since: datetime | None = None
    ) -> tuple[list[EscalationStatus], str | None]:
        """A page of the list, the newest first, and where the next page begins; None at the end.

        The time of an escalation is that at which it began, began again or ended. With `since`, the list ends there.
        """
        page = Page(group=self.queue.name, after=(self.queue.name, after) if after else None, limit=limit)
        records = (await self.store.records({LISTED: page}, now=self.store.clock.now()))[LISTED]
        last = "~" if since is None else _list_key(since, "~")
        members = [record.member for record in records if record.member <= last]
        ids = [member.partition(" ")[2] for member in members]
        found = await self.read(ids)
        is_end = len(members) < limit
        return [found[each] for each in ids if each in found], None if is_end or not members else members[-1]

    def change(
        self,
        escalation_id: str,
        was: EscalationStatus | None,
        new: EscalationRecord,
        *,
        conditions: Iterable[Condition] = (),
        puts: Iterable[Put] = (),
    ) -> Write:
        """The write that begins an escalation, or replaces its definition if that is still as it `was` read.

        One that has ended does not begin again.
        """
        ends_at, name = self.store.clock.now() + LONG_KEPT if new.is_closed else None, self.queue.name
        before = None if was is None else _list_key(was.record.listed_at, escalation_id)
        at, drops = _list_key(new.listed_at, escalation_id), [Drop(OPEN, name, None, escalation_id)]
        puts = (*puts, Put(DEFINED, escalation_id, new.text(), ends_at), Put(LISTED, name, "", ends_at, member=at))
        as_was: list[Condition] = [Same(DEFINED, escalation_id, None if was is None else was.text)]
        if not new.is_closed:
            as_was.append(not_ended(escalation_id))
            puts, drops = (*puts, Put(OPEN, name, "", None, member=escalation_id)), []
        if before is not None and before != at:
            drops.append(Drop(LISTED, name, None, before))
        return Write(conditions=(*as_was, *conditions), puts=puts, drops=tuple(drops))

    def joining(
        self,
        found: EscalationStatus,
        alarms: Sequence[Alarm],
        *,
        left_out: int,
        until: datetime | None,
        conditions: Iterable[Condition],
        puts: Iterable[Put],
    ) -> Write:
        """The write by which the first calls of an escalation tell further alarms, if they have not left."""
        new = found.record.joined(alarms, left_out=left_out, until=until)
        write = self.change(found.id, found, new, conditions=conditions, puts=puts)
        over = found.over.difference(each.mark for each in alarms)
        told, changes = replace(found, record=new, over=over), list[Edit]()
        for job in found.jobs.values():
            if job.state not in UNSENT:
                continue
            # A worker that has taken the call waits for a busy phone, or is about to send: it takes the call again.
            waits = lifecycle.release(job, at=self.store.clock.now()) if job.state is JobState.LEASED else job
            body = EncodedBody.of(told.escalation.call(job.number).validated()).stored
            edited = replace(waits, body=body, data=checked_data(told.data()), revision=new_revision())
            changes.append(Edit(job.revision, edited, tally_change(job, edited)))
        return replace(write, changes=tuple(changes), wakes=self.queue.name if changes else None)

    async def call(self, found: EscalationStatus, turn: Turn) -> None:
        """Make the call of a turn, unless somebody has made it, or the escalation has ended or changed since.

        A number that cannot be called now gets a call that has ended, with the reason. Raises StoreError.
        """
        escalation, now = found.escalation, self.store.clock.now()
        number = read_number(turn.number, escalation.country)
        request = CallRequest(
            flow=escalation.call(number),
            unique_key=turn.key(found.id),
            batch=found.batch_id,
            priority=escalation.priority,
            redial=_ONCE,
            window=None if escalation.window is None else CountryWindows.of(escalation.window),
            data=found.data(),
            menu=ESCALATION,
        )
        conditions = (unchanged(found), not_ended(found.id))
        try:
            if (opens := opening_of(escalation, number, at=now)) is not None:
                await self._pass_over(request, conditions, f"its calling window {opens}", ReasonKind.WINDOW)
            else:
                await self.queue.admitter.admit_all([request], conditions=conditions)
        except SuppressedNumberError as error:
            await self._pass_over(request, conditions, error.suppressed[0].reason, ReasonKind.SUPPRESSED)
        except (IntakeError, KeyConflictError):
            pass  # somebody else has carried on with it
        except InvalidInputError as error:
            await self._pass_over(request, conditions, str(error), None)

    async def _pass_over(
        self, request: CallRequest, conditions: tuple[Condition, ...], why: str, kind: ReasonKind | None
    ) -> None:
        """Store a call that has ended before it began."""
        now, name = self.store.clock.now(), self.queue.name
        (job_id,), (revision,) = new_job_ids(name, 1, at=now), new_revisions(1)
        call = CheckedCall.of(request, at=now)
        job = new_job(call, job_id=job_id, revision=revision, queue=name, at=now)
        ended = lifecycle.cancel(job, at=now, reason=why, policy=self.queue.policy, kind=kind)
        names = (queue_put(name), *batch_puts(name, call.batch_id or "", at=now, is_campaign=False))
        await self.store.write(BulkWrite(writes=(inserted(ended, conditions=conditions, puts=names),)), now=now)
        _log.info("a number of an escalation is passed over", call=job_id, key=call.unique_key, reason=why)

    async def take_back(self, jobs: Iterable[Job], *writes: Write, reason: str, kind: ReasonKind | None = None) -> bool:
        """Cancel those of these calls that have not left, beside other writes; returns whether these were done.

        Raises StoreError.
        """
        now = self.store.clock.now()
        ended = [
            changed(job, lifecycle.cancel(job, at=now, reason=reason, policy=self.queue.policy, kind=kind), at=now)[1]
            for job in jobs
            if job.state in UNSENT
        ]
        if not ended and not writes:
            return True
        answers = await self.store.write(BulkWrite(writes=(*writes, *ended)), now=now)
        return all(answer.result is Result.DONE for answer in answers[: len(writes)])

    async def close(self, found: EscalationStatus, *, reason: str | None = None) -> bool:
        """Put an escalation that is over among those that have ended, and take back its calls that have not left.

        Returns False if something has changed since it was read. Raises StoreError.
        """
        now = self.store.clock.now()
        closing = self.change(found.id, found, replace(found.record, closed_at=now, reason=reason))
        return await self.take_back(found.jobs.values(), closing, reason=found.why_ended)


def opening_of(escalation: Escalation, number: str, *, at: datetime) -> str | None:
    """When the window of a number opens, as the end of a sentence about it; None if it is open."""
    window = None if escalation.window is None else CountryWindows.of(escalation.window).to([number])
    if window is None:
        return None
    opening = first_opening(window, numbers=[number], time_zone=None, at=at, valid_until=None)
    return f"({window}) opens at {in_words(opening.at)}" if opening.problem is None and opening.at > at else None


def not_ended(escalation_id: str) -> AtMost:
    """That an escalation has not ended."""
    return AtMost(ENDED_ESCALATION, (escalation_id,), 0)


def unchanged(found: EscalationStatus) -> Same:
    """That nobody has changed the definition of an escalation since it was read."""
    return Same(DEFINED, found.id, found.text)


async def open_ids(store: Store, queue: str | None) -> dict[str, list[str]]:
    """The ids of the open escalations of a queue, or of all, by queue. Raises StoreError."""
    found: dict[str, list[str]] = {}
    async for page in record_pages(store, OPEN, group=queue):
        for record in page:
            found.setdefault(record.group, []).append(record.member)
    return found


def _list_key(at: datetime, escalation_id: str) -> str:
    """The place of an escalation in the list: later times come first."""
    return f"{newest_first(at)} {escalation_id}"


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[EscalationRecord, Escalation, Mapping[tuple[int, int], str]]:
    """The definition in a stored text, its escalation, and which of its numbers cannot be called, and why.

    Open ones are looked at each second, and seldom change.
    """
    record: EscalationRecord = json_codec(EscalationRecord).value(text)
    escalation, misfits = Escalation.stored(record.escalation), dict[int, str]()
    misfits |= escalation.misfits()
    sizes = (1 if isinstance(step, str) else len(step) for step in escalation.numbers)
    places = [(step, place) for step, size in enumerate(sizes, 1) for place in range(1, size + 1)]
    return record, escalation, {places[number - 1]: why for number, why in misfits.items()}
