"""The calls that a task waits for, and the wait, while a worker of the library may send them meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from voiceflow_worker import (
    CallQueue,
    InvalidInputError,
    Job,
    JobState,
    VoiceflowError,
)
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import count_states, due_count, due_jobs, gates_at, get_jobs
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import JobNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook


GRACE = timedelta(seconds=10)
"""The time that a worker or a receiver has to settle an overdue job before the task sweeps."""


class Goal(StrEnum):
    """The point in a call's life that a task waits for."""

    OUTCOME = "outcome"
    """The end of the call, as its summary reports it."""
    ACCEPTED = "accepted"
    """The acceptance of the call by 8x8."""
    NOTHING = "nothing"

    @classmethod
    def named(cls, name: str | None) -> Goal:
        """Return the goal for an operator's `wait_for`. Raises ValueError for an unknown name."""
        if name is None:
            return cls.NOTHING
        if name not in {cls.OUTCOME, cls.ACCEPTED}:
            raise ValueError(f"wait_for={name!r}: use 'outcome', 'accepted' or None")
        return cls(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStatus:
    """The `calls` that a task waits for as they were `at` a time, counted by their states.

    `soon` counts the queued ones that are due, or will be within `GRACE`. `overdue` counts those whose time limit
    passed more than `GRACE` ago, usually because no worker sweeps the queue. `doubts` are the calls in doubt. `jobs`
    has the calls themselves, but is empty for a batch.
    """

    calls: WaitedCalls
    at: datetime
    states: Mapping[JobState, int]
    soon: int
    overdue: int
    doubts: Sequence[Job]
    jobs: Sequence[Job] = ()

    @property
    def ended(self) -> int:
        """The number of calls whose wait is over."""
        over = sum(count for state, count in self.states.items() if self.calls.ends_in(state))
        return over + sum(self.calls.is_settled(job, now=self.at) for job in self.doubts)

    @property
    def unsent(self) -> int:
        """The number of calls that are due, or will be soon, or are being sent."""
        return self.soon + self.states[JobState.LEASED] + self.states[JobState.SENDING]

    @property
    def total(self) -> int:
        """The number of all calls."""
        return sum(self.states.values())

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their first or next POST."""
        return self.states[JobState.QUEUED] + self.states[JobState.LEASED]

    @property
    def needs_worker(self) -> bool:
        """Whether there is anything for a worker to do now."""
        return bool(self.unsent or self.overdue or any(job.due_at <= self.at for job in self.doubts))

    @property
    def progress(self) -> str:
        """The counts of calls in words, for logs. A call that is redialled is one call."""
        in_progress = self.states[JobState.SUBMITTED] + self.states[JobState.SENDING]
        counts = ((self.waiting, "waiting"), (in_progress, "in progress"), (len(self.doubts), "in doubt"))
        rest = ", ".join(f"{count} {what}" for count, what in counts if count)
        over = self.total - sum(count for count, _ in counts)
        return f"{over} of {self.total} calls have ended{f' ({rest})' if rest else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedCalls:
    """The calls that a task waits for, by their ids or as a batch, and when that wait is over.

    `sends` is True if the task sends them itself. A call that is in doubt counts as ended when `doubt_timeout` has
    passed since its POST. The wait is over when all calls have ended. A batch of other tasks `begins_later`: without
    calls, its wait is not over.
    """

    job_ids: Sequence[str] = ()
    batch_id: str | None = None
    goal: Goal = Goal.OUTCOME
    sends: bool = False
    doubt_timeout: timedelta = timedelta(minutes=15)
    begins_later: bool = False

    async def status(self, queue: CallQueue) -> WaitStatus:
        """Return the status of the calls now. Raises JobNotFoundError for an id that the store does not have."""
        if self.batch_id is not None:
            return await self._counted(queue, self.batch_id)
        found = await get_jobs(queue.store, self.job_ids)
        for job_id in self.job_ids:
            if job_id not in found:
                raise JobNotFoundError(job_id)
        return self.status_of([found[job_id] for job_id in self.job_ids], now=queue.store.clock.now())

    def status_of(self, jobs: Sequence[Job], *, now: datetime) -> WaitStatus:
        """Return the status of these jobs."""
        return WaitStatus(
            calls=self,
            at=now,
            states=Counter(job.state for job in jobs),
            soon=sum(job.state is JobState.QUEUED and job.due_at <= now + GRACE for job in jobs),
            overdue=sum(job.state in self._timed and now >= job.due_at + GRACE for job in jobs),
            doubts=[job for job in jobs if job.state is JobState.IN_DOUBT],
            jobs=jobs,
        )

    async def _counted(self, queue: CallQueue, batch_id: str) -> WaitStatus:
        """Return the status of a batch, counted by the store."""
        store, now = queue.store, queue.store.clock.now()
        timed = [await due_jobs(store, queue.name, state, by=now - GRACE) for state in self._timed]
        # Before the count of all: a call that is leased in between is counted twice, and not taken for one that was
        # sent.
        soon = await due_count(store, queue.name, by=now + GRACE, batch_id=batch_id)
        states = await count_states(store, queue.name, batch_id=batch_id)
        doubts: Sequence[Job] = ()
        if states[JobState.IN_DOUBT]:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
        overdue = sum(job.batch_id == batch_id for jobs in timed for job in jobs)
        return WaitStatus(calls=self, at=now, states=states, soon=soon, overdue=overdue, doubts=doubts)

    @property
    def _timed(self) -> set[JobState]:
        """The states with a time limit. A sweep moves a job out of such a state when the limit has passed."""
        states = {JobState.LEASED, JobState.SENDING}
        return states | {JobState.SUBMITTED} if self.goal is Goal.OUTCOME else states

    def ends_in(self, state: JobState) -> bool:
        """Return whether the wait for a call in this state is over."""
        return state.is_final or (state is JobState.SUBMITTED and self.goal is not Goal.OUTCOME)

    def is_settled(self, job: Job, *, now: datetime) -> bool:
        """Return whether the wait for this job is over: also if it has been in doubt for so long."""
        return now >= self.doubted_until(job) if job.state is JobState.IN_DOUBT else self.ends_in(job.state)

    def doubted_until(self, job: Job) -> datetime:
        """Return until when the task waits for evidence about a job in doubt."""
        post = job.open_post or job.last_post
        return (post.began_at if post is not None else job.created_at) + self.doubt_timeout

    def is_over(self, status: WaitStatus) -> bool:
        """Return whether all calls have ended."""
        if self.begins_later and self.batch_id is not None and not status.total:
            return False
        return status.ended >= status.total

    def __str__(self) -> str:
        return f"call {', '.join(self.job_ids)}" if self.batch_id is None else f"batch {self.batch_id}"


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
"""The longest time for which a task sends calls before it defers. The trigger sends the remaining ones."""
PATIENCE_WITH_STORE = timedelta(minutes=5)
"""How long the store may be unavailable before the wait ends with an error."""


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine and return its result. If this thread already runs an event loop, use a new thread."""
    has_loop = False
    with contextlib.suppress(RuntimeError):
        has_loop = asyncio.get_running_loop().is_running()
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


def waited_too_long(calls: WaitedCalls, *, within: str = " in the time that it may take") -> str:
    """Return what is said of calls that have not ended when the wait of their task ends."""
    return (
        f"{calls} has not ended{within}. It goes on without this task, and what is queued may still be sent; clear the "
        "task to wait for it again"
    )


class WaitLog:
    """Logs the progress of calls, their doubts, and what keeps them waiting, such as a hold or no worker. Each once.

    A process that is not the first that looks has waited for long.
    """

    def __init__(self, calls: WaitedCalls, *, is_first: bool = True) -> None:
        self._calls = calls
        self._progress = ""
        self._began: float | None = None if is_first else -math.inf
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
            f"{self._calls.doubted_until(job):%Y-%m-%d %H:%M:%S} UTC"
            for job in status.doubts[:MOST_NAMED]
        ]
        for why in found:
            if why not in self._told:
                log.warning("%s", why)
        self._told = found

    async def _reasons(self, queue: CallQueue, status: WaitStatus, waited: float) -> list[str]:
        found: list[str] = []
        heartbeats = Heartbeats(queue.store)
        if not status.total and waited >= UNKNOWN_AFTER:
            unknown = await BatchNames(queue.store, queue.name).why_unknown(self._calls.batch_id)
            found += [] if unknown is None else [unknown]
        if status.unsent and not self._calls.sends:
            now, batches = queue.store.clock.now(), {self._calls.batch_id, *(job.batch_id for job in status.jobs)}
            found += [
                f"{gate.scope.value} {gate.name} is held ({gate.reason or 'no reason given'})"
                for gate in (await gates_at(queue.store, queue.name, {None, *batches})).values()
                if gate.is_closed(at=now)
            ]
            if not await heartbeats.workers(queue.name):
                found.append("no worker is running: `voiceflow worker` sends due calls")
        is_awaited = status.states[JobState.SUBMITTED] and self._calls.goal is Goal.OUTCOME
        if is_awaited and not await heartbeats.has_receiver():
            found.append("no receiver is running: `voiceflow serve` receives the summaries of calls")
        return found


