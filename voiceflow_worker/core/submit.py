"""Submit: leased jobs become POSTs, each journalled before its first byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio
import structlog

from voiceflow_worker.core.changes import Changes
from voiceflow_worker.core.departures import Departures
from voiceflow_worker.core.holds import Holds
from voiceflow_worker.core.moves import move
from voiceflow_worker.core.numbers import NumberLocks
from voiceflow_worker.core.ports import Move, Placement, Store, Voice
from voiceflow_worker.core.settle import Settler
from voiceflow_worker.errors import IllegalMoveError, StoreError, StoreUnavailableError
from voiceflow_worker.model import lifecycle
from voiceflow_worker.model.backoff import spread
from voiceflow_worker.model.job import MISSED_WINDOW_CODES, Job, JobState, Post
from voiceflow_worker.model.policy import CallPolicy
from voiceflow_worker.model.verdict import Hold, PostProgress, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.submit")

NUMBER_BUSY = timedelta(seconds=2)
"""How soon a job whose number is busy with another call looks again."""
LAST_WORD = 5.0
"""Seconds that a stopping worker gives the store to take what is known of a call."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One journalled POST on its way: `leased_at` is monotonic, and tells which holds it has not seen."""

    job: Job
    post: Post
    leased_at: float


class Submitter:
    """Takes leased jobs through their checks, their journal entry and their POST.

    `heard` is told every verdict of the gateway at once: the worker pauses by it when 8x8 cannot be reached.
    """

    def __init__(
        self,
        store: Store,
        voice: Voice,
        *,
        policy: CallPolicy,
        lease: timedelta,
        departures: Departures,
        holds: Holds,
        changes: Changes,
        heard: Callable[[Verdict], None],
    ) -> None:
        self._store = store
        self._voice = voice
        self._policy = policy
        self._lease = lease
        self._departures = departures
        self._holds = holds
        self._settler = Settler(store, policy, changes=changes)
        self._numbers = NumberLocks(store.records, policy)
        self._heard = heard

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Flight]:
        """Lock the numbers of leased jobs and journal their POSTs; what cannot go now is put back or ended.

        A job that is not among the flights is somebody else's, or waits, or has ended: nothing was sent for it. When
        the journal entry is in question because the store went away, the job does not fly either: at worst it ends in
        doubt.
        """
        now = self._store.clock.now()
        fresh = [job for job in jobs if not job.is_expired(at=now)]
        late = [job for job in jobs if job.is_expired(at=now)]
        locked = await self._numbers.lock(fresh, now=now)
        moves = [self._journal(job) for job in fresh if job.id in locked]
        moves += [self._wait_for_number(job) for job in fresh if job.id not in locked]
        moves += [move(job, lifecycle.expire(job, at=now, policy=self._policy), at=now) for job in late]
        committed = await self._commit(moves)
        flights: list[Flight] = []
        lost: list[Job] = []
        for made, done in zip(moves, committed, strict=True):
            if made.new.state is JobState.SENDING:
                post = made.new.last_post
                if done and post is not None:
                    flights.append(Flight(made.new, post, leased_at))
                else:
                    lost.append(made.old)
        await self._forget_ended(lost)
        return flights

    async def fly(self, flight: Flight) -> None:
        """POST one journalled call at its turn, and settle it.

        Cancelled before a byte could leave, the job is queued again; afterwards it is in doubt. Either is stored before
        the cancellation goes on, within a few seconds.
        """
        progress = PostProgress()
        try:
            verdict = await self._post(flight, progress)
        except anyio.get_cancelled_exc_class():
            if progress.may_have_left:
                verdict = Verdict(
                    kind=VerdictKind.UNKNOWN, message="the worker was stopped while the call was on its way"
                )
            else:
                verdict = Verdict(kind=VerdictKind.NOT_SENT, message="the worker was stopped before the call left")
            with anyio.move_on_after(LAST_WORD, shield=True):
                await self._settle(flight, verdict)
            raise
        await self._settle(flight, verdict)

    async def _post(self, flight: Flight, progress: PostProgress) -> Verdict:
        await self._departures.depart()
        if self._holds.closed_since(flight.leased_at):
            return Verdict(kind=VerdictKind.NOT_SENT, message=f"held before it left: {self._holds.reason}")
        now = self._store.clock.now()
        if flight.post.valid_until <= now:
            return Verdict(kind=VerdictKind.NOT_SENT, message="its submit window ended before it left")
        placement = Placement(
            body=flight.job.body,
            client_request_id=flight.post.client_request_id,
            client_batch_id=flight.job.batch_id,
            valid_until=flight.post.valid_until,
        )
        try:
            verdict = await self._voice.place(placement, progress=progress, now=now)
        except Exception as error:  # noqa: BLE001 - whatever a gateway raises, the call may have been placed
            _log.exception("the gateway failed", job=flight.job.id)
            kind = VerdictKind.UNKNOWN if progress.may_have_left else VerdictKind.NOT_SENT
            verdict = Verdict(kind=kind, message=f"the gateway failed: {type(error).__name__}: {error}")
        self._heard(verdict)
        return verdict

    async def _settle(self, flight: Flight, verdict: Verdict) -> None:
        """Store what an answer said. Evidence is never dropped: while the store is away, it is offered again."""
        wait = 0.05
        while True:
            try:
                held_until = await self._order_hold(verdict)
                await self._settler.verdict(flight.job, flight.post.number, verdict, held_until=held_until)
            except StoreError as error:
                _log.warning("the store is away; a verdict waits", job=flight.job.id, error=str(error))
                await self._store.clock.sleep(wait)
                wait = min(wait * 2, 2.0)
            except IllegalMoveError as error:
                # The store was set back and knows nothing of this POST.
                _log.error("a verdict found no POST", job=flight.job.id, verdict=verdict.kind.value, error=str(error))
                return
            else:
                return

    async def _order_hold(self, verdict: Verdict) -> datetime | None:
        hold = verdict.hold or self._clock_hold(verdict)
        if hold is None:
            if verdict.http_status is not None:
                self._holds.relax()
            return None
        return await self._holds.order(hold)

    def _clock_hold(self, verdict: Verdict) -> Hold | None:
        """A missed submit window is a slow network, or a clock that is off: 8x8's Date header tells which."""
        if verdict.code not in MISSED_WINDOW_CODES or verdict.server_date is None:
            return None
        off = verdict.server_date - self._store.clock.now()
        if abs(off) <= self._policy.clock_skew:
            return None
        return Hold(
            reason=f"clock: this clock differs from 8x8's by {off.total_seconds():.0f} s; set it right, then resume",
            until_opened=True,
        )

    async def _commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        if not moves:
            return []
        for wait in (0.05, 0.2, 0.5):
            try:
                return await self._store.jobs.commit(moves)
            except StoreUnavailableError as error:
                # The very same moves again: a store that made them already, and lost its answer, says so.
                _log.warning("the store is away; a journal entry waits", jobs=len(moves), error=str(error))
                await self._store.clock.sleep(wait)
        return await self._store.jobs.commit(moves)

    async def _forget_ended(self, lost: Sequence[Job]) -> None:
        """Give back the numbers of jobs that ended while they were being prepared.

        The lock of one that has not ended stays: its owner is the job, and whoever holds the job now may count on it.
        """
        if lost:
            _log.info("jobs were moved by somebody else before they were sent", jobs=[job.id for job in lost])
            now = await self._store.jobs.get([job.id for job in lost])
            await self._numbers.release([job for job in now.values() if job.state.is_final and job.open_post is None])

    def _journal(self, job: Job) -> Move:
        now = self._store.clock.now()
        begun = lifecycle.begin(job, at=now, lease_until=now + self._lease, policy=self._policy)
        return move(job, begun, at=now)

    def _wait_for_number(self, job: Job) -> Move:
        now = self._store.clock.now()
        wait = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{job.id}/{now.timestamp()}"))
        waiting = lifecycle.release(job, due_at=now + wait, reason="its number is busy with another call")
        return move(job, waiting, at=now)
