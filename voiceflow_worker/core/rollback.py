"""The guard against a store that was rolled back: what the local journals know, and what the store has forgotten.

A worker is a *writer* of POSTs (`core.writer`). The guard compares the numbers of the writers of this host with those
in the store, again and again. If the store lacks one, it holds the queue, and puts the lost calls in doubt. It also
holds the queue if another server has taken over, because it may lack writes (`Histories`). Orders come back by
`core.orders`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
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
from voiceflow_worker.core.orders import hold_each_queue, put_opt_outs_back
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import GATES, LIMITS, Limits, gate_member, limits_from
from voiceflow_worker.core.ports.outside import ORDERS, JournalEntries, LocalJournal, LocalJournalState
from voiceflow_worker.core.ports.store import BulkWrite, Key, Put, Result, Same, Wanted, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.writer import (
    UNREAD_LINES,
    Compared,
    OtherWriters,
    Writer,
    compared,
    history_of,
    host_of,
    numbers_in,
)
from voiceflow_worker.core.writes import writer_same
from voiceflow_worker.errors import (
    ChangedSinceError,
    JobError,
    JournalFileError,
    SettingsError,
    StoreError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.rollback import is_forgotten, restored, with_lost_posts
from voiceflow_worker.model.reports.verdict import QueueHold
from voiceflow_worker.model.text.wording import in_words

_log = structlog.get_logger("voiceflow.rollback")

PAGE = 200
HELD = "the store was rolled back to an older state, and had lost calls that were sent"
HELD_AS_TAKEN_OVER = "another server has taken over the store, and may lack what was stored last"
HELD_AS_LACKING = "the store was rolled back to an older state: it lacks what a worker had stored"
OTHER_LACKS = (
    "the store has lost what {host} had stored: start a worker there with its state directory, which puts lost "
    "calls in doubt and opt-outs back; if that is not possible, look for the calls in the log of 8x8"
)
NO_FILES = (
    "the journal files of this host name no call of this store: if calls were sent from here, start the workers with "
    "the state directory that they had then (VOICEFLOW_STATE_DIR) before you resume, else calls may be made twice"
)
ELSEWHERE = (
    "lost calls were sent from this host under another URL of the store (journal files {names}): if a copy of this "
    "store is there, and goes on sending, the same calls wait in both: cancel them in one of them before you resume"
)
UNREAD = (
    "{problem}. If the store was rolled back since, calls and orders that are in it may be missing here: look for the "
    "calls in the log of 8x8, or use the version that wrote it. Then move the file elsewhere"
)
OTHERS_FIRST = timedelta(seconds=2)
"""The time for which a worker sends nothing after the server was restarted or replaced. If the store was rolled back,
perhaps only another worker can notice. That worker needs this time to connect, to check, and to hold the queue."""
POLL_EVERY = 0.5
ENTRY_COUNTS = 0.6
"""Seconds for which a journal entry that was stored under the guard says as much as a poll: longer than groups of calls
are apart under most rates."""
NOTED_EVERY = 1.0
"""The age in seconds of what a worker notes of other senders, at most."""
FILES_KEPT = timedelta(days=8)
"""How long after its last line a journal file is deleted."""


SETTLED = "rollback-settled"
"""Namespace of what has held queues once: files that nobody can read, and the numbers of writers that were lost."""
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

    def note(self, *names: str) -> None:
        """Note histories that local journals of this machine have followed."""
        self._seen |= dict.fromkeys(names)

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
                write = writes.all_or_none([order, write])
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=hold.since)
            if answer.result is Result.DONE:
                break
        self._seen[history.name] = None
        if gate is not None:
            _log.error("another server has taken over: the queue is held", queue=self._queue)
        return gate


class RollbackGuard:
    """Writes the journal file of one worker, and checks that the store still has the calls that it once had.

    `on_limits` gets the limits of the queue at each look at the store.
    """

    def __init__(
        self,
        store: Store,
        local_journal: LocalJournal,
        *,
        queue: str,
        policy: CallPolicy,
        holds: Holds,
        changes: Changes,
        on_limits: Callable[[Limits | None], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._on_limits = on_limits
        self._clock = store.clock
        self._journal_files = local_journal
        self._queue = queue
        self._policy = policy
        self._holds = holds
        self._changes = changes
        self._histories = Histories(store, queue)
        self._others = OtherWriters()
        self.writer: Writer = Writer(store, local_journal, queue)
        self._server = ""
        self._quiet_until = float("-inf")
        self.restarts: int = 0
        """The number of restarts of the store's server that this worker has noticed."""
        self._verified = 0
        self._polled_at = self._noted_at = float("-inf")
        self._asked = 0
        self._recovering, self._beginning = anyio.Lock(), anyio.Lock()

    async def begin(self) -> None:
        """Begin this worker's file, and check the files of all workers of this host.

        Raises `SettingsError` if files cannot be written or read, and `StoreError`.
        """
        files = await self._journal_files.files(self._queue)
        for file in files:
            self._others.note(file.senders)
        self._histories.note(*(file.history for file in files if file.history))
        await self._follow_history()
        for file in (*files, *await self._journal_files.files(ORDERS)):
            if file.problem:
                await self._hold_for_unreadable(file)
        before = self._clock.now() - FILES_KEPT
        await self._journal_files.prune(self._queue, before=before)
        await self._compare()
        try:
            while not await self._begin_file():
                await self._compare()
        except JournalFileError as error:
            raise SettingsError(f"{error}. Without it, nobody would notice that the store was rolled back") from error
        self._server = self._store.server

    async def _hold_for_unreadable(self, file: LocalJournalState) -> None:
        """Hold the queue for a file that cannot be read: once, and again if the store was rolled back since."""
        name = f"unread {file.content}"
        if not await text_records(self._store, SETTLED).get([name]):
            reason = UNREAD.format(problem=file.problem)
            known = Put(SETTLED, name, "1", self._clock.now() + writes.WRITERS_KEPT)
            await self._hold(self._closing(reason, GateKind.UNREAD_FILES), Same(SETTLED, name, None), puts=(known,))

    async def _begin_file(self) -> bool:
        async with self._beginning:
            return await self.writer.begin(at=self._clock.now(), history=history_of(self._store), numbers=True)

    async def end(self) -> None:
        """Leave this worker's file to others."""
        self.writer.close()

    async def numbered(self, bulk: BulkWrite, lines: Mapping[int, Sequence[Job]]) -> BulkWrite | None:
        """Return the bulk write with the numbers of the next POSTs, by place; None if `verify` must be called.

        Raises `JournalFileError`.
        """
        if self._verified != self.restarts or not await self._begin_file():
            self._verified = -1
            return None
        return self.writer.numbered(bulk, lines, at=self._clock.now(), server=self._server)

    async def require_writable(self) -> None:
        """Raise `JournalFileError` if the last journal entries could not be written, and the next ones could not."""
        if self.writer.has_failed and not await self._begin_file():
            self._verified = -1

    def has_stored(self, places: Collection[int]) -> None:
        """Note that the store has these writes of the last `numbered`: it was not rolled back before them."""
        if places:
            self.writer.has_stored(places)
            self._polled_at = self._clock.monotonic()

    def look_again(self) -> None:
        """Let the next `verify` poll: because journal entries were refused, or perhaps not stored, or for limits."""
        self._polled_at, self._asked = float("-inf"), self._asked + 1

    async def verify(self) -> bool:
        """Return whether jobs that were just leased may be sent: False if the store was rolled back.

        Then the queue is held and the store restored before this returns. After a restart of the store's server, this
        first waits (`OTHERS_FIRST`), checks the files of all workers of this host, and also returns False if the queue
        is held. What has happened since the last poll is found by the journal entries, which are then refused. Raises
        `StoreError`, and `SettingsError` if a file cannot be read.
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
            gate = (await gates_at(self._store, self._queue, [None])).get(None)
            if gate is not None:
                self._holds.apply(gate)
                return False
            self._verified = restarts
        return True

    async def watch(self, *, seldom: Callable[[float], float]) -> None:
        """Check the store periodically, even when this worker sends nothing: another worker may be about to send.

        `seldom` gives the seconds between two checks of a worker that has long sent nothing.
        """
        while True:
            note_in = NOTED_EVERY if self._others.are_there else float("inf")
            poll_at = min(self._polled_at + ENTRY_COUNTS, self._noted_at + note_in)
            wait = poll_at - self._clock.monotonic()
            if wait <= 0 or self._store.server != self._server:
                wait = min(seldom(POLL_EVERY), note_in)
                try:
                    with suppress(JournalFileError):  # as the next entry will say
                        await self._begin_file()  # a new one each week, also while nothing is sent
                    await self.poll()
                except StoreError as error:
                    _log.debug("the store is unavailable; it will be checked for lost calls later", error=str(error))
                    wait = POLL_EVERY / 5
            await self._clock.sleep(wait)

    async def restore_if_lost(self, job: Job) -> bool:
        """Return whether the store had lost the sent `job`, so that a refused verdict finds its POST now.

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
        """Return whether the store still has all that this worker stored. Also note a restart of its server."""
        least, name, asked = self.writer.stored, self.writer.name, self._asked
        wanted: Wanted = {**self._others.wanted, LIMITS: [self._queue]}
        found = await self._store.records(wanted, now=self._clock.now())
        self._on_limits(limits_from(found[LIMITS][0]) if found[LIMITS] else None)
        stored = next((record.value for record in found[writes.WRITERS] if record.member == name), None)
        server = self._store.server
        if self._server != server:
            await self._follow_history()
            self._quiet_until = self._clock.monotonic() + OTHERS_FIRST.total_seconds()
            self._server = server
            self.restarts += 1
        if int(stored or 0) < int(least or 0) or self._others.lost_in(found[writes.WRITERS]):
            return not await self._compare()
        newer = self._others.take(found[writes.WRITERS], but=name)
        if newer and self.writer.file is not None:
            with suppress(JournalFileError):  # as its next entry will say
                self.writer.file.note(newer)
        self._noted_at = self._clock.monotonic()
        if asked == self._asked:  # else something has changed since this read
            self._polled_at = self._noted_at
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
                    return await self._hold_for_others()
                # The hold is ordered only if nobody else has restored the calls since they were found missing: what was
                # seen before a person's `resume` is settled.
                has_calls = any(each.file.name for each in lost)
                reason = HELD if has_calls else HELD_AS_LACKING
                gate = (await gates_at(self._store, self._queue, [None])).get(None)
                if not has_calls and gate is not None and GateKind.MAY_LACK in gate.kinds:
                    await self._settle(found)  # it is not held again for workers without calls
                elif await self._hold(self._closing(reason), writer_same(lost[0].file.writer, lost[0].stored)):
                    _log.error("the store was rolled back: the queue is held", queue=self._queue)
                    await self._add_since_when()
                    await self._recover(found)
                    return True

    async def _hold_for_others(self) -> bool:
        """Hold each queue for the writers of which the store lacks what it had, once for a number; whether any was."""
        is_held = False
        noted = dict(self._others.noted)
        stored = await numbers_in(self._store).get(noted)
        if any(int(stored.get(name) or 0) < number for name, number in noted.items()):
            await put_opt_outs_back(self._store)
            stored = await numbers_in(self._store).get(noted)
        settled = await text_records(self._store, SETTLED).get(noted)
        for name, number in noted.items():
            has, known = stored.get(name), settled.get(name)
            if int(has or 0) < number and int(known or 0) < number:
                reason = OTHER_LACKS.format(host=host_of(name))
                self._holds.close(QueueHold(reason=reason, until_opened=True))
                same = (writer_same(name, has), Same(SETTLED, name, known))
                put = Put(SETTLED, name, str(number), self._clock.now() + writes.WRITERS_KEPT)
                answer = await hold_each_queue(self._store, reason, also=Write(conditions=same, puts=(put,)))
                if answer.result is Result.DONE:
                    _log.error("the store has lost what another host had: each queue is held", host=host_of(name))
                    is_held = True
            self._others.noted[name] = min(number, int(has or 0))
        if is_held:
            await self._add_since_when()
        return is_held

    async def _compared(self) -> list[Compared]:
        files = list(await self._journal_files.files(self._queue))
        if self.writer.file is not None:  # also if its files were removed
            name, stored = self.writer.name, int(self.writer.stored or 0)
            files.append(LocalJournalState(name="", writer=name, number=stored))
        return await compared(self._store, files)

    async def _settle(self, found: Iterable[Compared]) -> None:
        """Store the numbers that the store lacks, after what they stand for was restored."""
        for each in found:
            if each.is_lost:
                await each.raise_to(self._store, each.file.number)
                if each.file.writer == self.writer.name:
                    self.writer.stored = each.stored

    async def _follow_history(self) -> None:
        """Hold the queue if another server has taken over, which may lack writes: a person checks, for all workers."""
        hold = self._closing(HELD_AS_TAKEN_OVER)
        gate = await self._histories.follow(hold)
        if gate is not None:
            self._holds.apply(gate)
            await self._add_since_when()
        if self.writer.file is not None:
            await self.writer.file.follow(history_of(self._store))

    async def _add_since_when(self) -> None:
        """Add to the reason of a hold since when writes may be missing, as far as the files of this host show.

        What was stored before a POST that the store still has, is there. The opt-outs of this host are put back.
        """
        await put_opt_outs_back(self._store)
        elsewhere, reasons, has_calls, stored = set[str](), list[str](), False, list[datetime]()
        unreadable = list[str]()
        for each in await self._compared():
            found = await self._entries(each)
            if (unread := each.unread(found)) is not None:
                unreadable.append(UNREAD_LINES.format(lines=unread, what="calls"))
            has_calls = has_calls or bool(found.jobs)
            if each.is_lost and each.file.other_store is not None and each.lost(found.jobs):
                elsewhere.add(each.file.other_store)
            stored += (job.posts[-1].began_at for n, job in found.jobs if n <= each.number)
        if stored:
            reasons.append(f"what was stored after {in_words(max(stored))} may be missing")
        elif not has_calls:  # with calls, the store has lost them all
            reasons.append(NO_FILES)
        if elsewhere:
            reasons.append(ELSEWHERE.format(names=", ".join(sorted(elsewhere))))

        def is_settled(gate: Gate | None) -> None:
            if gate is not None and GateKind.MAY_LACK not in gate.kinds:
                raise ChangedSinceError(f"queue {self._queue} is no longer held for what may be missing")

        holds = [*map(self._closing, reasons), *(self._closing(each, GateKind.UNREAD_FILES) for each in unreadable)]
        for hold in holds:
            with suppress(ChangedSinceError):  # only onto the hold: a person who has resumed meanwhile has settled it
                await order_gate(self._store, hold, check=is_settled)

    def _closing(self, reason: str, *kinds: GateKind) -> Gate:
        """Return the order to hold the queue for this reason, until a person resumes it."""
        since, all_kinds = self._clock.now(), frozenset({GateKind.MAY_LACK, *kinds})
        return Gate.of(self._queue, None, GateState.HELD, since=since, reason=reason, kinds=all_kinds)

    async def _hold(self, ordered: Gate, *conditions: Same, puts: tuple[Put, ...] = ()) -> bool:
        """Hold the queue, unless its gate or what this is for has changed since; return whether it is held."""
        # Before the round trip to the store: calls of this worker that were not sent yet must not be sent.
        self._holds.close(QueueHold(reason=ordered.reason, until_opened=True))
        wanted: dict[str, list[str | Key]] = {GATES: [(self._queue, gate_member(None))]}
        gate = next(iter((await self._store.records(wanted, now=ordered.since))[GATES]), None)
        _, hold = write_of_order(gate, ordered, token=new_revision())
        write = writes.all_or_none([hold, Write(conditions=conditions, puts=puts)])
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=ordered.since)
        return answer.result is Result.DONE

    async def _entries(self, each: Compared) -> JournalEntries:
        return await self._journal_files.entries(each.file.name) if each.file.name else JournalEntries()

    async def _recover(self, found: Sequence[Compared]) -> None:
        """Restore the lost calls from the files of this host, in a queue that is held.

        The numbers follow at the end. So after this was cut short, the next worker finds the calls of a file missing.
        """
        count = 0
        for each in found:
            lost = each.lost((await self._entries(each)).jobs)
            for start in range(0, len(lost), PAGE):
                count += await self._restore(lost[start : start + PAGE])
        await self._settle(found)
        if count:
            _log.error("calls that the store does not have, and that may have been sent, are in doubt now", calls=count)

    async def _restore(self, jobs: Sequence[Job]) -> int:
        """Restore those of these calls that are lost; return their number."""
        stored = await read_each(self._store, [job.id for job in jobs])
        oldest = self._clock.now() - self._policy.retention
        known = [job for job in jobs if job.id in stored.jobs and is_forgotten(job, stored.jobs[job.id])]
        missing = [job for job in jobs if job.id not in {*stored.jobs, *stored.unreadable}]
        gone = [job for job in missing if job.posts[-1].began_at > oldest]  # the others would be deleted by now
        await self._insert_lost(gone)
        await gather(*(partial(self._restore_posts, each) for each in known))
        return len(known) + len(gone)

    async def _restore_posts(self, journalled: Job) -> None:
        now = self._clock.now()
        with suppress(JobError):
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
            with suppress(JobError):
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
    try:
        if guard is not None:
            await guard.begin()
        yield
    finally:
        if guard is not None:
            await guard.end()
