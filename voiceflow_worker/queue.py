"""The queue: enqueue calls, find them, cancel them, and read their outcomes."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Unpack, cast

from voiceflow_worker.core import writes
from voiceflow_worker.core.admission import Admitter, CallOptions, CallRequest, CheckedCall, Enqueued
from voiceflow_worker.core.audit import CALL, Actor, AuditedStore, AuditEntry, audited
from voiceflow_worker.core.base.identity import BatchNames, checked_queue, checked_reader
from voiceflow_worker.core.base.reading import count_states, find_jobs, find_pages, holds_of
from voiceflow_worker.core.call_filter import CallFilter
from voiceflow_worker.core.gates import CheckGate, hold_until_left, order_gate, standing_gate, until_left
from voiceflow_worker.core.imports import drop_imports
from voiceflow_worker.core.outcomes.batch_ends import wait_for_batch
from voiceflow_worker.core.outcomes.outbox import OutcomeStream, OutcomeWatch
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.reads import ById, ByKey
from voiceflow_worker.core.ports.store import BulkWrite, Joinable, Put, Result
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.settling.changes import Changes, JobChange, RedialledBatch, redial_batch
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import (
    InvalidInputError,
    JobNotFoundError,
    StaleJobError,
    TooLateError,
    UnreadableRecordError,
    UnreadFilesError,
)
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind, RedialPolicy, usual_key
from voiceflow_worker.model.jobs.policy import CallPolicy, read_redial_on
from voiceflow_worker.model.numbers.phone import canonical_number
from voiceflow_worker.model.text.arguments import checked_time
from voiceflow_worker.model.text.printable import checked_text
from voiceflow_worker.model.text.wording import SLOWEST, count_of, is_rate, rate_in_words
from voiceflow_worker.reporting.gates import closed_in_words, gate_in_words
from voiceflow_worker.reporting.report import Report, build_report
from voiceflow_worker.reporting.status import QueueStatus, read_status

_PAGE = 500
_TOGETHER = 200
"""The most calls that are cancelled in one write."""
_AGAIN, _STUCK = 0.1, 5.0
"""Seconds until waiting calls of a cancelled batch are looked for again, and after which none more of them ends."""


CheckJob = Callable[[Job], None]
"""A function that gets the stored job, and raises an error if it must stay so."""


def _checked(change: Callable[[Job], Job], check: CheckJob | None) -> Callable[[Job], Job]:
    """Return a change of a job with a check, for each version of the job that it is tried on."""
    if check is None:
        return change

    def checked(job: Job) -> Job:
        changed = change(job)
        check(job)
        return changed

    return checked


class CallQueue:
    """One queue of a store, with calls of one sub-account.

    The audit log gets an entry with each action on it (cancel, redial, resolve, hold, resume, rate): `by` whom, or else
    the login of this process.

    `redial` is the policy of calls without a redial policy of their own; the default is no redial. To exclude a call
    from the policy, give it `RedialPolicy(on=frozenset(), limit=0, after=timedelta())`.
    """

    def __init__(
        self,
        store: Store,
        queue: str = "default",
        *,
        policy: CallPolicy | None = None,
        redial: RedialPolicy | None = None,
        by: str | Actor | None = None,
    ) -> None:
        self.name: str = checked_queue(queue)
        self.store = store
        self.policy: CallPolicy = policy or CallPolicy()
        self._redial = redial
        self._by = by
        self.admitter: Admitter = Admitter(store, self.name, redial=redial, policy=self.policy)
        self._changes = Changes(store, self.policy)
        self._outcome_watch = OutcomeWatch(store)

    async def enqueue(
        self,
        flow: CallFlow | Mapping[str, object],
        *,
        connection: object = None,
        replace: bool = False,
        **options: Unpack[CallOptions],
    ) -> Job:
        """Enqueue one call; returns its job, or the job that already owns the `unique_key`, if it is the same call.

        A key belongs to one call for ever, over all queues of the store: the job may be one of another queue. The
        options are those of every call: `CallOptions`. With `replace`, a call that has the key, differs, and waits, is
        changed: it stays the same call, with its id and history.

        With a store in PostgreSQL, `connection` enqueues the call in a transaction of yours: a connection of psycopg 3,
        also that in one of SQLAlchemy or Django. The returned job is valid once that transaction has
        committed, and a worker finds it within a second; after a rollback the call never was in the queue. An error
        leaves the transaction as it was. It waits only for another transaction that is storing the same key. A blocking
        connection blocks the event loop meanwhile. `enqueue_in` is for programs without one.

        Raises `CallFlowError` with every finding (among them a window that does not open while the call is valid),
        `SuppressedNumberError` for a number on the suppression list, `InvalidInputError` for data that is not flat
        JSON, and `KeyConflictError` when the key belongs to a call with another text, time, window, priority or other
        option, which names them, or to one that ended without a ring. A validity that counts from the enqueuing
        (`valid_for`) is the same each time. After
        `StoreUnavailableError` it is safe to try again with the same unique key.
        """
        request = CallRequest(CallFlow.parse(flow) if isinstance(flow, Mapping) else flow, **options)
        return (await self.enqueue_many([request], connection=connection, replace=replace))[0].job

    async def enqueue_many(
        self, requests: Iterable[CallRequest | CheckedCall], *, connection: object = None, replace: bool = False
    ) -> Sequence[Enqueued]:
        """Enqueue many calls in one write: all or none. Raises as `enqueue` does; each finding names its request."""
        if connection is None:
            return await self.admitter.admit_all(list(requests), replace=replace)
        if not hasattr(self.store, "joined"):
            raise InvalidInputError(
                f"the store {self.store.url} cannot take part in a transaction of yours; nothing was enqueued; use a "
                "store in the PostgreSQL database of your rows, or enqueue after your commit, with a unique key"
            )
        async with cast("Joinable", self.store).joined(connection) as within:
            admitter = Admitter(within, self.name, redial=self._redial, policy=self.policy)
            return await admitter.admit_all(list(requests), replace=replace)

    async def get(self, job_id: str) -> Job:
        """Return the job with this id. Raises `JobNotFoundError`, and `InvalidInputError` for a text that is no id."""
        found = await find_jobs(self.store, ById((job_id,)))
        if not found:
            raise JobNotFoundError(job_id)
        return found[0]

    async def find(
        self,
        *,
        states: Iterable[JobState] | None = None,
        batch_id: str | None = None,
        destination: str | None = None,
        unique_key: str | None = None,
        outcomes: Iterable[str] | None = None,
        since: datetime | None = None,
        newest: bool = False,
        after: str | None = None,
        limit: int | None = 100,
    ) -> Sequence[Job]:
        """Jobs of this queue in the order of their creation; `newest` reverses the order.

        `outcomes` are statuses of the newest session, such as `BUSY`. With an aware time `since`, only jobs that have
        changed since then are returned. `after` continues a listing after the job with this id. Raises
        `InvalidInputError` for a `since` without a zone.
        """
        wanted = CallFilter(
            states=None if states is None else frozenset(states),
            batch=batch_id,
            outcomes=None if outcomes is None else frozenset(outcomes),
            number=None if destination is None else canonical_number(destination),
            begin=checked_time("since", since),
        )
        if unique_key is None and not wanted.is_judged:
            return await find_jobs(self.store, wanted.read(self.name, newest=newest, after=after, limit=limit))
        has, found = wanted.has, list[Job]()
        if unique_key is not None:
            read = ByKey((usual_key(checked_text("unique_key", unique_key)),))
            found = [
                job for job in await find_jobs(self.store, read) if job.queue == self.name and has(job) and job.body
            ]
        else:
            part = wanted.read(self.name, newest=newest, after=after, limit=_PAGE)
            async with aclosing(find_pages(self.store, part)) as pages:
                async for page in pages:
                    found += (job for job in page if has(job) and job.body)  # a tombstone has none
                    if limit is not None and len(found) >= limit:
                        break
        return found if limit is None else found[: max(limit, 0)]

    async def cancel(
        self,
        job_id: str,
        *,
        reason: str = "cancelled by a person",
        check: CheckJob | None = None,
        for_good: bool = True,
    ) -> Job:
        """Cancel a job. Raises `TooLateError` once the call may have been sent, and `JobNotFoundError`.

        With `for_good`, nobody calls the person for it again because they are in a list. A job whose record cannot be
        read ends in any state; if its call may have been sent, as `accepted`. `check` gets the job as it is when the
        change is stored, and raises an error if it must stay so.
        """
        cancel = self._cancelling(reason, for_good=for_good)
        try:
            return await self._change("cancel", job_id, _checked(cancel, check), note=reason, result="cancelled")
        except UnreadableRecordError as error:
            if error.head is None or error.head.state.is_final:
                raise
            return await self._end_unreadable(error.head, reason)

    async def _end_unreadable(self, job: Job, reason: str) -> Job:
        """End a job by what is known of it without its record, which is replaced."""
        now = self.store.clock.now()
        over = lifecycle.end_unreadable(job, at=now, reason=reason, policy=self.policy)
        # Its POSTs go with its record: journal files that know them show no loss.
        until = now + max(self.policy.key_retention, self.policy.retention)
        gone = Put(writes.TOMBSTONES, job.id, job.batch_id or "", until)
        ended, write = writes.changed(job, over, at=now, puts=[gone])
        async with self._audited("cancel", note=reason, call=job.id, result=ended.reason) as store:
            (answer,) = await store.store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is not Result.DONE:
            raise StaleJobError(job.id)
        return ended

    async def _change(self, action: str, job_id: str, change: Callable[[Job], Job], *, note: str, result: str) -> Job:
        """Carry out an action on one call, whose entry is in the same write."""
        async with self._audited(action, note=note, call=job_id, result=result) as store:
            return (await Changes(store.store, self.policy).change(job_id, change)).new

    @asynccontextmanager
    async def _audited(
        self,
        action: str,
        *,
        note: str | None = None,
        batch: str | None = None,
        call: str | None = None,
        result: str | None = None,
    ) -> AsyncGenerator[AuditedStore]:
        """Give the store for one action on this queue: its first write keeps the entry of the audit log too."""
        entry = AuditEntry.of(
            Actor.of(self._by), action, at=self.store.clock.now(), note=note, queue=self.name, batch=batch, call=call,
            result=result,
        )  # fmt: skip
        async with audited(self.store, entry) as store:
            yield store

    @asynccontextmanager
    async def ordered(self, by: Actor) -> AsyncGenerator[CallQueue]:
        """Return this queue for one call that somebody orders: its write keeps its entry of the audit log."""
        entry = AuditEntry.of(by, CALL, at=self.store.clock.now(), queue=self.name, result="enqueued")
        async with audited(self.store, entry) as store:
            yield CallQueue(store.store, self.name, policy=self.policy, redial=self._redial)

    def _cancelling(self, reason: str, *, for_good: bool) -> Callable[[Job], Job]:
        kind = ReasonKind.BY_PERSON if for_good else ReasonKind.REMOVED
        return partial(lifecycle.cancel, at=self.store.clock.now(), reason=reason, policy=self.policy, kind=kind)

    async def cancel_many(
        self, job_ids: Sequence[str], *, reason: str = "cancelled by a person", for_good: bool = True
    ) -> list[str]:
        """Cancel those of these jobs that have not been sent, as `cancel` does; returns their ids. Raises StoreError.

        They have one entry in the audit log together.
        """
        cancelled: list[str] = []
        cancel = self._cancelling(reason, for_good=for_good)
        alone = job_ids[0] if len(job_ids) == 1 else None
        async with self._audited("cancel", note=reason, call=alone) as store:
            changes = Changes(store.store, self.policy)
            for start in range(0, len(job_ids), _TOGETHER):
                ids = job_ids[start : start + _TOGETHER]
                answers = await changes.change_each([JobChange(job_id, cancel, None) for job_id in ids])
                for job_id, answer in zip(ids, answers, strict=True):
                    if isinstance(answer, BaseException):
                        if not isinstance(answer, TooLateError):
                            raise answer
                    elif answer.new is not answer.old:
                        cancelled.append(job_id)
            store.result = f"cancelled: {count_of(len(cancelled), 'call')}"
        return cancelled

    async def cancel_batch(
        self,
        batch_id: str,
        *,
        reason: str = "the batch was cancelled by a person",
        check: CheckGate | None = None,
    ) -> int:
        """Cancel a batch permanently; returns the number of jobs that ended.

        Its queued jobs end now. A job that returns to the queue later ends when it returns. `check` is that of
        `resume`. Raises `InvalidInputError` for a batch without calls.
        """
        now = self.store.clock.now()
        cancelled = Gate.of(self.name, batch_id, GateState.CANCELLED, since=now, until=None, reason=reason)
        await self._require_known(batch_id)
        before = await self._cancelled(batch_id)
        async with self._audited("cancel", note=reason, batch=batch_id) as store:
            await order_gate(store.store, cancelled, check=check)
            await until_left(self.store, [self.name], batch_id=batch_id)
            await self._end_waiting(batch_id)
            await drop_imports(self.store, self.name, batch_id)
            ended = max(await self._cancelled(batch_id) - before, 0)
            store.result = f"batch {batch_id} is cancelled for good; {count_of(ended, 'waiting call')} ended"
        return ended

    async def _end_waiting(self, batch_id: str) -> None:
        """End the calls of a cancelled batch until none waits. Running workers end calls too, each some of them."""
        sweeper = Sweeper(self.store, queue=self.name, policy=self.policy, changes=self._changes)
        clock, least = self.store.clock, math.inf
        gives_up = clock.monotonic() + _STUCK
        while True:
            ended = await sweeper.end_cancelled()
            waiting = (await count_states(self.store, self.name, batch_id=batch_id))[JobState.QUEUED]
            if ended or waiting < least:
                least, gives_up = waiting, clock.monotonic() + _STUCK
            if not waiting or clock.monotonic() > gives_up:  # calls that this version cannot read are left
                return
            await clock.sleep(_AGAIN)

    async def _cancelled(self, batch_id: str) -> int:
        """Return the jobs of a batch in a state in which a cancel leaves them. Running workers end some of them too."""
        states = await count_states(self.store, self.name, batch_id=batch_id)
        return states[JobState.CANCELLED] + states[JobState.UNREACHED]

    async def redial(
        self,
        job_id: str,
        *,
        note: str = "called again by a person",
        force: bool = False,
        post: int | None = None,
        not_before: datetime | None = None,
        check: CheckJob | None = None,
    ) -> Job:
        """Call the person again, with a new POST of the same job, not earlier than `not_before`.

        It begins with the person's first number.

        Jobs in doubt must be resolved first; completed and accepted jobs need `force`. With `post`, the job is
        redialled only if its newest POST has this number. `check` is that of `cancel`.

        Raises `IllegalMoveError` and `JobNotFoundError`.
        """
        now = self.store.clock.now()
        not_before = checked_time("not_before", not_before)
        redial = partial(lifecycle.redial, at=now, note=note, force=force, number=post, not_before=not_before)
        return await self._change("redial", job_id, _checked(redial, check), note=note, result="redialled")

    async def redial_batch(
        self,
        batch_id: str,
        *,
        on: str | Iterable[str],
        note: str = "called again by a person",
        times: int = 1,
        at: datetime | None = None,
        dry_run: bool = False,
        among: Mapping[str, int] | None = None,
    ) -> RedialledBatch:
        """Redial every call of a batch that ended with one of these outcomes, such as `busy,no_answer`.

        A call is left out if `redial` would refuse it, if its number is on the suppression list, if a person cancelled
        it, or if people have redialled it as often as `times` allows. Repeating the same order, for example after an
        interruption, redials nobody twice. A dry run only counts. With `at`, calls that ended after it are left
        out; with `among`, calls that are not these ids with these newest POSTs.
        Raises `InvalidInputError` for outcomes that cannot be redialled, and for a batch that is cancelled or has no
        calls.
        """
        at = checked_time("at", at)
        if times < 1:
            raise InvalidInputError(f"times is {times}, so nobody would be redialled: give 1 or more")
        outcomes = read_redial_on(on)
        await BatchNames(self.store, self.name).require(batch_id)
        ordered = partial(
            redial_batch, queue=self.name, batch_id=batch_id, on=outcomes, at=at or self.store.clock.now(), note=note,
            times=times, dry_run=dry_run, among=among,
        )  # fmt: skip
        if dry_run:
            return await ordered(self.store, changes=Changes(self.store, self.policy))
        async with self._audited("redial", note=note, batch=batch_id) as store:
            done = await ordered(store.store, changes=Changes(store.store, self.policy))
            store.result = f"redialled: {count_of(done.redialled, 'call')} of batch {batch_id}"
        return done

    async def resolve(
        self, job_id: str, *, placed: bool, note: str, recorded_at: datetime | None = None, post: int | None = None
    ) -> Job:
        """Record a person's decision whether a call in doubt was placed.

        A call that was not placed returns to the queue, unless another of its POSTs settles it. `recorded_at` is the
        present time by 8x8's own clock (`VoiceClient.server_time`), by default the time of the store's clock. With
        `post`, the decision applies only if the POST with this number is the one in doubt. Raises `TooEarlyError` while
        8x8 may still place the call, `IllegalMoveError`, and `JobNotFoundError`.
        """
        now = self.store.clock.now()
        resolve = partial(
            lifecycle.resolve,
            placed=placed,
            at=now,
            recorded_at=checked_time("recorded_at", recorded_at) or now,
            note=note,
            policy=self.policy,
            number=post,
        )
        result = "placed" if placed else "not placed"
        return await self._change("resolve", job_id, resolve, note=note, result=result)

    async def hold(
        self,
        *,
        batch_id: str | None = None,
        until: datetime | None = None,
        reason: str = "",
        check: CheckGate | None = None,
    ) -> Gate:
        """Hold the queue, or one batch of it: nothing new is sent. Without `until`, the hold lasts until `resume`.

        This waits until the calls that were about to leave have left or gone back, for at most two seconds. No call
        leaves after it has returned. The gate is returned as it is then: it is open if somebody has resumed it
        meanwhile.

        `check` is that of `resume`. Raises `InvalidInputError` for an `until` without a zone, and for a batch without
        calls.
        """
        await self._require_known(batch_id)
        async with self._audited("hold", note=reason, batch=batch_id) as store:
            gate = await hold_until_left(
                store.store, self.name, batch_id=batch_id, until=until, reason=reason, check=check
            )
            store.result = closed_in_words(gate)
        return gate

    async def _require_known(self, batch_id: str | None) -> None:
        """Raise InvalidInputError for a batch that has no calls and is neither held nor cancelled."""
        if (unknown := await BatchNames(self.store, self.name).why_unknown(batch_id)) is not None:
            gate = await standing_gate(self.store, self.name, batch_id)
            if gate is None or not gate.is_closed(at=self.store.clock.now()):
                raise InvalidInputError(unknown)

    async def resume(
        self, *, batch_id: str | None = None, unread_files: bool = False, check: CheckGate | None = None
    ) -> Gate:
        """Open a held queue or batch.

        Without `unread_files`, a queue stays held if journal files could not be read (`UnreadFilesError`).

        A batch whose import has not ended stays held by that, until the import has ended. A cancelled batch stays
        cancelled, as the returned gate shows. `check` gets the gate that would be opened, and raises an error if it
        must stay. Raises `InvalidInputError` for a batch without calls that is not held.
        """
        opened = Gate.of(self.name, batch_id, GateState.OPEN, since=self.store.clock.now())
        await self._require_known(batch_id)

        def may_open(gate: Gate | None) -> None:
            if check is not None:
                check(gate)
            is_unread = gate is not None and gate.is_closed(at=opened.since) and GateKind.UNREAD_FILES in gate.kinds
            if is_unread and not unread_files:
                raise UnreadFilesError(self.name)

        async with self._audited("resume", batch=batch_id) as store:
            gate = await order_gate(store.store, opened, check=may_open)
            store.result = "open" if gate.state is GateState.OPEN else gate_in_words(gate)
        if gate.state is GateState.OPEN and batch_id is not None:
            return next(iter(await holds_of(self.store, self.name, [batch_id])), gate)
        return gate

    async def set_rate(self, rate: float | None) -> Limits:
        """Change the rate of all workers together, in calls per second; None is unlimited.

        The new rate takes effect within a second, and stays until `reset_rate`. Workers that start later also keep this
        rate, whatever their settings say. Raises `InvalidInputError`.
        """
        if rate is not None and not is_rate(rate):
            raise InvalidInputError(
                f"a rate of {rate} calls per second is impossible: give at least {SLOWEST:f}, or None for no limit"
            )
        async with self._audited("rate") as store:
            limits = await SetRate(store.store, self.name).put(rate)
            store.result = rate_in_words(rate)
        return limits

    async def reset_rate(self) -> bool:
        """Give workers the rate of their settings again, within a second; return whether a rate was set."""
        async with self._audited("rate") as store:
            was_set = await SetRate(store.store, self.name).withdraw()
            store.result = "that of the workers' settings"
        return was_set

    async def report(self, batch_id: str | None = None) -> Report:
        """Count the calls of a batch, or of the whole queue, from counters alone; `print` shows the report as a table.

        Raises InvalidInputError for a batch without calls, and StoreError.
        """
        await BatchNames(self.store, self.name).require(batch_id)
        return await build_report(self.store, self.name, batch_id)

    async def status(self) -> QueueStatus:
        """Return the status of the queue: its counts, doubts and holds."""
        policy = self.policy
        return await read_status(self.store, self.name, summary_deadline=policy.summary_deadline)

    async def wait_for_outcome(self, job_id: str, *, timeout: timedelta | None = None) -> Job:  # noqa: ASYNC109 - raises an error of its own
        """Wait until the job has ended, and return it.

        All waiters of this queue share their reads of the store, every 200 ms or less often. The wait continues through
        redials, through doubts, and while the store is unavailable. A job that is `accepted` has ended, although a late
        summary may still follow. Raises `OutcomeTimeoutError` (a `TimeoutError`) when `timeout` has passed,
        `JobNotFoundError`.
        """
        return await self._outcome_watch.wait(job_id, timeout=timeout)

    async def wait_for_batch(self, batch_id: str, *, timeout: timedelta | None = None) -> Report:  # noqa: ASYNC109 - raises an error of its own
        """Wait until a batch has ended, and return its report.

        A batch has ended when none of its calls waits, is in progress, or is in doubt. The wait goes on through redials
        and while the store is unavailable. Raises `BatchTimeoutError` (a `TimeoutError`) when `timeout` has passed, and
        `InvalidInputError` for a batch without calls.
        """
        await wait_for_batch(self.store, self.name, batch_id, timeout=timeout)
        return await self.report(batch_id)

    def outcomes(
        self, *, consumer: str | None = None, since: datetime | None = None, attempts: bool = True
    ) -> OutcomeStream:
        """Return a stream of the outcomes of this queue: `async for outcome in queue.outcomes()`.

        Each outcome is delivered at least once, in order per call; its `id` is the same at each delivery. The stream
        begins now, or at the aware time `since`. A named `consumer` begins like this only once; later it continues at
        its last position, even after a crash. An outcome counts as processed when the next one is requested. If several
        consumers have the same name, only one of them receives outcomes at a time. `attempts=False` leaves out attempts
        that are followed by a redial. Outcomes are kept for the retention (30 days); if a consumer has missed some, an
        error is logged. Raises `InvalidInputError` for an invalid name, and for a `since` without a zone.
        """
        if consumer is not None:
            checked_reader(consumer)
        return OutcomeStream(
            self.store,
            self.name,
            consumer=consumer,
            since=checked_time("since", since) or self.store.clock.now(),
            attempts=attempts,
        )
