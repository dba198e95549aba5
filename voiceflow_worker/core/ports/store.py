"""The port of a store: all that the writer of a store must know.

A store keeps jobs, records and events in one transaction domain, behind nine methods. `write` is the only method that
changes what callers wrote before; the others read, hand out work, or tidy up. The rules of calls (when a number is
busy, who may be called again) are not here: they are pure functions of the core, which turn a change into a `Write`. A
store only checks the conditions of a write and writes it. It never decodes more of a job than its head.

**What `write` promises.** Each sentence is a test of the contract suite.

 1. Writes run in order, and each sees what the earlier ones wrote.
 2. A write checks everything first and then writes all of its parts, or none. Its changes are made in their order.
 3. Each write is answered alone: a refused write does not keep the others from being written.
 4. A write with several changes was written before if one of its new jobs or new revisions is there.
 5. `Result.NOT_FREE` has the failed condition, and the key, value and end of the record.
 6. `Result.EXISTS` has the owner of each unique key that is taken, the digest of its body and its state.
 7. A put is ALWAYS, EXTEND, KEEP or LONGER (`Mode`); no mode refuses a write. Writes with evidence have no conditions.
 8. A bulk write whose answer was lost may be written again, at any time: what was written before is DONE and is not
    written or counted again, and creates no further event.
 9. A condition holds at the commit: after a write that contradicts it has returned, no write under it is committed.
10. A `guard` is a condition of the whole bulk write. If it fails, nothing is written, and the answer is NOT_VERIFIED; a
    write that was written before is DONE all the same.
11. A durable bulk write is on the disk when it returns, and where else the store must have it; so is each durable one
    that was committed before, also if this one writes nothing, or is empty (`confirm`). One with `durable=False`
    survives the end of the process, and a power cut undoes it only together with all that came later.
12. Once a reader has seen event n, no event below n appears.
13. After an error or a cancellation it is unknown whether a bulk write was written, and no later caller gets its
    answer. What a store had answered before an error is kept (`StoreError.answers`).
14. The send slot of a write is allotted by the same write, when all else of the write may be written: a refused write
    takes none. If none is free in time, the write is NO_SLOT, with the time at which one may be free. A repeat gets
    none.

A store without serializable order (PostgreSQL's READ COMMITTED, say) keeps sentence 9 by locks, taken in one order
before the first read. A lock has the name of a group of records: its namespace and its group. It is exclusive for puts
and drops, and shared for conditions.

A store may cut a long bulk write into parts between two writes: each write is checked alone anyway, and a `guard` names
a record so that a later part still finds it.

Every time is in UTC with its zone. Every method takes `now`, so that tests set the time. Texts have no NUL and no half
surrogate pairs: they are refused where they enter (`checked_text`), and by `checked_bulk`. Only what is inside a
job, and is stored as JSON, may have them: 8x8 may send anything.

Each method may raise `StoreUnavailableError`; only `write` then leaves open what happened.

**What a method costs** is said at its end: it reads in proportion to what it is given and returns, or to a stated
constant, and never to what the store holds (a seek in an index is not counted). `CostContract` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct, field

from voiceflow_worker.core.ports.reads import AnyOf, Counted, Read
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, Totals, tally_of
from voiceflow_worker.model.text.printable import checked_text, unstorable_in

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

MOST_CHANGES = 1000
"""The most changes of a write. On Redis it is one script, about 50 µs a change."""


# --- Records: small texts in namespaces --------------------------------------------------------------------------


Key = tuple[str, str]
"""A group and a member of it."""


class Record(NamedTuple):
    """A current record: its end is None or has not come. An expired record is absent for every method.

    Each record is a member of a group. Most groups have one record, whose member is empty.
    """

    group: str
    value: str
    ends_at: datetime | None
    member: str = ""


class Mode(StrEnum):
    """What a put does when its record exists already."""

    ALWAYS = "always"
    """It is replaced."""
    EXTEND = "extend"
    """It is replaced, and the later of the two ends counts. No end is later than any end."""
    KEEP = "keep"
    """It stays as it is."""
    LONGER = "longer"
    """It is replaced if it ends earlier than the put; else it stays."""


class Put(Struct, frozen=True, forbid_unknown_fields=True):
    """A record to store. `ends_at` None means that it stays until it is dropped."""

    namespace: str
    group: str
    value: str
    ends_at: datetime | None
    mode: Mode = Mode.ALWAYS
    member: str = ""


class Drop(Struct, frozen=True, forbid_unknown_fields=True):
    """A record to delete, if it has this value; None means any value. A drop of an absent record does nothing."""

    namespace: str
    group: str
    value: str | None
    member: str = ""


# --- Conditions --------------------------------------------------------------------------------------------------


def is_owned_by(value: str, owner: str | None) -> bool:
    """Return whether a record with this value is an owner's: `q.01K`, `q.01K.2` and `q.01K x` are those of `q.01K`."""
    return owner is not None and (value == owner or value.startswith((f"{owner}.", f"{owner} ")))


