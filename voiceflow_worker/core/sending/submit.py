"""Submission of leased jobs: checks, journal entry, POST, and the settling of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

import anyio
import structlog

from voiceflow_worker.core.guard.rollback import RollbackGuard
from voiceflow_worker.core.numbers.locks import NumberLocks
from voiceflow_worker.core.numbers.suppression import SuppressionList, why_refused
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.gather import gather
from voiceflow_worker.core.sending.departures import Departure, Departures
from voiceflow_worker.core.sending.early_hold import EarlyHold
from voiceflow_worker.core.sending.journal import OUTSIDE_WINDOW, Journal
from voiceflow_worker.core.sending.reply import Reply, hold_of
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.holds import Holds
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.settling.voice_check import VoiceCheck, VoiceList
from voiceflow_worker.errors import (
    IllegalMoveError,
    JobNotFoundError,
    Remedy,
    StaleJobError,
    StoreCorruptError,
    StoreError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.backoff import spread
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import spellings
from voiceflow_worker.model.reports.verdict import NotSentCause, PostProgress, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.submit")

NUMBER_BUSY = timedelta(seconds=2)
"""How soon a job whose number is busy with another call is due again."""
BUSY_WORDS = "is busy with another call"
"""Part of the reason of every job that waits for a number."""
LONGEST_LINE = timedelta(minutes=1)
"""The longest that a job waits behind other jobs of its worker with the same busy number."""
LIST_AGE = timedelta(seconds=1)
"""The suppression list is read again before a call is journalled when it was read longer ago than this."""
LAST_WORD = 5.0
"""Seconds in which a stopping worker tries to store the last state of a call."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One leased job with its departure time; None if other workers have taken all times within reach.

    `leased_at` is monotonic: holds from after it concern this job.
    """

    job: Job
    departure: Departure | None
    leased_at: float
    locked_at: datetime


class Submitter:
    """Takes leased jobs through their checks, their journal entry and their POST.

    `on_verdict` is called at once with every verdict of the gateway, and the monotonic time at which its POST left: the
    worker pauses when 8x8 cannot be reached.
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
        on_verdict: Callable[[Verdict, float], None],
        voices: VoiceList | None = None,
        guard: RollbackGuard | None = None,
    ) -> None:
        self._store = store
        self._voice = voice
        self._policy = policy
        self._departures = departures
        self._holds = holds
        self._guard = guard
        self._journal = Journal(store, policy, lease=lease, guard=guard)
        self._settler = Settler(store, policy, changes=changes)
        self._numbers = NumberLocks(store.records, policy)
        self._suppression = SuppressionList(store)
        self._on_verdict = on_verdict
        self._voices = VoiceCheck(voices)

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Flight]:
        """Lock the numbers of leased jobs and take their departure times.

        A job with a busy number or a closed calling window is put back; all are, when the store was set back. A job
        with a number on the suppression list ends.
        """
        if self._guard is not None and not await self._guard.vet():
            await self._journal.put_back(jobs, reason=f"held before it left: {self._holds.reason}")
            return []
        locked_at = self._store.clock.now()
        closed = [job for job in jobs if not job.may_ring(at=locked_at)]
        if closed:
            await self._journal.put_back(closed, reason=OUTSIDE_WINDOW)
            jobs = [job for job in jobs if job not in closed]
        locked = await self._numbers.lock(jobs, now=locked_at)
        ready, bridged = await self._free(locked.jobs, now=locked_at)
        await self._voices.look(ready)
        await self._journal.put_back_each(_in_line([*locked.busy, *bridged], leased_at=leased_at))
        departures = await self._departures.take(len(ready))
        self._departures.preparing.ended(leased_at)
        return [Flight(job, departure, leased_at, locked_at) for job, departure in zip_longest(ready, departures)]

    async def _free(self, jobs: Sequence[Job], *, now: datetime) -> tuple[Sequence[Job], Sequence[tuple[Job, str]]]:
        """The locked jobs that may be sent, and those of whose numbers a menu's bridge has one, with that number."""
        ready: list[Job] = []
        bridged: list[tuple[Job, str]] = []

        async def look() -> None:
            ready.extend(await self._not_suppressed(jobs))

        async def ask() -> None:
            bridged.extend(await self._numbers.bridged(jobs, now=now))

        if jobs:
            await gather(look, ask)
        taken = {job.id for job, _ in bridged}
        left = {job.id for job in ready}
        return [job for job in ready if job.id not in taken], [each for each in bridged if each[0].id in left]

    async def _not_suppressed(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs without a number on the suppression list; the others end.

        Their numbers must be locked before: a call in which a person opts out holds its lock until the number is on the
        list.
        """
        listed = await self._suppression.standing([number for job in jobs for number in job.parties])
        if not listed:
            return jobs
        refused = {job.id: found[1] for job in jobs if (found := why_refused(job, listed)) is not None}
        await self._journal.cancel([(job, refused[job.id]) for job in jobs if job.id in refused])
        return [job for job in jobs if job.id not in refused]

    async def fly(self, flight: Flight) -> None:
        """Journal one call shortly before its departure time, POST it, and settle it.

        Cancelled before the journal entry, the job goes back to the queue. Cancelled afterwards, it is queued again if
        no byte could have left, and is in doubt otherwise. Either is stored, within a few seconds, before the
        cancellation continues. When it is not known whether the journal entry was stored, nothing is sent.
        """
        departure = flight.departure
        if departure is None:
            # Put back, because a hold would not reach a call that waits here.
            await self._put_back(flight.job, "the rate leaves no room for it yet")
            return
        try:
            await departure.near()
            if self._is_list_old(flight) and not await self._not_suppressed([flight.job]):
                return
        except StoreError as error:
            _log.warning("the suppression list cannot be read; a call is not sent", job=flight.job.id, error=str(error))
            return
        except _cancellations():
            with anyio.move_on_after(LAST_WORD, shield=True):
                await self._put_back(flight.job, "its worker was stopped")
            raise
        if self._holds.closed_since(flight.leased_at):
            await self._put_back(flight.job, f"held before it left: {self._holds.reason}")
            return
        began = self._departures.journalling.began()
        try:
            job = await self._journal.begin(flight.job, locked_at=flight.locked_at)
            self._departures.journalling.ended(began)
        except StoreError as error:
            _log.warning("a call could not be journalled; it is not sent", job=flight.job.id, error=str(error))
            return
        if job is not None:
            await self._send(flight, job, departure)

    def _is_list_old(self, flight: Flight) -> bool:
        """Whether the suppression list has to be read again: the store is slow, or the departure was far ahead."""
        return self._store.clock.now() - flight.locked_at > LIST_AGE

    async def _send(self, flight: Flight, job: Job, departure: Departure) -> None:
        early = EarlyHold(self._holds)
        progress = PostProgress(on_hold=early.order)
        try:
            reply = await self._post(flight, job, departure, progress, early)
        except _cancellations():
            await self._settle_at_last(job, self._cut_short(progress))
            raise
        try:
            await self._settle(job, reply)
        except _cancellations():
            # The answer is known: without one more try to store it the call would be in doubt for nothing.
            await self._settle_at_last(job, reply)
            raise

    async def _settle_at_last(self, job: Job, reply: Reply) -> None:
        with anyio.move_on_after(LAST_WORD, shield=True):
            await self._settle(job, reply)

    async def _post(
        self, flight: Flight, job: Job, departure: Departure, progress: PostProgress, early: EarlyHold
    ) -> Reply:
        post = job.posts[-1]
        try:
            leaves = await departure.depart(until=post.valid_until)
        except Exception as error:  # noqa: BLE001 - nothing has left, whatever the store raises
            _log.warning("a call has no departure time; it is not sent", job=job.id, error=str(error))
            return self._not_sent(NotSentCause.STORE_AWAY, f"no departure time: {error}")
        if not leaves:
            return self._not_sent(NotSentCause.MISSED_DEPARTURE, "it missed its departure, and the next is too far")
        if self._holds.closed_since(flight.leased_at):
            return self._not_sent(NotSentCause.HELD, f"held before it left: {self._holds.reason}")
        now = self._store.clock.now()
        if post.valid_until <= now:
            return self._not_sent(NotSentCause.TOO_LATE, "its submit window ended before it left")
        placement = Placement(body=job.body, client_request_id=post.client_request_id, valid_until=post.valid_until)
        left_at = self._store.clock.monotonic()
        # A voice that does not report its progress must be taken to have sent the call.
        progress.may_have_left = True
        try:
            verdict = await self._voice.place(placement, progress=progress, now=now)
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message)
            if not progress.may_have_left:
                verdict = Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.FAULT, message=message)
        self._on_verdict(verdict, left_at)
        return early.reply(verdict, at=self._store.clock.now()) or self._judged(verdict, sent_at=now)

    def _judged(self, verdict: Verdict, *, sent_at: datetime) -> Reply:
        """The reply for a verdict that has just come; its hold, if any, holds this worker from now on."""
        now = self._store.clock.now()
        hold = hold_of(verdict, sent_at=sent_at, answered_at=now, clock_skew=self._policy.clock_skew)
        if hold is not None:
            return Reply(verdict, now, gate=self._holds.close(hold))
        if verdict.http_status is not None:
            self._holds.relax()
        return Reply(verdict, now)

    def _not_sent(self, cause: NotSentCause, message: str) -> Reply:
        return Reply(Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message), self._store.clock.now())

    def _cut_short(self, progress: PostProgress) -> Reply:
        if not progress.may_have_left:
            return self._not_sent(NotSentCause.STOPPED, "the worker was stopped before the call left")
        message = "the worker was stopped while the call was on its way"
        return Reply(Verdict(kind=VerdictKind.UNKNOWN, message=message), self._store.clock.now())

    async def _put_back(self, job: Job, reason: str) -> None:
        try:
            await self._journal.put_back([job], reason=reason)
        except StoreError as error:
            _log.warning("a job could not be put back; its lease will end", job=job.id, error=str(error))

    async def _settle(self, job: Job, reply: Reply) -> None:
        """Store the verdict of an answer. Evidence is never dropped: while the store is away, this tries again."""
        wait = 0.05
        recalled = False
        while True:
            try:
                await self._order(reply)
                await self._settler.verdict(
                    job, job.post_count, reply.verdict, at=reply.at, held_until=reply.held_until
                )
            except StoreVersionError as error:
                # A newer version has moved the job since, as after its summary. Trying again would not help.
                _log.error("a verdict is left to newer workers", **_evidence_of(job, reply), error=str(error))
                return
            except StoreCorruptError as error:
                # Trying again would not help, and the worker can end only when its calls have.
                _log.error("a verdict cannot be stored", **_evidence_of(job, reply), error=str(error))
                return
            except (StoreError, StaleJobError) as error:
                _log.warning("the store did not take a verdict; it is offered again", job=job.id, error=str(error))
                await self._store.clock.sleep(wait)
                wait = min(wait * 2, 2.0)
            except (IllegalMoveError, JobNotFoundError) as error:
                # The store was set back and does not know this POST, or the job was deleted. A store that was set back
                # is restored from the worker's own file, once; then the verdict finds its POST.
                if recalled or not await self._recall(job):
                    _log.error("a verdict found no POST", **_evidence_of(job, reply), error=str(error))
                    return
                recalled = True
            else:
                return

    async def _recall(self, job: Job) -> bool:
        """Whether the store was restored from the journal files. While it is away this tries again."""
        if self._guard is None:
            return False
        while True:
            try:
                return await self._guard.recall(job)
            except StoreCorruptError:
                return False
            except StoreError as error:
                _log.warning("the store is away; a verdict waits", job=job.id, error=str(error))
                await self._store.clock.sleep(1.0)

    async def _order(self, reply: Reply) -> None:
        if reply.gate is not None:
            reply.held_until = await self._holds.order(reply.gate)
            reply.gate = None


def _evidence_of(job: Job, reply: Reply) -> dict[str, object]:
    """The evidence of a reply that is not stored: the log is then its only place."""
    verdict = reply.verdict
    return {
        "job": job.id,
        "post": job.post_count,
        "verdict": verdict.kind.value,
        "session": verdict.session_id,
        "message": verdict.message,
    }


def _in_line(busy: Sequence[tuple[Job, str]], *, leased_at: float) -> list[tuple[Job, str, timedelta]]:
    """Jobs whose numbers are busy, each with its reason and its wait.

    Jobs that want the same number come due one after the other, in the order of leasing. Otherwise many calls that
    bridge to one line would all be leased, and put back again, every two seconds.
    """
    line: list[tuple[Job, str, timedelta]] = []
    waiting: dict[str, timedelta] = {}
    for job, number in busy:
        turn = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{number}{leased_at}"))
        waiting[number] = min(waiting.get(number, timedelta()) + turn, LONGEST_LINE)
        line.append((job, _busy_words(job, number), waiting[number]))
    return line


def _busy_words(job: Job, number: str) -> str:
    second = next((each for each in job.parties[1:] if number in spellings(each)), None)
    if second is None:
        return f"its number {BUSY_WORDS}"
    return f"{second}, which it bridges to, {BUSY_WORDS} ({Remedy.SHARE_NUMBER})"


def _cancellations() -> tuple[type[BaseException], ...]:
    """The exceptions of a cancellation.

    On trio, a cancellation that also ends an inner nursery (a transport's, while it connects) is raised as a group.
    Missing it would leave the job in `sending`, and then in doubt for nothing.
    """
    return (anyio.get_cancelled_exc_class(), BaseExceptionGroup)
