"""The sweep: overdue jobs move to their next state, and jobs and records are deleted after their retention."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.background import BackgroundTasks, Task
from voiceflow_worker.core.base.reading import count_states, find_jobs, gates_of_batches, holds_of
from voiceflow_worker.core.base.record_set import noting_unreadable, skip_unreadable
from voiceflow_worker.core.imports import drop_imports
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.controls import GATES, LIMITS, gate_from, gate_member, limits_from
from voiceflow_worker.core.ports.reads import AnyOf, Due, Expired, Waiting
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Page, Record, Result, Wanted, Write
from voiceflow_worker.core.settling.changes import EARLY, Changes
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState, HoldKind
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy

PAGE = 100
"""The most jobs moved or deleted in one bulk write, which blocks the store for some milliseconds."""
EARLY_AT_ONCE, GATES_AT_ONCE = 500, 1000
"""The most early summaries that a sweep looks at, and the most gates of batches that it reads at once."""
UNREADABLE = 5000
"""The most jobs in a state that a sweep passes over because their records cannot be read."""
PRUNED = 1000
"""The most records and events deleted in one bulk write."""
_OF_OVERDUE = Task.STOPPED_WORKERS, Task.OVERDUE_SUMMARIES, Task.DOUBTS, Task.EXPIRED
"""The duties that have nothing to do if nothing is overdue."""
_UNANSWERED = "its lease ended while it was sent, and no answer was stored"


@dataclass(slots=True)
class _Pass:
    """One pass over all kinds of overdue jobs.

    `again` is True if a page was full and this sweep changed at least half of the page's jobs. If it changed fewer,
    other sweepers are at work and change the other jobs.
    """

    again: bool = False

    def note(self, *, found: int, moved: int) -> int:
        self.again = self.again or (found >= PAGE and 2 * moved >= found)
        return moved


class Sweeper:
    """Brings overdue jobs of one queue to their next state. Several sweepers may run: each change is fenced.

    Give `log_timeout` if a `Reconciler` reads the log of 8x8. The sweep then leaves jobs in doubt to the reconciler,
    and waits `log_timeout` longer for an overdue summary. With None, the sweep decides at once. `background` is
    notified of each duty that fails. `on_limits` gets the limits of the queue at each sweep.
    """

    def __init__(
        self,
        store: Store,
        *,
        queue: str,
        policy: CallPolicy,
        changes: Changes | None = None,
        log_timeout: timedelta | None = None,
        background: BackgroundTasks | None = None,
        on_limits: Callable[[Limits | None], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._on_limits = on_limits
        self._background = background
        self._failed: dict[Task, Exception] = {}
        self._queue = queue
        self._policy = policy
        self._log_timeout = log_timeout
        self._changes = changes or Changes(store, policy)
        self._settler = Settler(store, policy, changes=self._changes)
        self._early: str | None = None
        self._has_overdue = True

    async def sweep(self) -> int:
        """Bring all overdue jobs to their next state, page by page; returns how many are in doubt since then.

        A duty that fails keeps none of the others from being done. `background` gets its error; without it, the first
        one is raised at the end. Most sweeps find nothing overdue, in one look at everything, and have read all that
        they need with another.
        """
        self._failed = {}
        found: Mapping[str, Sequence[Record]] = {}
        self._has_overdue = True
        async with self._duty(Task.EARLY_SUMMARIES):
            found = await self._records()
            self._on_limits(limits_from(found[LIMITS][0]) if found[LIMITS] else None)
            self._early = found[EARLY][-1].group if len(found[EARLY]) == EARLY_AT_ONCE else None
            await self._settler.apply_early_records(found[EARLY])
        async with self._duty(Task.ENDED_LEASES):
            self._has_overdue = await self._store.count(self._all_overdue()) > 0
        gates = found.get(GATES)
        doubted = 0
        while True:
            one = _Pass()
            if self._has_overdue:
                doubted += await self._sweep_pages(one)
            elif self._background is not None:
                self._background.mark_healthy(*_OF_OVERDUE)
            async with self._duty(Task.CANCELLED):
                await self._cancel(one, self._store.clock.now(), gates)
            gates = None
            if not one.again:
                break
        self._raise_failed()
        return doubted

    async def _records(self) -> Mapping[str, Sequence[Record]]:
        """Return the limits of the queue, a page of early summaries, and the gates, in one round trip."""
        early = None if self._early is None else (self._early, "")
        wanted: Wanted = {
            LIMITS: [self._queue],
            EARLY: Page(after=early, limit=EARLY_AT_ONCE),
            GATES: Page(group=self._queue, limit=GATES_AT_ONCE),
        }
        return await self._store.records(wanted, now=self._store.clock.now())

    def _all_overdue(self) -> AnyOf:
        """Return the reads of `_sweep_pages`."""
        now = self._store.clock.now()
        times = {JobState.LEASED: now, JobState.SENDING: now}
        times[JobState.SUBMITTED] = now - (self._log_timeout or timedelta())
        if self._log_timeout is None:
            times[JobState.IN_DOUBT] = now
        due = (Due(queue=self._queue, state=state, by=by) for state, by in times.items())
        return AnyOf((*due, Expired(queue=self._queue, at=now)))

    @asynccontextmanager
    async def _duty(self, task: Task) -> AsyncGenerator[None]:
        """One duty, which reports its own failure."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is reported, or raised at the end; the other duties are done
            self._failed.setdefault(task, error)
            if self._background is not None:
                self._background.failed(task, error)
        else:
            if self._background is not None and task not in self._failed:
                self._background.mark_healthy(task)

    def _raise_failed(self) -> None:
        failed, self._failed = self._failed, {}
        if self._background is None:
            for error in failed.values():
                raise error

    async def end_cancelled(self) -> int:
        """End the queued jobs of cancelled batches; returns their number.

        Jobs whose lease is over are queued again first, so that they end too if their batch was cancelled. Other
        overdue jobs stay as they are: a call without a summary may be waiting for the log of 8x8.
        """
        ended = 0
        while True:
            one, now = _Pass(), self._store.clock.now()
            await self._requeue(one, now)
            ended += await self._cancel(one, now)
            if not one.again:
                return ended

    async def prune(self) -> int:
        """Delete jobs after their retention, and old events, gates and records; returns the number of jobs.

        Jobs that stay longer than their data and texts lose these.
        """
        now = self._store.clock.now()
        self._failed = {}
        async with self._duty(Task.RETENTION):
            await self._end_old_doubts(now)
        deleted = 0
        for state in FINAL_STATES:
            async with self._duty(Task.RETENTION):
                deleted += await self._prune_jobs(state, now)
        before = now - self._policy.retention
        async with self._duty(Task.RETENTION):
            prune = partial(self._store.prune, self._queue, now=now, events_before=before, limit=PRUNED)
            while await prune() >= PRUNED:
                pass
        async with self._duty(Task.RETENTION):
            await self._forget_imports(before)
        self._raise_failed()
        return deleted

    async def _end_old_doubts(self, now: datetime) -> None:
        """End calls in doubt that are older than the policy keeps them, also where nobody looks for evidence."""
        while True:
            # By their next check, which nobody has moved: the oldest come first.
            found = await self._overdue(JobState.IN_DOUBT, now)
            old = [job for job in found if lifecycle.is_old_doubt(job, at=now, policy=self._policy)]
            ended = await self._changes.change_all(
                old, lambda job: lifecycle.check_again(job, at=now, policy=self._policy)
            )
            if len(found) < PAGE or 2 * ended < len(found):
                return

    async def _forget_imports(self, before: datetime) -> None:
        """Delete imports whose batch has no job that waits."""
        for hold in await holds_of(self._store, self._queue):
            if hold.holder is not HoldKind.IMPORT or hold.since >= before:
                continue
            if not (await count_states(self._store, self._queue, batch_id=hold.name))[JobState.QUEUED]:
                await drop_imports(self._store, self._queue, hold.name)

    async def _prune_jobs(self, state: JobState, now: datetime) -> int:
        deleted = 0
        while True:
            found = await self._overdue(state, now)
            if not found:
                return deleted
            until = now + self._policy.key_retention
            bulk = BulkWrite(writes=tuple(writes.deleted(job, keep_key_until=until) for job in found), durable=False)
            done = sum(answer.result is Result.DONE for answer in await self._store.write(bulk, now=now))
            deleted += done
            if len(found) < PAGE or 2 * done < len(found):
                return deleted

    async def _sweep_pages(self, one: _Pass) -> int:
        now, policy = self._store.clock.now(), self._policy
        timeout = self._log_timeout
        doubted = 0
        async with self._duty(Task.ENDED_LEASES):
            await self._requeue(one, now)
        async with self._duty(Task.STOPPED_WORKERS):
            sending = await self._overdue(JobState.SENDING, now)
            doubt = partial(lifecycle.doubt, at=now, reason=_UNANSWERED, policy=policy)
            doubted = await self._move(one, sending, doubt)
        async with self._duty(Task.OVERDUE_SUMMARIES):
            silent = await self._overdue(JobState.SUBMITTED, now - (timeout or timedelta(0)))
            await self._give_up_waiting(one, silent, now)
        if timeout is None:
            async with self._duty(Task.DOUBTS):
                doubtful = await self._overdue(JobState.IN_DOUBT, now)
                await self._move(one, doubtful, partial(lifecycle.check_again, at=now, policy=policy))
        async with self._duty(Task.EXPIRED):
            await self._expire(one, now)
        return doubted

    async def _requeue(self, one: _Pass, now: datetime) -> None:
        await self._move(
            one,
            await self._overdue(JobState.LEASED, now),
            lambda job: lifecycle.release(job, at=now, reason="its worker let the lease end; nothing was sent"),
        )

    async def _overdue(self, state: JobState, now: datetime) -> Sequence[Job]:
        return await self._page(Due(queue=self._queue, state=state, by=now))

    async def _page(self, read: Due | Expired | Waiting) -> Sequence[Job]:
        """Return the first jobs of a read, at most `PAGE`.

        Jobs that cannot be read hide none, up to `UNREADABLE` of them.
        """
        limit = PAGE
        while True:
            with noting_unreadable() as unreadable:
                found = await find_jobs(self._store, replace(read, limit=limit))
            if len(found) >= PAGE or len(found) + len(unreadable) < limit or limit > UNREADABLE:
                return found[:PAGE]
            limit = 4 * limit

    async def _move(self, one: _Pass, jobs: Sequence[Job], step: Callable[[Job], Job]) -> int:
        """Apply `step` to jobs in one commit, except to jobs that another writer has changed since."""
        return one.note(found=len(jobs), moved=await self._changes.change_all(jobs, step))

    async def _give_up_waiting(self, one: _Pass, silent: Sequence[Job], now: datetime) -> None:
        # There may be an early summary under the session's id, if a worker died before it looked there.
        looked: list[Job] = []
        for job in silent:
            with skip_unreadable(f"a summary of call {job.id}"):
                looked.append(await self._settler.apply_early(job))
        left = [job for job in looked if job.state is JobState.SUBMITTED]
        moved = await self._move(_Pass(), left, lambda job: lifecycle.give_up_waiting(job, at=now, policy=self._policy))
        one.note(found=len(silent), moved=len(looked) - len(left) + moved)

    async def _expire(self, one: _Pass, now: datetime) -> None:
        """End queued jobs whose validity has passed, even behind a closed gate."""
        late = await self._page(Expired(queue=self._queue, at=now))

        def expire(job: Job) -> Job:
            return lifecycle.expire(job, at=now, policy=self._policy) if job.is_expired(at=now) else job

        await self._move(one, late, expire)

    async def _cancel(self, one: _Pass, now: datetime, records: Sequence[Record] | None = None) -> int:
        """End the queued jobs of cancelled batches. The gate of a batch goes when it has no open job.

        No job is stored in a cancelled batch or sent for it (`CANCELLED`), so its gate is then of no use. `records` are
        gates that were just read, all if they are fewer than `GATES_AT_ONCE`.
        """
        if records is None or len(records) >= GATES_AT_ONCE:
            records = await gates_of_batches(self._store, self._queue)
        gates = [gate for gate in map(gate_from, records) if gate.state is GateState.CANCELLED]
        cancelled, over = 0, set[str]()
        for start in range(0, len(gates), PAGE):
            some = gates[start : start + PAGE]
            counted = await self._store.totals(self._queue, batches=[gate.name for gate in some])
            for gate, totals in zip(some, counted, strict=True):
                if totals.states[JobState.QUEUED]:
                    reason = gate.reason or "its batch was cancelled"
                    cancel = partial(
                        lifecycle.cancel, at=now, reason=reason, policy=self._policy, kind=ReasonKind.BY_PERSON
                    )
                    queued = await self._page(Waiting(queue=self._queue, batch=gate.name))
                    cancelled += await self._move(one, queued, cancel)
                elif not totals.has_open_calls:
                    over.add(gate_member(gate.name))
        drops = [Drop(GATES, each.group, each.value, each.member) for each in records if each.member in over]
        if drops:
            await self._store.write(BulkWrite(writes=tuple(Write(drops=(drop,)) for drop in drops)), now=now)
        return cancelled
