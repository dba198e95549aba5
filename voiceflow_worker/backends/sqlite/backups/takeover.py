"""The takeover of calls from a replaced store into the backup that replaces it.

A backup lacks everything that happened after it was made. Of two records of one call, the further one is taken whole.
If their histories have parted, the call is in doubt. A damaged file is not taken over at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.backends.record import head_of, record_of, to_micros
from voiceflow_worker.backends.sqlite.backups.backup import Progress
from voiceflow_worker.backends.sqlite.control import row_of
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.reading import event_row, job_of, tally_record
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.core.store_port import gate_put
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import further
from voiceflow_worker.model.records.cancellation import KNOWN_AS

SKIPPED_SEQUENCES = 1_000_000_000
"""The gap left in the sequence of events if the replaced file cannot be read. New events then come after the cursor of
every reader, so that none is missed."""
_AT_ONCE = 500
_GONE = "the other copy of the store had deleted this call after its end, so the call may have been sent"
_SAME_CALL = f"{KNOWN_AS} {{other}}"


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


@dataclass(slots=True)
class _Taking:
    old: Connection
    new: Connection
    at: datetime
    policy: CallPolicy
    found: TakenOver

    def job(self, number: int, job_id: str, revision: str) -> None:
        """Take over one job of the replaced file, if it is further there than in the backup."""
        known = self.new.rows(statements("takeover")["known"], (job_id,))
        if known and known[0][1] == revision:
            return
        replaced = job_of(self.old.rows(statements("jobs")["job_by_number"], (number,))[0])
        if known:
            self._advance(known[0][0], replaced)
        else:
            self._add(replaced)

    def cancel_ended(self) -> None:
        """Cancel jobs that wait, but had ended in one of the files, and were deleted there."""
        after = 0
        while rows := self.new.rows(statements("takeover")["unsent"], (after, _AT_ONCE)):
            for number, *job in rows:
                if any(db.rows(statements("takeover")["tombstone"], tuple(job)) for db in (self.old, self.new)):
                    self._cancel(number, _GONE)
            after = rows[-1][0]

    def _advance(self, number: int, replaced: Job) -> None:
        kept = self._here(number)
        now = further(kept, replaced, at=self.at, policy=self.policy)
        if now is replaced:
            # Its events are taken over too.
            self._put(number, now)
            self.found.advanced += 1
        elif now is not kept:
            self._move(number, kept, now)
            self.found.in_doubt += now.state is JobState.IN_DOUBT

    def _add(self, replaced: Job) -> None:
        key = (replaced.queue, replaced.unique_key)
        owner = self.new.rows(statements("takeover")["key_owner"], key)
        head = head_of(replace(replaced, unique_key=None) if owner else replaced)
        jobs = statements("jobs")
        self.new.run(jobs["insert_job"], (*head, record_of(replaced), tally_record(replaced)))
        self.new.run(jobs["insert_body"], (replaced.body,))
        number = self.new.rows(jobs["last_number"])[0][0]
        self.found.added += 1
        if owner:
            # The backup has the same call under another id, or has deleted it. Only one of the two may be sent.
            other, other_number = owner[0]
            if replaced.state in lifecycle.MOVES[lifecycle.MoveName.CANCEL]:
                self._cancel(number, _GONE if other == replaced.id else _SAME_CALL.format(other=other))
            elif other_number is not None:
                self._cancel(other_number, _SAME_CALL.format(other=replaced.id))

    def _cancel(self, number: int, reason: str) -> None:
        kept = self._here(number)
        if kept.state in lifecycle.MOVES[lifecycle.MoveName.CANCEL]:
            self._move(number, kept, lifecycle.cancel(kept, at=self.at, reason=reason, policy=self.policy))
            self.found.cancelled += 1

    def _here(self, number: int) -> Job:
        return job_of(self.new.rows(statements("jobs")["job_by_number"], (number,))[0])

    def _move(self, number: int, kept: Job, now: Job) -> None:
        made = move(kept, now, at=self.at)
        self._put(number, made.new)
        for event in made.events:
            self.new.run(statements("outbox")["insert_event"], event_row(made.new.queue, event))

    def _put(self, number: int, job: Job) -> None:
        self.new.run(
            statements("takeover")["put_job"],
            (number, *head_of(job), record_of(job), tally_record(job)),
        )


def take_over(
    old: Connection,
    new: Connection,
    *,
    at: datetime,
    policy: CallPolicy,
    progress: Progress,
) -> TakenOver:
    """Add what `old`, an undamaged file, knows to `new`, a backup, in one transaction."""
    taking = _Taking(old, new, at, policy, TakenOver())
    new.run("BEGIN IMMEDIATE")
    _take_events(old, new)
    last = max(old.rows(statements("jobs")["last_number"])[0][0], 1)
    for place, (number, job_id, revision) in enumerate(_jobs(old, last), 1):
        taking.job(number, job_id, revision)
        if place % _AT_ONCE == 0:
            progress(min(number, last), last)
    _take_small_things(old, new, at=to_micros(at))
    taking.cancel_ended()
    new.run("COMMIT")
    return taking.found


def _jobs(old: Connection, last: int) -> Iterator[Row]:
    for first in range(1, last + 1, _AT_ONCE):
        yield from old.rows(statements("takeover")["next_rows"], (first, first + _AT_ONCE - 1))


def skip_sequences(new: Connection) -> None:
    """Skip sequence numbers: the next event gets one above all that a reader of the unread file may have seen."""
    _raise_sequence(new, new.rows(statements("takeover")["last_sequence"])[0][0] + SKIPPED_SEQUENCES)


def _take_events(old: Connection, new: Connection) -> None:
    last = statements("takeover")["last_sequence"]
    events = old.rows(statements("takeover")["events_behind"], (new.rows(last)[0][0],))
    new.run_each(statements("takeover")["put_event"], events)
    _raise_sequence(new, old.rows(last)[0][0])


def _raise_sequence(new: Connection, to: int) -> None:
    new.run(statements("takeover")["begin_sequences"], (to,))
    new.run(statements("takeover")["skip_sequences"], (to,))


def _take_small_things(old: Connection, new: Connection, *, at: int) -> None:
    """Take over what prevents further calls: opt-outs, locks on numbers, keys of deleted jobs, and holds."""
    new.run_each(statements("takeover")["put_record"], old.rows(statements("takeover")["records"], (at,)))
    new.run_each(statements("takeover")["put_tombstone"], old.rows(statements("takeover")["tombstones"], (at,)))
    new.run_each(statements("takeover")["put_gate"], old.rows(statements("takeover")["closed_gates"]))


def hold_queues(db: Connection, *, reason: str, at: datetime) -> list[str]:
    """Hold every queue until a person resumes it, and return the names of the queues.

    If a queue is already held without an end, that hold's reason is appended to `reason`.
    """
    names = [row[0] for row in db.rows(statements("takeover")["queues"])]
    for name in names:
        standing = db.rows(statements("control")["gate"], (name, "queue", name))
        held = standing and standing[0][3] == GateState.HELD.value and standing[0][4] is None and standing[0][5]
        whole = f"{reason} (the queue was held before: {held})" if held else reason
        gate = Gate.of(name, None, GateState.HELD, since=at, reason=whole)
        put = gate_put(gate, token=new_revision())
        db.run(statements("records")["put_record"], (put.namespace, put.key, put.value, None))
        db.run(statements("control")["set_gate"], row_of(gate))
    return sorted(names)


def waiting_jobs(db: Connection) -> int:
    """The number of jobs that would be sent if no gate held them."""
    count: int = db.rows(statements("takeover")["waiting"])[0][0]
    return count
