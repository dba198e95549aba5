"""A SQLite store with the nine methods of `core/store_port.py`, over the tables of this backend.

`write` is thin: it checks and writes a unit in the transaction of the group commit. Counters are kept by the triggers
of the schema, from the tallies of jobs. Leases and departure times read the tables of gates and of limits, which follow
their records.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from voiceflow_worker.backends.departures import repaced
from voiceflow_worker.backends.matching import matches
from voiceflow_worker.backends.record import from_micros_or_none, head_of, record_of, to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.control import pace_of, row_of
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import event_row, job_of, tally_record
from voiceflow_worker.backends.sqlite.records import behind_all_with, drop_some
from voiceflow_worker.backends.tombstones import remembered, tombstone_of
from voiceflow_worker.core.ports import Clock, Event
from voiceflow_worker.core.store_port import (
    GATES,
    LIMITS,
    Absent,
    Answer,
    AtMost,
    Delete,
    Insert,
    Mode,
    Need,
    OpenGate,
    Order,
    Owner,
    Page,
    Put,
    Query,
    Record,
    Replace,
    Result,
    Same,
    Slots,
    Step,
    Unit,
    Wanted,
    Written,
    belongs,
    check_step,
    gate_from,
    gate_key,
    is_closed,
    limits_from,
    refuses_all,
)
from voiceflow_worker.model.jobs.gate import GateScope
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import STATE, Totals

if TYPE_CHECKING:
    from voiceflow_worker.backends.sqlite.store import SqliteStore

_DONE = Answer(result=Result.DONE)
_PER_STEP = 16
"""The number of units that are written before other tasks may run: less than 1 ms."""
_PUTS = {Mode.EXTEND: "put_extend", Mode.KEEP: "put_keep", Mode.LONGER: "put_longer"}


class OneDomain:
    """The nine methods over an open SQLite store."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._writer = store.writer
        self._reader = store.reader

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def clock(self) -> Clock:
        return self._store.clock

    async def write(self, step: Step, *, now: datetime) -> Written:
        check_step(step)
        if not step.units and step.server is None and step.known is None:
            return Written((), "")
        return await self._writer.carry_out(partial(_write, step, to_micros(now)), durably=step.durable)

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        return await self._store.jobs.lease(
            queue, worker_id=worker_id, limit=limit, lease_for=until - now, now=now, batch_id=batch
        )

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        return await self._store.control.take(queue, wanted=wanted, horizon=horizon, now=now)

    async def jobs(self, query: Query, *, now: datetime) -> Sequence[Job]:
        jobs = self._store.jobs
        if query.ids is None and query.unique_keys is None:
            return await jobs.find(query)
        if query.ids is not None:
            found = list((await jobs.get(list(dict.fromkeys(query.ids)))).values())
        else:
            found = await self._reader.look(partial(_of_keys, query.queue, query.unique_keys or (), to_micros(now)))
        matching = [job for job in found if matches(query, job)]
        matching.sort(key=lambda job: (job.due_at if query.order is Order.DUE else job.created_at, job.id))
        if query.order is Order.NEWEST:
            matching.reverse()
        return matching if query.limit is None else matching[: max(query.limit, 0)]

    async def totals(self, queue: str, *, batch: str | None = None, due_before: datetime | None = None) -> Totals:
        if due_before is not None:
            counted = await self._store.jobs.count(queue, batch_id=batch, due_before=due_before)
            return Totals(live={STATE + state: count for state, count in counted.items()})
        return await self._store.jobs.totals(queue, batch_id=batch)

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        return await self._reader.look(partial(_records, wanted, to_micros(now)))

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return await self._store.jobs.events(queue, after=after, limit=limit)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._store.jobs.wait(queue, seen=seen, until=until)

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        pruned = 0
        for statement, bindings in (
            (statements("records")["prune_records"], (to_micros(now),)),
            (statements("write")["prune_tombstones"], (queue, to_micros(now))),
            (statements("write")["prune_events"], (queue, to_micros(events_before))),
        ):
            some = partial(drop_some, statement, (*bindings, max(limit - pruned, 0)))
            pruned += await self._writer.carry_out(some)
        return pruned

    async def close(self) -> None:
        """Nothing: the store is closed by its context manager."""


# --- write ---


