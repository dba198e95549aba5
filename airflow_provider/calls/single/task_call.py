"""The one call of a task: enqueue, send, wait, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.cancellation import STOPPED_BY_AIRFLOW, cancel_calls
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.event_loop import run
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.single.enqueueing import OnClear, enqueue_once
from airflow_provider.calls.single.request import RequestedCall
from airflow_provider.calls.store_check import require_lasting_store
from airflow_provider.calls.task_state import AirflowTaskState
from airflow_provider.calls.waiting.polling import StopFlag, WaitedTooLongError, poll, require_open, swept
from airflow_provider.calls.waiting.status import WaitOptions, WaitStatus, is_unsent, status_of
from airflow_provider.calls.waiting.worker import sending
from voiceflow_worker import CallQueue, Job

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import Settings

SENT_WITHIN = timedelta(hours=1)
"""Time that a deferring task stays to send. Calls that a slow rate or a 429 delays longer are sent when it resumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCall:
    """The call of one task instance in the queue of its connection. Ask `hook.settings()` first."""

    hook: VoiceFlowHook
    options: WaitOptions
    every: float
    limit: timedelta | None
    stop: StopFlag

    def enqueue(
        self,
        context: Mapping[str, Any],
        requested: Callable[[Settings, TaskIdentity], RequestedCall],
        *,
        executor: str | None,
        on_clear: str,
    ) -> Job:
        """The job of the task instance in this context, made if there is none. Everything is checked first."""
        settings, identity = self.hook.settings(), TaskIdentity.of(context)
        require_lasting_store(self.hook, executor=executor)
        if self.options.sends:
            self.hook.get_client()
        state = AirflowTaskState(context)
        enqueueing = partial(
            enqueue_once,
            requested=requested(settings, identity),
            identity=identity,
            on_clear=OnClear(on_clear),
            saved=state.load(),
            expansion=Expansion.of(context),
        )

        async def enqueued() -> Job:
            async with self.hook.opened_queue() as queue:
                return await enqueueing(queue)

        job = run(enqueued)
        state.save({"job_id": job.id, "store": self.hook.store_url()})
        return job

    async def send(self, job_id: str) -> Job:
        """Send the call if it is due and this task sends; returns its job, sent or not within `SENT_WITHIN`."""
        async with self.hook.opened_queue() as queue:
            job = await queue.get(job_id)
            if not self.options.sends or not is_unsent(job, now=queue.store.clock.now()):
                return job
            async with self._sending(queue, job):
                with contextlib.suppress(WaitedTooLongError):
                    is_sent = partial(_is_sent, queue)
                    await self._poll(queue, job_id, is_sent, every=1.0, limit=SENT_WITHIN)
            return await queue.get(job_id)

    async def send_and_wait(self, job_id: str) -> Job:
        """Send the call if this task sends, and wait inside the task until it is settled."""
        ends = {WaitStatus.OVER, WaitStatus.DOUBTFUL, WaitStatus.OVERDUE}

        async with self.hook.opened_queue() as queue:

            def is_settled(job: Job) -> bool:
                return status_of(job, self.options, now=queue.store.clock.now()) in ends

            job = await queue.get(job_id)
            if not is_settled(job) or not _is_sent(queue, job):
                async with self._sending(queue, job):
                    await self._poll(queue, job_id, is_settled, every=self.every, limit=self.limit)
            return await self._swept(queue, job_id)

    async def look(self, job_id: str) -> Job:
        """The job now, after a sweep if it is overdue."""
        async with self.hook.opened_queue() as queue:
            return await self._swept(queue, job_id)

    async def cancel(self, job_id: str) -> None:
        """Cancel the call of a stopped task if it has not been sent."""
        async with self.hook.opened_queue() as queue:
            await cancel_calls(queue, [job_id], reason=STOPPED_BY_AIRFLOW)

    def _sending(self, queue: CallQueue, job: Job) -> contextlib.AbstractAsyncContextManager[None]:
        return sending(self.hook, queue, batch_id=job.batch_id, stop=self.stop, sends=self.options.sends)

    async def _poll(
        self, queue: CallQueue, job_id: str, is_reached: Callable[[Job], bool], *, every: float, limit: timedelta | None
    ) -> None:
        async def still_open(job: Job) -> None:
            if self.options.sends and not _is_sent(queue, job):
                await require_open(queue, batches={job.batch_id})

        await poll(
            queue,
            partial(queue.get, job_id),
            is_reached,
            subject=f"call {job_id}",
            every=every,
            limit=limit,
            stop=self.stop,
            otherwise=still_open,
        )

    async def _swept(self, queue: CallQueue, job_id: str) -> Job:
        (job,) = await swept(queue, [job_id], self.options, policy=self.hook.settings().policy())
        return job


def _is_sent(queue: CallQueue, job: Job) -> bool:
    return not is_unsent(job, now=queue.store.clock.now())
