"""Waiting for calls inside a task. If the task sends its calls itself, it runs a worker meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from airflow_provider.calls.status import Goal, WaitedCalls, WaitStatus
from airflow_provider.calls.task_state import TaskState
from voiceflow_worker import CallQueue, Heartbeats, InvalidInputError, JobState, VoiceflowError
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.errors import CallLogError, StoreUnavailableError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
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
SENT_WITHIN = timedelta(hours=1)
"""The longest time for which a task sends calls before it defers. It sends the remaining calls when it resumes."""


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine and return its result. If this thread already runs an event loop, use a new thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        has_loop = False
    else:
        has_loop = True
    return run_in_thread(work, seconds=None) if has_loop else asyncio.run(work())


def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]], *, seconds: float | None) -> T:
    """Run a coroutine in a new thread, and return its result. After `seconds`, raise TimeoutError; the thread goes on.

    This also works in a signal handler, which may have interrupted a running loop.
    """
    done: Future[T] = Future()

    def target() -> None:
        try:
            done.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            done.set_exception(error)

    Thread(target=target, name="voiceflow-task", daemon=True).start()
    return done.result(seconds)


class TaskStoppedError(VoiceflowError):
    """Raised inside a task that Airflow stops (`on_kill`)."""


class WaitedTooLongError(VoiceflowError):
    """Raised when a task's own time limit has passed."""


def waited_too_long(calls: WaitedCalls, *, within: str = " in the time that it may take") -> str:
    """Return what is said of calls that have not ended when the wait of their task ends."""
    return (
        f"{calls} has not ended{within}. It goes on without this task, and what is queued may still be sent; clear the "
        "task to wait for it again"
    )


class WaitLog:
    """Logs the progress of calls, their doubts, and what keeps them waiting, such as a hold or no worker. Each once."""

    def __init__(self, calls: WaitedCalls) -> None:
        self._calls = calls
        self._progress = ""
        self._began: float | None = None
        self._looks_at = 0.0
        self._told: list[str] = []

    async def tell(self, queue: CallQueue, status: WaitStatus) -> None:
        """Log what has changed since the last look, at most every `WAIT_LOOK` seconds."""
        now = queue.store.clock.monotonic()
        self._began = now if self._began is None else self._began
        if now < self._looks_at:
            return
        self._looks_at = now + WAIT_LOOK
        if status.total and status.progress != self._progress:
            log.info("%s: %s", self._calls, status.progress)
        self._progress = status.progress
        found = [f"calls of this task wait: {why}" for why in await self._reasons(queue, status, now - self._began)]
        found += [
            f"call {job.id} to {job.number} is in doubt; this task waits for evidence until "
            f"{self._calls.options.doubted_until(job):%Y-%m-%d %H:%M:%S} UTC"
            for job in status.doubts[:MOST_NAMED]
        ]
        for why in found:
            if why not in self._told:
                log.warning("%s", why)
        self._told = found

    async def _reasons(self, queue: CallQueue, status: WaitStatus, waited: float) -> list[str]:
        found: list[str] = []
        options, heartbeats = self._calls.options, Heartbeats(queue.store)
        if not status.total and waited >= UNKNOWN_AFTER:
            unknown = await BatchNames(queue.store, queue.name).why_unknown(self._calls.batch_id)
            found += [] if unknown is None else [unknown]
        if status.due and not options.sends:
            now = queue.store.clock.now()
            gates = await gates_of(queue.store, queue.name)
            gates = [gate for gate in gates if gate.start is None and gate.is_closed(at=now)]
            found += [f"{gate.scope.value} {gate.name} is held ({gate.reason or 'no reason given'})" for gate in gates]
            if not await heartbeats.workers(queue.name):
                found.append("no worker is running: `voiceflow worker` sends due calls")
        if status.states[JobState.SUBMITTED] and options.goal is Goal.OUTCOME and not await heartbeats.has_receiver():
            found.append("no receiver is running: `voiceflow serve` receives the summaries of calls")
        return found


async def require_open(queue: CallQueue, *, batches: Collection[str | None]) -> None:
    """Raise InvalidInputError if the queue, or one of these batches, is held until a person resumes it."""
    now = queue.store.clock.now()
    for gate in await gates_of(queue.store, queue.name):
        scope = gate.scope.value
        concerned = gate.start is None and (scope == "queue" or gate.name in batches)
        if concerned and gate.is_closed(at=now) and gate.until is None and gate.state.value == "held":
            batch = "" if scope == "queue" else f" --batch {gate.name}"
            raise InvalidInputError(
                f"{scope} {gate.name} has been held since {gate.since:%Y-%m-%d %H:%M:%S} UTC: "
                f"{gate.reason or 'no reason given'}. No calls of this task are sent. Correct the cause, run "
                f"`voiceflow resume --store {queue.store.url} --queue {queue.name}{batch}`, and clear this task. Its "
                "next try goes on with the same calls"
            )


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