def _write(step: Step, at: int, transaction: Transaction) -> Generator[None, None, Written]:
    work = _Writing(transaction, at)
    puts = [put for unit in step.units for put in unit.puts]
    vetted = step.server in {None, ""} and (step.known is None or work.failed_by(step.known, puts) is None)
    if not vetted:
        unvetted = Answer(result=Result.UNVETTED)
        return Written(tuple(_DONE if work.was_written(unit) else unvetted for unit in step.units), "")
    if not step.together:
        answers: list[Answer] = []
        for place, unit in enumerate(step.units, 1):
            answers.append(work.answer(unit))
            if place % _PER_STEP == 0:
                yield
        return Written(tuple(answers), "")
    # In one go: other operations of this transaction must not come between, because they would be undone too.
    transaction.db.run("SAVEPOINT together")
    answers = [work.answer(unit) for unit in step.units]
    refused = [refuses_all(unit, answer) for unit, answer in zip(step.units, answers, strict=True)]
    if any(refused):
        transaction.db.run("ROLLBACK TO together")
        withheld = Answer(result=Result.WITHHELD)
        answers = [
            answer if refuses or answer.result is not Result.DONE else withheld
            for answer, refuses in zip(answers, refused, strict=True)
        ]
    transaction.db.run("RELEASE together")
    return Written(tuple(answers), "")


class _Writing:
    """The check and the writing of units in one transaction."""

    def __init__(self, transaction: Transaction, at: int) -> None:
        self._transaction = transaction
        self._db = transaction.db
        self._at = at
        self._jobs, self._records, self._own = statements("jobs"), statements("records"), statements("write")

    def answer(self, unit: Unit) -> Answer:
        if not self._is_new(unit):
            if self.was_written(unit):
                return _DONE
            if (refusal := self._refused_change(unit)) is not None:
                return refusal
        if (refusal := self._refused_need(unit)) is not None:
            return refusal
        self._change(unit)
        for put in unit.puts:
            self._put(put)
        for drop in unit.drops:
            self._db.run(self._records["delete_record"], (drop.namespace, drop.key, drop.value))
            if drop.namespace == GATES and not self._standing(GATES, drop.key):
                self._db.run(self._own["drop_gate"], _gate_place(drop.key))
        for event in unit.events:
            queue = event.job_id.partition(".")[0]
            self._db.run(statements("outbox")["insert_event"], event_row(queue, event))
        if unit.wakes is not None:
            self._transaction.changed.add(unit.wakes)
        return _DONE

    def _is_new(self, unit: Unit) -> bool:
        """Whether this is a new job whose id and key are free: one statement, because files have millions of them."""
        if not isinstance(unit.change, Insert):
            return False
        job = unit.change.job
        return not self._db.rows(self._own["is_taken"], (job.id, job.queue, job.unique_key))

    def was_written(self, unit: Unit) -> bool:
        match unit.change:
            case Insert(job):
                return self._revision(job.id) is not None
            case Replace(_, job):
                return self._revision(job.id) == job.revision
            case Delete(job):
                return self._revision(job.id) is None
            case None:
                puts = {(put.namespace, put.key): put.value for put in unit.puts}
                swaps = [need for need in unit.needs if isinstance(need, Same)]
                return any(
                    (record := self._standing(need.namespace, need.key)) is not None
                    and puts.get((need.namespace, need.key)) == record.value != need.value
                    for need in swaps
                )

    def _revision(self, job_id: str) -> str | None:
        rows = self._db.rows(self._jobs["revision_of"], (job_id,))
        return rows[0][0] if rows else None

    def _refused_change(self, unit: Unit) -> Answer | None:
        match unit.change:
            case Insert(job) if job.unique_key is not None:
                owners = _of_keys(job.queue, (job.unique_key,), self._at, self._db)
                owner = [Owner(each.id, each.body_digest, each.state) for each in owners]
                return Answer(result=Result.EXISTS, owner=owner[0]) if owner else None
            case Replace(revision, job) | Delete(Job(revision=revision) as job):
                return None if self._revision(job.id) == revision else Answer(result=Result.STALE)
            case _:
                return None

    def _refused_need(self, unit: Unit) -> Answer | None:
        for need in unit.needs:
            failed = self.failed_by(need, unit.puts)
            if failed is not None:
                return Answer(result=Result.NOT_FREE, need=need, record=failed[0])
        return None

    def failed_by(self, need: Need, puts: Sequence[Put]) -> tuple[Record | None] | None:
        """The record by which a condition fails; None if it holds."""
        match need:
            case Absent(namespace, keys, owner):
                found = (self._standing(namespace, key) for key in keys)
                return next(((each,) for each in found if each is not None and not belongs(each.value, owner)), None)
            case AtMost(namespace, prefix, most, owner):
                bounds = (namespace, prefix, behind_all_with(prefix), self._at)
                rows = self._db.rows(self._own["standing_with_prefix"], bounds)
                counted = [record for row in rows if not belongs((record := _record(row)).value, owner)]
                return (counted[len(counted) - most - 1],) if len(counted) > most else None
            case Same(namespace, key, value):
                standing = self._standing(namespace, key)
                has = None if standing is None else standing.value
                ours = {put.value for put in puts if (put.namespace, put.key) == (namespace, key)}
                return None if has == value or has in ours else (standing,)
            case OpenGate(queue, batch):
                scopes = [None] if batch is None else [None, batch]
                gates = (self._standing(GATES, gate_key(queue, scope)) for scope in scopes)
                return next(((gate,) for gate in gates if is_closed(gate)), None)

    def _standing(self, namespace: str, key: str) -> Record | None:
        rows = self._db.rows(self._own["standing"], (namespace, key, self._at))
        return _record(rows[0]) if rows else None

    def _change(self, unit: Unit) -> None:
        db, sql = self._db, self._jobs
        match unit.change:
            case Insert(job):
                db.run(sql["insert_job"], (*head_of(job), record_of(job), tally_record(job)))
                db.run(sql["insert_body"], (job.body,))
            case Replace(revision, job):
                db.run(
                    sql["move_job"],
                    (
                        job.state.value,
                        to_micros(job.due_at),
                        job.revision,
                        job.worker_id,
                        to_micros_or_none(job.active_until),
                        record_of(job),
                        tally_record(job),
                        job.id,
                        revision,
                    ),
                )
            case Delete(job, keep_key_until):
                db.run(sql["delete_body"], db.rows(sql["delete_job"], (job.id, job.revision))[0])
                if job.unique_key is not None:
                    db.run(sql["bury"], (*tombstone_of(job), to_micros(keep_key_until)))
            case None:
                pass

    def _put(self, put: Put) -> None:
        row: Row = (put.namespace, put.key, put.value, to_micros_or_none(put.ends_at))
        if put.mode is Mode.ALWAYS:
            self._db.run(self._records["put_record"], row)
        else:
            self._db.run(self._own[_PUTS[put.mode]], (*row, self._at))
        if put.namespace in {GATES, LIMITS}:
            self._follow(put.namespace, put.key)

    def _follow(self, namespace: str, key: str) -> None:
        """Set the gate or the limits that leases and departure times read."""
        record, control = self._standing(namespace, key), statements("control")
        if namespace == GATES and record is not None:
            self._db.run(control["set_gate"], row_of(gate_from(record)))
        elif namespace == LIMITS:
            limits = limits_from(record)
            pace = repaced(pace_of(self._db, key), limits)
            row = (key, limits.rate, limits.burst, limits.max_active, pace.tat, pace.last)
            self._db.run(control["configure"], row)


