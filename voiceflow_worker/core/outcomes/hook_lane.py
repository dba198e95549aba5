"""The delivery of one queue's outcomes to one hook: reading, retries, and the stored position."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.outcomes.hook import Hook, HookFailure
from voiceflow_worker.core.outcomes.hook_backlog import HookBacklog, PendingOutcome
from voiceflow_worker.core.outcomes.outbox import LOOK_EVERY, Cursor, OutboxReader, outcome_of
from voiceflow_worker.core.ports import Event, Store
from voiceflow_worker.core.ports.leader_lease import LeaderLease
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.core.ports.retrying import Retry
from voiceflow_worker.errors import HookGoneError, StoreError
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.moment import in_words

STAND_BY = timedelta(seconds=2)
LOOK_FOR_UNPARKED = timedelta(minutes=1)
MOST_NEW = 100
"""While this many outcomes were read, and are neither delivered nor stored as records, no further page is read. After a
crash, outcomes are delivered again from the first of these on."""
LEAVING = 2.0
"""Seconds for storing the position when the hook stops. If it is not stored, some outcomes are delivered again."""

_log = structlog.get_logger("voiceflow.hooks")


def reader_name(hook: str, queue: str) -> str:
    """The name under which a hook's position in a queue and its lease for the queue are stored."""
    return f"hook/{hook}/{queue}"


