"""`write` and `lease` of a SQLite store, in transactions of the group commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
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
from voiceflow_worker.backends.sqlite.connection import SQL, Connection, Row
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import current_record, owner_of, owner_of_key, record_from, standing_of
from voiceflow_worker.backends.writing import OwnValues, Writing
from voiceflow_worker.core.ports import Clock, Event
from voiceflow_worker.core.ports.controls import GATES, HOLDS, LIMITS, gate_member, hold_group, is_closed, limits_from
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Change,
    Condition,
    Delete,
    Drop,
    Edit,
    Insert,
    Mode,
    Owner,
    Put,
    Record,
    Replace,
    Same,
    Write,
    WriteResult,
)
from voiceflow_worker.model.jobs.gcra import Pace
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, outcome_name

_PER_STEP = 32
"""The number of writes that are checked and written at once, before other tasks may run: about 1 ms."""
_PUTS = {Mode.EXTEND: SQL["put_extend"], Mode.KEEP: SQL["put_keep"], Mode.LONGER: SQL["put_longer"]}


def write(
    bulk: BulkWrite, at: int, clock: Clock, transaction: Transaction
) -> Generator[None, None, Sequence[WriteResult]]:
    """Carry out a bulk write, as `core/ports/store.py` promises."""
    work = FileWriting(transaction, clock)
    if (refused := work.refused(bulk, at)) is not None:
        return refused
    answers: list[WriteResult] = []
    for start in range(0, len(bulk.writes), _PER_STEP):
        if start:
            yield
        writes = bulk.writes[start : start + _PER_STEP]
        work.look_up(writes, at)
        answers += [work.answer(write, at) for write in writes]
        work.end()
    return answers


class FileWriting(Writing[int]):
    """The check and the writing of writes in one transaction. Times are in microseconds."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._transaction = transaction
        self._db = transaction.db
        self._clock = clock
        self._new: dict[str, Job] = {}
        self._edited: list[Row] = []
        self._renumbered: dict[str, tuple[Job, Sequence[str]]] = {}
        """The edited jobs with other numbers, and those that each had."""
        self._moved: list[Row] = []
        self._put_off: dict[tuple[str, str, str], tuple[str, Row]] = {}
        """The puts that are not written yet, by their records: the statement of each, and its values."""
        self._events: list[Row] = []
        self._kept: set[tuple[str, str, str]] = set()
        """The records that were put to be kept, and not dropped since: names of batches, with each call of a file."""
        self._revisions: dict[str, str | None] = {}
        self._owners: dict[str, Owner | None] = {}
        self._groups: dict[tuple[str, str], list[Record]] = {}
        self._records: dict[tuple[str, str, str], Record | None] = {}
        self._held: dict[int, Condition] = {}
        """The conditions that hold until a record changes, by their identities: all calls of a list share some."""
        self._paces: dict[str, Pace] = {}
        self._paced: set[str] = set()
        """The queues whose pace has changed."""

    def look_up(self, writes: Sequence[Write], at: int) -> None:
        """Read at once what these writes ask for. What one of them changes is forgotten, or known from then on."""
        changes = [change for write in writes for change in write.changes]
        conditions = list({id(each): each for write in writes for each in write.conditions}.values())
        self._held = {}
        self._revisions = dict.fromkeys([change.job.id for change in changes])
        if changes:
            self._revisions |= dict(self._found(SQL["revisions_of"], self._revisions))
        new = [change.job for change in changes if isinstance(change, Insert)]
        keys = [job.unique_key for job in new if job.unique_key is not None]
        self._owners = dict.fromkeys(keys)
        for key, *head in self._found(SQL["heads_of_keys"], self._owners, at) if keys else ():
            self._owners[key] = self._owners[key] or owner_of(*head)
        self._groups = {
            (each.namespace, group): [] for each in conditions if isinstance(each, AtMost) for group in each.groups
        }
        for namespace, *row in self._found(SQL["records_of_groups"], self._groups, at) if self._groups else ():
            self._groups[namespace, row[0]].append(record_from(row))
        self._records = {
            (each.namespace, each.group, each.member): None for each in conditions if isinstance(each, Same)
        }
        for namespace, *row in self._found(SQL["records_of_keys"], self._records, at) if self._records else ():
            self._records[namespace, row[0], row[3]] = record_from(row)

    def _found(self, statement: str, asked: Iterable[object], *bindings: object) -> list[Row]:
        return self._db.rows(statement, (orjson.dumps(list(asked)).decode(), *bindings))

    def _failed_by(self, condition: Condition, own: OwnValues, at: int) -> tuple[Record | None] | None:
        if id(condition) in self._held:
            return None
        failed = super()._failed_by(condition, own, at)
        if failed is None and not own and isinstance(condition, Same):
            self._held[id(condition)] = condition
        return failed

    def record(self, namespace: str, group: str, at: int, member: str = "") -> Record | None:
        key = (namespace, group, member)
        if key not in self._records:
            self.flush()
            self._records[key] = current_record(self._db, namespace, group, at, member)
        return self._records[key]

    def group(self, namespace: str, group: str, at: int) -> Sequence[Record]:
        key = (namespace, group)
        if key in self._groups:
            return self._groups[key]
        self.flush()
        return standing_of(self._db, namespace, group, at)

    def revision(self, job_id: str) -> str | None:
        if job_id not in self._revisions:
            self._revisions |= {job_id: None, **dict(self._found(SQL["revisions_of"], [job_id]))}
        return self._revisions[job_id]

    def owner(self, key: str, at: int) -> Owner | None:
        if key in self._owners:
            return self._owners[key]
        self.flush()
        return owner_of_key(self._db, key, at)

    def pace(self, queue: str) -> Pace:
        if queue not in self._paces:
            rows = self._db.rows(SQL["pace"], (queue,))
            self._paces[queue] = Pace(*rows[0]) if rows else Pace()
        return self._paces[queue]

    def set_pace(self, queue: str, pace: Pace) -> None:
        self._paces[queue] = pace
        self._paced.add(queue)

    def end(self) -> None:
        """Write what is written once for all writes: what was put off, and the paces of their queues."""
        self.flush()
        for queue in self._paced:
            pace = self._paces[queue]
            self._db.run(SQL["set_pace"], (queue, pace.rate, pace.burst, pace.tat, pace.last, pace.unreached))
        self._paces.clear()
        self._paced.clear()

    def store(self, write: Write, at: int) -> None:
        for change in write.changes:
            self._change(change)
        for put in write.puts:
            self._put(put, at)
        for drop in write.drops:
            self.flush()
            self._forget(drop)
            self._kept.clear()
            self._db.run(SQL["drop"], (drop.namespace, drop.group, drop.member, drop.value))
        for event in write.events:
            self._events.append(event_row(event))
        if write.wakes is not None:
            self._transaction.changed.add(write.wakes)

    def flush(self) -> None:
        """Write what was put off: each statement once for all its rows. A read of what may have changed comes after."""
        if self._edited:
            self._db.run_each(SQL["edit_job"], [(*row, job_id) for *row, _, job_id in self._edited])
            self._db.run_each(SQL["edit_body"], [row[-2:] for row in self._edited])
            self._edited = []
            for job, had in self._renumbered.values():
                self._db.run_each(SQL["drop_number"], [(job.queue, number, job.id) for number in had])
                self._db.run_each(SQL["add_number"], [(job.queue, number, job.id) for number in job.numbers])
            self._renumbered = {}
        if self._new:
            self._insert()
        if self._moved:
            self._db.run_each(SQL["move_job"], self._moved)
            self._moved = []
        if self._put_off:
            by_statement = defaultdict[str, list[Row]](list)
            for statement, row in self._put_off.values():
                by_statement[statement].append(row)
            for statement, rows in by_statement.items():
                self._db.run_each(statement, rows)
            self._put_off = {}
        if self._events:
            self._db.run_each(SQL["insert_event"], self._events)
            self._events = []

    def _insert(self) -> None:
        ((last,),) = self._db.rows(SQL["last_number"])
        numbered = list(enumerate(self._new.values(), last + 1))
        self._new = {}
        self._db.insert(SQL["insert_jobs"], [(number, *job_row(job)) for number, job in numbered])
        self._db.insert(SQL["insert_bodies"], [(number, job.body) for number, job in numbered])
        numbers = [(job.queue, telephone, number) for number, job in numbered for telephone in job.numbers]
        self._db.insert(SQL["insert_numbers"], numbers)

    def _forget(self, changed: Put | Drop) -> None:
        self._held = {}
        self._groups.pop((changed.namespace, changed.group), None)
        self._records.pop((changed.namespace, changed.group, changed.member), None)

    def _change(self, change: Change) -> None:
        self._revisions[change.job.id] = None if isinstance(change, Delete) else change.job.revision
        if isinstance(change, Delete):
            self.flush()
            self._held = {}
            self._owners.clear()  # a tombstone may take its key
        elif change.job.id in self._new or change.job.id in self._renumbered:
            self.flush()
        match change:
            case Insert(job, tally):
                self._new[job.id] = job
                if job.unique_key is not None:
                    self._owners[job.unique_key] = Owner(job.id, job.body_digest, job.state)
                count(self._transaction, job, tally)
            case Replace(_, job, tally):
                self._move(job)
                if job.unique_key is not None:
                    self._owners.pop(job.unique_key, None)  # its state is another one now
                if isinstance(change, Edit):
                    valid_until = to_micros_or_none(job.valid_until)
                    self._edited.append((job.urgency, valid_until, job.destination, job.body, job.id))
                    if change.numbers is not None:
                        self._renumbered[job.id] = job, change.numbers
                count(self._transaction, job, tally)
            case Delete():
                self._delete(change)

    def _delete(self, change: Delete) -> None:
        job, until = change.job, change.keep_key_until
        for row in self._db.rows(SQL["delete_job"], (job.id,)):
            self._db.run(SQL["delete_body"], row)
            for number in job.numbers:
                self._db.run(SQL["delete_number"], (job.queue, number, *row))
            count(self._transaction, job, change.tally)
            if job.batch_id is not None:
                self._transaction.lessened.add((job.queue, job.batch_id))
            if job.unique_key is not None and until is not None:
                self._db.run(SQL["put"], tombstone_row(job, to_micros(until)))

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
        self._moved.append(row)

    def _put(self, put: Put, at: int) -> None:
        key = (put.namespace, put.group, put.member)
        if put.mode is Mode.KEEP:
            if key in self._kept:
                return
            self._kept.add(key)
        self._forget(put)
        row: Row = (*key, put.value, to_micros_or_none(put.ends_at))
        if put.mode is Mode.ALWAYS:
            self._put_off[key] = (SQL["put"], row)  # in place of an earlier put
            return
        if key in self._put_off:
            self.flush()
        self._put_off[key] = (_PUTS[put.mode], (*row, at))


