"""The guard against a store that was rolled back: what the local journals know, and what the store has forgotten.

Before a POST is sent, its worker writes the job to a file of its own, in addition to the journal entry in the store.
The guard compares the newest of these jobs with the store every half second. POST numbers only grow. If a store knows
fewer POSTs of a job than it once stored, it was rolled back to an older state; so it was if it lacks what this worker
stored when it began. The guard then holds the queue, and puts the lost calls in doubt. It also holds the queue if
another server has taken over, because it may lack writes (`Histories`). Orders come back by `core.orders`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import gates_at, owners_of, read_each
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.gates import Holds, order_gate, write_of_order
from voiceflow_worker.core.orders import give_orders_again
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.outside import LocalJournal, LocalJournalFile
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Guard, Key, Put, Record, Result, Same, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import ChangedSinceError, JobError, StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import is_forgotten, restored, with_lost_posts
from voiceflow_worker.model.reports.verdict import QueueHold
from voiceflow_worker.model.text.wording import in_words

PAGE = 200


async def forgotten_of(
    store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy
) -> list[tuple[Job, Job | None]]:
    """The journalled jobs of which the store lacks a POST, each with its stored job, or None if that is missing.

    A missing job counts as pruned, not as forgotten, if its POST began longer ago than the retention.
    """
    stored = await read_each(store, [job.id for job in jobs])
    found: list[tuple[Job, Job | None]] = []
    for each in jobs:
        job = stored.jobs.get(each.id)
        if each.id in stored.unreadable:
            continue  # a newer version has moved it: it is not lost
        if now < each.posts[-1].began_at + policy.retention if job is None else is_forgotten(each, job):
            found.append((each, job))
    # A process with a shorter retention may have deleted a job early, or a person has ended one whose record could not
    # be read. The tombstone of the job shows that.
    known = await known_as_pruned(store, [each for each, job in found if job is None])
    ended = [job.id for _, job in found if job is not None and job.state.is_final]
    known |= set(await text_records(store, writes.TOMBSTONES).get(ended))
    return [(each, job) for each, job in found if each.id not in known]


async def remember_pruned(store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy) -> None:
    """Store tombstones of jobs that are about to be deleted.

    Jobs with a unique key are left out, because deleting them leaves a tombstone anyway. Jobs that were never sent are
    left out, because no journal file names them.
    """
    tombstones = {job.id: job.batch_id or "" for job in jobs if job.unique_key is None and job.post_count}
    await text_records(store, writes.TOMBSTONES).put(
        tombstones, until=now + max(policy.key_retention, policy.retention)
    )


async def known_as_pruned(store: Store, jobs: Sequence[Job]) -> set[str]:
    """The ids of the jobs that have a tombstone in the store. Pass only jobs that the store lacks.

    A store that was rolled back to a time before it deleted a job has no tombstone of that job.
    """
    known = set(await text_records(store, writes.TOMBSTONES).get(job.id for job in jobs))
    left = [job for job in jobs if job.id not in known and job.unique_key is not None]
    for queue in {job.queue for job in left}:
        keys = {job.unique_key: job.id for job in left if job.queue == queue and job.unique_key is not None}
        owners = await owners_of(store, queue, keys)
        known |= {
            owner.id
            for key, owner in owners.items()
            # If the server evicted a job, its key still names it, but is not a tombstone.
            if owner.id == keys[key] and owner.state in FINAL_STATES
        }
    return known


_log = structlog.get_logger("voiceflow.rollback")

HAD_LOST = "the store was rolled back to an older state, and had lost calls that were sent"
LACKS = "the store was rolled back to an older state: it lacks what a worker had stored"
TAKEN_OVER = "another server has taken over the store, and may lack what was stored last"
_MISSING = "Outcomes and new calls may be missing; opt-outs and other orders are given again by their hosts. Look for"
HELD = f"{HAD_LOST}. {_MISSING} the calls in the log of 8x8, resolve what stays in doubt, and resume the queue"
_ELSE = f"{_MISSING} what else is missing, resolve what is in doubt, and resume the queue"
HELD_AS_TAKEN_OVER = f"{TAKEN_OVER}. {_ELSE}"
HELD_AS_LACKING = f"{LACKS}. {_ELSE}"
NO_FILES = (
    "The journal files of this host name no call of this store: if calls were sent from here, start the workers with "
    "the state directory that they had then (VOICEFLOW_STATE_DIR) before you resume, else calls may be made twice"
)
ELSEWHERE = (
    "lost calls were sent from this host under another URL of the store (journal files {names}): if a copy of this "
    "store is there, and goes on sending, the same calls wait in both: cancel them in one of them before you resume"
)
ROLLBACKS = "rollback"
"""The namespace of the number of holds of each queue because of a rollback: `<number> <token>`. It only grows, but for
a rollback: by it, a worker sees that another one has held the queue for what it notices later."""
_MAY_LACK = frozenset({GateKind.MAY_LACK})
OTHERS_FIRST = timedelta(seconds=2)
"""The time for which a worker sends nothing after the server was restarted or replaced. If the store was rolled back,
perhaps only another worker can notice. That worker needs this time to connect, to check, and to hold the queue."""
POLL_EVERY = 0.5
LEAST_KEPT = timedelta(days=7)
"""Journal files are kept as long as the data of ended jobs, and at least this long."""


HISTORIES = "history"
"""The namespace of the histories that the workers of each queue have followed: `<token> <name>…`, the newest last. The
token is new with each write."""
_MOST = 1000
"""The most names that a record keeps: more than the journal files of a machine have while they are kept. One that
were dropped, and that a file still has, would be taken for a new one."""


class Histories:
    """Follows the histories of a store for one worker of a queue.

    No server knows what it lacks. So each queue keeps the names of the histories that its workers have followed, and a
    store keeps the one in which it was made: a server that lags lacks later records, but has that one. A worker
    compares them with the history of its server, with those that it has seen itself, and with those in the local
    journals of its machine.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._seen: dict[str, None] = {}

    def note(self, name: str) -> None:
        """Note the history that a local journal of this machine has followed."""
        self._seen[name] = None

    @property
    def name(self) -> str:
        """What a local journal shall note: the history that this worker follows; empty if there is none to follow."""
        history = self._store.history
        return "" if history is None else history.name

    async def follow(self, hold: Gate) -> Gate | None:
        """Follow the history of the store's server; if it is new to the queue, the hold is ordered, and returned.

        If failovers are trusted, it is not: only a server that lacks a history which this machine has seen certainly
        lacks writes. The record of the queue and the hold are one write. So one worker alone orders the hold of a
        queue, and not once more after a person has ended it. Raises StoreError.
        """
        history = self._store.history
        if history is None:
            return None
        wanted: dict[str, list[str | Key]] = {HISTORIES: [self._queue], GATES: [(self._queue, gate_member(None))]}
        while True:
            found = await self._store.records(wanted, now=self._store.clock.now())
            record, gate_record = next(iter(found[HISTORIES]), None), next(iter(found[GATES]), None)
            known = [history.made_in] if record is None else record.value.split()[1:]
            new = [name for name in dict.fromkeys((*self._seen, history.name)) if name not in known]
            gate = None
            if record is not None and not new:
                break
            names = " ".join([*known, *new][-_MOST:])
            write = Write(
                conditions=(Same(HISTORIES, self._queue, None if record is None else record.value),),
                puts=(Put(HISTORIES, self._queue, f"{new_revision()} {names}", None),),
            )
            if new and not (history.is_trusted and self._seen.keys().isdisjoint(new)):
                gate, order = write_of_order(gate_record, hold, token=new_revision())
                write = Write(
                    conditions=(*order.conditions, *write.conditions),
                    puts=(*order.puts, *write.puts),
                    wakes=self._queue,
                )
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=hold.since)
            if answer.result is Result.DONE:
                break
        self._seen[history.name] = None
        if gate is not None:
            _log.error("another server has taken over: the queue is held", queue=self._queue)
        return gate


