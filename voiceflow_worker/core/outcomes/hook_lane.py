"""One hook on one queue: reads on, tells, tries again, and remembers where it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.outcomes.hook import Hook, Told
from voiceflow_worker.core.outcomes.hook_backlog import HookBacklog, PendingOutcome
from voiceflow_worker.core.outcomes.outbox import Cursor, Cursors, OutboxReader, cursor_since, told_by
from voiceflow_worker.core.ports import Event, Store
from voiceflow_worker.core.ports.leader_lease import RENEW, LeaderLease
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.core.ports.retrying import retry_until_available
from voiceflow_worker.errors import StoreError, StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.jobs.backoff import backoff
from voiceflow_worker.model.text.moment import in_words

LOOK_EVERY = timedelta(milliseconds=200)
STAND_BY = timedelta(seconds=2)
RETRY_TURN = timedelta(seconds=1)
LOOK_FOR_UNPARKED = timedelta(minutes=1)
SAVE_IDLE = timedelta(hours=1)
MOST_NEW = 100
"""Outcomes that are read and not yet told once. So many at most are told again after a crash."""
LEAVING = 2.0  # seconds for the last word to the store; what is not said costs a repetition

_log = structlog.get_logger("voiceflow.hooks")

T = TypeVar("T")


def reader_name(hook: str, queue: str) -> str:
    """Under which name a hook's cursor and turn for a queue are kept."""
    return f"hook/{hook}/{queue}"


