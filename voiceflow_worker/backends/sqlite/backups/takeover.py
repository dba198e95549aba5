"""The takeover of evidence from a replaced store into the backup that replaces it.

A backup lacks everything that happened after it was made. The replaced file is read row by row, and its damaged parts
are skipped. After the takeover, each call has the evidence of both files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import apsw

from voiceflow_worker.backends.kept_facts import kept_facts
from voiceflow_worker.backends.record import head_of, job_from, record_of, to_micros
from voiceflow_worker.backends.sqlite.backups.backup import Progress
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.reading import job_of, tally_record
from voiceflow_worker.backends.sqlite.writes import event_row
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.takeover import further, was_ever_moved_on
from voiceflow_worker.model.records.cancellation import KNOWN_AS

SKIPPED_SEQUENCES = 1_000_000_000
"""The gap left in the sequence of events if the last event cannot be read. New events then come after the cursor of
every reader, so that none is missed."""
_AT_ONCE = 500
_HEAD = slice(1, 13)
_RECORD = 13
_GONE = "the replaced store had deleted this call after its end, so the call may have been sent"
_SAME_CALL = f"{KNOWN_AS} {{other}}"


@dataclass(slots=True, kw_only=True)
class TakenOver:
    """The result of a takeover, in numbers of jobs.

    `advanced`: jobs with more evidence in the replaced file than in the backup. `added`: jobs that were sent or had
    ended, and were not in the backup. `cancelled`: jobs that waited in the backup, and were deleted in the replaced
    file. `left`: jobs that were only enqueued in the replaced file, and were not taken over. `unreadable`: rows that
    could not be read; None if no row could be read. `sound`: the replaced file is undamaged, so no job is missing in
    it.
    """

    advanced: int = 0
    added: int = 0
    cancelled: int = 0
    left: int = 0
    unreadable: int | None = 0
    sound: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether the replaced file was read completely."""
        return self.sound and self.unreadable == 0


@dataclass(slots=True)
class _Reading:
    """The readable parts of the replaced file."""

    db: Connection
    failed: int = 0
    in_parts: bool = True

    def rows(self, name: str, bindings: Row) -> list[Row]:
        """The rows of a statement, up to a damaged part."""
        found: list[Row] = []
        try:
            found.extend(self.db.each(statements("takeover")[name], bindings))
        except apsw.Error:
            self.in_parts = False
        return found

    def jobs(self) -> Iterator[Row]:
        """The rows of all jobs, in order. The rows of a damaged range are read one by one."""
        last = self.last()
        for start in range(1, last + 1, _AT_ONCE):
            end = min(start + _AT_ONCE - 1, last)
            rows = self._between(start, end)
            if rows is not None:
                yield from rows
                continue
            for number in range(start, end + 1):
                one = self._between(number, number)
                if one is None:
                    self.failed += 1
                else:
                    yield from one

    def body(self, number: int) -> str | None:
        rows = self.rows("body_of", (number,))
        return rows[0][0] if rows else None

    def has(self, job_id: str) -> bool:
        """Whether the file has this job; True if that part of the file cannot be read."""
        try:
            return bool(self.db.rows(statements("takeover")["known"], (job_id,)))
        except apsw.Error:
            return True

    def last(self) -> int:
        """The number of the last row."""
        last: int = self.db.rows(statements("jobs")["last_number"])[0][0]
        return last

    def _between(self, first: int, last: int) -> list[Row] | None:
        try:
            return self.db.rows(statements("takeover")["next_rows"], (first, last))
        except apsw.Error:
            return None


@dataclass(slots=True)
class _Taking:
    old: _Reading
    new: Connection
    at: datetime
    policy: CallPolicy
    found: TakenOver
    in_both: int = 0

    def job(self, row: Row) -> None:
        """Take over one job of the replaced file, if it has more evidence than the backup."""
        known = self.new.rows(statements("takeover")["known"], (row[1],))
        if known and known[0][1] == row[5]:
            self.in_both += 1
            return
        body = self.old.body(row[0])
        replaced = None if body is None else _read(row[_HEAD], row[_RECORD], body)
        if replaced is None:
            self.old.failed += 1
        elif known:
            self.in_both += 1
            self._advance(known[0][0], replaced)
        elif was_ever_moved_on(replaced):
            self._add(replaced)
        else:
            self.found.left += 1

    def ended_there(self) -> None:
        """Cancel jobs that wait in the backup, but had ended in the replaced file and were deleted there."""
        after = 0
        while rows := self.new.rows(statements("takeover")["unsent"], (after, _AT_ONCE)):
            for number, job_id in rows:
                if not self.old.has(job_id):
                    self._cancel(number, _GONE)
                    self.found.cancelled += 1
            after = rows[-1][0]

    def _advance(self, number: int, replaced: Job) -> None:
        kept = self._here(number)
        now = further(kept, replaced, at=self.at, policy=self.policy)
        if now is not kept:
            self._put(number, kept, now, is_whole=now is replaced)
            self.found.advanced += 1

    def _add(self, replaced: Job) -> None:
        record, key = record_of(replaced), replaced.unique_key
        if key is not None and (owner := self.new.rows(statements("jobs")["job_by_key"], (replaced.queue, key))):
            # The backup has the same call under another id. That job keeps its key, but is not sent, because the job of
            # the replaced file may have been sent.
            other = job_of(owner[0])
            if other.state in lifecycle.MOVES[lifecycle.MoveName.CANCEL]:
                number = self.new.rows(statements("takeover")["known"], (other.id,))[0][0]
                self._cancel(number, _SAME_CALL.format(other=replaced.id))
            key = None
        number = self.new.rows(statements("jobs")["last_number"])[0][0] + 1
        head = head_of(replaced)
        self.new.run(
            statements("jobs")["insert_job"],
            (number, *head[:9], key, *head[10:], record, tally_record(replaced), kept_facts(replaced)),
        )
        self.new.run(statements("jobs")["insert_body"], (number, replaced.body))
        self.found.added += 1

    def _cancel(self, number: int, reason: str) -> None:
        kept = self._here(number)
        self._put(number, kept, lifecycle.cancel(kept, at=self.at, reason=reason, policy=self.policy))

    def _here(self, number: int) -> Job:
        return job_of(self.new.rows(statements("jobs")["job_by_number"], (number,))[0])

    def _put(self, number: int, kept: Job, now: Job, *, is_whole: bool = False) -> None:
        # A job of the replaced file is stored as it is, because its events are taken over too. Other changes are moves.
        made = None if is_whole else move(kept, now, at=self.at)
        stands = now if made is None else made.new
        self.new.run(
            statements("takeover")["put_job"],
            (number, *head_of(stands), record_of(stands), tally_record(stands), kept_facts(stands)),
        )
        for event in () if made is None else made.events:
            self.new.run(statements("outbox")["insert_event"], event_row(stands.queue, event))


