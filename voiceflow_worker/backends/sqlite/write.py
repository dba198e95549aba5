"""`write` and `lease` of a SQLite store, in transactions of the group commit."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import overload
from uuid import uuid4

import orjson

from voiceflow_worker.backends.record import (
    TOMBSTONE,
    head_of,
    record_of,
    to_micros,
    to_micros_or_none,
    tombstone_of,
)
from voiceflow_worker.backends.running import newer_schema
from voiceflow_worker.backends.sqlite.connection import SQL, Connection, Row
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.opening import SCHEMA_VERSION
from voiceflow_worker.backends.sqlite.reading import (
    current_record,
    owner_of_key,
    standing_of,
)
from voiceflow_worker.core.ports import Clock, Event
from voiceflow_worker.core.ports.controls import GATES, LIMITS, STARTS, gate_member, is_closed, limits_from
from voiceflow_worker.core.ports.store import (
    CLOSED,
    CLOSED_KEY,
    Absent,
    AtMost,
    Before,
    BulkWrite,
    Condition,
    Delete,
    Edit,
    Handover,
    Insert,
    Mode,
    OpenGate,
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
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, outcome_name

_DONE = WriteResult(result=Result.DONE)
_PER_STEP = 16
"""The number of writes that are written before other tasks may run: less than 1 ms."""
_PUTS = {Mode.EXTEND: SQL["put_extend"], Mode.KEEP: SQL["put_keep"], Mode.LONGER: SQL["put_longer"]}


def write(
    bulk: BulkWrite, at: int, clock: Clock, shown: str, transaction: Transaction
) -> Generator[None, None, Sequence[WriteResult]]:
    """Carry out a bulk write, as `core/ports/store.py` promises."""
    work = Writing(transaction, at, clock)
    closed = current_record(transaction.db, CLOSED, CLOSED_KEY, at)
    if closed is not None and not passes_closed(bulk):
        raise StoreClosedError(shown, closed.value)
    if bulk.guard is not None:
        puts = [put for write in bulk.writes for put in write.puts]
        if bulk.guard.server or work.failed_by(bulk.guard.known, puts) is not None:
            not_verified = WriteResult(result=Result.NOT_VERIFIED)
            return [
                _DONE if work.was_written(write, work.revision_of(write)) else not_verified for write in bulk.writes
            ]
    if bulk.together:
        return _together(bulk.writes, work, transaction)
    answers: list[WriteResult] = []
    for place, write in enumerate(bulk.writes, 1):
        answers.append(work.answer(write))
        if place % _PER_STEP == 0:
            yield
    return answers


def _together(writes: Sequence[Write], work: Writing, transaction: Transaction) -> Sequence[WriteResult]:
    """All writes or none. In one go: other operations of the transaction must not come between, and be undone too."""
    before = transaction.live.copy(), transaction.pruned.copy(), transaction.changed.copy()
    transaction.db.run("SAVEPOINT together")
    answers = [work.answer(write) for write in writes]
    refused = [refuses_all(write, answer) for write, answer in zip(writes, answers, strict=True)]
    if any(refused):
        transaction.db.run("ROLLBACK TO together")
        transaction.live, transaction.pruned, transaction.changed = before
        rolled_back = WriteResult(result=Result.ROLLED_BACK)
        answers = [
            answer if refuses or answer.result is not Result.DONE else rolled_back
            for answer, refuses in zip(answers, refused, strict=True)
        ]
    transaction.db.run("RELEASE together")
    return answers


class Writing:
    """The check and the writing of writes in one transaction."""

    def __init__(self, transaction: Transaction, at: int, clock: Clock) -> None:
        self._transaction = transaction
        self._db = transaction.db
        self._at = at
        self._clock = clock

    def answer(self, write: Write) -> WriteResult:
        """Check all of a write, then write all of it."""
        revision = self.revision_of(write)
        if self.was_written(write, revision):
            return _DONE
        refusal = self._refused_change(write, revision) or self._refused_condition(write)
        if refusal is not None:
            return refusal
        slot = None if write.slot is None else self._allot(write.slot)
        if slot is not None and slot.at is None:
            return WriteResult(result=Result.NO_SLOT, slot=slot)
        self._change(write)
        for put in write.puts:
            self._put(put)
        for drop in write.drops:
            self._db.run(SQL["drop"], (drop.namespace, drop.group, drop.member, drop.value))
        for event in write.events:
            self._db.run(SQL["insert_event"], event_row(event))
        if write.wakes is not None:
            self._transaction.changed.add(write.wakes)
        return _DONE if slot is None else WriteResult(result=Result.DONE, slot=slot)

    def was_written(self, write: Write, revision: str | None) -> bool:
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
                    (
                        record := current_record(
                            self._db, condition.namespace, condition.group, self._at, condition.member
                        )
                    )
                    is not None
                    and puts.get((condition.namespace, condition.group, condition.member))
                    == record.value
                    != condition.value
                    for condition in swaps
                )

    def revision_of(self, write: Write) -> str | None:
        """The revision of the job of a write; None if there is no such job."""
        return None if write.change is None else self._revision(write.change.job.id)

    def _revision(self, job_id: str) -> str | None:
        rows = self._db.rows(SQL["revision_of"], (job_id,))
        return rows[0][0] if rows else None

    def _refused_change(self, write: Write, revision: str | None) -> WriteResult | None:
        match write.change:
            case Insert(job, over) if job.unique_key is not None:
                owner = owner_of_key(self._db, job.queue, job.unique_key, self._at)
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
        return owner.job_id == over.owner and self._revision(owner.job_id) == revision

    def _refused_condition(self, write: Write) -> WriteResult | None:
        if not write.conditions:
            return None
        groups = [
            (each.namespace, group) for each in write.conditions if isinstance(each, Absent) for group in each.groups
        ]
        # Nearly always there is none in any of them.
        all_absent = not self._db.rows(SQL["any_of_groups"], (orjson.dumps(groups).decode(), self._at))
        for condition in write.conditions:
            if all_absent and isinstance(condition, Absent):
                continue
            failed = self.failed_by(condition, write.puts)
            if failed is not None:
                return WriteResult(result=Result.NOT_FREE, condition=condition, record=failed[0])
        return None

    def failed_by(self, condition: Condition, puts: Sequence[Put]) -> tuple[Record | None] | None:
        """The record by which a condition fails; None if it holds."""
        match condition:
            case Absent(namespace, groups, owner):
                found = (each for group in groups for each in standing_of(self._db, namespace, group, self._at))
                return next(((each,) for each in found if not is_owned_by(each.value, owner)), None)
            case AtMost(namespace, group, most, owner):
                members = standing_of(self._db, namespace, group, self._at)
                counted = [record for record in members if not is_owned_by(record.value, owner)]
                counted.sort(key=lambda record: (record.ends_at is None, record.ends_at))
                return (counted[len(counted) - most - 1],) if len(counted) > most else None
            case Same(namespace, group, value, member):
                held = current_record(self._db, namespace, group, self._at, member)
                has = None if held is None else held.value
                key = (namespace, group, member)
                ours = {put.value for put in puts if (put.namespace, put.group, put.member) == key}
                return None if has == value or has in ours else (held,)
            case OpenGate(queue, batch):
                scopes = [None] if batch is None else [None, batch]
                gates = (current_record(self._db, GATES, queue, self._at, gate_member(scope)) for scope in scopes)
                return next(((gate,) for gate in gates if is_closed(gate)), None)
            case Before(until):
                return (None,) if self._clock.now() >= until else None

    def _allot(self, slot: Slot) -> SendSlot:
        limits = limits_from(current_record(self._db, LIMITS, slot.queue, self._at))
        if limits.rate is None:
            return SendSlot(slot.after, slot.after)
        rows = self._db.rows(SQL["pace"], (slot.queue,))
        pace = Pace(*rows[0]) if rows else Pace()
        after, found = pace.allot(rate=limits.rate, burst=limits.burst, after=slot.after, until=slot.until)
        if after != pace:
            self._db.run(SQL["set_pace"], (slot.queue, *astuple(after)))
        return found

    def _change(self, write: Write) -> None:
        match write.change:
            case Insert(job, over):
                if over is not None:
                    self._hand_over(job, over)
                self._db.run(SQL["insert_job"], job_row(job))
                self._db.run(SQL["insert_body"], (job.body,))
                for number in job.numbers:
                    self._db.run(SQL["insert_number"], (job.queue, number))
                count(self._transaction, job, write.tally)
            case Replace(_, job):
                self._move(job)
                if isinstance(write.change, Edit):
                    self._db.run(SQL["edit_job"], (job.urgency, to_micros_or_none(job.valid_until), job.id))
                    self._db.run(SQL["edit_body"], (job.body, job.id))
                count(self._transaction, job, write.tally)
            case Delete(job, keep_key_until):
                (row,) = self._db.rows(SQL["delete_job"], (job.id,))
                self._db.run(SQL["delete_body"], row)
                for number in job.numbers:
                    self._db.run(SQL["delete_number"], (job.queue, number, *row))
                count(self._transaction, job, write.tally)
                if job.batch_id is not None:
                    for name, amount in write.tally.items():
                        self._transaction.pruned[job.queue, job.batch_id, name] -= amount
                if job.unique_key is not None and keep_key_until is not None:
                    self._db.run(SQL["put"], tombstone_row(job, to_micros(keep_key_until)))
            case None:
                pass

    def _move(self, job: Job) -> None:
        row = (
            job.state.value,
            to_micros(job.due_at),
            job.revision,
            job.worker_id,
            to_micros_or_none(job.active_until),
            record_of(job),
            outcome_name(job),
            job.id,
        )
        self._db.run(SQL["move_job"], row)

    def _hand_over(self, job: Job, over: Handover) -> None:
        """Take the unique key of a new job from the job that has it, if one does."""
        self._db.run(SQL["drop"], (TOMBSTONE, job.queue, job.unique_key, None))
        if over.change is not None and self._revision(over.owner) == over.change.revision:
            self._move(over.change.job)
            self._db.run(SQL["release_key"], (over.owner,))

    def _put(self, put: Put) -> None:
        row: Row = (put.namespace, put.group, put.member, put.value, to_micros_or_none(put.ends_at))
        if put.mode is Mode.ALWAYS:
            self._db.run(SQL["put"], row)
        else:
            self._db.run(_PUTS[put.mode], (*row, self._at))


def count(transaction: Transaction, job: Job, tally: Mapping[str, int]) -> None:
    """Add a tally (changes of counters) to the counters of a job's queue and batch."""
    for name, amount in tally.items():
        transaction.live[job.queue, job.batch_id, name] += amount


