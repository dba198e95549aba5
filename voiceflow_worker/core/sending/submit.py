"""Submission of leased jobs: checks, journal entry, POST, and the settling of its answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import zip_longest

import anyio
import structlog
from anyio.lowlevel import checkpoint_if_cancelled

from voiceflow_worker.core.guard.rollback import RollbackGuard
from voiceflow_worker.core.numbers.locks import BESIDE, Locked, NumberLocks
from voiceflow_worker.core.numbers.person_cap import PersonCaps
from voiceflow_worker.core.numbers.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.numbers.suppression import Suppression, SuppressionList, why_refused
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.core.sending.busy_numbers import in_line
from voiceflow_worker.core.sending.departures import Departure, Departures
from voiceflow_worker.core.sending.journal import Begun, Journal, Unsent
from voiceflow_worker.core.sending.reply import EarlyHold, Reply, hold_of
from voiceflow_worker.core.sending.unsettled import LAST_WORD, UnsettledVerdicts, cancellations
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.holds import Holds
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.settling.voice_check import VoiceCheck, VoiceList
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.spellings import all_spellings
from voiceflow_worker.model.records.waiting import CAPPED, OUTSIDE_WINDOW
from voiceflow_worker.model.reports.verdict import NotSentCause, PostProgress, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.submit")

_CHECKED_AGAIN = (
    "held back: just before it left, its number was put on the suppression list, or the store was restarted"
)
_STOPPED = "its worker was stopped"
LIST_AGE = timedelta(seconds=1)
"""If a store cannot check the suppression list with the journal entry, a call is journalled at most this long after the
list was read. Otherwise the list is read again."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One leased job and its departure.

    `departure` is None if other workers have taken all departure times of the near future. `leased_at` is in monotonic
    seconds; a hold after this time stops the job.
    """

    job: Job
    departure: Departure | None
    leased_at: float
    locked_at: datetime

    @property
    def leaves_at_once(self) -> bool:
        """Whether the call may leave without a wait for a departure time."""
        return self.departure is not None and self.departure.is_at_once


class Submitter:
    """Takes leased jobs through their checks, their journal entry and their POST.

    `on_verdict` is called as soon as a POST has its verdict, with the verdict, the monotonic time at which the POST
    began, and the batch of the call. From it, the worker learns that 8x8 cannot be reached. `on_settled` is called when
    verdicts are stored.
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
        on_verdict: Callable[[Verdict, float, str | None], None],
        on_settled: Callable[[], None] = lambda: None,
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
        settler = Settler(store, policy, changes=changes)
        self._verdicts = UnsettledVerdicts(store.clock, settler, holds=holds, guard=guard, on_settled=on_settled)
        self._numbers = NumberLocks(store.records, policy)
        self._caps = PersonCaps(store.records, policy, jobs=store.jobs)
        self._suppression = SuppressionList(store)
        self._on_verdict = on_verdict
        self._voices = VoiceCheck(voices)

    async def begin_at_once(self, jobs: Sequence[Job], *, leased_at: float) -> tuple[list[Flight], Sequence[Job]]:
        """Lock the numbers of leased jobs that may leave now, and journal their POSTs, in one trip to the store.

        Returns the flights of the jobs that were journalled, and the jobs that must be taken through `prepare`. All
        jobs must be if there is a rate, a limit per person, a hold since `leased_at`, or a store that cannot do this in
        one trip. Otherwise only some must be, such as those with a second party, a number that is busy or on the
        suppression list, or a closed calling window. When it is not known whether the journal entries were stored,
        nothing is sent.
        """
        if not self._journal.can_lock or self._departures.is_paced or self._caps.is_limited:
            return [], jobs
        if self._holds.closed_since(leased_at):
            return [], jobs
        now = self._store.clock.now()
        fit = [job for job in jobs if now < job.due_at and job.may_ring(at=now) and len(job.parties) == 1]
        if not fit:
            return [], jobs
        await self._voices.look(fit)
        if self._departures.is_paced:
            return [], jobs
        # Taken first, which needs no trip without a rate: if a rate is set meanwhile, a journalled call must not depend
        # on the store once more.
        departures = await self._departures.take(len(fit))
        begun, left = await self._journalled(fit, locked_at=now, lock=True)
        self._departures.preparing.ended(leased_at)
        flights = [Flight(job, departure, leased_at, now) for job, departure in zip(begun, departures, strict=False)]
        done = {job.id for job in fit} - {job.id for job in left}
        return flights, [job for job in jobs if job.id not in done]

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Flight]:
        """Lock the numbers of leased jobs and take their departure times.

        A job is put back if its number is busy, its calling window is closed, or its person has had all allowed
        attempts. All jobs are put back if the store was set back to an older state. A job with a number on the
        suppression list ends. A job whose lease has ended is left to the sweep.
        """
        locks: dict[str, datetime] = {}
        while True:
            locked_at = self._store.clock.now()
            # When its lease has ended, another worker may have the job: its locks, and its place in the limit per
            # person, are not ours.
            ours = [job for job in jobs if locked_at < job.due_at]
            open_now = [job for job in ours if job.may_ring(at=locked_at)]
            locks.update((job.id, locked_at) for job in open_now)
            restarts = self._restarts
            locked, is_whole = await gather(partial(self._lock, open_now, at=locked_at), self._vet)
            if not is_whole:
                # Their numbers are not released: in a store that was set back, a lock may be that of a call that the
                # store has lost, and whose phone rings. The locks end by themselves.
                reason = f"held before it left: {self._holds.reason}"
                await self._journal.put_back([Unsent(job, reason) for job in jobs])
                return []
            if self._restarts == restarts:
                break
            # The server that took the locks may have lost them since.
        if len(open_now) < len(ours):
            shut = [job for job in ours if job not in open_now]
            await self._journal.put_back([Unsent(job, OUTSIDE_WINDOW, locks.get(job.id)) for job in shut])
        ready, bridged = await self._free(locked, now=locked_at)
        capped = await self._caps.reserve(ready, now=locked_at)
        ready = [job for job in ready if job not in [each for each, _ in capped]] if capped else ready
        await self._voices.look(ready)
        waiting = [Unsent(job, self._capped_words(), locked_at, until - locked_at) for job, until in capped]
        with_locks = {*locked.partly, *(job.id for job, _ in bridged)}
        busy = in_line([*locked.busy, *bridged], leased_at=leased_at, locked_at=locked_at, locked=with_locks)
        await self._journal.put_back([*busy, *waiting])
        departures = await self._departures.take(len(ready))
        self._departures.preparing.ended(leased_at)
        return [Flight(job, departure, leased_at, locked_at) for job, departure in zip_longest(ready, departures)]

    def _capped_words(self) -> str:
        limit = self._policy.max_per_person
        return "" if limit is None else f"its number has had {limit.in_words()}, {CAPPED}"

    async def _vet(self) -> bool:
        return self._guard is None or await self._guard.vet()

    @property
    def _restarts(self) -> int:
        return 0 if self._guard is None else self._guard.restarts

    async def _lock(self, jobs: Sequence[Job], *, at: datetime) -> Locked:
        """Lock the numbers of all jobs, and only then read the suppression list and the locks of bridges.

        In this order, no opt-out is missed: the call in which a person opts out keeps its lock until the number is on
        the list.
        """
        if not jobs:
            return Locked([], [], {})
        wanted = {SUPPRESSED: list(all_spellings(_numbers(jobs))), BESIDE: self._numbers.beside(jobs)}
        return await self._numbers.lock(jobs, now=at, then_read=wanted)

    async def _free(self, locked: Locked, *, now: datetime) -> tuple[Sequence[Job], Sequence[tuple[Job, str]]]:
        """The locked jobs that may be sent, and those that share a number with a menu's bridge, with this number."""
        listed = self._suppression.standing_in(locked.read.get(SUPPRESSED, {}), _numbers(locked.jobs))
        ready = await self._not_suppressed(locked.jobs, listed, locked_at=now)
        left = {job.id for job in ready}
        bridged = self._numbers.bridged(locked.jobs, locked.read.get(BESIDE, {}))
        taken = {job.id for job, _ in bridged}
        return [job for job in ready if job.id not in taken], [each for each in bridged if each[0].id in left]

    async def _not_suppressed(
        self, jobs: Sequence[Job], listed: Mapping[str, Suppression], *, locked_at: datetime
    ) -> Sequence[Job]:
        """The jobs without a number in `listed`, the entries of the suppression list; the others end."""
        if not listed:
            return jobs
        refused = {job.id: found[1] for job in jobs if (found := why_refused(job, listed)) is not None}
        ended = [(job, refused[job.id]) for job in jobs if job.id in refused]
        await self._journal.cancel(ended, locked_at=locked_at)
        return [job for job in jobs if job.id not in refused]

    @property
    def settling(self) -> int:
        """The number of POSTs that have ended, but whose verdict is not stored yet."""
        return self._verdicts.waiting

    async def fly(self, flight: Flight) -> None:
        """Journal one call shortly before its departure time, if it is not journalled yet, and send it.

        If this is cancelled before the call is journalled, the job goes back to the queue.
        """
        if flight.job.state is JobState.SENDING:
            await self._send(flight)
            return
        if flight.departure is None:
            # Put back, because a hold would not reach a call that waits here.
            await self._put_back(_unsent([flight], "the rate leaves no room for the call yet"))
            return
        try:
            await flight.departure.near()
        except cancellations():
            with anyio.move_on_after(LAST_WORD, shield=True):
                await self._put_back(_unsent([flight], _STOPPED))
            raise
        for begun in await self.begin([flight]):
            await self._send(begun)

    async def begin(self, flights: Sequence[Flight]) -> list[Flight]:
        """Write the journal entries of calls that were prepared together and leave now. Returns those that may be sent.

        When it is not known whether the journal entries were stored, nothing is sent. A call whose number was put on
        the suppression list meanwhile goes back to the queue, and ends when it is prepared again.
        """
        if not flights:
            return []
        jobs: Sequence[Job] = [flight.job for flight in flights]
        first = flights[0]
        check = self._journal.can_lock
        if not check and self._store.clock.now() - first.locked_at > LIST_AGE:
            # The store is slow, or the departure was far ahead.
            try:
                listed = await self._suppression.standing(_numbers(jobs))
                jobs = await self._not_suppressed(jobs, listed, locked_at=first.locked_at)
            except StoreError as error:
                _log.warning(
                    "the suppression list cannot be read; calls are not sent", jobs=_ids(jobs), error=str(error)
                )
                return []
            except cancellations():
                with anyio.move_on_after(LAST_WORD, shield=True):
                    await self._put_back(_unsent(flights, _STOPPED))
                raise
        if self._holds.closed_since(first.leased_at):
            unlisted = {job.id for job in jobs}
            held = [flight for flight in flights if flight.job.id in unlisted]
            await self._put_back(_unsent(held, f"held before it left: {self._holds.reason}"))
            return []
        begun, left = await self._journalled(jobs, locked_at=first.locked_at, check=check)
        # Their locks stay: in a store that was set back, a lock may be that of a call that the store has lost.
        await self._put_back([Unsent(job, _CHECKED_AGAIN, wait=LIST_AGE) for job in left])
        departures = {flight.job.id: flight.departure for flight in flights}
        return [replace(first, job=job, departure=departures[job.id]) for job in begun]

    async def _journalled(
        self, jobs: Sequence[Job], *, locked_at: datetime, lock: bool = False, check: bool = False
    ) -> Begun:
        """Journal these jobs, as `Journal.begin` does. The result is empty if it is not known whether they were."""
        began = self._departures.journalling.began()
        try:
            written = await self._journal.begin(jobs, locked_at=locked_at, lock=lock, check=check)
        except StoreError as error:
            _log.warning(
                "the journal entries of calls could not be stored; the calls are not sent now",
                jobs=_ids(jobs),
                error=str(error),
            )
            return [], []
        self._departures.journalling.ended(began)
        return written

    async def _send(self, flight: Flight) -> None:
        """POST one journalled call. This task settles the call, or hands it to a task that settles other calls now.

        If this is cancelled, the job is queued again if no byte can have left, and is in doubt otherwise. The state is
        stored, within a few seconds, before the cancellation continues.
        """
        early = EarlyHold(self._holds)
        held = partial(self._holds.reason_since, flight.leased_at, batch_id=flight.job.batch_id)
        progress = PostProgress(on_hold=early.order, held=held)
        try:
            await checkpoint_if_cancelled()
            reply = await self._post(flight, progress, early)
        except cancellations():
            await self._verdicts.settle(flight.job, self._cut_short(progress))
            raise
        await self._verdicts.settle(flight.job, reply)

    async def give_back(self, flights: Collection[Flight]) -> None:
        """When the worker stops, requeue the calls that have not left, if the store answers in time."""
        begun = [flight.job for flight in flights if flight.job.state is JobState.SENDING]
        with anyio.move_on_after(LAST_WORD, shield=True):
            await self._put_back(_unsent([each for each in flights if each.job not in begun], _STOPPED))
            for job in begun:
                await self._verdicts.settle(job, self._cut_short(PostProgress()))

    async def _post(self, flight: Flight, progress: PostProgress, early: EarlyHold) -> Reply:
        job = flight.job
        post = job.posts[-1]
        try:
            leaves = flight.departure is None or await flight.departure.depart(until=post.valid_until)
        except Exception as error:  # noqa: BLE001 - nothing has left, whatever the store raises
            _log.warning("a call got no departure time; it is not sent now", job=job.id, error=str(error))
            return self._not_sent(NotSentCause.STORE_AWAY, f"no departure time: {error}")
        if not leaves:
            return self._not_sent(
                NotSentCause.MISSED_DEPARTURE, "the call missed its departure time, and the next one is too far ahead"
            )
        if self._holds.closed_since(flight.leased_at):
            return self._not_sent(NotSentCause.HELD, f"held before it left: {self._holds.reason}")
        now = self._store.clock.now()
        if post.valid_until <= now:
            return self._not_sent(NotSentCause.TOO_LATE, "its submit window ended before the call left")
        placement = Placement(body=job.body, client_request_id=post.client_request_id, valid_until=post.valid_until)
        left_at = self._store.clock.monotonic()
        # A gateway that does not report its progress counts as having sent the call.
        progress.may_have_left = True
        try:
            verdict = await self._voice.place(placement, progress=progress, now=now)
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message)
            if not progress.may_have_left:
                verdict = Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.FAULT, message=message)
        self._on_verdict(verdict, left_at, job.batch_id)
        at = self._store.clock.now()
        return early.reply(verdict, at=at) or self._judged(verdict, sent_at=now, at=at)

    def _judged(self, verdict: Verdict, *, sent_at: datetime, at: datetime) -> Reply:
        """The reply for a verdict that has just come. If the verdict has a hold, this worker is held from now on."""
        hold = hold_of(verdict, sent_at=sent_at, answered_at=at, clock_skew=self._policy.clock_skew)
        if hold is not None:
            return Reply(verdict, at, gate=self._holds.close(hold))
        if verdict.http_status is not None:
            self._holds.relax()
        return Reply(verdict, at)

    def _not_sent(self, cause: NotSentCause, message: str) -> Reply:
        return Reply(Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message), self._store.clock.now())

    def _cut_short(self, progress: PostProgress) -> Reply:
        if not progress.may_have_left:
            return self._not_sent(NotSentCause.STOPPED, "the worker was stopped before the call left")
        message = "the worker was stopped while the call was on its way"
        return Reply(Verdict(kind=VerdictKind.UNKNOWN, message=message), self._store.clock.now())

    async def _put_back(self, unsent: Sequence[Unsent]) -> None:
        try:
            await self._journal.put_back(unsent)
        except StoreError as error:
            jobs = _ids([each.job for each in unsent])
            _log.warning(
                "calls could not be put back in the queue; they are queued again when their leases end",
                jobs=jobs,
                error=str(error),
            )


def _unsent(flights: Sequence[Flight], reason: str) -> list[Unsent]:
    return [Unsent(each.job, reason, each.locked_at) for each in flights]


def _numbers(jobs: Sequence[Job]) -> Iterator[str]:
    return (number for job in jobs for number in job.parties)


def _ids(jobs: Sequence[Job]) -> list[str]:
    return [job.id for job in jobs]
