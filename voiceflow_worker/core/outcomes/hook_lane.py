"""The delivery of one queue's outcomes to one hook: from the outbox into the hook's backlog, and from there to it."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.outcomes.hook import Hook
from voiceflow_worker.core.outcomes.hook_backlog import HookBacklog, PendingOutcome
from voiceflow_worker.core.outcomes.outbox import LOOK_EVERY, OutboxReader, outcome_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.leader_lease import LeaderLease
from voiceflow_worker.core.ports.reading import get_jobs
from voiceflow_worker.core.ports.retrying import Retry
from voiceflow_worker.errors import HookGoneError, StoreError, StoreVersionError, TellAgainError
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.moment import in_words

STAND_BY = timedelta(seconds=2)
LOOK_FOR_UNPARKED = timedelta(minutes=1)
LEAVING = 2.0
"""Seconds for giving back the lease. If it is not given back, another process begins only when it has ended."""

_log = structlog.get_logger("voiceflow.hooks")


def reader_name(hook: str, queue: str) -> str:
    """The name under which a hook's place in a queue and its lease for the queue are stored."""
    return f"hook/{hook}/{queue}"


class HookLane:
    """Delivers the outcomes of one queue to one hook, while this process holds the lease for them.

    Outcomes are first stored in the hook's backlog; then the hook's place in the outbox moves past them. Each is
    delivered from the backlog, and deleted there when it was delivered. After a crash, only outcomes that were being
    delivered are delivered again.
    """

    def __init__(self, store: Store, hook: Hook, queue: str, *, since: datetime) -> None:
        self.hook = hook
        self._store = store
        self._clock = store.clock
        self._name = reader_name(hook.name, queue)
        self._lease = LeaderLease(store, self._name)
        self._reader = OutboxReader(store, queue, name=self._name, since=since)
        self._backlog = HookBacklog(store, hook=hook.name, queue=queue)
        self._retry = Retry(store.clock, what=f"hook {hook.name}")
        self._log = _log.bind(hook=hook.name, queue=queue)
        self._chains: dict[str, deque[PendingOutcome]] = {}
        self._held: set[int] = set()  # sequences that are in chains
        self._slots = anyio.Semaphore(hook.options.concurrency)
        self._is_stopping = False
        self._nap = anyio.CancelScope()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self.hook.counts.is_stopped

    async def run(self) -> None:
        """Deliver outcomes or wait for the lease, until `stop` is called or the handler raises HookGoneError."""
        try:
            while not self._is_over:
                if await self._retry(self._lease.take):
                    await self._work()
                else:
                    await self._sleep(STAND_BY)
        finally:
            with anyio.move_on_after(LEAVING, shield=True), suppress(StoreError):
                await self._lease.give_back()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries under way have ended."""
        self._is_stopping = True
        self._nap.cancel()

    async def _work(self) -> None:
        """Deliver until the end, or until the lease is lost."""
        self._slots = anyio.Semaphore(self.hook.options.concurrency)
        try:
            async with anyio.create_task_group() as group:
                await self._take_up(group)
                if self._is_over:
                    # No delivery begins any more: when all slots are free, those under way have ended.
                    for _ in range(self.hook.options.concurrency):
                        await self._slots.acquire()
                group.cancel_scope.cancel()
        finally:
            self.hook.counts.waiting -= len(self._held)
            self._held.clear()
            self._chains.clear()

    async def _take_up(self, group: TaskGroup) -> None:
        """Take up outcomes from the backlog and from the outbox, until the end or until the lease is lost."""
        await self._retry(self._reader.open)
        self._add(await self._retry(self._backlog.waiting), group)
        # A process that was killed before it moved the place has left outcomes in the backlog that are read once more.
        known = frozenset(self._held)
        looked_at = self._clock.monotonic()
        while not self._is_over:
            if not self._lease.is_fresh and not await self._retry(self._lease.take):
                self._log.warning("another process has the lease of a hook; this one delivers nothing meanwhile")
                return
            if self._clock.monotonic() - looked_at >= LOOK_FOR_UNPARKED.total_seconds():
                await self._take_up_unparked(group)
                looked_at = self._clock.monotonic()
            if len(self._held) < self.hook.options.most_waiting:
                await self._take_up_new(known, group)
            if self._reader.is_behind and len(self._held) < self.hook.options.most_waiting:
                continue
            await self._sleep(LOOK_EVERY)

    async def _take_up_new(self, known: frozenset[int], group: TaskGroup) -> None:
        gaps = self._reader.gaps
        page = await self._retry(self._reader.page)
        self.hook.counts.behind += self._reader.gaps - gaps
        new = [PendingOutcome(event=event) for event in page if self.hook.wants(event) and event.sequence not in known]
        await self._retry(partial(self._backlog.keep, new))
        await self._retry(partial(self._reader.save, self._reader.place))
        self._add(new, group)

    async def _take_up_unparked(self, group: TaskGroup) -> None:
        """Take up outcomes that a person put back (`OutcomeHooks.tell_parked_again`)."""
        held = frozenset(self._held)  # before the backlog is read: it may still show what is delivered meanwhile
        waiting = await self._retry(self._backlog.waiting)
        self._add([entry for entry in waiting if entry.event.sequence not in held], group)

    def _add(self, entries: list[PendingOutcome], group: TaskGroup) -> None:
        for entry in entries:
            self._held.add(entry.event.sequence)
            self.hook.counts.waiting += 1
            if chain := self._chains.get(entry.event.job_id):
                chain.append(entry)
            else:
                self._chains[entry.event.job_id] = deque([entry])
                group.start_soon(self._serve, entry.event.job_id, group)

    async def _serve(self, job_id: str, group: TaskGroup) -> None:
        """Deliver the outcomes of one call, in order."""
        chain = self._chains[job_id]
        while chain:
            entry = chain[0]
            if entry.due_at is not None:
                await self._clock.sleep((entry.due_at - self._clock.now()).total_seconds())
            async with self._slots:
                if self._is_over:
                    return
                is_done = await self._deliver(entry, group)
            if is_done:
                chain.popleft()
                self._held.discard(entry.event.sequence)
                self.hook.counts.waiting -= 1
        del self._chains[job_id]

    async def _deliver(self, entry: PendingOutcome, group: TaskGroup) -> bool:
        """Deliver one outcome. Returns False when it must be delivered again."""
        job_id, counts = entry.event.job_id, self.hook.counts
        try:
            job = (await self._retry(partial(get_jobs, self._store, [job_id]))).get(job_id)
            if job is None:
                entry.error = "the call was deleted before this outcome could be delivered"
                await self._park(entry)
                return True
            await self.hook.deliver(outcome_of(entry.event, job))
        except StoreVersionError as error:
            return await self._failed(entry, error)
        except TellAgainError as error:
            return await self._failed(entry, error, wanted=error.after)
        except HookGoneError as error:
            if not counts.is_stopped:  # a delivery beside this one may have stopped the hook
                counts.is_stopped = True
                self._log.error(
                    "a hook has stopped itself; it receives no outcomes until it is run again", why=str(error)
                )
            group.cancel_scope.cancel()
            return False
        counts.told += 1
        await self._retry(partial(self._backlog.drop, entry))
        return True

    async def _failed(self, entry: PendingOutcome, failure: Exception, *, wanted: timedelta | None = None) -> bool:
        """Put off an outcome whose delivery failed, or give it up. Returns True when it is given up."""
        options, now = self.hook.options, self._clock.now()
        self.hook.counts.failures += 1
        entry.failures += 1
        entry.error = str(failure)[:500]
        entry.first_failed_at = entry.first_failed_at or now
        seed = f"{self._name}/{entry.event.sequence}"
        wait = backoff(entry.failures, first=options.first_wait, longest=options.longest_wait, seed=seed)
        entry.due_at = now + max(wait, wanted or wait)
        # The wait that the handler asked for is left out: with a wait of days, the outcome would be given up at once.
        if now + wait - entry.first_failed_at >= options.give_up_after:
            await self._park(entry)
            return True
        await self._retry(partial(self._backlog.keep, [entry]))
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
        self.hook.counts.parked += 1
        self._log.error(
            "an outcome could not be delivered to a hook; it is parked for 90 days: `tell_parked_again` puts it back",
            job=entry.event.job_id,
            failures=entry.failures,
            error=entry.error,
        )

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())
