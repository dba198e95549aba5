"""Polling of the store by a waiting task."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import anyio

from airflow_provider.calls.waiting.status import Goal, WaitedCalls, WaitStatus, doubted_until
from voiceflow_worker import CallQueue, Heartbeats, InvalidInputError, Job, JobState, VoiceflowError
from voiceflow_worker.core.ports.identity import BatchNames
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.errors import StoreUnavailableError

if TYPE_CHECKING:
    from voiceflow_worker import CallPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.2
UNKNOWN_AFTER = 60.0
"""Seconds after which it is said that a batch has no calls: its name may be misspelt, or its calls come later."""
WAIT_LOOK = 30.0
"""Seconds between two looks for what keeps calls waiting."""
MOST_NAMED = 20
"""The most calls in doubt that are logged."""
STOP_LOOK = 0.5
"""Seconds between checks of the stop flag."""


class TaskStoppedError(VoiceflowError):
    """Raised inside a task that Airflow stops (`on_kill`)."""


class WaitedTooLongError(VoiceflowError):
    """Raised when a task's own time limit has passed."""


class QueueHeldError(InvalidInputError):
    """Raised when a task cannot send because its queue or batch is held until a person resumes it."""


class StopFlag:
    """The stop flag of a task. `on_kill` sets it in a signal handler, and the task's event loop reads it."""

    def __init__(self) -> None:
        self.is_set = False
        self.failure: BaseException | None = None

    def set(self) -> None:
        """Ask the task to stop."""
        self.is_set = True

    def check(self) -> None:
        """Raise TaskStoppedError if the flag is set, or the error that ended the worker of the task."""
        if self.failure is not None:
            raise self.failure
        if self.is_set:
            raise TaskStoppedError("Airflow stopped this task")


async def poll(
    queue: CallQueue,
    look: Callable[[], Awaitable[T]],
    is_reached: Callable[[T], bool],
    *,
    subject: str,
    every: float,
    limit: timedelta | None,
    stop: StopFlag,
    otherwise: Callable[[T], Awaitable[None]] | None = None,
) -> T:
    """Call `look` until `is_reached` accepts the result, and return this result.

    The pauses grow up to `every` seconds. `otherwise` gets each result that is not accepted. An unavailable store is
    tried again. Raises WaitedTooLongError after `limit`, and the errors of `stop.check` and `otherwise`.
    """
    clock = queue.store.clock
    began, pause = clock.monotonic(), FIRST_PAUSE
    while True:
        stop.check()
        away = ""
        try:
            found = await look()
            if is_reached(found):
                return found
            if otherwise is not None:
                await otherwise(found)
        except StoreUnavailableError as error:
            away = f" (the store is unavailable: {error})"
        if limit is not None and clock.monotonic() - began > limit.total_seconds():
            raise WaitedTooLongError(
                f"{subject} has not ended within {limit}. It goes on without this task; clear the task to wait for it "
                f"again{away}"
            )
        rest = min(pause, every)
        while rest > 0 and not stop.is_set:
            await anyio.sleep(min(rest, STOP_LOOK))
            rest -= STOP_LOOK
        pause *= 1.5


