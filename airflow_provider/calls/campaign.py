"""A campaign of a task: its rows into the queue, each once per task instance, sent and waited for as a batch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.batch import BatchStanding, batch_standing
from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.handing_in_rows import HandedIn, hand_in_rows
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.memory import Memory, recall
from airflow_provider.calls.sending import worker_for
from airflow_provider.calls.standing import Terms
from airflow_provider.calls.sweeping import sweep
from airflow_provider.calls.taken_back import count_taken_back, take_back_calls
from airflow_provider.calls.waiting import (
    FIRST_PAUSE,
    StopFlag,
    WaitedTooLongError,
    at_work,
    require_open,
    rest,
)
from voiceflow_worker import CallQueue, Job, JobState, Report, StoreUnavailableError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import CampaignOptions

SENT_WITHIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignErrand:
    """The campaign of one task instance. The hook's settings were asked for before."""

    hook: VoiceFlowHook
    identity: TaskIdentity
    batch_id: str
    terms: Terms
    every: float
    limit: timedelta | None
    stop: StopFlag

    async def hand_in(
        self,
        rows: Sequence[Mapping[str, Any]],
        options: CampaignOptions,
        *,
        skip_bad: bool,
        recalled: Mapping[str, Any] | None,
        expansion: Expansion,
    ) -> HandedIn:
        """Call for the rows that have no call yet, and take back what has no row; raises as `hand_in_rows` does."""
        async with self.hook.opened_queue() as queue:
            return await hand_in_rows(
                queue, rows, options, self.identity, skip_bad=skip_bad, recalled=recalled, expansion=expansion
            )

    async def send(self) -> BatchStanding:
        """Send what is to be sent now, if it is this task that sends; then say where the batch stands."""
        async with self.hook.opened_queue() as queue:
            standing = await self._standing(queue)
            if not self.terms.sends or not standing.unsent:
                return standing
            with contextlib.suppress(WaitedTooLongError):
                async with self._sending(queue):
                    await self._until(queue, lambda standing: not standing.unsent, limit=SENT_WITHIN, every=1.0)
            return await self._standing(queue)

    async def send_and_wait(self) -> BatchStanding:
        """Send, if it is this task that sends, and wait inside the task until all calls are over."""
        async with self.hook.opened_queue() as queue, self._sending(queue):
            return await self._until(
                queue, lambda standing: standing.ended >= standing.total, limit=self.limit, every=self.every
            )

    async def look(self) -> BatchStanding:
        """Where the batch stands; what is overdue is moved on first."""
        async with self.hook.opened_queue() as queue:
            standing = await self._standing(queue)
            if standing.overdue:
                await sweep(queue, policy=self.hook.settings().policy())
                standing = await self._standing(queue)
            return standing

    async def report(self) -> tuple[Report, list[Job], int]:
        """The numbers of the batch, its calls in doubt, and how many of its calls tasks have taken back for good."""
        from voiceflow_worker import build_report

        async with self.hook.opened_queue() as queue:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=self.batch_id, limit=None)
            report = await build_report(queue.store, queue.name, self.batch_id)
            taken_back = await count_taken_back(queue, self.batch_id) if report.states.get(JobState.CANCELLED) else 0
            return report, list(doubts), taken_back

    async def take_back(self) -> int:
        """Cancel what this task instance has handed in and what has not been sent; says how many calls."""
        async with self.hook.opened_queue() as queue:
            memory = (await recall(queue, self.identity) or Memory()).with_batch(self.batch_id)
            return await take_back_calls(queue, memory.batches, self.identity)

    @asynccontextmanager
    async def _sending(self, queue: CallQueue) -> AsyncGenerator[None]:
        if not self.terms.sends:
            yield
            return
        async with self.hook.get_client() as voice:
            worker = await worker_for(queue, voice, self.hook.settings(), batch_id=self.batch_id)
            async with at_work(worker, stop=self.stop):
                yield

    async def _standing(self, queue: CallQueue) -> BatchStanding:
        return await batch_standing(queue, self.batch_id, goal=self.terms.goal, patience=self.terms.patience)

    async def _until(
        self,
        queue: CallQueue,
        is_reached: Callable[[BatchStanding], bool],
        *,
        limit: timedelta | None,
        every: float,
    ) -> BatchStanding:
        clock = queue.store.clock
        began, pause = clock.monotonic(), FIRST_PAUSE
        while True:
            self.stop.check()
            with contextlib.suppress(StoreUnavailableError):
                standing = await self._standing(queue)
                if is_reached(standing):
                    return standing
                if self.terms.sends and standing.unsent:
                    await require_open(queue, batches={self.batch_id})
                if not self.terms.sends and standing.overdue:
                    await sweep(queue, policy=self.hook.settings().policy())
            if limit is not None and clock.monotonic() - began > limit.total_seconds():
                raise WaitedTooLongError(
                    f"batch {self.batch_id} has not come to its end within {limit}; its calls go on without this task, "
                    "and clearing it waits for them again"
                )
            await rest(min(pause, every), self.stop)
            pause *= 1.5
