"""The campaign of a task: enqueue its rows, send and wait for them as a batch, report, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.campaigns.enqueueing import EnqueuedRows, enqueue_rows
from airflow_provider.calls.cancellation import cancel_unsent, count_cancelled
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_record import TaskRecord, load_record
from airflow_provider.calls.waiting.batch_status import BatchStatus, batch_status
from airflow_provider.calls.waiting.polling import StopFlag, WaitedTooLongError, poll, require_open, sweep
from airflow_provider.calls.waiting.status import WaitOptions
from airflow_provider.calls.waiting.worker import sending
from voiceflow_worker import CallQueue, Job, JobState, Report

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import CampaignOptions

SENT_WITHIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCampaign:
    """The calls of one task instance in the queue of its connection. Ask `hook.settings()` first."""

    hook: VoiceFlowHook
    identity: TaskIdentity
    batch_id: str
    options: WaitOptions
    every: float
    limit: timedelta | None
    stop: StopFlag

    async def enqueue(
        self,
        rows: Sequence[Mapping[str, Any]],
        options: CampaignOptions,
        *,
        skip_bad: bool,
        saved: Mapping[str, Any] | None,
        expansion: Expansion,
    ) -> EnqueuedRows:
        """Make the missing calls and cancel those without a row; raises as `enqueue_rows` does."""
        async with self.hook.opened_queue() as queue:
            return await enqueue_rows(
                queue, rows, options, self.identity, skip_bad=skip_bad, saved=saved, expansion=expansion
            )

    async def send(self) -> BatchStatus:
        """Send the calls that are due, if this task sends; returns the status of the batch after that."""
        async with self.hook.opened_queue() as queue:
            status = await self._status(queue)
            if not self.options.sends or not status.unsent:
                return status
            with contextlib.suppress(WaitedTooLongError):
                await self._send_until(queue, lambda status: not status.unsent, limit=SENT_WITHIN, every=1.0)
            return await self._status(queue)

    async def send_and_wait(self) -> None:
        """Send if this task sends, and wait inside the task until all calls have ended."""
        async with self.hook.opened_queue() as queue:
            await self._send_until(queue, lambda status: status.has_ended, limit=self.limit, every=self.every)

    async def look(self) -> None:
        """Move overdue calls on."""
        async with self.hook.opened_queue() as queue:
            if (await self._status(queue)).overdue:
                await sweep(queue, policy=self.hook.settings().policy())

    async def report(self) -> tuple[Report, list[Job], int]:
        """The report of the batch, its calls in doubt, and the number of its calls that tasks cancelled."""
        from voiceflow_worker import build_report

        async with self.hook.opened_queue() as queue:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=self.batch_id, limit=None)
            report = await build_report(queue.store, queue.name, self.batch_id)
            cancelled = await count_cancelled(queue, self.batch_id) if report.states.get(JobState.CANCELLED) else 0
            return report, list(doubts), cancelled

    async def cancel(self) -> None:
        """Cancel the unsent calls of this task instance."""
        async with self.hook.opened_queue() as queue:
            record = (await load_record(queue, self.identity) or TaskRecord()).with_batch(self.batch_id)
            await cancel_unsent(queue, record.batches, self.identity)

    async def _status(self, queue: CallQueue) -> BatchStatus:
        return await batch_status(queue, self.batch_id, goal=self.options.goal, patience=self.options.patience)

    async def _send_until(
        self, queue: CallQueue, is_reached: Callable[[BatchStatus], bool], *, limit: timedelta | None, every: float
    ) -> None:
        sends = self.options.sends

        async def keep_going(status: BatchStatus) -> None:
            if sends and status.unsent:
                await require_open(queue, batches={self.batch_id})
            if not sends and status.overdue:
                await sweep(queue, policy=self.hook.settings().policy())

        async with sending(self.hook, queue, batch_id=self.batch_id, stop=self.stop, sends=sends):
            await poll(
                queue,
                partial(self._status, queue),
                is_reached,
                subject=f"batch {self.batch_id}",
                every=every,
                limit=limit,
                stop=self.stop,
                otherwise=keep_going,
            )
