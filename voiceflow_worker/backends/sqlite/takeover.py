"""The takeover of calls from a replaced store into the backup that replaces it.

A backup lacks everything that happened after it was made. Of two records of one call, the longer one is taken whole.
If the other has something that it lacks, the call is in doubt, or ends. A damaged file is not taken over at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.sqlite.connection import SQL, Connection, Row
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import current_record, job_of, owner_of_key, record_from
from voiceflow_worker.backends.sqlite.write import Writing
from voiceflow_worker.core.ports.controls import GATES, gate_from, gate_put, is_closed
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.store import Insert, Put, Replace, Write, tally_change
from voiceflow_worker.core.writes import changed
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import longer

Progress = Callable[[int, int], None]
"""A function that is called with the amount of work done so far, and the total amount."""

SKIPPED_SEQUENCES = 1_000_000_000
"""The gap left in the sequence of events if the replaced file cannot be read. New events then come after the cursor of
every reader, so that none is missed."""
_AT_ONCE = 500
_GONE = "the other copy of the store had deleted this call after its end, so the call may have been sent"
_SAME_CALL = "the other copy of the store has this call under the id {other}"


@dataclass(slots=True, kw_only=True)
class TakenOver:
    """The result of a takeover, in numbers of jobs.

    `advanced`: jobs that were further in the replaced file than in the backup. `in_doubt`: jobs whose histories in the
    two files have parted. `added`: jobs that were not in the backup. `cancelled`: jobs that waited in one file, while
    the other file had them under another id, or had deleted them after their end. `was_read`: the replaced file was
    read; if not, nothing was taken over.
    """

    advanced: int = 0
    in_doubt: int = 0
    added: int = 0
    cancelled: int = 0
    was_read: bool = True


class _Taking:
    """The takeover into `new`, in one transaction."""

    def __init__(self, old: Connection, new: Connection, at: datetime, policy: CallPolicy) -> None:
        self._old = old
        self._new = new
        self._at = at
        self._policy = policy
        self._transaction = Transaction(new)
        self._writing = Writing(self._transaction, to_micros(at))
        self.found = TakenOver()

    def job(self, job_id: str, revision: str) -> None:
        """Take over one job of the replaced file, if it is further there than in the backup."""
        known = _job(self._new, job_id)
        if known is not None and known.revision == revision:
            return
        replaced = _job(self._old, job_id)
        if replaced is None:
            return
        if known is None:
            self._add(replaced)
            return
        now = longer(known, replaced, at=self._at, policy=self._policy)
        if now is replaced:
            # Its events are taken over too.
            self._writing.answer(Write(change=Replace(known.revision, now), tally=tally_change(known, now)))
            self.found.advanced += 1
        elif now is not known:
            self._move(known, now)
            self.found.in_doubt += now.state is JobState.IN_DOUBT

    def cancel_ended(self) -> None:
        """Cancel jobs that wait, but had ended in one of the files, and were deleted there."""
        after = 0
        while rows := self._new.rows(SQL["unsent_behind"], (after, _AT_ONCE)):
            for after, job_id in rows:  # noqa: B007 - the last row number is where the next rows begin
                kept = _job(self._new, job_id)
                if kept is not None:
                    place = (kept.id, kept.queue, kept.unique_key)
                    if any(db.rows(SQL["tombstone_of_job"], place) for db in (self._old, self._new)):
                        self._cancel(kept, _GONE)

    def small_things(self) -> None:
        """Take over what prevents further calls: opt-outs, locks on numbers, keys of deleted jobs, and holds."""
        at = to_micros(self._at)
        self._new.run_each(SQL["put_later"], self._old.rows(SQL["current_records"], (at,)))
        for record in map(record_from, self._old.rows(SQL["current_gates"], (at,))):
            kept = current_record(self._new, GATES, record.group, at, record.member)
            is_cancelled = kept is not None and gate_from(kept).state is GateState.CANCELLED
            if is_closed(record) and not is_cancelled:
                self._writing.answer(
                    Write(puts=(Put(GATES, record.group, record.value, record.ends_at, member=record.member),))
                )

    def end(self) -> None:
        """Write the counters."""
        self._transaction.end()

    def _add(self, replaced: Job) -> None:
        owner = None
        if replaced.unique_key is not None:
            owner = owner_of_key(self._new, replaced.queue, replaced.unique_key, to_micros(self._at))
        added = replaced if owner is None else replace(replaced, unique_key=None)
        self._writing.answer(Write(change=Insert(added), tally=tally_change(None, added)))
        self.found.added += 1
        if owner is not None:
            # The backup has the same call under another id, or has deleted it. Only one of the two may be sent.
            if added.state in lifecycle.MOVES[lifecycle.MoveName.CANCEL]:
                self._cancel(added, None if owner.job_id == added.id else owner.job_id)
            elif (other := _job(self._new, owner.job_id)) is not None:
                self._cancel(other, added.id)

    def _cancel(self, kept: Job, other: str | None) -> None:
        """End a call that the other copy has under the id `other`, or has deleted."""
        if kept.state in lifecycle.MOVES[lifecycle.MoveName.CANCEL]:
            reason, kind = _GONE, None
            if other is not None:
                reason, kind = _SAME_CALL.format(other=other), ReasonKind.KEPT_AS_ANOTHER
            now = lifecycle.cancel(kept, at=self._at, reason=reason, kind=kind, policy=self._policy)
            self._move(kept, now)
            self.found.cancelled += 1

    def _move(self, kept: Job, now: Job) -> None:
        _, write = changed(kept, now, at=self._at)
        self._writing.answer(write)


def take_over(
    old: Connection,
    new: Connection,
    *,
    at: datetime,
    policy: CallPolicy,
    progress: Progress,
) -> TakenOver:
    """Add what `old`, an undamaged file, knows to `new`, a backup, in one transaction."""
    taking = _Taking(old, new, at, policy)
    new.run("BEGIN IMMEDIATE")
    _take_events(old, new)
    last = max(old.rows(SQL["last_number"])[0][0], 1)
    for place, (number, job_id, revision) in enumerate(_jobs(old, last), 1):
        taking.job(job_id, revision)
        if place % _AT_ONCE == 0:
            progress(min(number, last), last)
    taking.small_things()
    taking.cancel_ended()
    taking.end()
    new.run("COMMIT")
    return taking.found


def _job(db: Connection, job_id: str) -> Job | None:
    rows = db.rows(SQL["job_by_id"], (job_id,))
    return job_of(rows[0]) if rows else None


def _jobs(old: Connection, last: int) -> Iterator[Row]:
    for first in range(1, last + 1, _AT_ONCE):
        yield from old.rows(SQL["jobs_between"], (first, first + _AT_ONCE - 1))


def skip_sequences(new: Connection) -> None:
    """Skip sequence numbers: the next event gets one above all that a reader of the unread file may have seen."""
    _raise_sequence(new, new.rows(SQL["last_sequence"])[0][0] + SKIPPED_SEQUENCES)


def _take_events(old: Connection, new: Connection) -> None:
    events = old.rows(SQL["events_behind"], (new.rows(SQL["last_sequence"])[0][0],))
    new.run_each(SQL["put_event"], events)
    _raise_sequence(new, old.rows(SQL["last_sequence"])[0][0])


def _raise_sequence(new: Connection, to: int) -> None:
    new.run(SQL["begin_sequences"], (to,))
    new.run(SQL["skip_sequences"], (to,))


def hold_queues(db: Connection, *, reason: str, at: datetime) -> list[str]:
    """Hold every queue until a person resumes it, and return the names of the queues.

    If a queue is already held without an end, that hold's reason is appended to `reason`.
    """
    writing = Writing(Transaction(db), to_micros(at))
    names = [row[0] for row in db.rows(SQL["all_queues"])]
    for name in names:
        record = current_record(db, GATES, name, to_micros(at))
        is_held = record is not None and is_closed(record) and record.ends_at is None
        held = gate_from(record) if record is not None and is_held else None
        whole = f"{reason} (the queue was held before: {held.reason})" if held is not None and held.reason else reason
        kinds = held.kinds if held is not None else frozenset[GateKind]()
        gate = Gate.of(name, None, GateState.HELD, since=at, reason=whole, kinds=kinds)
        writing.answer(Write(puts=(gate_put(gate, token=new_revision()),)))
    return sorted(names)


def waiting_jobs(db: Connection) -> int:
    """The number of jobs that would be sent if no gate held them."""
    count: int = db.rows(SQL["count_unsent"])[0][0]
    return count