class HookLane:
    """Delivers the outcomes of one queue to one hook, while this process holds the lease for them."""

    def __init__(self, store: Store, hook: Hook, queue: str, *, since: datetime, grace: timedelta) -> None:
        self.hook = hook
        self.queue = queue
        self._store = store
        self._clock = store.clock
        self._grace = grace
        self._name = reader_name(hook.name, queue)
        self._lease = LeaderLease(store, self._name)
        self._reader = OutboxReader(store, queue, name=self._name, since=since)
        self._backlog = HookBacklog(store, hook=hook.name, queue=queue)
        self._retry = Retry(store.clock, what=f"hook {hook.name}")
        self._log = _log.bind(hook=hook.name, queue=queue)
        self._slots = anyio.Semaphore(hook.options.concurrency)
        self._is_stopping = False
        self._nap = anyio.CancelScope()
        self._forget()

    def _forget(self) -> None:
        """Forget all outcomes in memory. A new lease begins with the records in the store."""
        self._chains: dict[str, deque[PendingOutcome]] = {}
        self._unsettled: dict[int, Event] = {}  # read, and neither delivered nor kept; in order
        self._held: set[int] = set()  # sequences that are in chains
        self._delivered: set[int] = set()  # kept ones, which a look at the backlog may still show
        self._delivering = 0
        self._is_open = False
        self._freed = anyio.Event()
        self._moved = anyio.Event()

    async def run(self) -> None:
        """Deliver outcomes or wait for the lease, until `stop` is called or the handler raises HookGoneError."""
        while not self._is_stopping and not self.hook.counts.is_stopped:
            if await self._retry(self._lease.take):
                await self._work()
            else:
                await self._sleep(STAND_BY)

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when deliveries under way have ended, or the grace period has passed."""
        self._is_stopping = True
        self._nap.cancel()
        self._freed.set()

    async def _work(self) -> None:
        """Deliver until the lease is given back or lost."""
        self._forget()
        try:
            await self._retry(self._open)
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_lease, group)
                group.start_soon(self._go_on_saving)
                group.start_soon(self._take_up_unparked, group)
                await self._read_on(group)
                with anyio.move_on_after(self._grace.total_seconds()):
                    while self._delivering:
                        await self._until_freed()
                group.cancel_scope.cancel()
        finally:
            self.hook.counts.waiting -= len(self._held)
            with anyio.move_on_after(LEAVING, shield=True):
                await self._leave()

    async def _open(self) -> None:
        await self._reader.open()
        # Before anything is read: kept outcomes are delivered from the backlog, even if they are after the stored
        # position.
        waiting = await self._backlog.waiting()
        for entry in waiting:
            self._held.add(entry.event.sequence)
            self._chains.setdefault(entry.event.job_id, deque()).append(entry)
        self.hook.counts.waiting += len(self._held)
        self._is_open = True

    async def _leave(self) -> None:
        try:
            if not self._lease.is_over:
                await self._save()
            await self._lease.give_back()
        except StoreError as error:
            self._log.warning(
                "the position of a hook was not stored; some outcomes may be delivered again", error=str(error)
            )

    async def _read_on(self, group: TaskGroup) -> None:
        for job_id in self._chains:
            group.start_soon(self._serve, job_id, group)
        known = frozenset(self._held)
        was_full = False
        while not self._is_stopping:
            is_full = len(self._held) >= self.hook.options.most_waiting
            if is_full and not was_full:
                self._log.warning(
                    "too many outcomes wait for a hook; it receives no new ones until some are delivered",
                    waiting=len(self._held),
                )
            was_full = is_full
            if is_full or len(self._unsettled) >= MOST_NEW:
                await self._until_freed()
                continue
            gaps = self._reader.gaps
            page = await self._retry(self._reader.page)
            self.hook.counts.behind += self._reader.gaps - gaps
            events = [event for event in page if self.hook.wants(event) and event.sequence not in known]
            self._unsettled.update((event.sequence, event) for event in events)
            self._moved.set()
            for event in events:
                await self._add(PendingOutcome(event=event), group)
            if not self._reader.is_behind:
                await self._sleep(LOOK_EVERY)

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
            # It waits behind an outcome that is retried later. Once it is kept, the stored position can move past it.
            await self._keep([entry])
            if entry.event.sequence not in self._held:  # delivered while it was being kept
                await self._retry(partial(self._backlog.drop, entry))

    async def _serve(self, job_id: str, group: TaskGroup) -> None:
        """Deliver the outcomes of one call, in order."""
        chain = self._chains[job_id]
        while chain:
            entry = chain[0]
            if entry.due_at is not None:
                await self._clock.sleep((entry.due_at - self._clock.now()).total_seconds())
            async with self._slots:
                if self._is_stopping:
                    return
                self._delivering += 1
                try:
                    if await self._deliver(entry, group):
                        chain.popleft()
                        self._held.discard(entry.event.sequence)
                        self.hook.counts.waiting -= 1
                    else:
                        await self._put_off(chain)
                finally:
                    self._delivering -= 1
                    self._has_moved()
        del self._chains[job_id]

    async def _put_off(self, chain: deque[PendingOutcome]) -> None:
        """Store all outcomes of a call whose first outcome could not be delivered, and those that come meanwhile."""
        await self._keep([chain[0]])
        while new := [entry for entry in chain if not entry.is_kept]:
            await self._keep(new)

    async def _deliver(self, entry: PendingOutcome, group: TaskGroup) -> bool:
        """Deliver one outcome. Returns False when it must be delivered again."""
        event, counts = entry.event, self.hook.counts
        read = await self._retry(partial(read_each, self._store.jobs, [event.job_id]))
        if event.job_id in read.unreadable:
            return await self._failed(entry, HookFailure(str(read.unreadable[event.job_id])))
        job = read.jobs.get(event.job_id)
        if job is None:
            entry.error = "the call was deleted before this outcome could be delivered"
            await self._park(entry)
            return True
        try:
            failure = await self.hook.deliver(outcome_of(event, job))
        except HookGoneError as error:
            if not counts.is_stopped:  # a delivery beside this one may have stopped the hook
                counts.is_stopped = True
                self._log.error(
                    "a hook has stopped itself; it receives no outcomes until it is run again", why=str(error)
                )
            group.cancel_scope.cancel()
            return False
        if failure is not None:
            return await self._failed(entry, failure)
        counts.told += 1
        if entry.is_kept:
            self._delivered.add(event.sequence)
            await self._retry(partial(self._backlog.drop, entry))
        self._unsettled.pop(event.sequence, None)
        return True

    async def _failed(self, entry: PendingOutcome, failure: HookFailure) -> bool:
        """Put off an outcome whose delivery failed, or give it up. Returns True when it is given up."""
        options, now = self.hook.options, self._clock.now()
        self.hook.counts.failures += 1
        entry.failures += 1
        entry.error = failure.error[:500]
        entry.first_failed_at = entry.first_failed_at or now
        seed = f"{self._name}/{entry.event.sequence}"
        wait = backoff(entry.failures, first=options.first_wait, longest=options.longest_wait, seed=seed)
        entry.due_at = now + max(wait, failure.wait or wait)
        # The wait that the handler asked for is left out: with a wait of days, the outcome would be given up at once.
        if now + wait - entry.first_failed_at >= options.give_up_after:
            await self._park(entry)
            return True
        self._log.warning(
            "a hook failed; the outcome will be delivered again",
            job=entry.event.job_id,
            failures=entry.failures,
            next_try=in_words(entry.due_at),
            error=entry.error,
        )
        return False

    async def _park(self, entry: PendingOutcome) -> None:
        await self._retry(partial(self._backlog.park, entry))
        self._delivered.discard(entry.event.sequence)
        self._unsettled.pop(entry.event.sequence, None)
        self.hook.counts.parked += 1
        self._log.error(
            "an outcome could not be delivered to a hook; it is parked for 90 days: `tell_parked_again` puts it back",
            job=entry.event.job_id,
            failures=entry.failures,
            error=entry.error,
        )

    async def _keep(self, entries: list[PendingOutcome]) -> None:
        await self._retry(partial(self._backlog.keep, entries))
        for entry in entries:
            self._unsettled.pop(entry.event.sequence, None)
        self._has_moved()

    async def _take_up_unparked(self, group: TaskGroup) -> None:
        """Deliver outcomes that a person put back (`OutcomeHooks.tell_parked_again`)."""
        while True:
            await self._clock.sleep(LOOK_FOR_UNPARKED.total_seconds())
            for entry in await self._retry(self._backlog.waiting):
                if entry.event.sequence not in self._held | self._delivered:
                    await self._add(entry, group)

    async def _keep_lease(self, group: TaskGroup) -> None:
        await self._lease.keep()
        self._log.warning("this process has lost the lease of a hook; it delivers nothing until it has it again")
        group.cancel_scope.cancel()

    async def _go_on_saving(self) -> None:
        """Save the position whenever it has changed, one save at a time."""
        while True:
            await self._moved.wait()
            self._moved = anyio.Event()
            await self._retry(self._save)

    async def _save(self) -> None:
        """Store the position: just before the first outcome that is neither delivered nor stored as a record."""
        if self._is_open:
            first = next(iter(self._unsettled.values()), None)
            await self._reader.save(self._reader.cursor if first is None else Cursor(first.sequence - 1, first.at))

    def _has_moved(self) -> None:
        self._moved.set()
        self._freed.set()

    async def _until_freed(self) -> None:
        self._freed = anyio.Event()
        await self._freed.wait()

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())