@dataclass(frozen=True, slots=True)
class _HoldRecords:
    """The records on which a hold depends: the gate of the queue, the number of its holds, and this worker's record."""

    gate: Record | None
    rollbacks: Record | None
    posted: Record | None

    @property
    def count(self) -> int:
        """The number of holds of the queue because of a rollback."""
        return 0 if self.rollbacks is None else int(self.rollbacks.value.partition(" ")[0])


class RollbackGuard:
    """Writes the journal file of one worker, and checks that the store still has the calls that it once had."""

    def __init__(
        self,
        store: Store,
        local_journal: LocalJournal,
        *,
        queue: str,
        worker_id: str,
        policy: CallPolicy,
        holds: Holds,
        changes: Changes,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._journal_files = local_journal
        self._queue = queue
        self.worker_id = worker_id
        self._policy = policy
        self._holds = holds
        self._changes = changes
        self._histories = Histories(store, queue)
        self._file: LocalJournalFile | None = None
        self._appended: Sequence[Job] = ()
        self._newest: Job | None = None
        self._server = ""
        self._token: str | None = None
        self._rollbacks = 0
        self._quiet_until = float("-inf")
        self.restarts: int = 0
        """The number of restarts of the store's server that this worker has noticed."""
        self._verified = 0
        self._recovering = anyio.Lock()

    async def begin(self) -> None:
        """Begin this worker's file, and check the files of all workers of this host.

        Raises `SettingsError` if files cannot be written or read, and `StoreError`.
        """
        now = self._clock.now()
        files = await self._journal_files.files(self._queue)
        for file in files:
            if file.history:
                self._histories.note(file.history)
        await self._follow_history()
        self._file = await self._journal_files.begin(self._queue, self.worker_id, history=self._histories.name)
        await self._journal_files.prune(self._queue, before=now - max(self._policy.data_kept, LEAST_KEPT))
        kept = [file.newest_committed for file in files if file.newest_committed is not None]
        # A store that lacks this record was rolled back to a time before this worker began.
        self._token, write = writes.posted(self.worker_id, at=now)
        await self._store.write(BulkWrite(writes=(write,)), now=now)
        self._rollbacks = (await self._hold_records()).count
        self._server = self._store.server
        self._newest = max(kept, key=lambda each: each.posts[-1].began_at, default=None)
        await self._check(kept)

    async def end(self) -> None:
        """Close this worker's file, so that other workers may prune it, and drop its record: nobody else reads it."""
        if self._file is None:
            return
        self._file.close()
        write = Write(drops=(Drop(writes.POSTED, self.worker_id, None),))
        with anyio.move_on_after(1, shield=True), contextlib.suppress(StoreError):
            await self._store.write(BulkWrite(writes=(write,), durable=False), now=self._clock.now())

    async def append(self, jobs: Sequence[Job]) -> None:
        """Write jobs to this worker's file, durably, before their POSTs are sent. Raises `JournalFileError`."""
        if self._file is None:
            raise RuntimeError("the journal file was not begun")
        self._appended = jobs
        await self._file.append(jobs)

    async def require_writable(self) -> None:
        """Raise `JournalFileError` if the last `append` has failed, and the next one would fail too."""
        if self._file is not None:
            await self._file.recover()

    def record_committed(self, committed: Sequence[bool]) -> None:
        """Record which jobs of the last `append` were committed to the store. `committed` has one value for each."""
        if self._file is None:
            raise RuntimeError("the journal file was not begun")
        self._file.record_committed(committed)
        newest = next(
            (job for job, done in zip(reversed(self._appended), reversed(committed), strict=True) if done), None
        )
        if newest is not None:
            self._newest, self._token = newest, newest.revision

    @property
    def is_verified(self) -> bool:
        """Whether `guarded` names all that must be checked before the next POSTs. If not, `verify` must be called."""
        return self._verified == self.restarts

    def guarded(self, bulk: BulkWrite) -> BulkWrite:
        """The bulk write under the condition that the store still has this worker's newest POST, on the same server."""
        return replace(bulk, guard=Guard(self._server, Same(writes.POSTED, self.worker_id, self._token)))

    async def verify(self) -> bool:
        """Whether jobs that were just leased may be sent: False if the store was rolled back.

        If the store was rolled back, the queue is held and the store restored before this returns. After a restart of
        the store's server, this first waits, so that another worker that notices a loss has time to hold the queue.
        Then it checks the files of all workers of this host, and also returns False if the queue is held. Raises
        `StoreError`, and `SettingsError` if a file cannot be read.
        """
        if not await self._poll():
            return False
        while self._verified != self.restarts:
            restarts = self.restarts
            await self._clock.sleep(max(self._quiet_until - self._clock.monotonic(), 0.0))
            # The worker that sent the newest calls may have been killed, so every file of this host is checked.
            if await self.check() or await self._check(await self._newest_committed()):
                return False
            now = self._clock.now()
            gate = (await gates_at(self._store, self._queue, [None])).get(None)
            if gate is not None and gate.is_closed(at=now):
                self._holds.apply(gate)
                return False
            self._verified = restarts
        return True

    async def check(self) -> bool:
        """Whether the store has lost the newest POST that it once had.

        If so, the lost calls are restored before this returns.
        """
        return self._newest is not None and await self._check([self._newest])

    async def watch(self) -> None:
        """Check the store periodically, even when this worker sends nothing: another worker may be about to send."""
        while True:
            wait = POLL_EVERY
            try:
                await self._poll()
            except StoreError as error:
                _log.debug("the store is unavailable; it will be checked for lost calls later", error=str(error))
                wait = POLL_EVERY / 5
            await self._clock.sleep(wait)

    async def restore_if_lost(self, job: Job) -> bool:
        """Whether the store refused a verdict because it lost the sent `job`.

        If so, the lost calls are restored before this returns.
        """
        return await self._check([job])

    async def _poll(self) -> bool:
        """Whether the store still has this worker's newest POST. Also notes a restart of the store's server."""
        token = self._token
        found = await self._store.records({writes.POSTED: [self.worker_id]}, now=self._clock.now())
        server = self._store.server
        if self._server != server:
            await self._follow_history()
            self._quiet_until = self._clock.monotonic() + OTHERS_FIRST.total_seconds()
            self._server = server
            self.restarts += 1
        current = next((record.value for record in found[writes.POSTED]), None)
        if current == token:
            return True
        if await self.check():
            return False
        if self._token != token:
            return True
        if current is None:
            return await self._restore_record()
        # It was not known whether the newest journal entries were stored.
        self._token = current
        return True

    async def _newest_committed(self) -> list[Job]:
        """For each journal file of this host, its newest call that was certainly committed to the store."""
        return [
            file.newest_committed
            for file in await self._journal_files.files(self._queue)
            if file.newest_committed is not None
        ]

    async def _check(self, calls: Sequence[Job]) -> bool:
        if not await self._forgotten(calls):
            return False
        async with self._recovering:
            # Checked again: others may have restored the store. The hold is ordered only if nobody has changed the gate
            # since the check that found calls missing: what was seen before a person's `resume` is settled.
            while True:
                records = await self._hold_records()
                if not await self._forgotten(calls):
                    break
                if await self._hold(HELD, records):
                    await self._add_since_when()
                    await self._recover()
                    break
        return True

    async def _restore_record(self) -> bool:
        """Store the record of this worker again, which the store has lost; returns False if the queue is held for it.

        It is held unless another worker has held it for a rollback since the last check of this one.
        """
        async with self._recovering:
            while (records := await self._hold_records()).posted is None:
                if records.count > self._rollbacks:
                    now = self._clock.now()
                    self._token, write = writes.posted(self.worker_id, at=now)
                    await self._store.write(BulkWrite(writes=(write,)), now=now)
                    self._rollbacks = records.count
                elif await self._hold(HELD_AS_LACKING, records):
                    _log.error("the store was rolled back: the queue is held", queue=self._queue)
                    await self._add_since_when()
                    return False
            return True

    async def _follow_history(self) -> None:
        """Hold the queue if another server has taken over, which may lack what was stored.

        No host knows the orders of another, so a person must check. Who resumes the queue settles it for all workers.
        """
        hold = self._closing(HELD_AS_TAKEN_OVER)
        gate = await self._histories.follow(hold)
        if gate is not None:
            self._holds.apply(gate)
            await self._add_since_when()
        if self._file is not None:
            await self._file.follow(self._histories.name)

    async def _add_since_when(self) -> None:
        """Add to the reason of a hold since when writes may be missing, as far as the files of this host show.

        What was stored before a POST that the store still has, is there. The orders of this host are given again.
        """
        await give_orders_again(self._store)
        newest: datetime | None = None
        has_calls = False
        elsewhere: set[str] = set()
        for file in await self._journal_files.files(self._queue):
            entries = await self._journal_files.entries(self._queue, file.name)
            has_calls = has_calls or bool(entries)
            for end in range(len(entries), 0, -PAGE):
                page = entries[max(end - PAGE, 0) : end]
                lost = {each.id for each, _ in await self._forgotten(page)}
                if lost and file.other_store is not None:
                    elsewhere.add(file.other_store)
                known = [each.posts[-1].began_at for each in page if each.id not in lost]
                if known:
                    newest = max(known) if newest is None else max(newest, *known)
                    break
        reasons: list[str] = []
        if newest is not None:
            reasons.append(f"what was stored after {in_words(newest)} may be missing")
        elif not has_calls:  # with calls, the store has lost them all
            reasons.append(NO_FILES)
        if elsewhere:
            reasons.append(ELSEWHERE.format(names=", ".join(sorted(elsewhere))))

        def is_settled(gate: Gate | None) -> None:
            if gate is not None and GateKind.MAY_LACK not in gate.kinds:
                raise ChangedSinceError(f"queue {self._queue} is no longer held for what may be missing")

        for reason in reasons:
            with suppress(ChangedSinceError):  # only onto the hold: a person who has resumed meanwhile has settled it
                await order_gate(self._store, self._closing(reason), check=is_settled)

    async def _forgotten(self, calls: Sequence[Job]) -> list[tuple[Job, Job | None]]:
        return await forgotten_of(self._store, calls, now=self._clock.now(), policy=self._policy)

    async def _hold_records(self) -> _HoldRecords:
        wanted: dict[str, list[str | Key]] = {
            GATES: [(self._queue, gate_member(None))],
            ROLLBACKS: [self._queue],
            writes.POSTED: [self.worker_id],
        }
        found = await self._store.records(wanted, now=self._clock.now())
        return _HoldRecords(*(next(iter(found[namespace]), None) for namespace in wanted))

    def _closing(self, reason: str) -> Gate:
        """The order to hold the queue for this reason, until a person resumes it."""
        since = self._clock.now()
        return Gate.of(self._queue, None, GateState.HELD, since=since, reason=reason, kinds=_MAY_LACK)

    async def _hold(self, reason: str, records: _HoldRecords) -> bool:
        """Hold the queue, unless its gate or the number of its holds has changed; returns whether it is held.

        The record of this worker is stored again with the hold, so that it is not missing any more.
        """
        # Before the round trip to the store: calls of this worker that were not sent yet must not be sent.
        self._holds.close(QueueHold(reason=reason, until_opened=True))
        ordered = self._closing(reason)
        _, hold = write_of_order(records.gate, ordered, token=new_revision())
        token, posted = writes.posted(self.worker_id, at=ordered.since)
        counted = Put(ROLLBACKS, self._queue, f"{records.count + 1} {token}", None)
        was = None if records.rollbacks is None else records.rollbacks.value
        write = Write(
            conditions=(*hold.conditions, Same(ROLLBACKS, self._queue, was)),
            puts=(*hold.puts, *posted.puts, counted),
            wakes=self._queue,
        )
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=ordered.since)
        if answer.result is not Result.DONE:
            return False
        self._token, self._rollbacks = token, records.count + 1
        return True

    async def _recover(self) -> None:
        """Restore the lost calls from the files of this host, in a queue that is held.

        The newest call of each file comes last: by it, a worker notices a loss. Whoever begins after this was cut short
        finds that call missing, and restores the others too.
        """
        _log.error("the store was rolled back: the queue is held", queue=self._queue)
        known, unknown = 0, 0
        newest: list[Job] = []
        for file in await self._journal_files.files(self._queue):
            entries = await self._journal_files.entries(self._queue, file.name)
            newest_id = None if file.newest_committed is None else file.newest_committed.id
            newest += [job for job in entries if job.id == newest_id]
            found = await self._restore([job for job in entries if job.id != newest_id])
            known, unknown = known + found[0], unknown + found[1]
        found = await self._restore(newest)
        _log.error(
            "calls that the store had lost are in doubt now", calls=known + found[0], restored=unknown + found[1]
        )

    async def _restore(self, calls: Sequence[Job]) -> tuple[int, int]:
        """Restore those of these calls that are lost; the numbers of those that the store has, and has not."""
        known, unknown = 0, 0
        for start in range(0, len(calls), PAGE):
            found = await self._forgotten(calls[start : start + PAGE])
            gone = [each for each, job in found if job is None]
            await self._insert_lost(gone)
            await gather(*(partial(self._restore_posts, each) for each, job in found if job is not None))
            known, unknown = known + len(found) - len(gone), unknown + len(gone)
        return known, unknown

    async def _restore_posts(self, journalled: Job) -> None:
        now = self._clock.now()
        with contextlib.suppress(JobError):
            await self._changes.change(
                journalled.id, partial(with_lost_posts, journalled=journalled, at=now, policy=self._policy)
            )

    async def _insert_lost(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        now = self._clock.now()
        again = partial(writes.restored, at=now, policy=self._policy, store_id=self._store.id)
        written = await self._store.write(BulkWrite(writes=tuple(map(again, jobs))), now=now)
        # The same call may have been enqueued again since. That job keeps the key, but is cancelled, because the lost
        # job may have been sent.
        others = [(job, answer.owner) for job, answer in zip(jobs, written, strict=True) if answer.owner]
        for job, owner in others:
            with contextlib.suppress(JobError):
                await self._changes.change(owner.job_id, partial(self._cancelled, sent_as=job.id))
        keyless = [again(replace(job, unique_key=None)) for job, _ in others]
        if keyless:
            await self._store.write(BulkWrite(writes=tuple(keyless)), now=now)
        doubted = partial(restored, at=now, policy=self._policy)
        await gather(*(partial(self._changes.change, job.id, doubted) for job in jobs))

    def _cancelled(self, job: Job, *, sent_as: str) -> Job:
        if job.state not in {JobState.QUEUED, JobState.LEASED} or job.id == sent_as:
            return job
        reason = f"the same call may have been placed as {sent_as}, before the store was rolled back"
        now, kind = self._clock.now(), ReasonKind.SENT_AS_ANOTHER
        return lifecycle.cancel(job, at=now, reason=reason, kind=kind, policy=self._policy)


@asynccontextmanager
async def at_work(guard: RollbackGuard | None) -> AsyncGenerator[None]:
    """Begin the guard, if there is one, run the block, and end the guard. Raises the errors of `begin`."""
    if guard is None:
        yield
        return
    try:
        await guard.begin()
        yield
    finally:
        await guard.end()