class AtMost(Struct, frozen=True):
    """In each of these groups at most `most` records exist, records of `except_owner` not counted.

    A refusal has the record with whose end the condition will hold in its group, if nothing else changes.
    """

    namespace: str
    groups: tuple[str, ...]
    most: int = 0
    except_owner: str | None = None


class Same(Struct, frozen=True, forbid_unknown_fields=True):
    """The record has this value, or belongs to `except_owner`; None means that there is no record.

    This is compare-and-swap. The new value must carry a new token, because a repeat of the write may arrive late. The
    condition also holds if the record has the value that this write (for a guard: a write of this bulk write) puts
    there.
    """

    namespace: str
    group: str
    value: str | None
    member: str = ""
    except_owner: str | None = None


Condition = AtMost | Same


# --- Send slots --------------------------------------------------------------------------------------------------


class Slot(Struct, frozen=True):
    """A send slot of a queue: the next free time at its rate, not before `after` and not later than `until`.

    All workers share the slots (GCRA, `model.jobs.gcra`). In a queue without a rate, each slot is at `after`. When the
    rate changes, the next slot is at most one interval of the new rate after the last one.
    """

    queue: str
    after: datetime
    until: datetime


# --- Events ------------------------------------------------------------------------------------------------------


class EventKind(StrEnum):
    """The kind of an event of the outbox."""

    ENDED = "ended"
    """The job reached a final state, or a late summary changed its final state."""
    ATTEMPTED = "attempted"
    """An attempt of the job has ended without ending the job: a redial follows, or another POST has ended the job."""
    DOUBTED = "doubted"
    INCIDENT = "incident"
    BATCH_ENDED = "batch ended"
    """A batch has ended (`core.outcomes.batch_ends`): its id is `<queue>.<batch>`, and `post` the number of the end."""
    OTHER = "other"
    """A kind that only a newer version knows; readers of this version skip it."""

    @classmethod
    def _missing_(cls, value: object) -> EventKind:  # noqa: ARG003 - enum's own name for it
        return cls.OTHER


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a job, committed together with its move.

    Events reach their readers at least once, and in order per job. `post` is the number of the POST, 0 for none. The
    store sets `sequence`, which grows within a queue, and is another for each event of a store; 0 means that the event
    is not stored yet.
    """

    job_id: str
    kind: EventKind
    at: datetime
    state: JobState
    revision: str
    post: int = 0
    sequence: int = 0


# --- Changes of jobs, and bulk writes -----------------------------------------------------------------------------
#
# The `tally` of each change is added to the counters of the job's queue and batch (`tally_change`).


class Insert(Struct, frozen=True):
    """A new job, stored in its own state. Refused with EXISTS if its unique key is taken, by a tombstone too.

    A key belongs to one job for ever, whatever queue that is in. A job with the same id that is in the store was stored
    by an earlier try: DONE.
    """

    job: Job
    tally: Mapping[str, int] = field(default_factory=dict[str, int])


class Replace(Struct, frozen=True):
    """The job's next version, which replaces the one with `revision`; STALE if the store has another one, or none.

    `job` has a new revision, which no other write has. Its id, queue, batch, unique key, numbers, `urgency`,
    `valid_until` and body stay as they are, but for an `Edit`.
    """

    revision: str
    job: Job
    tally: Mapping[str, int] = field(default_factory=dict[str, int])


class Edit(Replace, frozen=True):
    """A replacement that may also change the `urgency`, `valid_until`, body and numbers.

    The digest of the body stays. `numbers` are those that the job had, if it has others now: `OfNumber` follows.
    """

    numbers: tuple[str, ...] | None = None


class Delete(Struct, frozen=True):
    """The end of a job that has this revision. Its unique key stays taken, by a tombstone, until `keep_key_until`.

    With None there is no tombstone: the person was erased, and a record under a digest keeps the key taken.

    STALE if the store has another revision. A job that is gone was deleted by an earlier try: DONE.
    """

    job: Job
    keep_key_until: datetime | None
    tally: Mapping[str, int] = field(default_factory=dict[str, int])


Change = Insert | Replace | Delete


class Write(Struct, frozen=True, kw_only=True):
    """What is stored together: changes of jobs, records and events.

    It changes each job once, and takes each unique key once. `wakes` is a queue whose waiting tasks are woken. A write
    without changes counts as written before if one of its `Same` conditions finds the value that the write puts there.
    """

    changes: tuple[Change, ...] = ()
    conditions: tuple[Condition, ...] = ()
    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    events: tuple[Event, ...] = ()
    wakes: str | None = None
    slot: Slot | None = None


class History(Struct, frozen=True):
    """The history of a server's data, which ends when another server takes over.

    `name` differs afterwards, and has no white space. `made_in` is the name of the history in which the store was made:
    it is a part of the data, so each server that has the store has it. `is_trusted` is True if a user of the store
    says that a failover loses nothing.
    """

    name: str
    made_in: str
    is_trusted: bool = False


class Guard(Struct, frozen=True):
    """That the store was not rolled back to an older state: on the same server, with what it certainly had.

    `server` is the incarnation of the server (`Store.server`) with which the caller has compared its journal files.
    `known` is the token of the newest POST that this worker journalled, which each of its journal entries replaces.
    """

    server: str
    known: Same


class BulkWrite(Struct, frozen=True, kw_only=True):
    """Writes to write, and the condition of all of them."""

    writes: tuple[Write, ...]
    durable: bool = True
    guard: Guard | None = None


class Result(Enum):
    """How a write ended."""

    DONE = "done"
    """It was written, now or by an earlier try."""
    STALE = "stale"
    """The job has another revision, or is gone."""
    EXISTS = "exists"
    """Other jobs have unique keys of its new jobs."""
    NOT_FREE = "not free"
    """A condition of the write failed."""
    NO_SLOT = "no slot"
    """No send slot is free until the latest time that the write names."""
    NOT_VERIFIED = "not_verified"
    """The server is another one, or the store has lost what it had: nothing may be sent until it was compared."""


class Owner(Struct, frozen=True):
    """The job that owns a unique key, or owned it when it was deleted.

    Only its head is read, so that a job of a newer version is no error: `state` may be one that this version lacks.
    """

    job_id: str
    body_digest: str
    state: str


class WriteResult(Struct, frozen=True, kw_only=True):
    """The result of one write, with what it depends on.

    With NOT_FREE: the condition, the namespace and the record that failed it. `record` is None for
    a `Same` whose record is absent. With EXISTS: the owners of the keys, by the ids of the new jobs. `slot` is that of
    a write with a slot, unless the write was written by an earlier try; with NO_SLOT, it has the time at which one may
    be free.
    """

    result: Result
    condition: Condition | None = None
    record: Record | None = None
    owners: Mapping[str, Owner] = field(default_factory=dict[str, Owner])
    slot: SendSlot | None = None


def checked_bulk(bulk: BulkWrite) -> BulkWrite:
    """Return the bulk write.

    Raises ValueError for one that no store may take, and InvalidInputError for a text that none can keep.
    """
    for write in bulk.writes:
        _check_changes(write.changes)
        for put in write.puts:
            if unstorable_in(f"{put.group} {put.member} {put.value}"):
                for text in (put.group, put.member, put.value):
                    checked_text(f"a record of {put.namespace}", text)
    return bulk


def _check_changes(changes: Sequence[Change]) -> None:
    if len(changes) > MOST_CHANGES:
        raise ValueError(f"a write of {len(changes)} changes is too long: at most {MOST_CHANGES}")
    if len({change.job.id for change in changes}) < len(changes):
        raise ValueError("a write changes each job once")
    taken: set[str] = set()
    for change in changes:
        job = change.job
        if isinstance(change, Replace) and job.revision in {"", change.revision}:
            raise ValueError(f"the change of job {job.id} needs a new revision")
        if isinstance(change, Insert):
            checked_text("the unique key", job.unique_key or "")
            checked_text("the batch id", job.batch_id or "")
            if job.unique_key is not None:
                if job.unique_key in taken:
                    raise ValueError(f"a write takes each unique key once, and not {job.unique_key} twice")
                taken.add(job.unique_key)


# --- Reading -----------------------------------------------------------------------------------------------------


class Page(Struct, frozen=True):
    """The records of a namespace, or of a `group` of it, in the order of their groups and members.

    The page begins after the record with the key `after`.
    """

    group: str | None = None
    after: Key | None = None
    limit: int = 1000


Wanted = Mapping[str, Sequence[str | Key] | Page]
"""The records to read, by namespace: those of whole groups and single ones, or one page."""


def tally_change(old: Job | None, new: Job | None) -> dict[str, int]:
    """Return what a change adds to counters: the tally of the new job less that of the old one, states included."""
    change: dict[str, int] = {} if new is None else {STATE + new.state: 1, **tally_of(new)}
    if old is not None:
        for name, amount in {STATE + old.state: 1, **tally_of(old)}.items():
            change[name] = change.get(name, 0) - amount
    return {name: amount for name, amount in change.items() if amount}


# --- The store ---------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The clock of a store. All users of the store see the same time, up to the clock skew."""

    def now(self) -> datetime:
        """Return the current time in UTC, with its zone."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds of this clock. With 0 or less, only let other tasks run."""
        ...