class WaitLog:
    """Logs the progress of calls, their doubts, and what keeps them waiting, such as a hold or no worker. Each once."""

    def __init__(self, calls: WaitedCalls) -> None:
        self._calls = calls
        self._options = calls.options
        self._batch_id = calls.batch_id
        self._progress = ""
        self._began: float | None = None
        self._looks_at = 0.0
        self._told: list[str] = []

    async def tell(self, queue: CallQueue, status: WaitStatus) -> None:
        """Log what has changed since the last look, at most every `WAIT_LOOK` seconds."""
        clock = queue.store.clock
        self._began = clock.monotonic() if self._began is None else self._began
        if clock.monotonic() < self._looks_at:
            return
        self._looks_at = clock.monotonic() + WAIT_LOOK
        progress = status.progress
        if status.total and progress != self._progress:
            log.info("%s: %s", self._calls, progress)
        self._progress = progress
        found = [f"calls of this task wait: {why}" for why in await self._reasons(queue, status)]
        if status.doubts:
            found += await self._doubts(queue, status)
        for why in found:
            if why not in self._told:
                log.warning("%s", why)
        self._told = found

    async def _doubts(self, queue: CallQueue, status: WaitStatus) -> list[str]:
        jobs: Sequence[Job] = [job for job in status.jobs if job.state is JobState.IN_DOUBT]
        if self._batch_id is not None:
            jobs = await queue.find(states=[JobState.IN_DOUBT], batch_id=self._batch_id, limit=MOST_NAMED)
        return [
            f"call {job.id} to {job.number} is in doubt; this task waits for evidence until "
            f"{doubted_until(job, self._options):%Y-%m-%d %H:%M:%S} UTC"
            for job in jobs[:MOST_NAMED]
        ]

    async def _reasons(self, queue: CallQueue, status: WaitStatus) -> list[str]:
        found: list[str] = []
        waited = queue.store.clock.monotonic() - (self._began or 0.0)
        if not status.total and waited >= UNKNOWN_AFTER and (unknown := await why_unknown(queue, self._batch_id)):
            found.append(unknown)
        heartbeats = Heartbeats(queue.store)
        if status.due and not self._options.sends:
            now = queue.store.clock.now()
            gates = [gate for gate in await gates_of(queue.store, queue.name) if gate.is_closed(at=now)]
            found += [f"{gate.scope.value} {gate.name} is held ({gate.reason or 'no reason given'})" for gate in gates]
            if not await heartbeats.workers(queue.name):
                found.append("no worker is running: `voiceflow worker` sends due calls")
        if status.submitted and self._options.goal is Goal.OUTCOME and not await heartbeats.has_receiver():
            found.append("no receiver is running: `voiceflow serve` receives the summaries of calls")
        return found


async def why_unknown(queue: CallQueue, batch_id: str | None) -> str | None:
    """Return the sentence that the queue has no calls of this batch, with names like it; None if it has some."""
    return await BatchNames(queue.store, queue.name).why_unknown(batch_id)


async def require_open(queue: CallQueue, *, batches: Collection[str | None]) -> None:
    """Raise QueueHeldError if the queue, or one of these batches, is held until a person resumes it."""
    now = queue.store.clock.now()
    for gate in await gates_of(queue.store, queue.name):
        scope = gate.scope.value
        concerned = scope == "queue" or gate.name in batches
        if concerned and gate.is_closed(at=now) and gate.until is None and gate.state.value == "held":
            batch = "" if scope == "queue" else f" --batch {gate.name}"
            raise QueueHeldError(
                f"{scope} {gate.name} has been held since {gate.since:%Y-%m-%d %H:%M:%S} UTC: "
                f"{gate.reason or 'no reason given'}. No calls of this task are sent. Correct the cause, run "
                f"`voiceflow resume --store {queue.store.url} --queue {queue.name}{batch}`, and clear this task. Its "
                "next try goes on with the same calls"
            )


async def may_read_log(queue: CallQueue) -> bool:
    """Return whether no worker or task has read the log of 8x8 for this queue in the last minutes."""
    from voiceflow_worker.core.settling.reconcile import log_lease

    return await log_lease(queue.store, queue.name).is_free()


async def sweep(queue: CallQueue, *, policy: CallPolicy) -> None:
    """Sweep this queue once, as every worker does each second. Overdue jobs change their state; nothing is sent."""
    from voiceflow_worker import Sweeper

    await Sweeper(queue.store, queue=queue.name, policy=policy).sweep()


async def swept(queue: CallQueue, waited: WaitedCalls, *, policy: CallPolicy) -> WaitStatus:
    """Return the status of these calls. If a call is overdue (its worker died, or no summary came), sweep first."""
    status = await waited.status(queue)
    if not status.overdue:
        return status
    await sweep(queue, policy=policy)
    return await waited.status(queue)
