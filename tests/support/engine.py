"""The engine in single steps: what a worker does in its loop, one call at a time, so that a test can stand between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

from tests.contract.samples import ManualClock
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, Job, JobState
from voiceflow_worker.core.gates import Holds
from voiceflow_worker.core.ports import Store, Voice
from voiceflow_worker.core.ports.outside import LocalJournal
from voiceflow_worker.core.rollback import RollbackGuard, at_work
from voiceflow_worker.core.sending.journal import Dispatch, JournalWriter
from voiceflow_worker.core.sending.pacer import Pacer
from voiceflow_worker.core.sending.submit import CallSender
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.settle import PostAnswer, Settler, SummaryResult
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.settling.verdicts import VerdictWriter, WorkCounts
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict

LEASE = timedelta(seconds=60)


class Engine:
    """One worker of one queue, in steps."""

    def __init__(
        self,
        store: Store,
        voice: Voice,
        *,
        queue: str = "default",
        policy: CallPolicy | None = None,
        local_journal: LocalJournal | None = None,
        rate: float | None = None,
    ) -> None:
        self.store = store
        self.policy = policy or CallPolicy()
        self.name = queue
        self.queue = CallQueue(store, queue, policy=self.policy)
        self.settler = Settler(store, self.policy)
        self.sweeper = Sweeper(store, queue=queue, policy=self.policy)
        self.holds = Holds(store, queue=queue)
        changes = Changes(store, self.policy)
        self.guard: RollbackGuard | None = None
        if local_journal is not None:
            self.guard = RollbackGuard(
                store,
                local_journal,
                queue=queue,
                policy=self.policy,
                holds=self.holds,
                changes=changes,
            )
        self.pacer = Pacer(store.clock, queue=queue, rate=rate)
        self.entries = JournalWriter(store, self.policy, lease=LEASE, slot=self.pacer.slot, guard=self.guard)
        self.verdicts = VerdictWriter(
            store.clock,
            Settler(store, self.policy, changes=changes),
            holds=self.holds,
            restore_if_lost=None if self.guard is None else self.guard.restore_if_lost,
            on_fault=lambda *_: None,
            counts=WorkCounts(),
        )
        self.sender = CallSender(
            store,
            voice,
            policy=self.policy,
            journal=self.entries,
            pacer=self.pacer,
            holds=self.holds,
            verdicts=self.verdicts,
            on_verdict=lambda *_: None,
            guard=self.guard,
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        """Begin as a worker with journal files does, and end."""
        async with at_work(self.guard):
            yield self

    async def enqueue(self, destination: str = "+6587654321", **options: Any) -> Job:
        return await self.queue.enqueue(flow(destination), **options)

    async def lease(self, limit: int = 10) -> list[Job]:
        now = self.store.clock.now()
        jobs = await self.store.lease(self.name, worker_id="worker-1", limit=limit, until=now + LEASE, now=now)
        return list(jobs)

    async def prepare(self, limit: int = 10) -> list[Dispatch]:
        """Lease what is due and lock its numbers: the journal is the next thing to happen."""
        leased_at = self.store.clock.monotonic()
        return await self.sender.prepare(await self.lease(limit), leased_at=leased_at)

    async def journal(self) -> list[Job]:
        """Lease what is due and write its journal: the POST is the next thing to happen."""
        begun = [await self.journal_of(dispatch) for dispatch in await self.prepare()]
        return [job for job in begun if job is not None]

    async def journal_of(self, dispatch: Dispatch) -> Job | None:
        """Write the journal of one call that was prepared. None if it may not be sent."""
        await self.entries.enter([dispatch])
        return dispatch.job if dispatch.is_begun and dispatch.unsent is None else None

    async def begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Write the journal entries of calls in one write; returns the calls that have one, or may have one.

        Those that a condition keeps back end, or go back to the queue.
        """
        answers = await self.entries.enter(dispatches)
        for each, instead in zip(dispatches, answers, strict=True):
            if isinstance(instead, Job) and instead is not each.job:
                await self.entries.move((each.job, instead))
        return [each for each in dispatches if each.is_begun]

    async def finish(self, *dispatches: Dispatch) -> list[Dispatch]:
        """Write the journal entries of calls that have none, send the calls, and store their verdicts.

        Returns the calls that got an entry.
        """
        waiting = [each for each in dispatches if not each.is_begun]
        begun = [*(each for each in dispatches if each.is_begun), *await self.begin(waiting)]
        for dispatch in begun:
            await self.sender.send(dispatch)
        return begun

    async def suppress_before_slot(self, number: str, *, reason: str, clock: ManualClock) -> None:
        """Put a number on the suppression list while the call that is due waits for its slot; then send on."""
        (dispatch,) = await self.prepare()
        await SuppressionList(self.store).add(number, reason=reason)
        await self.finish(dispatch)
        clock.advance(timedelta(seconds=1))
        await self.send()

    async def send(self, limit: int = 10) -> list[Job]:
        """Lease what is due and send it, to the end."""
        dispatches = await self.prepare(limit)
        leased = {dispatch.job.id: dispatch.job for dispatch in dispatches}
        dispatches = await self.finish(*dispatches)
        after = [(leased[dispatch.job.id], await self.queue.get(dispatch.job.id)) for dispatch in dispatches]
        return [job for was, job in after if job.state is not JobState.QUEUED or job.post_count > was.post_count]

    async def verdict(self, job: Job, number: int, verdict: Verdict) -> Job:
        """Settle a POST by its answer. `job` is the job as the caller last saw it."""
        (settled,) = await self.settler.verdicts([PostAnswer(job, number, verdict, self.store.clock.now())])
        if isinstance(settled, BaseException):
            raise settled
        return settled

    async def summarise(
        self,
        job: Job,
        status: SessionStatus | None = SessionStatus.COMPLETED,
        *,
        number: int | None = None,
        code: int | None = None,
        session_id: str | None = None,
        with_client_request_id: bool = True,
        batch: str | None = None,
    ) -> SummaryResult:
        """A session summary comes for one POST of a job (its newest, unless said otherwise)."""
        job = await self.queue.get(job.id)
        posted = number or job.post_count
        return await self.settler.summary(
            SessionSummary(
                session_id=session_id or f"session-{job.id}.{posted}",
                status=status,
                status_text=status.value if status else "SOMETHING_NEW",
                client_request_id=f"{job.id}.{posted}" if with_client_request_id else None,
                client_batch_id=batch,
                error_code=code,
            )
        )

    async def state(self, job: Job) -> str:
        return (await self.queue.get(job.id)).state.value


class ScriptedEngine(Engine):
    """One whose clock and voice are in the hands of a test."""

    def __init__(self, store: Store, clock: ManualClock, *, voice: ScriptedVoice | None = None, **more: Any) -> None:
        self.clock, self.voice = clock, voice or ScriptedVoice()
        super().__init__(store, self.voice, **more)

    async def ends(self, job: Job, *statuses: SessionStatus) -> Job:
        """The call after one POST for each of these ends: nothing else is due."""
        for status in statuses:
            assert [each.id for each in await self.send()] == [job.id]
            await self.summarise(job, status)
        return await self.queue.get(job.id)

    async def called(self, destination: str, status: SessionStatus, **options: Any) -> Job:
        """A call to this number that ended so."""
        return await self.ends(await self.enqueue(destination, **options), status)