async def require_open(queue: CallQueue, batch_id: str | None) -> None:
    """Raise InvalidInputError if the queue, or this batch, is held until a person resumes it."""
    now = queue.store.clock.now()
    for gate in (await gates_at(queue.store, queue.name, {None, batch_id})).values():
        scope = gate.scope.value
        if gate.is_closed(at=now) and gate.until is None and gate.state.value == "held":
            batch = "" if scope == "queue" else f" --batch {gate.name}"
            raise InvalidInputError(
                f"{scope} {gate.name} has been held since {gate.since:%Y-%m-%d %H:%M:%S} UTC: "
                f"{gate.reason or 'no reason given'}. No calls of this task are sent. Correct the cause, run "
                f"`voiceflow resume --store {queue.store.url} --queue {queue.name}{batch}`, and clear this task. Its "
                "next try goes on with the same calls"
            )


@asynccontextmanager
async def sending(hook: VoiceFlowHook, queue: CallQueue, *, batch_id: str | None) -> AsyncGenerator[None]:
    """Run a worker for one batch during the block.

    The connection may set a rate, a burst and a limit of open calls; what it does not set stays as it is in the queue.
    At the end of the block, the worker finishes the calls in flight. If the worker fails, the block ends with its
    error.
    """
    from voiceflow_worker import Voiceflow  # not when DAGs are parsed

    settings = hook.settings()
    own = {name for name in ("rate", "burst", "max_active") if settings.place_of(name) is not None}
    async with hook.get_client() as voice:
        voiceflow = Voiceflow(settings, store=queue.store, client=voice)
        worker = await voiceflow.temporary_worker(batch=batch_id, but=own)
        async with worker.running():
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The wait for calls in the queue of a connection. If they say so, a worker of the library sends them meanwhile.

    `every` is the longest pause between two looks, in seconds; the first ones are shorter. `ends` are the times at
    which the wait ends, by what it is called then. `is_stopped` says whether Airflow has stopped the task. Call
    `hook.settings()` first, because reading the connection may block the event loop.
    """

    hook: VoiceFlowHook
    calls: WaitedCalls
    every: float
    ends: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    is_stopped: Callable[[], bool] | None = None

    async def for_end(self) -> str:
        """Send and wait until the wait is over; return how it ended: "over", or the name of one of the `ends`.

        Raises TaskStoppedError, InvalidInputError if the calls are held until a person resumes them, and StoreError.
        """
        return await self._until(self.calls.is_over, self.ends)

    async def for_sending(self, *, within: timedelta | None = None) -> str:
        """Send what is due, and what is left in doubt or overdue, if this task sends; return how that ended."""
        if not self.calls.sends:
            return "over"
        settles_by, ends = datetime.now(UTC) + GRACE, dict(self.ends)
        if within is not None:
            ends["sent"] = datetime.now(UTC) + within
        return await self._until(
            lambda status: not (status.unsent or (status.needs_worker and datetime.now(UTC) < settles_by)), ends
        )

    async def look(self) -> WaitStatus:
        """Return the present status of the calls. If a call is overdue, sweep first."""
        async with self.hook.opened_queue() as queue:
            status = await self.calls.status(queue)
            return await self._swept(queue) if status.overdue else status

    async def _swept(self, queue: CallQueue) -> WaitStatus:
        """Sweep as every worker does each second: overdue calls change their state, and nothing is sent."""
        await Sweeper(queue.store, queue=queue.name, policy=self.hook.settings().policy()).sweep()
        return await self.calls.status(queue)

    async def _until(self, is_done: Callable[[WaitStatus], bool], ends: Mapping[str, datetime]) -> str:
        told, pause, away_since = WaitLog(self.calls), FIRST_PAUSE, None
        async with self.hook.opened_queue() as queue, AsyncExitStack() as worker:
            is_working = False
            while True:
                if self.is_stopped is not None and self.is_stopped():
                    raise TaskStoppedError("Airflow stopped this task")
                now = datetime.now(UTC)
                try:
                    status = await self.calls.status(queue)
                    if status.overdue and not self.calls.sends:
                        status = await self._swept(queue)
                    if is_done(status):
                        return "over"
                    away_since = None
                    await told.tell(queue, status)
                    is_working = self.calls.sends and await self._work(queue, status, worker, is_working=is_working)
                except StoreUnavailableError as error:
                    away_since = away_since or now
                    if now - away_since > PATIENCE_WITH_STORE:
                        raise
                    log.warning("the store is unavailable; this task tries again: %s", error)
                if (ended := next((name for name, end in ends.items() if now >= end), None)) is not None:
                    return ended
                await self._rest(min(pause, self.every))
                pause *= 1.5

    async def _work(self, queue: CallQueue, status: WaitStatus, worker: AsyncExitStack, *, is_working: bool) -> bool:
        """Begin or end the work of a worker, as there is something to do; return whether it works."""
        batch_id = status.jobs[0].batch_id if status.jobs else self.calls.batch_id
        if status.unsent:
            await require_open(queue, batch_id)
        if is_working and not status.needs_worker:
            await worker.aclose()
        elif status.needs_worker and not is_working:
            await worker.enter_async_context(sending(self.hook, queue, batch_id=batch_id))
        return status.needs_worker

    async def _rest(self, seconds: float) -> None:
        """Pause, but no longer than until Airflow stops the task."""
        while seconds > 0 and self.is_stopped is not None and not self.is_stopped():
            await anyio.sleep(min(seconds, STOP_LOOK))
            seconds -= STOP_LOOK
        if self.is_stopped is None:
            await anyio.sleep(seconds)
