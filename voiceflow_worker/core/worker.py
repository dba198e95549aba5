"""The worker: it sends the due calls of a queue at a set rate, until it is stopped or nothing is left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.base.background import SHOWN, BackgroundTasks, Task
from voiceflow_worker.core.base.identity import QueueNames, checked_queue, new_worker_id
from voiceflow_worker.core.base.reading import find_jobs, limits_of
from voiceflow_worker.core.base.shielding import run_shielded
from voiceflow_worker.core.drain import DrainCheck, DrainResult
from voiceflow_worker.core.gates import Holds
from voiceflow_worker.core.heartbeats import EVERY, LIMITS_DIFFER, Heartbeat, Heartbeats, notifications_failing
from voiceflow_worker.core.ports import CallLog, Limits, Store, Voice
from voiceflow_worker.core.ports.outside import LocalJournal, OfAccount, Opens, journal_of
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.queue_account import QueueAccount
from voiceflow_worker.core.retention import EVERY as EVERY_RETENTION
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.core.rollback import RollbackGuard, at_work
from voiceflow_worker.core.sending.journal import Dispatch, JournalWriter
from voiceflow_worker.core.sending.pacer import Pacer
from voiceflow_worker.core.sending.submit import CallSender
from voiceflow_worker.core.set_rate import UNREADABLE, SetRate
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.reconcile import TIMEOUT, Reconciler
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.settling.verdicts import VerdictWriter, WorkCounts
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import (
    InvalidInputError,
    JournalFileError,
    SettingsError,
    StaleJobError,
    StoreCorruptError,
    StoreError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, backoff, read_person_limit, strictest
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.text.wording import SLOWEST

_log = structlog.get_logger("voiceflow.worker")

SWEEP_EVERY = 1.0
POLL_EVERY = 5.0
LONGEST_SLEEP = timedelta(seconds=1)
SOONER = 0.005
"""Seconds by which calls must be due sooner than was known, to end the pause of a worker."""
LOOK_EVERY = timedelta(milliseconds=900)
"""How often calls of programs' transactions are looked for."""
IDLE_AFTER, IDLE_EVERY = 30.0, 5.0
"""A worker that has sent nothing for so long looks so seldom: what changes wakes it, and each lease looks first."""
STORE_AWAY = timedelta(seconds=1)
MOST_UNANSWERED = 5
"""The most calls that a worker has in flight while 8x8 has given it no clear answer for `CLEAR_FOR` seconds. They may
all end in doubt. After a doubt, it is one call at a time."""
CLEAR_FOR = 1.0
MOST_WAITING = 2
"""How many times as many calls as `concurrency` may wait for their verdicts to be stored; then no calls are leased."""
TOGETHER_WITHIN = 0.005
"""The seconds for which a worker without a rate waits for more calls to end, to lease the next ones together."""
STEPS_TO_ENTRY = 3
"""Turns of the event loop after which a call for which a connection is kept has asked for its entry, before others."""
LOOK_AT_ACCOUNT_EVERY = 60.0
_PASSING = (StaleJobError, OSError, ImportError)
LONGEST_PAUSE = timedelta(seconds=30)
"""The longest wait of a worker before it tries its journal file again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Less common options of a worker.

    `lease` is the time for which a worker holds a job before others may take it. It must be longer than a POST takes.
    `shutdown_grace` is the time in which calls in flight may finish when a worker stops. With `batch_id`, only this
    batch is sent.
    """

    burst: int = 1
    max_active: int | None = None
    lease: timedelta = timedelta(seconds=60)
    shutdown_grace: timedelta = timedelta(seconds=30)
    batch_id: str | None = None
    policy: CallPolicy = field(default_factory=CallPolicy)


class _Default:
    """The default of an argument for which None means something else."""

    def __repr__(self) -> str:
        return "default"


DEFAULT: Any = _Default()


