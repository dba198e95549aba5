"""The journal of POSTs that are about to leave. An entry is durable before the first byte of its POST leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import structlog

from voiceflow_worker.core import units
from voiceflow_worker.core.guard.rollback import RollbackGuard
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.retrying import gather, retry_briefly
from voiceflow_worker.core.ports.store import Answer, Result, Step, Unit
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import OUTSIDE_WINDOW
from voiceflow_worker.model.jobs.evidence import answered
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.journal")

_UNVETTED = Answer(result=Result.UNVETTED)

Refused = tuple[Job, Answer]
"""A leased job that got no journal entry, and the answer that says why: NOT_FREE or UNVETTED."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A leased job that goes back to the queue, with a reason and a wait."""

    job: Job
    reason: str
    wait: timedelta = timedelta()

    def due_at(self, now: datetime) -> datetime:
        """When the job is due again."""
        if self.wait or self.job.post_count or not self.job.may_ring(at=now):
            return now + self.wait
        return min(self.job.not_before or self.job.created_at, now)


class Begun(NamedTuple):
    """A job that is `sending`, and when its journal entry went to the store, on the monotonic clock."""

    job: Job
    asked_at: float


class Journal:
    """Begins POSTs of leased jobs, and puts back jobs that will not leave.

    With a `guard`, each POST is written to the store and to this worker's own file at the same time. The POST leaves
    when both writes are durable.
    """

    def __init__(
        self, store: Store, policy: CallPolicy, *, lease: timedelta, guard: RollbackGuard | None = None
    ) -> None:
        self._store = store
        self._policy = policy
        self._lease = lease
        self._guard = guard
        self._worker_id = new_worker_id() if guard is None else guard.worker_id
        self._batcher: Batcher[Job, Begun | Answer] = Batcher(self._flush)

    async def begin(self, jobs: Sequence[Job]) -> tuple[list[Begun], list[Refused]]:
        """Journal the next POSTs of leased jobs, durably and in one step (`units.journal_entry`).

        Returns the jobs that are `sending`, and those for which nothing was stored because a condition failed. For all
        other jobs, nothing may be sent: another writer changed the job first, the job's validity has passed (it ends),
        or its calling window has closed (it waits for the next opening). Raises `StoreError` when it is not known
        whether the entries were stored. Nothing may be sent then.
        """
        answers = await self._batcher.submit_all(jobs)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise errors[0]
        results = list(zip(jobs, answers, strict=True))
        refused = [
            (job, answer)
            for job, answer in results
            if isinstance(answer, Answer) and answer.result in {Result.NOT_FREE, Result.UNVETTED}
        ]
        return [answer for answer in answers if isinstance(answer, Begun)], refused

    def entry(self, job: Job) -> tuple[Job, Unit]:
        """The journal entry of a leased job as it would be made now, or the move that ends it or puts it back."""
        now = self._store.clock.now()
        if job.is_expired(at=now):
            return units.changed(job, lifecycle.expire(job, at=now, policy=self._policy), at=now)
        if not job.may_ring(at=now):
            return units.changed(job, lifecycle.release(job, due_at=now, reason=OUTSIDE_WINDOW), at=now)
        return units.journal_entry(
            job, at=now, lease_until=now + self._lease, policy=self._policy, worker_id=self._worker_id
        )

    async def put_back(self, unsent: Sequence[Unsent]) -> None:
        """Put back leased jobs that were not journalled. Without a wait, a call that was never sent gets its old place.

        Workers that share a rate put back what they have no departure for; the first rows of a file would come last.
        """
        now = self._store.clock.now()
        await self._move(
            [(each.job, lifecycle.release(each.job, due_at=each.due_at(now), reason=each.reason)) for each in unsent]
        )

    async def cancel(self, jobs: Sequence[tuple[Job, str]]) -> None:
        """End leased jobs that must not be sent, each with its reason."""
        now = self._store.clock.now()
        await self._move(
            [(job, lifecycle.cancel(job, at=now, reason=reason, policy=self._policy)) for job, reason in jobs]
        )

    async def _flush(self, jobs: Sequence[Job]) -> list[Begun | Answer | BaseException]:
        asked_at = self._store.clock.monotonic()
        entries = [self.entry(job) for job in jobs]
        answers = await self._write(entries)
        gone = [job.id for job, answer in zip(jobs, answers, strict=True) if answer.result is Result.STALE]
        if gone:
            _log.info("calls are not sent, because another process has changed them", jobs=gone)
        return [
            Begun(new, asked_at) if answer.result is Result.DONE and _leaves(new) else answer
            for (new, _), answer in zip(entries, answers, strict=True)
        ]

    async def _write(self, entries: Sequence[tuple[Job, Unit]]) -> Sequence[Answer]:
        guard, step = self._guard, Step(units=tuple(unit for _, unit in entries))
        sending = [new for new, _ in entries if _leaves(new)]
        if guard is None or not sending:
            return await self._store_step(step)
        if not guard.is_vetted:
            # The server was restarted while these calls waited: the guard's checks come first.
            return [_UNVETTED] * len(entries)
        step = guard.guarded(step)
        answers, written = list[Answer](), False

        async def commit() -> None:
            answers.extend(await self._store_step(step))

        async def write() -> None:
            nonlocal written
            await guard.append(sending)
            written = True

        try:
            await gather(commit, write)  # the step begins first, and takes longer
        except StoreError:
            if answers:
                done = zip(entries, answers, strict=True)
                await self._take_back([new for (new, _), each in done if each.result is Result.DONE and _leaves(new)])
            elif written:
                guard.judge([False] * len(sending))
            raise
        results = zip(entries, answers, strict=True)
        guard.judge([each.result is Result.DONE for (new, _), each in results if _leaves(new)])
        return answers

    async def _store_step(self, step: Step) -> Sequence[Answer]:
        # Each try has the same units. A store that has already written them, and whose answer was lost, says so. After
        # the last try the calls are given up. At worst they end in doubt.
        now = self._store.clock.now()
        write = partial(self._store.write, step, now=now)
        return (await retry_briefly(write, clock=self._store.clock, what=f"journal entries: {len(step.units)}")).answers

    async def _take_back(self, jobs: Sequence[Job]) -> None:
        """Put jobs back in the queue if their entries are in the store but not in the journal file. None has left."""
        now = self._store.clock.now()
        verdict = Verdict(
            kind=VerdictKind.NOT_SENT,
            cause=NotSentCause.STORE_AWAY,
            message="the journal file of its worker could not be written",
        )
        back = [
            units.settled(
                job,
                answered(job, job.post_count, verdict, at=now, policy=self._policy),
                at=now,
                policy=self._policy,
            )[1]
            for job in jobs
        ]
        if back:
            await self._store_step(Step(units=tuple(back)))

    async def _move(self, moves: Sequence[tuple[Job, Job]]) -> None:
        if moves:
            now = self._store.clock.now()
            await self._store_step(Step(units=tuple(units.changed(old, new, at=now)[1] for old, new in moves)))


def _leaves(job: Job) -> bool:
    """Whether this is a journal entry: the job as `sending`, whose POST is about to leave."""
    return job.state is JobState.SENDING
