"""The wait for calls, and the worker of a task that sends its calls itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from airflow_provider.calls.keys import TaskHold
from voiceflow_worker import CallQueue, Job, JobState, Voiceflow, VoiceflowError
from voiceflow_worker.core.base.reading import count_states, due_count, gates_at, get_jobs
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.errors import JobNotFoundError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)
T = TypeVar("T")

STOP_LOOK = 0.5
"""Seconds between two looks at whether Airflow has stopped the task."""


class TaskStoppedError(VoiceflowError):
    """Raised inside a task that Airflow stops (`on_kill`)."""


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
        """Whether a call is being sent, or was sent and has not ended."""
        return any(self.states[each] for each in (JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT))

    def __str__(self) -> str:
        return ", ".join(f"{count} {state.value}" for state, count in self.states.items() if count) or "no calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedCalls:
    """Calls that a task waits for, by their `job_ids` or as a batch: for "outcome", "accepted", or nothing (None).

    A call in doubt counts as ended `doubt_timeout` seconds after its request.
    """

    job_ids: Sequence[str] = ()
    batch_id: str | None = None
    wait_for: str | None = "outcome"
    doubt_timeout: float = 900.0

    async def status(self, queue: CallQueue) -> WaitStatus:
        """Return how the calls stand. Raises JobNotFoundError and StoreError."""
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
        settled = sum(job.state is JobState.IN_DOUBT and now >= self._doubted_until(job) for job in jobs)
        ended = sum(count for state, count in states.items() if self._ends_in(state)) + settled
        return WaitStatus(
            states=states,
            jobs=jobs,
            is_over=ended >= states.total() and (self.batch_id is None or ended > 0),
            has_work=bool((due and not closed) or states[JobState.LEASED] or states[JobState.SENDING]),
            held=[f"{each.scope.value} {each.name} is held: {each.reason or 'no reason given'}" for each in closed],
        )

    def _ends_in(self, state: JobState) -> bool:
        return state.is_final or (state is JobState.SUBMITTED and self.wait_for != "outcome")

    def _doubted_until(self, job: Job) -> datetime:
        post = job.open_post or job.last_post
        return (job.created_at if post is None else post.began_at) + timedelta(seconds=self.doubt_timeout)

    def __str__(self) -> str:
        return f"call {', '.join(self.job_ids)}" if self.batch_id is None else f"batch {self.batch_id}"


@dataclass(slots=True, kw_only=True)
class Wait:
    """The wait for calls in the queue of a connection. Call `hook.settings()` first.

    It looks every `every` seconds at most, and ends at the first of `ends` (ISO times, by their names). At each look it
    opens a `hold` of an earlier try. If it `sends`, a worker of this process sends what is due.
    """

    hook: VoiceFlowHook
    calls: WaitedCalls
    every: float
    ends: Mapping[str, str]
    hold: TaskHold | None = None
    sends: bool = False
    is_stopped: Callable[[], bool] = lambda: False
    _logged: str = ""

    async def until(self, is_done: Callable[[WaitStatus], str | None]) -> str:
        """Wait until `is_done` returns a word, and return it; or the name of the end that has come.

        Raises TaskStoppedError if Airflow has stopped the task, and the errors of the store.
        """
        async with self.hook.opened_queue() as queue:
            pause = min(0.2, self.every)
            while not self.is_stopped():
                if self.hold is not None:
                    await self.hold.open(queue)
                status, now = await self.calls.status(queue), datetime.now(UTC)
                passed = [name for name, end in self.ends.items() if now >= datetime.fromisoformat(end)]
                ended = is_done(status) or next(iter(passed), None)
                if ended is not None:
                    return ended
                await self._log(queue, status)
                if self.sends and status.has_work:
                    await self._send(queue, status)
                rest, pause = pause, min(pause * 1.5, self.every)
                while rest > 0 and not self.is_stopped():
                    await anyio.sleep(min(rest, STOP_LOOK))
                    rest -= STOP_LOOK
        raise TaskStoppedError("Airflow stopped this task")

    async def _send(self, queue: CallQueue, status: WaitStatus) -> None:
        """Send what is due in the batch of the calls, until no more is due or the task is stopped."""
        settings = self.hook.settings()
        own = [name for name in ("rate", "burst", "max_active") if settings.place_of(name) is not None]
        async with Voiceflow(settings, store=queue.store) as voiceflow:
            worker = await voiceflow.temporary_worker(batch=self.calls.batch_id or status.jobs[0].batch_id, but=own)

            async def stop() -> None:
                # No event tells it.
                while not self.is_stopped() and (await self.calls.status(queue)).has_work:  # noqa: ASYNC110
                    await anyio.sleep(STOP_LOOK)
                worker.stop()

            watch = asyncio.create_task(stop())
            try:
                await worker.drain()
            finally:
                watch.cancel()

    async def _log(self, queue: CallQueue, status: WaitStatus) -> None:
        found, heartbeats = [str(status), *status.held], Heartbeats(queue.store)
        if status.has_work and not self.sends and not await heartbeats.workers(queue.name):
            found.append("no worker is running: `voiceflow worker` sends due calls")
        if status.states[JobState.SUBMITTED] and not await heartbeats.has_receiver():
            found.append("no receiver is running: `voiceflow serve` receives the ends of calls")
        if (text := "; ".join(found)) != self._logged:
            log.info("%s: %s", self.calls, text)
        self._logged = text


def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]], *, seconds: float | None = None) -> T:
    """Run a coroutine in a new thread, and return its result. After `seconds` raise TimeoutError; the thread goes on.

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