class Store(Protocol):
    """An open store. The context manager that opened it closes it, and finishes the writes that are on their way.

    A store that `open_store` has opened, other than in memory, also has a `local_journal` (`journal_of`).
    """

    @property
    def url(self) -> str:
        """URL of the store, without secrets."""
        ...

    @property
    def clock(self) -> Clock:
        """Clock of the store."""
        ...

    @property
    def id(self) -> str:
        """Name that the store got when it was made. It stays with the data: in every replica and backup."""
        ...

    @property
    def server(self) -> str:
        """Incarnation of the server that answered last, as far as the store knows without asking it.

        It differs after each restart or replacement of the server, and is always the same for a store without one.
        """
        ...

    @property
    def history(self) -> History | None:
        """History of the server that answered last; None for a store without a server, or one that has none."""
        ...

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Carry out a bulk write, as the top of this module promises; return the result of each write, in order.

        After an error, the same bulk write may be written again.

        It reads what the conditions of its writes name: whole groups for `AtMost`, one record for `Same`. For a send
        slot, it reads the limits and the pace of its queue.
        """
        ...

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        """Take at most `limit` due queued jobs for a worker: by the highest `urgency`, the earliest `due_at`, and id.

        So the highest priority comes first, and of one priority, jobs that go first: retries, which keep their place.
        They are returned as `leased`, due at `until`, with a new revision, and counters follow. Left out are jobs of a
        closed gate or a held batch (`HOLDS`), jobs whose `valid_until` has passed (the sweep ends them),
        and jobs that only a newer version can read (they are logged). At most `max_active` calls are open at once:
        leased jobs, and jobs with a future `active_until`. A store may return fewer jobs than it could, but none only
        if none may be leased. A lease need not be durable. If the answer is lost, the sweep queues the jobs at `until`.

        It reads the jobs that it returns, at most `max_active` open ones, and the held jobs before them: at most some
        thousands. Behind more of them it may look at each batch that has queued jobs.
        """
        ...

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        """Return the jobs of a read (`core.ports.reads`), where each read says what it costs."""
        ...

    async def totals(self, queue: str, *, batches: Sequence[str | None]) -> Sequence[Totals]:
        """Return the counters of batches of a queue, in this order and in one round trip; None is the queue itself.

        They are the sums of the tallies of all writes. A batch without jobs has empty totals.

        It reads the counters that it returns, and at most some hundreds of additions to them.
        """
        ...

    async def count(self, read: Counted | AnyOf) -> int:
        """Return the number of jobs of a read without its `limit`; of several reads, how many of them find one.

        It reads at most the index entries of these jobs; of a batch, of all its queued jobs.
        """
        ...

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        """Return the current records of several namespaces, in one round trip; absent ones are left out.

        All are of one moment. They are in the order of the groups and keys that were asked for, then of the members.
        It reads the records that it returns, and those of their groups and pages that have expired.
        """
        ...

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return the events of a queue with a `sequence` above `after`, oldest first. It reads these."""
        ...

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the queue's count of changes differs from `seen`, at most until `until`. Returns the count.

        The count grows with each write that `wakes` the queue. It is above 0, so a first call with `seen=0` returns at
        once. A wait may end early.

        It reads the count of the queue.
        """
        ...

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        """Delete expired records and tombstones, and events of one queue from before `events_before`.

        At most `limit` in all are deleted. Returns their number: fewer than `limit` if nothing is left.

        It reads what it deletes, and at most ten times as many entries of the store's own that it tidies up.
        """
        ...


class Joinable(Protocol):
    """A store in a database of its users, which can store jobs in a transaction of theirs. Other stores cannot."""

    def joined(self, connection: object) -> AbstractAsyncContextManager[Store]:
        """Return this store for an enqueue in the transaction of `connection`, for the length of a block.

        New jobs are there once that transaction has committed, and only then. It may stay open: nobody waits for it but
        who stores the same unique key. Conditions hold as far as the transaction sees, and not until it commits. If the
        block raises, the transaction is as it was before. Raises InvalidInputError for a connection that cannot be
        used.
        """
        ...
