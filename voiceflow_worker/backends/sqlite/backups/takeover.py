"""The takeover of evidence from a replaced store into the backup that replaces it.

A backup lacks everything that happened after it was made. After the takeover, each call has the evidence of both files.
A damaged file is not taken over at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.backends.kept_facts import kept_facts
from voiceflow_worker.backends.record import head_of, record_of, to_micros
from voiceflow_worker.backends.sqlite.backups.backup import Progress
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.reading import as_array, job_of, tally_record
from voiceflow_worker.backends.sqlite.writes import event_row
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.takeover import further, was_ever_moved_on
from voiceflow_worker.model.records.cancellation import KNOWN_AS

SKIPPED_SEQUENCES = 1_000_000_000
"""The gap left in the sequence of events if the replaced file cannot be read. New events then come after the cursor of
every reader, so that none is missed."""
_AT_ONCE = 500
_GONE = "the replaced store had deleted this call after its end, so the call may have been sent"
_SAME_CALL = f"{KNOWN_AS} {{other}}"


@dataclass(slots=True, kw_only=True)
class TakenOver:
    """The result of a takeover, in numbers of jobs.

    `advanced`: jobs with more evidence in the replaced file than in the backup. `added`: jobs that were not in the
    backup. `cancelled`: jobs that waited in the backup, and were deleted in the replaced file. `left`: jobs that were
    never sent and were not taken over: the backup has their unique key, or may have deleted them after their end.
    `was_read`: the replaced file was read; if not, nothing was taken over.
    """

    advanced: int = 0
    added: int = 0
    cancelled: int = 0
    left: int = 0
    was_read: bool = True


@dataclass(slots=True)
class _Taking:
    old: Connection
    new: Connection
    made_at: datetime | None
    at: datetime
    policy: CallPolicy
    found: TakenOver
    in_both: int = 0

    def job(self, number: int, job_id: str, revision: str) -> None:
        """Take over one job of the replaced file, if it has more evidence than the backup."""
        known = self.new.rows(statements("takeover")["known"], (job_id,))
        if known:
            self.in_both += 1
        if known and known[0][1] == revision:
            return
        replaced = job_of(self.old.rows(statements("jobs")["job_by_number"], (number,))[0])
        if known:
            self._advance(known[0][0], replaced)
        elif was_ever_moved_on(replaced) or self._is_new(replaced):
            self._add(replaced)
        else:
            self.found.left += 1

    def ended_there(self) -> None:
        """Cancel jobs that wait in the backup, but had ended in the replaced file and were deleted there."""
        after = 0
        while rows := self.new.rows(statements("takeover")["unsent"], (after, _AT_ONCE)):
            for number, job_id in rows:
                if not self.old.rows(statements("takeover")["known"], (job_id,)):
                    self._cancel(number, _GONE)
                    self.found.cancelled += 1
            after = rows[-1][0]

    def _advance(self, number: int, replaced: Job) -> None:
        kept = self._here(number)
        now = further(kept, replaced, at=self.at, policy=self.policy)
        if now is not kept:
            self._put(number, kept, now, is_whole=now is replaced)
            self.found.advanced += 1

    def _is_new(self, job: Job) -> bool:
        """Whether a job was created after the backup was made, and neither a job nor a tombstone has its unique key.

        An earlier job that the backup lacks may have been sent, and deleted after its end.
        """
        if self.made_at is None or job.created_at <= self.made_at:
            return False
        keys = as_array([] if job.unique_key is None else [job.unique_key])
        return not self.new.rows(statements("jobs")["known_keys"], (job.queue, keys))

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
    old: Connection,
    new: Connection,
    *,
    made_at: datetime | None,
    at: datetime,
    policy: CallPolicy,
    progress: Progress,
) -> TakenOver:
    """Add the evidence of `old`, an undamaged file, to `new`, a backup made at `made_at`, in one transaction."""
    taking = _Taking(old, new, made_at, at, policy, TakenOver())
    new.run("BEGIN IMMEDIATE")
    _take_events(old, new)
    last = max(old.rows(statements("jobs")["last_number"])[0][0], 1)
    for place, (number, job_id, revision) in enumerate(_jobs(old, last), 1):
        taking.job(number, job_id, revision)
        if place % _AT_ONCE == 0:
            progress(min(number, last), last)
    _take_small_things(old, new, at=to_micros(at))
    # If the files have no job in common, this may be the backup of another store.
    if taking.in_both:
        taking.ended_there()
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
        db.run(
            statements("control")["set_gate"], (name, "queue", name, GateState.HELD.value, None, whole, to_micros(at))
        )
    return sorted(names)


def heartbeats(db: Connection, *, at: datetime) -> list[Row]:
    """Recent heartbeats: kind, name, and the time until which each counts."""
    return db.rows(statements("takeover")["heartbeats"], (to_micros(at),))


def waiting_jobs(db: Connection) -> int:
    """The number of jobs that would be sent if no gate held them."""
    count: int = db.rows(statements("takeover")["waiting"])[0][0]
    return count