class HookLane:
    """Tells one hook the outcomes of one queue, while it is this process's turn."""

    def __init__(self, store: Store, hook: Hook, queue: str, *, since: datetime, grace: timedelta) -> None:
        self.hook = hook
        self.queue = queue
        self._store = store
        self._clock = store.clock
        self._since = since
        self._grace = grace
        self._name = reader_name(hook.name, queue)
        self._turn = LeaderLease(store, self._name)
        self._book = HookBacklog(store, hook=hook.name, queue=queue)
        self._cursors = Cursors(store)
        self._slots = anyio.Semaphore(hook.options.concurrency)
        self._is_stopping = False
        self._nap = anyio.CancelScope()
        self._forget()

    def _forget(self) -> None:
        """Begin a turn with nothing in mind: what counts is in the records."""
        self._chains: dict[str, deque[PendingOutcome]] = {}
        self._unsettled: dict[int, Event] = {}  # read, and neither told nor kept; in order
        self._held: set[int] = set()  # sequences that are in chains
        self._told_lately: set[int] = set()  # of those that were kept: a look at the book may still show them
        self._telling = 0
        self._freed = anyio.Event()
        self._moved = anyio.Event()
        self._saved: Cursor | None = None
        self._reader: OutboxReader | None = None

    async def run(self) -> None:
        """Tell, or stand by, until `stop`, or until the handler wants no more."""
        while not self._is_stopping and not self.hook.counts.is_stopped:
            if await self._patiently(self._turn.take):
                await self._work()
            else:
                await self._sleep(STAND_BY)

    def stop(self) -> None:
        """Begin nothing new, and return once what the handler is being told has ended, within the grace."""
        self._is_stopping = True
        self._nap.cancel()
        self._freed.set()

    async def _work(self) -> None:
        """A turn: from taking it to giving it back, or losing it."""
        self._forget()
        try:
            self._reader = reader = OutboxReader(self._store, self.queue, await self._patiently(self._start))
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_turn, group)
                group.start_soon(self._go_on_saving)
                group.start_soon(self._take_up_waiting, group)
                await self._read_on(reader, group)
                with anyio.move_on_after(self._grace.total_seconds()):
                    while self._telling:
                        await self._until_freed()
                group.cancel_scope.cancel()
        finally:
            self.hook.counts.waiting -= len(self._held)
            with anyio.move_on_after(LEAVING, shield=True):
                await self._leave()

    async def _start(self) -> Cursor:
        kept = await self._cursors.load(self._name)
        if kept is None:
            kept = await cursor_since(self._store, self.queue, self._since)
            await self._cursors.save(self._name, kept)
        self._saved = kept
        # Before anything is read: what is kept is told from there, also where the cursor is not past it yet.
        for entry in await self._book.waiting():
            self._held.add(entry.event.sequence)
            self._chains.setdefault(entry.event.job_id, deque()).append(entry)
        self.hook.counts.waiting += len(self._held)
        return kept

    async def _leave(self) -> None:
        try:
            if not self._turn.is_over:
                await self._save()
            await self._turn.give_back()
        except StoreError as error:
            _log.warning("the store did not hear where a hook is; it may be told some again", error=str(error))

    async def _read_on(self, reader: OutboxReader, group: TaskGroup) -> None:
        for job_id in self._chains:
            group.start_soon(self._serve, job_id, group)
        known = frozenset(self._held)
        is_full = False
        while not self._is_stopping:
            full = len(self._held) >= self.hook.options.most_waiting
            if full and not is_full:
                _log.warning(
                    "a hook is not told anything new before what waits is told", **self._told(), waiting=len(self._held)
                )
            is_full = full
            if full or len(self._unsettled) >= MOST_NEW:
                await self._until_freed()
                continue
            await self._tell_what_was_missed(reader)
            events = [
                event
                for event in await self._patiently(reader.page)
                if self.hook.wants(event) and event.sequence not in known
            ]
            self._unsettled.update((event.sequence, event) for event in events)
            self._moved.set()
            for event in events:
                await self._add(PendingOutcome(event=event), group)
            if not reader.is_behind:
                await self._sleep(LOOK_EVERY)

    async def _tell_what_was_missed(self, reader: OutboxReader) -> None:
        until = await self._patiently(reader.missed_until)
        if until is not None:
            self.hook.counts.behind += 1
            _log.error("outcomes were forgotten before a hook was told", **self._told(), before=in_words(until))

    async def _add(self, entry: PendingOutcome, group: TaskGroup) -> None:
        chain = self._chains.get(entry.event.job_id)
        self._held.add(entry.event.sequence)
        self.hook.counts.waiting += 1
        if chain is None:
            self._chains[entry.event.job_id] = deque([entry])
            group.start_soon(self._serve, entry.event.job_id, group)
            return
        chain.append(entry)
        if chain[0].is_kept:
            # It waits behind one that is told again later; others need not wait for it.
            await self._keep([entry])
            if entry.event.sequence not in self._held:  # told while it was being kept
                await self._patiently(partial(self._book.drop, entry))

    async def _serve(self, job_id: str, group: TaskGroup) -> None:
        """Tell what there is about one call, in order."""
        chain = self._chains[job_id]
        while chain:
            entry = chain[0]
            if entry.due_at is not None:
                await self._clock.sleep((entry.due_at - self._clock.now()).total_seconds())
            async with self._slots:
                if self._is_stopping:
                    return
                self._telling += 1
                try:
                    if await self._tell(entry, group):
                        chain.popleft()
                        self._held.discard(entry.event.sequence)
                        self.hook.counts.waiting -= 1
                    else:
                        await self._put_off(chain)
                finally:
                    self._telling -= 1
                    self._has_moved()
        del self._chains[job_id]

    async def _put_off(self, chain: deque[PendingOutcome]) -> None:
        """Keep the first of a chain, which failed, and what waits behind it; more may come while they are stored."""
        await self._keep([chain[0]])
        while new := [entry for entry in chain if not entry.is_kept]:
            await self._keep(new)

    async def _tell(self, entry: PendingOutcome, group: TaskGroup) -> bool:
        """Tell one outcome; False when it must be told again."""
        event, counts = entry.event, self.hook.counts
        read = await self._patiently(partial(read_each, self._store.jobs, [event.job_id]))
        if event.job_id in read.unreadable:
            return await self._failed(entry, str(read.unreadable[event.job_id]), None)
        job = read.jobs.get(event.job_id)
        if job is None:
            entry.error = "the call was deleted before this could be told"
            await self._park(entry)
            return True
        answer = await self.hook.tell(told_by(event, job))
        match answer.told:
            case Told.TAKEN:
                counts.told += 1
                if entry.is_kept:
                    self._told_lately.add(event.sequence)
                    await self._patiently(partial(self._book.drop, entry))
                self._unsettled.pop(event.sequence, None)
                return True
            case Told.GONE:
                counts.is_stopped = True
                _log.error(
                    "a hook wants no more outcomes; it is told nothing until it is run anew",
                    **self._told(),
                    why=answer.error,
                )
                group.cancel_scope.cancel()
                return False
            case Told.FAILED:
                return await self._failed(entry, answer.error, answer.after)

    async def _failed(self, entry: PendingOutcome, error: str, after: timedelta | None) -> bool:
        """Put an outcome off; True when it is given up."""
        options, now = self.hook.options, self._clock.now()
        self.hook.counts.failures += 1
        entry.failures += 1
        entry.error = error[:500]
        entry.first_failed_at = entry.first_failed_at or now
        seed = f"{self._name}/{entry.event.sequence}"
        wait = backoff(entry.failures, first=options.first_wait, longest=options.longest_wait, seed=seed)
        entry.due_at = now + max(wait, after or wait)
        # By our own wait: who asks to be left alone for days, and fails for the first time, has not failed for days.
        if now + wait - entry.first_failed_at >= options.give_up_after:
            await self._park(entry)
            return True
        _log.warning(
            "a hook failed; it is told again",
            **self._told(),
            job=entry.event.job_id,
            failures=entry.failures,
            next_try=in_words(entry.due_at),
            error=entry.error,
        )
        return False

    async def _park(self, entry: PendingOutcome) -> None:
        await self._patiently(partial(self._book.park, entry))
        self._told_lately.discard(entry.event.sequence)
        self._unsettled.pop(entry.event.sequence, None)
        self.hook.counts.parked += 1
        _log.error(
            "a hook was not told an outcome, and will not be; it is parked",
            **self._told(),
            job=entry.event.job_id,
            failures=entry.failures,
            error=entry.error,
        )

    async def _keep(self, entries: list[PendingOutcome]) -> None:
        await self._patiently(partial(self._book.keep, entries))
        for entry in entries:
            self._unsettled.pop(entry.event.sequence, None)
        self._has_moved()

    async def _take_up_waiting(self, group: TaskGroup) -> None:
        """What was put back by hand (`OutcomeHooks.tell_parked_again`) is told too."""
        while True:
            await self._clock.sleep(LOOK_FOR_UNPARKED.total_seconds())
            for entry in await self._patiently(self._book.waiting):
                if entry.event.sequence not in self._held | self._told_lately:
                    await self._add(entry, group)

    async def _keep_turn(self, group: TaskGroup) -> None:
        pause = RENEW
        while True:
            await self._clock.sleep(pause.total_seconds())
            pause = RENEW
            try:
                is_ours = await self._turn.take()
            except (StoreUnavailableError, StoreReadOnlyError):
                is_ours, pause = not self._turn.is_over, RETRY_TURN
            if not is_ours:
                _log.warning("a hook's turn went to another process", **self._told())
                group.cancel_scope.cancel()
                return

    async def _go_on_saving(self) -> None:
        """Save the cursor whenever it has moved, one trip at a time."""
        while True:
            await self._moved.wait()
            self._moved = anyio.Event()
            await self._patiently(self._save)

    async def _save(self) -> None:
        saved, cursor = self._saved, self._cursor()
        if saved is None or cursor is None:
            return
        if cursor.sequence != saved.sequence or cursor.at - saved.at >= SAVE_IDLE:
            await self._cursors.save(self._name, cursor)
            self._saved = cursor

    def _cursor(self) -> Cursor | None:
        """Behind everything that was told or is kept."""
        first = next(iter(self._unsettled.values()), None)
        if first is not None:
            return Cursor(first.sequence - 1, first.at)
        return None if self._reader is None else self._reader.cursor

    def _has_moved(self) -> None:
        self._moved.set()
        self._freed.set()

    async def _until_freed(self) -> None:
        self._freed = anyio.Event()
        await self._freed.wait()

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())

    async def _patiently(self, trip: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_available(trip, clock=self._clock, what=f"hook {self.hook.name}")

    def _told(self) -> dict[str, str]:
        return {"hook": self.hook.name, "queue": self.queue}
