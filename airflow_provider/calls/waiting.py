"""Waiting for calls inside a task: looking at the store, and, where the task sends, with a worker beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from airflow_provider.calls.standing import Standing, Terms, is_unsent, standing_of
from voiceflow_worker import CallQueue, InvalidInputError, Job, JobNotFoundError, StoreUnavailableError, VoiceflowError

if TYPE_CHECKING:
    from voiceflow_worker import Worker

FIRST_PAUSE = 0.2
STOP_LOOK = 0.5
"""How often a waiting task looks whether it was told to stop, in seconds."""


class TaskStoppedError(VoiceflowError):
    """Raised inside a task that Airflow stops (`on_kill`)."""


class WaitedTooLongError(VoiceflowError):
    """Raised when what a task waits for has not come within its own time limit."""


class QueueHeldError(InvalidInputError):
    """Raised when a task cannot send because its queue is held until somebody opens it."""


class StopFlag:
    """Set by `on_kill`, in a signal handler; read by the task's event loop."""

    def __init__(self) -> None:
        self.is_set = False
        self.failure: BaseException | None = None

    def set(self) -> None:
        """Tell the task to stop."""
        self.is_set = True

    def check(self) -> None:
        """Raise TaskStoppedError once the flag is set, or what ended the worker beside the task."""
        if self.failure is not None:
            raise self.failure
        if self.is_set:
            raise TaskStoppedError("Airflow stopped this task")


async def jobs_of(queue: CallQueue, job_ids: Sequence[str]) -> list[Job]:
    """These jobs, in this order. Raises JobNotFoundError for one that the store does not know."""
    found = await queue.store.jobs.get(job_ids)
    for job_id in job_ids:
        if job_id not in found:
            raise JobNotFoundError(job_id)
    return [found[job_id] for job_id in job_ids]


@asynccontextmanager
async def at_work(worker: Worker, *, stop: StopFlag) -> AsyncGenerator[None]:
    """Let a worker send beside what the block does; at its end, also by an error, calls in flight are finished.

    A worker that cannot go on sets `stop`, with its error.
    """
    # No task group: it would wrap what the block raises.
    running = asyncio.create_task(worker.run())

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            stop.failure = error

    running.add_done_callback(ended)
    try:
        yield
    finally:
        worker.stop()
        while not running.done():
            # Cancelled (a task that is killed): the flights are finished all the same, within the grace.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
    if stop.failure is not None:
        raise stop.failure


async def until(
    queue: CallQueue,
    job_ids: Sequence[str],
    is_reached: Callable[[Sequence[Job]], bool],
    *,
    every: float,
    limit: timedelta | None,
    stop: StopFlag,
    sends: bool,
) -> list[Job]:
    """Look at the jobs until `is_reached` says so; `every` is in seconds, and the first looks come sooner.

    Raises TaskStoppedError, WaitedTooLongError after `limit`, and, for a task that sends, QueueHeldError when its queue
    is held until somebody opens it. A store that is away is waited for.
    """
    clock = queue.store.clock
    began, pause = clock.monotonic(), FIRST_PAUSE
    away: StoreUnavailableError | None = None
    while True:
        stop.check()
        try:
            jobs = await jobs_of(queue, job_ids)
            if is_reached(jobs):
                return jobs
            if sends:
                await _require_open(queue, jobs)
            away = None
        except StoreUnavailableError as error:
            away = error
        if limit is not None and clock.monotonic() - began > limit.total_seconds():
            raise WaitedTooLongError(
                f"{len(job_ids)} call(s) have not come to their end within {limit}; they go on without this task, "
                "and clearing it waits for them again" + (f" (the store is away: {away})" if away else "")
            )
        await rest(min(pause, every), stop)
        pause *= 1.5


async def rest(seconds: float, stop: StopFlag) -> None:
    """Wait so long, or until the task is told to stop."""
    while seconds > 0 and not stop.is_set:
        await anyio.sleep(min(seconds, STOP_LOOK))
        seconds -= STOP_LOOK


async def _require_open(queue: CallQueue, jobs: Sequence[Job]) -> None:
    now = queue.store.clock.now()
    if any(is_unsent(job, now=now) for job in jobs):
        await require_open(queue, batches={job.batch_id for job in jobs})


async def require_open(queue: CallQueue, *, batches: Collection[str | None]) -> None:
    """Raise QueueHeldError if the queue, or one of these batches, is held until somebody opens it."""
    now = queue.store.clock.now()
    for gate in await queue.store.control.gates(queue.name):
        concerned = gate.scope.value == "queue" or gate.name in batches
        if concerned and gate.is_closed(at=now) and gate.until is None and gate.state.value == "held":
            what = "queue" if gate.scope.value == "queue" else "batch"
            batch = "" if what == "queue" else f" --batch {gate.name}"
            raise QueueHeldError(
                f"{what} {gate.name} is held since {gate.since:%Y-%m-%d %H:%M:%S} UTC: "
                f"{gate.reason or 'no reason given'}. Nothing of this task is being sent. Mend that, open it with "
                f"`voiceflow resume --store {queue.store.url} --queue {queue.name}{batch}`, then "
                "clear this task: it goes on with its calls"
            )


def all_sent(queue: CallQueue) -> Callable[[Sequence[Job]], bool]:
    """Whether nothing of these jobs is left to be sent soon."""
    return lambda jobs: not any(is_unsent(job, now=queue.store.clock.now()) for job in jobs)


def all_settled(queue: CallQueue, terms: Terms) -> Callable[[Sequence[Job]], bool]:
    """Whether each job is over on these terms, or too long in doubt, or overdue with nobody who sweeps."""

    def is_settled(jobs: Sequence[Job]) -> bool:
        now = queue.store.clock.now()
        ends = {Standing.OVER, Standing.DOUBTFUL, Standing.OVERDUE}
        return all(standing_of(job, terms, now=now) in ends for job in jobs)

    return is_settled
