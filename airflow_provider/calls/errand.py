"""What a task does with its calls: hand in, send, wait, take back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider.calls.sending import worker_for
from airflow_provider.calls.standing import Goal, Terms
from airflow_provider.calls.sweeping import swept
from airflow_provider.calls.taken_back import STOPPED_BY_AIRFLOW, cancel_calls
from airflow_provider.calls.waiting import StopFlag, WaitedTooLongError, all_sent, all_settled, at_work, jobs_of, until
from voiceflow_worker import CallQueue, Job

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

SENT_WITHIN = timedelta(hours=1)
"""How long a task that defers stays to send: what a slow rate or a 429 holds up longer is sent when it comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """The calls of one task instance in the queue of its connection. The hook's settings were asked for before."""

    hook: VoiceFlowHook
    terms: Terms
    every: float
    limit: timedelta | None
    stop: StopFlag

    @asynccontextmanager
    async def _sending(self, queue: CallQueue, batch_id: str | None) -> AsyncGenerator[None]:
        if not self.terms.sends:
            yield
            return
        async with self.hook.get_client() as voice:
            worker = await worker_for(queue, voice, self.hook.settings(), batch_id=batch_id)
            async with at_work(worker, stop=self.stop):
                yield

    async def hand_in(self, handing_in: Callable[[CallQueue], Awaitable[Job]]) -> Job:
        """Put the call into the queue, or find it there."""
        async with self.hook.opened_queue() as queue:
            return await handing_in(queue)

    async def send(self, job_ids: Sequence[str], *, batch_id: str | None) -> list[Job]:
        """Send what of these jobs is to be sent now, if it is this task that sends; then say where they stand.

        What a slow rate holds up for longer than `SENT_WITHIN` is left, to be sent when the task comes back.
        """
        async with self.hook.opened_queue() as queue:
            jobs = await jobs_of(queue, job_ids)
            sent = all_sent(queue)
            if not self.terms.sends or sent(jobs):
                return jobs
            async with self._sending(queue, batch_id):
                with contextlib.suppress(WaitedTooLongError):
                    await until(queue, job_ids, sent, every=1.0, limit=SENT_WITHIN, stop=self.stop, sends=True)
            return await jobs_of(queue, job_ids)

    async def send_and_wait(self, job_ids: Sequence[str], *, batch_id: str | None) -> list[Job]:
        """Send, if it is this task that sends, and wait inside the task until all calls are settled."""
        async with self.hook.opened_queue() as queue:
            settled = all_settled(queue, self.terms)
            jobs = await jobs_of(queue, job_ids)
            if settled(jobs) and all_sent(queue)(jobs):
                return await self._swept(queue, jobs)
            async with self._sending(queue, batch_id):
                jobs = await until(
                    queue,
                    job_ids,
                    settled,
                    every=self.every,
                    limit=self.limit,
                    stop=self.stop,
                    sends=self.terms.sends,
                )
            return await self._swept(queue, jobs)

    async def look(self, job_ids: Sequence[str]) -> list[Job]:
        """Where the calls stand; what is overdue is moved on first, if nobody else did."""
        async with self.hook.opened_queue() as queue:
            return await self._swept(queue, await jobs_of(queue, job_ids))

    async def _swept(self, queue: CallQueue, jobs: list[Job]) -> list[Job]:
        return await swept(queue, jobs, self.terms, policy=self.hook.settings().policy())

    async def take_back(self, job_ids: Sequence[str]) -> int:
        """Cancel what has not been sent; says how many calls."""
        async with self.hook.opened_queue() as queue:
            return await take_back(queue, job_ids)


async def take_back(queue: CallQueue, job_ids: Sequence[str]) -> int:
    """Cancel those of these jobs that have not been sent; says how many."""
    return len(await cancel_calls(queue, job_ids, reason=STOPPED_BY_AIRFLOW))


def terms(*, wait_for: str | None, send: str, patience: timedelta) -> Terms:
    """The terms of an operator's parameters. Raises ValueError for words that it does not know."""
    if send not in {"here", "worker"}:
        raise ValueError(f"send={send!r}: use 'here' (this task sends) or 'worker' (a voiceflow worker does)")
    return Terms(goal=Goal.named(wait_for), sends=send == "here", patience=patience)