def job_row(job: Job) -> Row:
    """The row of a job, without its number."""
    return (*head_of(job), record_of(job), outcome_name(job))


def event_row(event: Event) -> Row:
    """The row of an event, without its sequence."""
    queue = event.job_id.partition(".")[0]
    return (queue, event.job_id, event.kind.value, to_micros(event.at), event.state.value, event.revision, event.post)


def tombstone_row(job: Job, until: int) -> Row:
    """The record (tombstone) that keeps the unique key of a deleted job taken."""
    return (TOMBSTONE, job.queue, job.unique_key, orjson.dumps(tombstone_of(job)).decode(), until)


_LEAST, _MOST = -(2**63), 2**63 - 1

_MOST_HELD = 5000
"""The most calls of held batches, and of imports that are not complete, that a lease passes over. Behind more of
them, it checks the batches with queued calls, one by one: an index seek for each."""
_AT_ONCE = 250
_OF_QUEUE = SQL["next_urgency"], SQL["due"]
_OF_BATCH = SQL["next_urgency_of_batch"], SQL["due_of_batch"]


def lease(
    queue: str, batch: str | None, transaction: Transaction, *, worker_id: str, limit: int, until: int, at: int
) -> Generator[None, None, list[Row]]:
    """Lease at most `limit` due jobs to a worker, and return their rows."""
    yield from ()
    db = transaction.db
    if (number := db.pragma("user_version")) > SCHEMA_VERSION:
        raise newer_schema(number, SCHEMA_VERSION, str(db.path))
    gates = [None] if batch is None else [None, batch]
    if any(is_closed(current_record(db, GATES, queue, at, gate_member(each))) for each in gates):
        return []
    room, ordinary = _room(db, queue, at=at)
    due = _due(db, queue, batch, at=at, limit=min(limit, room))
    urgent = sum(row[0] > 1 for row in due)
    numbers = [row[3] for row in due[: urgent + ordinary]]
    token = uuid4().hex
    db.run_each(SQL["lease"], [(worker_id, until, f"{token}.{place}", number) for place, number in enumerate(numbers)])
    rows = db.rows_of_each(SQL["job_by_number"], [(number,) for number in numbers])
    for row in rows:
        transaction.live[queue, row[7], STATE + JobState.QUEUED] -= 1
        transaction.live[queue, row[7], STATE + JobState.LEASED] += 1
    return rows