class Worker:
    """Sends the calls of one queue.

    `rate` is in calls per second, for all workers of the queue together (None: unlimited); `concurrency` is the most
    POSTs that this worker has in flight. `voice` is an opened `VoiceClient`, or another object that can `place` a call.
    Calls in doubt and calls without a summary are looked up in the `call_log` of 8x8, by default by `voice` if it can.
    The `local_journal`, by default that of the store, shows whether the store was rolled back to an older state: the
    worker then holds the queue. None switches either off.
    """

    def __init__(
        self,
        store: Store,
        voice: Voice,
        *,
        queue: str = "default",
        rate: float | None = 10,
        concurrency: int = 50,
        options: WorkerOptions | None = None,
        call_log: CallLog | None = DEFAULT,
        local_journal: LocalJournal | None = DEFAULT,
    ) -> None:
        call_log = (voice if isinstance(voice, CallLog) else None) if call_log is DEFAULT else call_log
        local_journal = journal_of(store) if local_journal is DEFAULT else local_journal
        self._options = options or WorkerOptions()
        if rate is not None and not rate >= SLOWEST:
            raise InvalidInputError(
                f"a rate of {rate} calls a second sends nothing: use {SLOWEST:f} or more, or None for no limit"
            )
        if min(concurrency, self._options.burst) < 1:
            raise InvalidInputError("concurrency and burst must be at least 1")
        self.id: str = new_worker_id()
        self.queue: str = checked_queue(queue)
        self._store = store
        self._voice = voice
        self._clock = store.clock
        self._limits = Limits(
            rate=rate,
            burst=self._options.burst,
            max_active=self._options.max_active,
        )
        self._concurrency = concurrency
        changes = Changes(store, policy := self._options.policy)
        self._tasks = BackgroundTasks(store.clock)
        self._retention = Retention(store, policy, local_journal=local_journal)
        self._reconciler: Reconciler | None = None
        if call_log is not None:
            self._reconciler = Reconciler(store, call_log, queue=self.queue, policy=policy, changes=changes)
        holds = Holds(store, queue=self.queue)
        self._guard: RollbackGuard | None = None
        if local_journal is not None:
            self._guard = RollbackGuard(
                store,
                local_journal,
                queue=self.queue,
                policy=policy,
                holds=holds,
                changes=changes,
                on_limits=self._follow,
            )
        self._sweeper = Sweeper(
            store,
            queue=self.queue,
            policy=policy,
            changes=changes,
            log_timeout=None if call_log is None else TIMEOUT,
            background=self._tasks,
            on_limits=self._follow,
        )
        self._counts = WorkCounts()
        self._verdicts = VerdictWriter(
            store.clock,
            Settler(store, policy, changes=changes),
            holds=holds,
            restore_if_lost=None if self._guard is None else self._guard.restore_if_lost,
            on_fault=self._note_fault,
            on_stored=partial(self._tasks.mark_healthy, Task.VERDICT, Task.HOLD),
            counts=self._counts,
        )
        self._pacer = Pacer(store.clock, queue=self.queue, rate=rate)
        journal = JournalWriter(
            store,
            policy,
            lease=self._options.lease,
            slot=self._pacer.slot,
            guard=self._guard,
            on_fault=partial(self._tasks.failed, shown_for=SHOWN),
            on_progress=self._note_progress,
        )
        self._sender = CallSender(
            store,
            voice,
            policy=policy,
            journal=journal,
            pacer=self._pacer,
            holds=holds,
            verdicts=self._verdicts,
            on_verdict=self._on_verdict,
            on_fault=self._note_fault,
            on_freed=self._has_freed,
            most_unanswered=lambda: self._most_in_flight,
            guard=self._guard,
        )
        self._heartbeat = Heartbeat(
            store,
            queue=self.queue,
            worker_id=self.id,
            in_flight=lambda: self.in_flight,
            failing=lambda: {**notifications_failing(), **self.failing},
            batch_id=self._options.batch_id,
            max_per_person=None if policy.max_per_person is None else str(policy.max_per_person),
        )
        self._person_limits = {policy.max_per_person}
        self._preparing = 0
        self._went_on_at = store.clock.monotonic()
        self._unreachable = 0
        self._doubts = 0
        self._clear_at = float("-inf")
        self._failed_at = float("-inf")
        self._fault: Exception | None = None
        self._account_seen_at = 0.0
        self._is_anothers = False
        """Whether the queue belongs to another account by now."""
        self._pause_until: datetime | None = None
        self._landed = anyio.Event()
        self._stopping = False
        self._pause_scope: anyio.CancelScope | None = None
        self._is_pause_over: Callable[[], bool] = lambda: False
        self._ending, self._abort = anyio.Event(), anyio.Event()
        self._has_begun = False

    async def run(self) -> None:
        """Work until `stop` is called. If this is cancelled, it stops in order, and then the cancellation goes on.

        Raises RuntimeError if this worker has run before or if its client is not open, StoreError or SettingsError if
        the store or the journal files cannot be used at the start, and SettingsError if the queue belongs to another
        account of 8x8 than the client's.
        """
        await self._work(None)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run beside the block, and stop in order when it ends, in whatever way.

        An error of the block is raised as it came. If `run` fails, the block is cancelled, and the error of `run` is
        raised.
        """
        failed: list[Exception] = []

        async def run() -> None:
            try:
                await self.run()
            except Exception as error:  # noqa: BLE001 - raised below, and not in a group
                failed.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised below, and not in a group
                failed.append(error)
            finally:
                self._stop_if_running()
        if failed:
            raise failed[0]

    async def drain(self) -> DrainResult:
        """Work until nothing is due, leased or sending; return what was sent, which jobs are left, and why.

        If outcomes come by webhook and a receiver is running, the worker also waits for summaries until their
        deadlines. It leaves jobs that are due later, and jobs behind a hold that does not end within five minutes.
        """
        check = DrainCheck(self._store, queue=self.queue, batch_id=self._options.batch_id, policy=self._options.policy)
        await self._work(check)
        return replace(await check.result(), sent=sum(self._counts.posts))

    def stop(self) -> None:
        """Take no new work, and finish the calls in flight within the grace period; a second `stop` ends them at once.

        A call that is not finished is requeued if no byte of it was sent, and is in doubt otherwise.
        """
        if self._stopping:
            self._abort.set()
        self._stopping = True
        self._ending.set()
        self._end_pause()

    @property
    def in_flight(self) -> int:
        """Number of calls that this worker is sending now."""
        return self._on_their_way + self._verdicts.waiting

    @property
    def counts(self) -> WorkCounts:
        """Counts of the work since the beginning, for metrics."""
        return replace(
            self._counts,
            slots_missed=self._pacer.missed,
            in_flight=self.in_flight,
            verdicts_waiting=len(self._verdicts.late),
            task_failures=self._tasks.count,
            failing=Counter(self.failing.keys()),
        )

    @property
    def failing(self) -> Mapping[str, str]:
        """Background tasks that fail now, each with its last error."""
        return self._tasks.failing

    async def _work(self, check: DrainCheck | None) -> None:
        """Work, where no cancellation of the caller reaches the calls: only `stop` and the grace period end them."""
        if self._has_begun:
            raise RuntimeError("this worker has run before. Make a new Worker for each run")
        if isinstance(self._voice, Opens) and not self._voice.is_open:
            raise RuntimeError("the client of this worker is not open. Run the worker inside the client's `async with`")
        self._has_begun = True
        await run_shielded(partial(self._work_until_stopped, check), on_cancel=self._stop_if_running)

    def _stop_if_running(self) -> None:
        if not self._stopping:
            self.stop()

    async def _work_until_stopped(self, check: DrainCheck | None) -> None:
        await self._require_account()
        before, limits = await SetRate(self._store, self.queue).begin(self._limits)
        self._sender.follow(limits.rate)
        if before is not None and before != limits:
            _log.info("the limits of the queue were changed", queue=self.queue, old=asdict(before), new=asdict(limits))
        await QueueNames(self._store).remember(self.queue)
        with suppress(Exception):  # as its task reports
            await self._beat()  # before the first call: another worker may allow a person fewer of them
        async with at_work(self._guard), anyio.create_task_group() as background:
            background.start_soon(self._repeat, self._sweep, SWEEP_EVERY, Task.SWEEP)
            background.start_soon(self._repeat, self._retention.run, EVERY_RETENTION.total_seconds(), Task.RETENTION)
            background.start_soon(self._sender.run)
            background.start_soon(self._repeat, self._beat, EVERY.total_seconds(), Task.HEARTBEAT)
            if self._reconciler is not None:
                reconcile = partial(self._reconcile, self._reconciler)
                background.start_soon(self._repeat, reconcile, POLL_EVERY, Task.CALL_LOG)
            if self._guard is not None:
                watch = partial(self._guard.watch, seldom=self._seldom)
                background.start_soon(self._tasks.run, Task.ROLLBACK, watch)
            async with anyio.create_task_group() as dispatches:
                await self._send_all(dispatches, check)
            background.cancel_scope.cancel()
        with anyio.move_on_after(1, shield=True):
            await self._heartbeat.end()

    async def _send_all(self, dispatches: TaskGroup, check: DrainCheck | None) -> None:
        """Send calls until the worker stops or `check` is done, and let those in flight finish in the grace period.

        When it has passed, or at a second `stop`, whatever is still going on ends.
        """
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_in_time, group)
            try:
                await self._dispatch(dispatches, check)
            except Exception as error:  # noqa: BLE001 - raised below: no POST is cut
                failed = error
            self._ending.set()
            self._sender.stop()
            while self.in_flight:
                self._landed = anyio.Event()
                await self._landed.wait()
            group.cancel_scope.cancel()
        if self.in_flight:
            _log.warning("the worker stopped while calls were in flight; they may be in doubt", calls=self.in_flight)
        dispatches.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def _end_in_time(self, group: TaskGroup) -> None:
        await self._ending.wait()
        with anyio.move_on_after(self._options.shutdown_grace.total_seconds()):
            await self._abort.wait()
        group.cancel_scope.cancel()

    async def _dispatch(self, dispatches: TaskGroup, check: DrainCheck | None) -> None:
        """Lease due jobs, and send them, until the worker stops or `check` is done."""
        seen, failures = 0, 0
        while not self._stopping:
            # No waiting helps against a damaged or replaced store; verdicts are tried until the worker has stopped.
            ends = check is not None or self._is_anothers or isinstance(self._fault, StoreCorruptError)
            if self._fault is not None and ends:
                raise self._fault
            try:
                limit = await self._capacity()
                if not limit:
                    continue
                until, leased_at = None, self._clock.monotonic()
                if jobs := await self._lease(limit):
                    await self._start(dispatches, jobs, leased_at)
                else:
                    if self.in_flight == 0 and check is not None and await check.is_done():
                        return
                    until = await self._next_check()
                failures = 0
                self._tasks.mark_healthy(Task.JOURNAL_FILE, Task.LEASE)  # before a wait, which may be long
                if until is not None:
                    # Until the queue changes, or the last POST in flight has ended. The next lease logs an error.
                    with self._pause(lambda: not self.in_flight), suppress(StoreError):
                        seen = await self._wait_for_change(seen, until)
            except (StoreCorruptError, StoreVersionError):
                raise  # waiting does not help against these
            except StoreError as error:
                if check is not None and not error.passes:
                    raise  # other workers go on, and find what somebody has mended meanwhile
                failures += 1
                await self._nap(until=self._clock.now() + self._not_leased(error, failures))
            except Exception as error:  # noqa: BLE001 - its POSTs in flight must not be cut
                failures += 1
                pause = self._tasks.failed(Task.LEASE, error, failures=failures)
                await self._nap(until=self._clock.now() + max(STORE_AWAY, timedelta(seconds=pause)))

    def _not_leased(self, error: StoreError, failures: int) -> timedelta:
        """Note why no calls are leased, and return the wait before the next try."""
        if isinstance(error, JournalFileError):  # to lease calls costs three writes each
            self._tasks.failed(Task.JOURNAL_FILE, error, failures=failures)
            return backoff(failures, first=STORE_AWAY, longest=LONGEST_PAUSE, seed=self.id)
        self._tasks.failed(Task.LEASE, error, failures=failures)
        return STORE_AWAY

    async def _capacity(self) -> int:
        """Return how many jobs may be leased now; 0 after a wait, because none was allowed."""
        if self._guard is not None and self._guard.writer.has_failed:
            with self._pause():
                await self._guard.require_writable()
        if self._pause_until is not None and self._clock.now() < self._pause_until:
            await self._nap(until=self._pause_until)
            return 0
        capacity, wait = self._capacity_now()
        if wait > 0:
            await self._rest(wait)
            return 0
        if self._pacer.rate is None and capacity < self._on_their_way:
            with self._pause():
                await self._clock.sleep(TOGETHER_WITHIN)
            capacity, _ = self._capacity_now()
        return capacity

    def _capacity_now(self) -> tuple[int, float]:
        """Return how many jobs to lease next, and in how many seconds: for ever, until a call has ended."""
        free = min(self._concurrency, self._most_in_flight) - self._on_their_way - self._verdicts.deciding
        if free <= 0 or self._verdicts.waiting >= MOST_WAITING * self._concurrency:
            return 0, float("inf")
        capacity, wait = self._pacer.next_lease(self._sender.leased + self._preparing)
        return min(free, capacity), wait

    @property
    def _on_their_way(self) -> int:
        """Number of leased calls whose POST has no answer yet."""
        return self._preparing + self._sender.on_their_way

    @property
    def _most_in_flight(self) -> int:
        """Greatest number of calls without an answer, by how 8x8 answers; others keep their place in the queue.

        One call at a time tests whether 8x8 can be reached again, or answers clearly again.
        """
        is_clear = self._clock.monotonic() - self._clear_at < CLEAR_FOR
        if self._unreachable or (self._doubts and not is_clear):
            return 1
        return sys.maxsize if is_clear else MOST_UNANSWERED * self._pacer.tries

    async def _nap(self, *, until: datetime) -> None:
        """Sleep until a time, or until the worker stops."""
        with self._pause():
            await self._clock.sleep((until - self._clock.now()).total_seconds())

    async def _rest(self, wait: float) -> None:
        """Wait so many seconds, until more calls may be leased sooner, or until the worker stops."""
        until, answers = self._clock.monotonic() + wait, self._pacer.answers

        def is_over() -> bool:
            may_be_sooner = wait == float("inf") or self._pacer.answers != answers
            return may_be_sooner and self._clock.monotonic() + self._capacity_now()[1] < until - SOONER

        with self._pause(is_over):
            while (left := until - self._clock.monotonic()) > 0:
                await self._clock.sleep(min(left, LONGEST_SLEEP.total_seconds()))
                if left > LONGEST_SLEEP.total_seconds():
                    with suppress(StoreError):
                        await self._follow_limits()  # a rate that is raised ends the pause

    async def _require_account(self) -> None:
        """Write down the account of the queue, if it has none. Raises SettingsError if it has another."""
        self._account_seen_at = self._clock.monotonic()
        if isinstance(self._voice, OfAccount):
            await QueueAccount(self._store, self.queue).require(self._voice.account)

    async def _beat(self) -> None:
        """Store a heartbeat, and follow the strictest limit per person of the queue's workers."""
        await self._heartbeat.beat()
        if self._clock.monotonic() >= self._account_seen_at + LOOK_AT_ACCOUNT_EVERY:
            try:
                await self._require_account()
            except SettingsError as error:
                self._fault, self._is_anothers = error, True
                self._end_pause()
        beats = await Heartbeats(self._store).workers(self.queue)
        said = {each.max_per_person for each in beats}
        limits = {None if each is None else read_person_limit(each) for each in said}
        limits.add(self._options.policy.max_per_person)
        if limits == self._person_limits:
            return
        self._person_limits = limits
        limit = strictest(each for each in limits if each is not None)
        self._sender.limit_person(limit)
        if len(limits) > 1 and limit is not None:
            _log.warning(
                f"{LIMITS_DIFFER}: {limit.in_words()} counts", queue=self.queue, limits=sorted(map(str, limits))
            )

    async def _lease(self, limit: int) -> Sequence[Job]:
        now = self._clock.now()
        with anyio.CancelScope(shield=True):  # as in `_prepare`, which requeues the calls
            return await self._store.lease(
                self.queue,
                worker_id=self.id,
                limit=limit,
                until=now + self._options.lease,
                now=now,
                batch=self._options.batch_id,
            )
        return []  # not reached, because nobody cancels the scope

    async def _start(self, dispatches: TaskGroup, jobs: Sequence[Job], leased_at: float) -> None:
        """Prepare leased jobs, and send each in a task of its own."""
        self._preparing += len(jobs)
        ready: list[Dispatch] = []
        try:
            # A stop waits for this: it is short, and a cancellation would leave leases behind.
            with anyio.CancelScope(shield=True):
                ready = await self._sender.prepare(jobs, leased_at=leased_at)
        except Exception as error:  # noqa: BLE001 - nothing was sent: the calls are requeued when their leases end
            self._tasks.failed(Task.PREPARE, error, shown_for=SHOWN)
            self._end_drain_for(error)
        else:
            self._tasks.mark_healthy(Task.PREPARE)
        self._preparing -= len(jobs) - len(ready)
        for dispatch in ready:
            dispatches.start_soon(self._send, dispatch)
        for _ in range(STEPS_TO_ENTRY if self._pacer.rate is None else 0):
            await checkpoint()

    async def _send(self, dispatch: Dispatch) -> None:
        """Send one call that was prepared."""
        self._preparing -= 1
        try:
            await self._sender.send(dispatch)
        except Exception as error:  # noqa: BLE001 - a fault of one call must not end the others; the call ends in doubt
            self._note_fault(Task.SEND, error)
            _log.exception(
                "an unexpected error stopped the sending of a call, or the reading of its answer; when its lease ends, "
                "the call is queued again or in doubt",
                job=dispatch.job.id,
            )
        finally:
            self._has_freed()

    def _note_progress(self) -> None:
        self._went_on_at = self._clock.monotonic()
        self._tasks.mark_healthy(Task.JOURNAL, Task.REQUEUE)

    def _note_fault(self, task: str, error: Exception) -> None:
        self._tasks.failed(task, error, shown_for=SHOWN)
        self._end_drain_for(error)
        self._has_freed()

    def _end_drain_for(self, error: Exception) -> None:
        """End a drain for this error, if no waiting mends it. A process that has no file descriptors left gets some."""
        passes = error.passes if isinstance(error, StoreError) else isinstance(error, _PASSING)
        if not passes and self._fault is None:
            self._fault = error
            self._end_pause()

    def _has_freed(self) -> None:
        if self._pause_scope is not None and self._is_pause_over():
            self._end_pause()
        if not self.in_flight:
            self._landed.set()

    def _on_verdict(self, verdict: Verdict, sent_at: float, batch_id: str | None) -> None:
        now = self._clock.monotonic()
        self._counts.took(verdict, now - sent_at)
        self._tasks.mark_healthy(Task.SEND)
        if verdict.is_clear:
            self._clear_at, self._doubts = now, 0
        else:
            self._doubts += verdict.kind is VerdictKind.UNKNOWN
        if verdict.http_status is not None:
            self._heartbeat.count(batch_id)
            self._unreachable = 0
            self._pause_until = None
        elif verdict.is_outage and (not self._unreachable or sent_at > self._failed_at):
            # Fifty calls in flight that fail are one outage: after the first failure, only calls that were sent later
            # count.
            self._failed_at = now
            self._unreachable += 1
            policy = self._options.policy
            wait = backoff(self._unreachable, first=policy.first_backoff, longest=policy.longest_backoff, seed=self.id)
            self._pause_until = self._clock.now() + wait
            _log.warning("8x8 cannot be reached", error=verdict.message, next_try_seconds=wait.total_seconds())

    async def _wait_for_change(self, seen: int, until: datetime) -> int:
        """Wait until the queue changes, at most until then; returns its count of changes."""
        count = await self._store.wait(self.queue, seen=seen, until=until)
        if count != seen and seen and self._is_idle:  # a busy worker follows limits each second
            if self._guard is None:
                await self._follow_limits()
            else:
                self._guard.look_again()  # before the next call, at the limits too
        return count

    async def _next_check(self) -> datetime:
        """Return when to look for due jobs again if nothing changes: when the next is due, in a second at most.

        An idle worker looks more seldom, but not where a program can store a call in a transaction of its own.
        """
        now = self._clock.now()
        waiting = await find_jobs(self._store, Due(queue=self.queue, state=JobState.QUEUED, limit=1))
        due_at = waiting[0].due_at if waiting else None
        if due_at is not None and due_at <= now:
            return now + LONGEST_SLEEP  # behind a hold, which may end
        latest = now + timedelta(seconds=self._seldom(LONGEST_SLEEP.total_seconds()))
        if hasattr(self._store, "joined"):
            latest = now + LOOK_EVERY
        return latest if due_at is None else min(latest, due_at)

    def _end_pause(self) -> None:
        if self._pause_scope is not None:
            self._pause_scope.cancel()

    @contextmanager
    def _pause(self, is_over: Callable[[], bool] = lambda: False) -> Generator[None]:
        """Open a cancel scope for a wait of `_dispatch`. `stop` cancels it, and `_has_freed` does if it `is_over`."""
        self._is_pause_over = is_over
        with anyio.CancelScope() as scope:
            self._pause_scope = scope
            if self._stopping:
                scope.cancel()
            try:
                yield
            finally:
                self._pause_scope = None

    def _seldom(self, every: float) -> float:
        """Return the pause of a task that is usually taken so often, in seconds."""
        return max(every, IDLE_EVERY) if self._is_idle else every

    @property
    def _is_idle(self) -> bool:
        return self._clock.monotonic() - self._went_on_at > IDLE_AFTER and not self.in_flight

    async def _repeat(self, step: Callable[[], Awaitable[object]], every: float, failed: str) -> None:
        await self._tasks.run_periodically(failed, step, every=partial(self._seldom, every))

    async def _follow_limits(self) -> None:
        self._follow(await limits_of(self._store, self.queue))

    def _follow(self, limits: Limits | None) -> None:
        if limits is not None and self._sender.follow(limits.rate):
            if limits.are_unreadable:
                _log.error(UNREADABLE, queue=self.queue)
            else:
                _log.info("the rate of the queue was changed", queue=self.queue, rate=limits.rate)
            self._end_pause()

    async def _sweep(self) -> None:
        if doubted := await self._sweeper.sweep():
            _log.warning(
                "calls are in doubt: their leases ended while they were sent, and no answer was stored", calls=doubted
            )

    async def _reconcile(self, reconciler: Reconciler) -> None:
        found = await reconciler.due()
        if found.looked_at:
            _log.info("calls were looked up in the log of 8x8", **asdict(found))