def _gate_place(key: str) -> Row:
    queue, space, batch = key.partition(" ")
    return (queue, GateScope.BATCH.value, batch) if space else (queue, GateScope.QUEUE.value, queue)


# --- reading ---


def _record(row: Row) -> Record:
    key, value, until = row
    return Record(key, value, from_micros_or_none(until))


def _records(wanted: Wanted, at: int, db: Connection) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    sql = statements("write")
    db.run("BEGIN")  # all are of one moment
    try:
        for namespace, each in wanted.items():
            if isinstance(each, Page):
                bounds = (namespace, each.prefix, behind_all_with(each.prefix), each.after, at, max(each.limit, 0))
                rows = db.rows(sql["page"], bounds)
            else:
                rows = db.rows_of_each(sql["standing"], [(namespace, key, at) for key in each])
            found[namespace] = [_record(row) for row in rows]
    finally:
        db.run("COMMIT")
    return found


def _of_keys(queue: str, keys: Sequence[str], at: int, db: Connection) -> list[Job]:
    """The jobs that own these unique keys, tombstones included."""
    sql = statements("jobs")
    found: list[Job] = []
    for key in dict.fromkeys(keys):
        rows = db.rows(sql["job_by_key"], (queue, key))
        found += map(job_of, rows) if rows else map(remembered, db.rows(sql["tombstone_by_key"], (queue, key, at)))
    return found