def _due(db: Connection, queue: str, batch: str | None, *, at: int, limit: int) -> list[Row]:
    """Due jobs: those of the highest urgency first, then the earliest due, then by id."""
    if limit <= 0:
        return []
    held = _Held(db, queue, at)
    if batch is not None:
        return held.leave_out(_due_rows(db, queue, batch, _OF_BATCH, at=at, limit=limit), limit)
    rows = held.leave_out(_due_rows(db, queue, None, _OF_QUEUE, at=at, limit=limit), limit, most_held=_MOST_HELD)
    if rows is not None:
        return rows
    found = list[Row]()
    for each in _open_batches(db, queue, held):
        found += held.leave_out(_due_rows(db, queue, each, _OF_BATCH, at=at, limit=limit), limit)
    return sorted(found, key=lambda row: (-row[0], *row[1:3]))[:limit]


class _Held:
    """The jobs that no lease takes: those of held batches, and of imports that are not complete.

    Each is looked up once, when a job of it is met, so that other closed batches cost nothing.
    """

    def __init__(self, db: Connection, queue: str, at: int) -> None:
        self._db, self._queue, self._at = db, queue, at
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def holds(self, batch: str | None, start: str | None = None) -> bool:
        """Whether a batch is closed, or an import of it is open."""
        if (batch, start) not in self._known:
            is_held = start is not None and self._record(STARTS, f"{start} {batch or ''}") is not None
            if not is_held and batch is not None:
                is_held = is_closed(self._record(GATES, gate_member(batch))) if start is None else self.holds(batch)
            self._known[batch, start] = is_held
        return self._known[batch, start]

    def _record(self, namespace: str, member: str) -> Record | None:
        return current_record(self._db, namespace, self._queue, self._at, member)

    @overload
    def leave_out(self, rows: Iterator[Row], limit: int) -> list[Row]: ...
    @overload
    def leave_out(self, rows: Iterator[Row], limit: int, *, most_held: int) -> list[Row] | None: ...
    def leave_out(self, rows: Iterator[Row], limit: int, *, most_held: int | None = None) -> list[Row] | None:
        """The first rows whose jobs are not held, at most `limit`; None if more than `most_held` are before them."""
        free = list[Row]()
        left = most_held
        for row in rows:
            if not self.holds(*row[4:6]):
                free.append(row)
                if len(free) == limit:
                    break
            elif left is not None:
                left -= 1
                if left < 0:
                    return None
        return None if left is not None and left < 0 else free