def count(transaction: Transaction, job: Job, tally: Mapping[str, int]) -> None:
    for name, amount in tally.items():
        transaction.live[job.queue, job.batch_id, name] += amount


def job_row(job: Job) -> Row:
    return (*head_of(job), record_of(job), outcome_name(job))


def event_row(event: Event) -> Row:
    queue = event.job_id.partition(".")[0]
    return (queue, event.job_id, event.kind.value, to_micros(event.at), event.state.value, event.revision, event.post)


def tombstone_row(job: Job, until: int) -> Row:
    """Return the record (tombstone) that keeps the unique key of a deleted job taken."""
    return (TOMBSTONE, "", job.unique_key, orjson.dumps(tombstone_of(job)).decode(), until)


_LEAST, _MOST = -(2**63), 2**63 - 1

_MOST_HELD = 5000
"""The most calls of held batches that a lease passes over. Behind more of
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
    is_held = batch is not None and _Held(db, queue, at).holds(batch)
    if is_held or is_closed(current_record(db, GATES, queue, at, gate_member(None))):
        return []
    due = _due(db, queue, batch, at=at, limit=min(limit, _room(db, queue, at=at)))
    numbers = [row[3] for row in due]
    token = uuid4().hex
    db.run_each(SQL["lease"], [(worker_id, until, f"{token}.{place}", number) for place, number in enumerate(numbers)])
    rows = db.rows_of_each(SQL["job_by_number"], [(number,) for number in numbers])
    for row in rows:
        transaction.live[queue, row[7], STATE + JobState.QUEUED] -= 1
        transaction.live[queue, row[7], STATE + JobState.LEASED] += 1
    return rows


def _due(db: Connection, queue: str, batch: str | None, *, at: int, limit: int) -> list[Row]:
    """Return due jobs: those of the highest urgency first, then the earliest due, then by id."""
    if limit <= 0:
        return []
    held = _Held(db, queue, at)
    if batch is not None:
        return held.leave_out(_due_rows(db, queue, batch, _OF_BATCH, at=at, limit=limit), limit) or []
    rows = held.leave_out(_due_rows(db, queue, None, _OF_QUEUE, at=at, limit=limit), limit, most_held=_MOST_HELD)
    if rows is not None:
        return rows
    found = list[Row]()
    for each in _open_batches(db, queue, held):
        found += held.leave_out(_due_rows(db, queue, each, _OF_BATCH, at=at, limit=limit), limit) or ()
    return sorted(found, key=lambda row: (-row[0], *row[1:3]))[:limit]


class _Held:
    """The jobs that no lease takes: those of held batches.

    Each batch is looked up once, when a job of it is met, so that other closed batches cost nothing.
    """

    def __init__(self, db: Connection, queue: str, at: int) -> None:
        self._db, self._queue, self._at = db, queue, at
        self._known: dict[str, bool] = {}

    def holds(self, batch: str | None) -> bool:
        if batch is None:
            return False
        if batch not in self._known:
            gate = current_record(self._db, GATES, self._queue, self._at, gate_member(batch))
            holds = standing_of(self._db, HOLDS, hold_group(self._queue, batch), self._at)
            self._known[batch] = is_closed(gate) or bool(holds)
        return self._known[batch]

    def leave_out(self, rows: Iterator[Row], limit: int, *, most_held: int = _MOST) -> list[Row] | None:
        """Return the first `limit` rows whose jobs are not held; None if more than `most_held` are before them."""
        free = list[Row]()
        for row in rows:
            if not self.holds(row[4]):
                free.append(row)
                if len(free) == limit:
                    break
            elif (most_held := most_held - 1) < 0:
                return None
        return free


def _open_batches(db: Connection, queue: str, held: _Held) -> Iterator[str | None]:
    """Return the batches with queued jobs that are not closed; None is the jobs without one."""
    yield from (each for each in (None, "") if not held.holds(each))
    name: str | None = ""
    while (name := db.rows(SQL["next_batch"], (queue, name))[0][0]) is not None:
        if not held.holds(name):
            yield name


def _due_rows(
    db: Connection, queue: str, batch: str | None, statements: tuple[str, str], *, at: int, limit: int
) -> Iterator[Row]:
    """Return due jobs in the order of leasing, held ones among them."""
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


def _room(db: Connection, queue: str, *, at: int) -> int:
    """Return how many more calls of the queue may be open."""
    most = limits_from(current_record(db, LIMITS, queue, at)).max_active
    if most is None:
        return _MOST
    open_now: int = db.rows(SQL["open_calls"], (queue, at, most))[0][0]
    return most - open_now
