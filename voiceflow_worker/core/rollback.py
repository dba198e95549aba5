"""The guard against a store that was rolled back: what the local journals know, and what the store has forgotten.

A worker is a *writer*: before a POST is sent, its job is a line with the next number in a file of the worker's own, and
the journal entry stores that number in the same write. Numbers only grow. So a store with a lower number than it once
certainly had was rolled back to an older state, and what it lost is in the lines above its number. The guard compares
them every half second. It then holds the queue, and puts the lost calls in doubt. It also holds the queue if another
server has taken over, because it may lack writes (`Histories`). Orders come back by `core.orders`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import gates_at, read_each
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.gates import Holds, order_gate, write_of_order
from voiceflow_worker.core.orders import give_orders_again
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.outside import LocalJournal, LocalJournalState
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Key, Put, Result, Same, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.writer import Compared, Writer, compared
from voiceflow_worker.errors import ChangedSinceError, JobError, JournalFileError, SettingsError, StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import is_forgotten, restored, with_lost_posts
from voiceflow_worker.model.reports.verdict import QueueHold
from voiceflow_worker.model.text.wording import in_words

PAGE = 200


def lost_of(compared: Compared, entries: Sequence[tuple[int, Job]]) -> list[Job]:
    """The jobs of these entries of a file that the store lacks."""
    return [job for n, job in entries if compared.number < n <= compared.newest]


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
            known = list(dict.fromkeys([history.made_in, *(record.value.split()[1:] if record else ())]))
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


class RollbackGuard:
    """Writes the journal file of one worker, and checks that the store still has the calls that it once had."""

    def __init__(
        self,
        store: Store,
        local_journal: LocalJournal,
        *,
        queue: str,
        policy: CallPolicy,
        holds: Holds,
        changes: Changes,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._journal_files = local_journal
        self._queue = queue
        self._policy = policy
        self._holds = holds
        self._changes = changes
        self._histories = Histories(store, queue)
        self.writer: Writer = Writer(store, local_journal, queue)
        self._server = ""
        self._quiet_until = float("-inf")
        self.restarts: int = 0
        """The number of restarts of the store's server that this worker has noticed."""
        self._verified = 0
        self._polled_at = float("-inf")
        self._recovering = anyio.Lock()

    async def begin(self) -> None:
        """Begin this worker's file, and check the files of all workers of this host.

        Raises `SettingsError` if files cannot be written or read, and `StoreError`.
        """
        for file in await self._journal_files.files(self._queue):
            if file.history:
                self._histories.note(file.history)
        await self._follow_history()
        before = self._clock.now() - max(self._policy.data_kept, LEAST_KEPT)
        await self._journal_files.prune(self._queue, before=before)
        await self._compare()
        try:
            while not await self._begin_file():
                await self._compare()
        except JournalFileError as error:
            raise SettingsError(f"{error}. Without it, nobody would notice that the store was rolled back") from error
        self._server = self._store.server

    async def _begin_file(self) -> bool:
        return await self.writer.begin(at=self._clock.now(), history=self._histories.name, tells=True)

    async def end(self) -> None:
        """Leave this worker's file to others. The number of one that never had a line goes: nobody else reads it."""
        name, is_unused = self.writer.name, self.writer.stored == "1"
        self.writer.close()
        if name and is_unused:
            write = Write(drops=(Drop(writes.WRITERS, name, "1"),))
            with anyio.move_on_after(1, shield=True), contextlib.suppress(StoreError):
                await self._store.write(BulkWrite(writes=(write,), durable=False), now=self._clock.now())

    async def numbered(self, bulk: BulkWrite, lines: Mapping[int, Sequence[Job]]) -> BulkWrite | None:
        """The bulk write with the numbers of this worker's next POSTs, by place; None if `verify` must be called.

        Raises `JournalFileError`.
        """
        if self._verified != self.restarts or not await self._begin_file():
            self._verified = -1
            return None
        return self.writer.numbered(bulk, lines, at=self._clock.now(), server=self._server)

    async def require_writable(self) -> None:
        """Raise `JournalFileError` if the last `append` has failed, and the next one would fail too."""
        if self.writer.file is not None:
            await self.writer.file.recover()

    def look_again(self) -> None:
        """Let the next `verify` poll: it is not known whether the newest journal entries were stored."""
        self._polled_at = float("-inf")

    async def verify(self) -> bool:
        """Whether jobs that were just leased may be sent: False if the store was rolled back.

        If the store was rolled back, the queue is held and the store restored before this returns. After a restart of
        the store's server, this first waits, so that another worker that notices a loss has time to hold the queue.
        Then it checks the files of all workers of this host, and also returns False if the queue is held. What has
        happened since the last poll is found by the journal entries, which are then refused. Raises `StoreError`, and
        `SettingsError` if a file cannot be read.
        """
        is_recent = self._clock.monotonic() - self._polled_at < POLL_EVERY and self._store.server == self._server
        if not is_recent and not await self.poll():
            return False
        while self._verified != self.restarts:
            restarts = self.restarts
            await self._clock.sleep(max(self._quiet_until - self._clock.monotonic(), 0.0))
            # The worker that sent the newest calls may have been killed, so every file of this host is checked.
            if await self._compare():
                return False
            now = self._clock.now()
            gate = (await gates_at(self._store, self._queue, [None])).get(None)
            if gate is not None and gate.is_closed(at=now):
                self._holds.apply(gate)
                return False
            self._verified = restarts
        return True

    async def watch(self) -> None:
        """Check the store periodically, even when this worker sends nothing: another worker may be about to send."""
        while True:
            wait = POLL_EVERY
            try:
                await self.poll()
            except StoreError as error:
                _log.debug("the store is unavailable; it will be checked for lost calls later", error=str(error))
                wait = POLL_EVERY / 5
            await self._clock.sleep(wait)

    async def restore_if_lost(self, job: Job) -> bool:
        """Whether a verdict that the store refused finds its POST now, because the store had lost the sent `job`.

        The lost calls are restored before this returns.
        """
        if not await self.poll():
            return True
        found = await read_each(self._store, [job.id])
        if (stored := found.jobs.get(job.id)) is not None:
            return not is_forgotten(job, stored)  # others may have restored it
        if found.unreadable or await text_records(self._store, writes.TOMBSTONES).get([job.id]):
            return False
        # The server has evicted it alone.
        await order_gate(self._store, self._closing(HELD))
        await self._restore([job])
        return True

    async def poll(self) -> bool:
        """Whether the store still has all that this worker stored. Also notes a restart of the store's server."""
        least, name = self.writer.stored, self.writer.name
        found = await self._store.records({writes.WRITERS: [name]}, now=self._clock.now())
        server = self._store.server
        if self._server != server:
            await self._follow_history()
            self._quiet_until = self._clock.monotonic() + OTHERS_FIRST.total_seconds()
            self._server = server
            self.restarts += 1
        stored = next((record.value for record in found[writes.WRITERS]), None)
        if int(stored or 0) < int(least or 0):
            return not await self._compare()
        self._polled_at = self._clock.monotonic()
        if (name, least) == (self.writer.name, self.writer.stored):
            # It may not have been known whether the newest journal entries were stored.
            self.writer.stored = stored
        return True

    async def _compare(self) -> bool:
        """Compare all files of this host; if calls are lost, hold the queue and restore them. Whether it was held."""
        async with self._recovering:
            while True:
                found = await self._compared()
                lost = [each for each in found if each.is_lost]
                if not lost:
                    return False
                # The hold is ordered only if nobody else has restored the calls since they were found missing: what was
                # seen before a person's `resume` is settled.
                has_calls = any(each.file.last > each.number for each in lost)
                if not has_calls and await self._is_held_for_it():
                    await self._settle(found)
                elif await self._hold(HELD if has_calls else HELD_AS_LACKING, lost[0]):
                    _log.error("the store was rolled back: the queue is held", queue=self._queue)
                    await self._add_since_when()
                    await self._recover(found)
                    return True

    async def _compared(self) -> list[Compared]:
        files = list(await self._journal_files.files(self._queue))
        if self.writer.file is not None:  # also if its files were removed
            name, stored = self.writer.name, int(self.writer.stored or 0)
            files.append(LocalJournalState(name="", writer=name, kept=stored, last=0, is_open=True))
        return await compared(self._store, files)

    async def _is_held_for_it(self) -> bool:
        """Whether the queue is held because of a rollback already. It is not held again for workers without calls."""
        gate = (await gates_at(self._store, self._queue, [None])).get(None)
        return gate is not None and gate.is_closed(at=self._clock.now()) and GateKind.MAY_LACK in gate.kinds

    async def _settle(self, found: Iterable[Compared]) -> None:
        """Store the numbers that the store lacks, after what they stand for was restored."""
        for each in found:
            if each.number < each.newest:
                await each.raise_to(self._store, each.newest)
                if each.file.writer == self.writer.name:
                    self.writer.stored = each.stored

    async def _follow_history(self) -> None:
        """Hold the queue if another server has taken over, which may lack what was stored.

        No host knows the orders of another, so a person must check. Who resumes the queue settles it for all workers.
        """
        hold = self._closing(HELD_AS_TAKEN_OVER)
        gate = await self._histories.follow(hold)
        if gate is not None:
            self._holds.apply(gate)
            await self._add_since_when()
        if self.writer.file is not None:
            await self.writer.file.follow(self._histories.name)

    async def _add_since_when(self) -> None:
        """Add to the reason of a hold since when writes may be missing, as far as the files of this host show.

        What was stored before a POST that the store still has, is there. The orders of this host are given again.
        """
        await give_orders_again(self._store)
        newest: datetime | None = None
        has_calls = False
        elsewhere: set[str] = set()
        for each in await self._compared():
            entries = await self._entries(each)
            has_calls = has_calls or bool(entries)
            if each.is_lost and each.file.other_store is not None and lost_of(each, entries):
                elsewhere.add(each.file.other_store)
            known = [job.posts[-1].began_at for n, job in entries if n <= each.number]
            if known:
                newest = max(known) if newest is None else max(newest, *known)
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

    def _closing(self, reason: str) -> Gate:
        """The order to hold the queue for this reason, until a person resumes it."""
        since = self._clock.now()
        return Gate.of(self._queue, None, GateState.HELD, since=since, reason=reason, kinds=_MAY_LACK)

    async def _hold(self, reason: str, lost: Compared) -> bool:
        """Hold the queue, unless its gate or the number of a lost file has changed; returns whether it is held."""
        # Before the round trip to the store: calls of this worker that were not sent yet must not be sent.
        self._holds.close(QueueHold(reason=reason, until_opened=True))
        ordered = self._closing(reason)
        wanted: dict[str, list[str | Key]] = {GATES: [(self._queue, gate_member(None))]}
        gate = next(iter((await self._store.records(wanted, now=ordered.since))[GATES]), None)
        _, hold = write_of_order(gate, ordered, token=new_revision())
        conditions = (*hold.conditions, Same(writes.WRITERS, lost.file.writer, lost.stored))
        write = Write(conditions=conditions, puts=hold.puts, wakes=self._queue)
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=ordered.since)
        return answer.result is Result.DONE

    async def _entries(self, each: Compared) -> Sequence[tuple[int, Job]]:
        return await self._journal_files.entries(each.file.name) if each.file.name else ()

    async def _recover(self, found: Sequence[Compared]) -> None:
        """Restore the lost calls from the files of this host, in a queue that is held.

        The numbers follow at the end. So whoever begins after this was cut short finds the calls of a file missing.
        """
        known, unknown = 0, 0
        for each in found:
            lost = lost_of(each, await self._entries(each))
            for start in range(0, len(lost), PAGE):
                of_page = await self._restore(lost[start : start + PAGE])
                known, unknown = known + of_page[0], unknown + of_page[1]
        await self._settle(found)
        _log.error("calls that the store had lost are in doubt now", calls=known, restored=unknown)

    async def _restore(self, jobs: Sequence[Job]) -> tuple[int, int]:
        """Restore those of these calls that are lost; the numbers of those that the store has, and has not."""
        stored = await read_each(self._store, [job.id for job in jobs])
        oldest = self._clock.now() - self._policy.retention
        known = [job for job in jobs if job.id in stored.jobs and is_forgotten(job, stored.jobs[job.id])]
        missing = [job for job in jobs if job.id not in {*stored.jobs, *stored.unreadable}]
        gone = [job for job in missing if job.posts[-1].began_at > oldest]  # the others would be deleted by now
        await self._insert_lost(gone)
        await gather(*(partial(self._restore_posts, each) for each in known))
        return len(known), len(gone)

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
        others = [(job, answer.owners[job.id]) for job, answer in zip(jobs, written, strict=True) if answer.owners]
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