def take_over(
    old: Connection, new: Connection, *, sound: bool, at: datetime, policy: CallPolicy, progress: Progress
) -> TakenOver:
    """Add the evidence of `old` to `new`, in one transaction, for calls that were sent or have ended.

    Jobs that were only enqueued in `old` are not taken over. Unreadable rows are counted and skipped. `sound` means
    that SQLite finds `old` undamaged. Only then is it certain that a missing job was deleted.
    """
    reading = _Reading(old)
    taking = _Taking(reading, new, at, policy, TakenOver(sound=sound))
    new.run("BEGIN IMMEDIATE")
    before: int = new.rows(statements("takeover")["last_sequence"])[0][0]
    _take_events(reading, new, behind=before)
    try:
        last = max(reading.last(), 1)
        for place, row in enumerate(reading.jobs(), 1):
            taking.job(row)
            if place % _AT_ONCE == 0:
                progress(min(row[0], last), last)
    except apsw.Error:
        taking.found.unreadable = None
    _take_small_things(reading, new, at=to_micros(at))
    if taking.found.unreadable is not None:
        taking.found.unreadable = reading.failed
        # If the files have no job in common, this may be the backup of another store.
        if taking.found.is_whole and taking.in_both:
            taking.ended_there()
    if not taking.found.is_whole or not reading.in_parts:
        skip_sequences(new)
    new.run("COMMIT")
    return taking.found


def skip_sequences(new: Connection) -> None:
    """Skip sequence numbers: the next event gets one above all that a reader of the damaged file may have seen."""
    _raise_sequence(new, new.rows(statements("takeover")["last_sequence"])[0][0] + SKIPPED_SEQUENCES)


def _take_events(reading: _Reading, new: Connection, *, behind: int) -> None:
    events = reading.rows("events_behind", (behind,))
    new.run_each(statements("takeover")["put_event"], events)
    for (last,) in reading.rows("last_sequence", ()):
        _raise_sequence(new, last)


def _raise_sequence(new: Connection, to: int) -> None:
    new.run(statements("takeover")["begin_sequences"], (to,))
    new.run(statements("takeover")["skip_sequences"], (to,))


def _take_small_things(reading: _Reading, new: Connection, *, at: int) -> None:
    """Take over what prevents further calls: opt-outs, locks on numbers, keys of deleted jobs, and holds."""
    new.run_each(statements("takeover")["put_record"], reading.rows("records", (at,)))
    new.run_each(statements("takeover")["put_tombstone"], reading.rows("tombstones", (at,)))
    new.run_each(statements("takeover")["put_gate"], reading.rows("closed_gates", ()))


def hold_queues(db: Connection, *, reason: str, at: datetime) -> list[str]:
    """Hold every queue until a person resumes it, and return the names of the queues.

    If a queue is already held without an end, that hold's reason is appended to `reason`.
    """
    names = [row[0] for row in db.rows(statements("takeover")["queues"])]
    for name in names:
        standing = db.rows(statements("control")["gate"], (name, "queue", name))
        held = standing and standing[0][3] == GateState.HELD.value and standing[0][4] is None and standing[0][5]
        whole = f"{reason} (the queue was held before: {held})" if held else reason
        db.run(
            statements("control")["set_gate"], (name, "queue", name, GateState.HELD.value, None, whole, to_micros(at))
        )
    return sorted(names)


def _read(head: Row, record: str, body: str) -> Job | None:
    try:
        return job_from((*head,), record, body)
    except (StoreVersionError, TypeError):
        return None


def heartbeats(db: Connection, *, at: datetime) -> list[Row]:
    """Recent heartbeats: kind, name, and the time until which each counts. Empty if they cannot be read."""
    return _Reading(db).rows("heartbeats", (to_micros(at),))


def waiting_jobs(db: Connection) -> int:
    """The number of jobs that would be sent if no gate held them."""
    count: int = db.rows(statements("takeover")["waiting"])[0][0]
    return count