@asynccontextmanager
async def sending(
    hook: VoiceFlowHook, queue: CallQueue, *, batch_id: str | None, state: TaskState | None = None
) -> AsyncGenerator[None]:
    """Run a worker for one batch during the block.

    The connection may set a rate, a burst and a limit of open calls; what it does not set stays as it is in the queue.
    At the end of the block, the worker finishes the calls in flight. If the worker fails, the block ends with its
    error. The POSTs are noted in `state` before they leave.
    """
    from voiceflow_worker.service.worker import with_limits_of_queue, worker_of  # not when DAGs are parsed

    settings = hook.settings()
    own = {name for name in ("rate", "burst", "max_active") if settings.place_of(name) is not None}
    own |= {"reserve"} if "max_active" in own else set()
    block, failures = asyncio.current_task(), list[BaseException]()

    def fail(error: BaseException) -> None:
        failures.append(error)
        if block is not None:
            block.cancel()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            fail(error)

    async with hook.get_client() as voice:
        worker = worker_of(
            await with_limits_of_queue(settings, queue.store, but=own),
            queue.store,
            voice,
            batch_id=batch_id,
            sends_by=None if state is None else state.noted_by(voice, queue, fail),
            keeps_journal=False,  # Airflow's task state has the POSTs
        )
        # Not a task group, which would wrap the errors of the block.
        running = asyncio.create_task(worker.run())
        running.add_done_callback(ended)
        try:
            yield
        except asyncio.CancelledError:
            if block is None or not failures:
                raise
            block.uncancel()
        finally:
            worker.stop()
            while not running.done():
                # Even if the task is killed, calls in flight are finished within the grace period.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({running})
        if failures:
            raise failures[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCalls:
    """The calls of one task, in the queue of its connection.

    `every` is the longest pause between two checks of the calls, in seconds. `limit` is the longest wait for the calls
    to end. `is_stopped` says whether Airflow has stopped the task. Call `hook.settings()` first, because reading the
    connection may block the event loop.
    """

    hook: VoiceFlowHook
    calls: WaitedCalls
    every: float
    limit: timedelta | None
    is_stopped: Callable[[], bool]
    state: TaskState

    async def send(self, *, waits: bool = False) -> WaitStatus:
        """Send due calls, if this task sends calls, and with `waits`, wait for their ends. Return the status of all.

        After `SENT_WITHIN`, the rest is left for the time when the task resumes. A task that waits here, or for
        nothing, sends all of them; it raises WaitedTooLongError after `limit`. Raises TaskStoppedError if the task was
        stopped: its calls were cancelled.
        """
        options = self.calls.options
        is_last = waits or options.goal is Goal.NOTHING
        limit = self.limit if is_last else SENT_WITHIN

        def is_done(status: WaitStatus) -> bool:
            return status.has_ended if waits else not (options.sends and status.unsent)

        async with self.hook.opened_queue() as queue:
            while not is_done(status := await self._status(queue)):  # a call that did not leave returns to the queue
                try:
                    await self._poll(queue, status, is_done, every=self.every if waits else 1.0, limit=limit)
                except WaitedTooLongError:
                    if is_last:
                        raise
                    return await self._status(queue)
            if options.sends and options.goal is Goal.NOTHING and status.waiting:
                log.warning(
                    "%s: calls that are due later: %s. This task does not wait for them (wait_for=None), so a "
                    "`voiceflow worker` has to send them",
                    self.calls,
                    status.waiting,
                )
            return status

    async def look(self) -> WaitStatus:
        """Return the present status of the calls. If a call is overdue, sweep first.

        If this task sends its calls, nobody else may look for their doubts, so it reads the log of 8x8 when they are
        due.
        """
        async with self.hook.opened_queue() as queue:
            if self.calls.options.sends and (await self.calls.status(queue)).doubts_due:
                await self._look_up(queue)
            return await swept(queue, self.calls, policy=self.hook.settings().policy())

    async def _look_up(self, queue: CallQueue) -> None:
        """Look for calls in doubt in the log of 8x8, unless a worker or another task has just done so."""
        from voiceflow_worker.core.settling.reconcile import Reconciler

        try:
            async with self.hook.get_client() as voice:
                policy = self.hook.settings().policy()
                found = await Reconciler(queue.store, voice, queue=queue.name, policy=policy).due()
        except CallLogError as error:
            log.warning("the log of 8x8 was not read: %s", error)
            return
        if found.looked_at:
            log.info(
                "calls in doubt, and in the log of 8x8: %s were placed, %s were not, %s stay in doubt",
                found.placed,
                found.not_placed,
                found.open,
            )

    async def _status(self, queue: CallQueue) -> WaitStatus:
        status = await self.calls.status(queue)
        self._check()
        return status

    def _check(self) -> None:
        if self.is_stopped():
            raise TaskStoppedError("Airflow stopped this task")

    async def _poll(
        self,
        queue: CallQueue,
        status: WaitStatus,
        is_done: Callable[[WaitStatus], bool],
        *,
        every: float,
        limit: timedelta | None,
    ) -> None:
        """Look at the calls until `is_done`, and send them meanwhile. Raises WaitedTooLongError after `limit`.

        The pauses grow up to `every` seconds. An unavailable store is tried again.
        """
        sends, clock = self.calls.options.sends, queue.store.clock
        batch_id = status.jobs[0].batch_id if status.jobs else self.calls.batch_id
        waiting, began, pause = WaitLog(self.calls), clock.monotonic(), FIRST_PAUSE
        if sends:
            await self.state.require_known(queue, retention=self.hook.settings().retention)
        worker = sending(self.hook, queue, batch_id=batch_id, state=self.state)
        async with worker if sends else contextlib.nullcontext():
            while True:
                self._check()
                away = ""
                try:
                    found = await self.calls.status(queue)
                    if is_done(found):
                        return
                    await waiting.tell(queue, found)
                    if sends and found.unsent:
                        await require_open(queue, batches={batch_id})
                    if not sends and found.overdue:
                        await sweep(queue, policy=self.hook.settings().policy())
                except StoreUnavailableError as error:
                    away = f" (the store is unavailable: {error})"
                if limit is not None and clock.monotonic() - began > limit.total_seconds():
                    raise WaitedTooLongError(f"{waited_too_long(self.calls, within=f' within {limit}')}{away}")
                rest = min(pause, every)
                while rest > 0 and not self.is_stopped():
                    await anyio.sleep(min(rest, STOP_LOOK))
                    rest -= STOP_LOOK
                pause *= 1.5