def _open_batches(db: Connection, queue: str, held: _Held) -> Iterator[str | None]:
    """The batches with queued jobs that are not closed; None is the jobs without one."""
    yield from (each for each in (None, "") if not held.holds(each))
    name: str | None = ""
    while (name := db.rows(SQL["next_batch"], (queue, name))[0][0]) is not None:
        if not held.holds(name):
            yield name


def _due_rows(
    db: Connection, queue: str, batch: str | None, statements: tuple[str, str], *, at: int, limit: int
) -> Iterator[Row]:
    """Due jobs in the order of leasing, held ones among them."""
    next_urgency, due = statements
    urgency: int | None = _MOST
    while (urgency := db.rows(next_urgency, (queue, batch, urgency))[0][0]) is not None:
        asked = {"queue": queue, "batch": batch, "at": at, "urgency": urgency}
        behind: tuple[int, str] = (_LEAST, "")
        while rows := db.rows(due, asked | {"due": behind[0], "id": behind[1], "limit": limit}):
            yield from rows
            if len(rows) < limit:
                break
            behind, limit = rows[-1][1:3], max(limit, _AT_ONCE)  # held ones were met
        if urgency == _LEAST:
            return
        urgency -= 1


def _room(db: Connection, queue: str, *, at: int) -> tuple[int, int]:
    """How many more calls of the queue may be open, and how many of them without a priority above 0."""
    limits = limits_from(current_record(db, LIMITS, queue, at))
    most, ordinary = limits.max_active, _MOST
    if most is None:
        return _MOST, _MOST
    open_now: int = db.rows(SQL["open_calls"], (queue, at, most))[0][0]
    if limits.reserve:
        ordinary = max(most - limits.reserve - db.rows(SQL["open_ordinary_calls"], (queue, at, most))[0][0], 0)
    return most - open_now, ordinary
