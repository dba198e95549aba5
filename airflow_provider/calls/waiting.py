"""The wait for calls, and the worker of a task that sends its calls itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from airflow_provider.calls.tasks import TaskHold
from voiceflow_worker import CallQueue, Job, JobState, Voiceflow
from voiceflow_worker.core.base.reading import count_states, due_count, gates_at, get_jobs
from voiceflow_worker.errors import JobNotFoundError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

STOP_LOOK = 0.5
"""Seconds between two looks at whether Airflow has stopped a task that sends."""
DOUBT_TIMEOUT = timedelta(minutes=15)
"""The time after its request for which a task waits for evidence about a call in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStatus:
    """Calls that a task waits for, counted by their states.

    `has_work` is whether a worker could send one now, and `held` names the holds that keep some back. `jobs` are the
    calls themselves, of a batch only those in doubt.
    """

    states: Mapping[JobState, int]
    jobs: Sequence[Job]
    is_over: bool
    has_work: bool
    held: Sequence[str] = ()

    @property
    def is_on_its_way(self) -> bool:
        """True if a call is being sent, or was sent and has not ended."""
        return any(self.states[each] for each in (JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT))

    def __str__(self) -> str:
        return ", ".join(f"{count} {state.value}" for state, count in self.states.items() if count) or "no calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedCalls:
    """Calls that a task waits for: those of `job_ids`, or of a batch."""

    job_ids: Sequence[str] = ()
    batch_id: str | None = None

    async def status(self, queue: CallQueue) -> WaitStatus:
        """Return the present status of the calls. Raises JobNotFoundError and StoreError."""
        store, now = queue.store, queue.store.clock.now()
        if self.batch_id is None:
            found = await get_jobs(store, self.job_ids)
            if lost := next((each for each in self.job_ids if each not in found), None):
                raise JobNotFoundError(lost)
            jobs = [found[each] for each in self.job_ids]
            states = Counter(job.state for job in jobs)
            due = sum(job.state is JobState.QUEUED and job.due_at <= now for job in jobs)
        else:
            # Before the count of all: a call that is leased in between is counted twice, and not lost.
            due = await due_count(store, queue.name, by=now, batch_id=self.batch_id)
            states = Counter(await count_states(store, queue.name, batch_id=self.batch_id))
            doubts = {JobState.IN_DOUBT} if states[JobState.IN_DOUBT] else ()
            jobs = [*await queue.find(states=doubts, batch_id=self.batch_id, limit=None)] if doubts else []
        batches = {None, self.batch_id, *(job.batch_id for job in jobs)}
        gates = (await gates_at(store, queue.name, batches)).values() if due else ()
        closed = [each for each in gates if each.is_closed(at=now)]
        settled = sum(job.state is JobState.IN_DOUBT and now >= _doubted_until(job) for job in jobs)
        ended = sum(count for state, count in states.items() if state.is_final) + settled
        return WaitStatus(
            states=states,
            jobs=jobs,
            is_over=ended >= states.total() and (self.batch_id is None or ended > 0),
            has_work=bool((due and not closed) or states[JobState.LEASED] or states[JobState.SENDING]),
            held=[f"{each.scope.value} {each.name} is held: {each.reason or 'no reason given'}" for each in closed],
        )

    def __str__(self) -> str:
        return f"call {', '.join(self.job_ids)}" if self.batch_id is None else f"batch {self.batch_id}"


def _doubted_until(job: Job) -> datetime:
    post = job.open_post or job.last_post
    return (job.created_at if post is None else post.began_at) + DOUBT_TIMEOUT


async def wait_until(
    is_done: Callable[[WaitStatus], bool],
    calls: WaitedCalls,
    hook: VoiceFlowHook,
    *,
    every: float,
    hold: TaskHold | None = None,
    sends: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
) -> WaitStatus:
    """Return the first status of these calls that `is_done`. Call `hook.settings()` first.

    It is looked at every `every` seconds at most. Each look opens a `hold` of an earlier try. If the task `sends`, a
    worker of this process sends what is due. Raises AirflowException if the task `is_stopped`, and StoreError.
    """
    queue, pause, logged = await hook.get_queue(), min(0.2, every), ""
    while not is_stopped():
        if hold is not None:
            await hold.open(queue)
        status = await calls.status(queue)
        if is_done(status):
            return status
        if (text := "; ".join((str(status), *status.held))) != logged:
            log.info("%s: %s", calls, text)
            logged = text
        if sends and status.has_work:
            async with Voiceflow(hook.settings(), store=queue.store) as voiceflow:
                await _send(voiceflow, queue, calls, status, is_stopped)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, every)
    raise AirflowException("Airflow stopped this task")


async def _send(
    voiceflow: Voiceflow, queue: CallQueue, calls: WaitedCalls, status: WaitStatus, is_stopped: Callable[[], bool]
) -> None:
    """Send what is due in the batch of the calls, until no more is due or the task is stopped."""
    own = [name for name in ("rate", "burst", "max_active") if voiceflow.settings.place_of(name) is not None]
    worker = await voiceflow.temporary_worker(batch=calls.batch_id or status.jobs[0].batch_id, but=own)

    async def stop() -> None:
        # No event reports it.
        while not is_stopped() and (await calls.status(queue)).has_work:  # noqa: ASYNC110
            await asyncio.sleep(STOP_LOOK)
        worker.stop()

    watch = asyncio.create_task(stop())
    try:
        await worker.drain()
    finally:
        watch.cancel()
