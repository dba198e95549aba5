"""The sending of a prepared call: its POST, its reply, and the tasks that send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import zip_longest

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from voiceflow_worker.core import call_lines, tracing
from voiceflow_worker.core.gates import LEAVES_WITHIN, Holds
from voiceflow_worker.core.heartbeats import WorkCounts
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.outside import ConnectsAhead
from voiceflow_worker.core.ports.store import Record
from voiceflow_worker.core.ports.trips import gather
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import Journal, Refused, Unsent, by_group, refused_by, sorted_out, wanted_by
from voiceflow_worker.core.sending.slots import SendSlot, SendSlots
from voiceflow_worker.core.sending.unsettled import (
    SHUTDOWN_TIMEOUT,
    Fault,
    Reply,
    UnsettledVerdicts,
    cancellations,
    hold_of,
)
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.units import NUMBER, PARTY
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.flows.callflow import body_to
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.verdict import (
    NotSentCause,
    PostProgress,
    QueueHold,
    Reservation,
    Verdict,
    VerdictKind,
)

_log = structlog.get_logger("voiceflow.submit")

_STOPPED = "its worker was stopped"
_NOT_JOURNALLED = "journal entries of calls were not stored, and the calls are not sent now"
_NOT_HELD = "a hold that an answer of 8x8 asks for was not stored"
_NOT_PUT_BACK = "calls were not put back in the queue before their leases end"
_NOT_SENT = "a call was not sent, or its answer not read"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One leased job and its slot.

    `slot` is None if other workers have taken all send slots of the near future. `leased_at` and `asked_at`,
    the time at which the worker asked for the journal entry, are in monotonic seconds. A hold after `leased_at` stops
    the job. `reserved` is the connection that the gateway keeps for its POST. `unsent` is the reason why a call with a
    journal entry is not sent, although it may be `sending` in the store.
    """

    job: Job
    slot: SendSlot | None
    leased_at: float
    asked_at: float = 0.0
    reserved: Reservation | None = None
    unsent: str | None = None

    @property
    def leaves_at_once(self) -> bool:
        """Whether the call may leave without a wait for a send slot."""
        return self.slot is not None and self.slot.is_at_once

    def release(self) -> None:
        """Give the connection back, if no POST has used it."""
        if self.reserved is not None:
            self.reserved.release()


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
        slots: SendSlots,
        holds: Holds,
        changes: Changes,
        on_verdict: Callable[[Verdict, float, str | None], None],
        on_settled: Callable[[], None] = lambda: None,
        on_fault: Fault = lambda _part, _error: None,
        guard: RollbackGuard | None = None,
        counts: WorkCounts | None = None,
    ) -> None:
        self._store = store
        self._voice = voice
        self._connect = voice.connect if isinstance(voice, ConnectsAhead) else None
        self._policy = policy
        self._slots = slots
        self._holds = holds
        self._guard = guard
        self._journal = Journal(store, policy, lease=lease, guard=guard)
        settler = Settler(store, policy, changes=changes)
        self._verdicts = UnsettledVerdicts(
            store.clock,
            settler,
            holds=holds,
            guard=guard,
            on_settled=on_settled,
            on_fault=on_fault,
            counts=counts or WorkCounts(),
        )
        self.on_fault: Fault = on_fault
        """Hears of what was raised, and what has not happened because of it."""
        self._on_verdict = on_verdict

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Dispatch]:
        """Check leased jobs, which only reads, and take their send slots.

        A job is put back if its number is busy, its calling window is closed, or a gate has closed. All jobs are put
        back if the store was rolled back to an older state. A job with a number on the suppression list ends. A job
        whose lease has ended is left to the sweep. The journal entry makes the same checks again, and those of limits.
        Without a rate it follows at once, and a look before it would only cost a trip.
        """
        now = self._store.clock.now()
        # When its lease has ended, another worker may have the job.
        ours = [job for job in jobs if now < job.due_at]
        fit = [job for job in ours if job.may_ring(at=now) and not job.is_expired(at=now)]
        (ready, refused), is_whole = await gather(partial(self._checked, fit), self._vet)
        if not is_whole:
            await self._journal.put_back([Unsent(job, f"held before it left: {self._holds.reason}") for job in ours])
            return []
        await self._journal.put_back([Unsent.outside_window(job) for job in ours if not job.may_ring(at=now)])
        await self._turn_back(refused, leased_at=leased_at)
        ready += [job for job in ours if job.may_ring(at=now) and job.is_expired(at=now)]  # the journal ends them
        slots = await self._slots.take(len(ready))
        self._slots.preparing.ended(leased_at)
        return [Dispatch(job, slot, leased_at) for job, slot in zip_longest(ready, slots)]

    async def _checked(self, jobs: Sequence[Job]) -> tuple[list[Job], list[Refused]]:
        """The jobs that may get a journal entry now, as far as one trip shows, and the others."""
        if not self._slots.is_paced:
            return list(jobs), []
        entries = [(job, self._journal.entry(job)[1]) for job in jobs]
        wanted = wanted_by([need for _, unit in entries for need in unit.needs])
        found: Mapping[str, Sequence[Record]] = {}
        if wanted:
            found = await self._store.records(wanted, now=self._store.clock.now())
        standing = by_group(found)
        ready: list[Job] = []
        refused: list[Refused] = []
        for job, unit in entries:
            answer = refused_by(unit, standing)
            if answer is not None:
                refused.append((job, answer))
                continue
            ready.append(job)
            # Jobs that were leased together may share a number: the first gets it.
            for put in unit.puts:
                if put.namespace in {NUMBER, PARTY}:
                    held = standing.setdefault(put.namespace, {}).setdefault(put.group, [])
                    held.append(Record(put.group, put.value, put.ends_at, put.member))
        return ready, refused

    async def _turn_back(self, refused: Sequence[Refused], *, leased_at: float) -> None:
        """End the refused jobs, or put them back, each with the reason."""
        now = self._store.clock.now()
        ended, back = sorted_out(refused, at=now, leased_at=leased_at, policy=self._policy)
        await self._journal.end(ended)
        await self._journal.put_back(back)

    async def _vet(self) -> bool:
        return self._guard is None or await self._guard.vet()

    @property
    def settling(self) -> int:
        """The number of POSTs that have ended, but whose verdict is not stored yet."""
        return self._verdicts.waiting

    async def dispatch(self, dispatch: Dispatch) -> None:
        """Journal one call shortly before its send slot, if it is not journalled yet, and send it.

        If this is cancelled before the call is journalled, the job goes back to the queue.
        """
        try:
            if dispatch.job.state is JobState.SENDING:
                await self._send(dispatch)
                return
            slot = dispatch.slot
            if slot is None:
                # Put back, because a hold would not reach a call that waits here.
                await self._put_back(_unsent([dispatch], "the rate leaves no room for the call yet"))
                return
            try:
                began = self._slots.connecting.began()
                dispatch = await self._connected(dispatch)
                self._slots.connecting.ended(began)
                await slot.near()
            except cancellations():
                with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
                    await self._put_back(_unsent([dispatch], _STOPPED))
                raise
            for begun in await self.begin([dispatch]):
                await self._send(begun)
        finally:
            dispatch.release()

    async def _connected(self, dispatch: Dispatch, *, waits: bool = True) -> Dispatch:
        """The call with its connection. Before the journal entry: a call that has its entry leaves, or goes back soon.

        If the gateway fails here, the POST will fail in the same way, and its verdict says why.
        """
        if self._connect is None or dispatch.reserved is not None:
            return dispatch
        try:
            return replace(dispatch, reserved=await self._connect(waits=waits))
        except Exception as error:  # noqa: BLE001 - whatever a gateway raises
            _log.debug("the gateway could not get ready for a call", job=dispatch.job.id, error=str(error))
            return dispatch

    async def begin_at_once(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Journal together the calls that leave now over kept connections; the others come back as they are.

        The others must wait for their slots, or connect first.
        """
        if not all(dispatch.leaves_at_once for dispatch in dispatches):
            return list(dispatches)
        dispatches = [await self._connected(dispatch, waits=False) for dispatch in dispatches]
        ready = [dispatch for dispatch in dispatches if self._connect is None or dispatch.reserved is not None]
        return [*await self.begin(ready), *[dispatch for dispatch in dispatches if dispatch not in ready]]

    async def begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Write the journal entries of calls that were prepared together and leave now. Returns those that may be sent.

        When it is not known whether a journal entry was stored, its call is `unsent`: pass it to `fly` all the same,
        because its job may be `sending` now. A call that a condition keeps back ends, or goes back to the queue, and
        another call gets its slot.
        """
        begun: list[Dispatch] = []
        try:
            begun = await self._begin(dispatches)
        finally:
            going = {dispatch.job.id for dispatch in begun if dispatch.unsent is None}
            for dispatch in dispatches:
                if dispatch.job.id not in going:
                    dispatch.release()
        return begun

    async def _begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        if not dispatches:
            return []
        first = dispatches[0]
        if self._holds.closed_since(first.leased_at):
            await self._put_back(_unsent(dispatches, f"held before it left: {self._holds.reason}"))
            return []
        jobs = [dispatch.job for dispatch in dispatches]
        asked_at = self._slots.journalling.began()
        try:
            begun, refused = await self._journal.begin(jobs)
            if all(each.unsent is None for each in begun):
                self._slots.journalling.ended(asked_at)
            waiting = {dispatch.job.id: dispatch for dispatch in dispatches}
            sending = [replace(waiting.pop(job.id), job=job, asked_at=at, unsent=unsent) for job, at, unsent in begun]
            self._slots.give_back([each.slot for each in waiting.values() if each.slot is not None])
        except Exception as error:  # noqa: BLE001 - nothing leaves, whatever was raised
            self.on_fault(_NOT_JOURNALLED, error)
            return []
        try:
            await self._turn_back(refused, leased_at=first.leased_at)
        except Exception as error:  # noqa: BLE001 - the others are journalled, and leave all the same
            self.on_fault(_NOT_PUT_BACK, error)
            _log.warning(
                "calls could not be put back in the queue; they are queued again when their leases end",
                jobs=_ids([job for job, _ in refused]),
                error=str(error),
                exc_info=None if isinstance(error, StoreError) else error,
            )
        return sending

    async def _send(self, dispatch: Dispatch) -> None:
        """POST one journalled call. This task settles the call, or hands it to a task that settles other calls now.

        If this is cancelled, the job is queued again if no byte can have left, and is in doubt otherwise. The state is
        stored, within a few seconds, before the cancellation continues.
        """
        if dispatch.unsent is not None:
            verdict = self._not_sent(NotSentCause.STORE_AWAY, dispatch.unsent)
            await self._verdicts.settle(dispatch.job, replace(verdict, is_known=False))
            return
        closed: list[Gate] = []
        progress = PostProgress(
            on_hold=partial(self._close_early, closed),
            held=partial(self._holds.reason_since, dispatch.leased_at, batch_id=dispatch.job.batch_id),
            why_not=partial(self._why_not, dispatch),
            reserved=dispatch.reserved,
        )
        try:
            await checkpoint_if_cancelled()
            reply = await self._post(dispatch, progress, closed)
        except cancellations():
            await self._verdicts.settle(dispatch.job, self._cut_short(progress))
            raise
        await self._verdicts.settle(dispatch.job, reply)

    async def _close_early(self, closed: list[Gate], hold: QueueHold) -> None:
        """Hold the queue after an answer whose proof takes a second or more. The verdict gives the same order again."""
        closed.append(self._holds.close(hold))
        try:
            await self._holds.order(closed[0])
        except Exception as error:  # noqa: BLE001 - the answer is judged, whatever the store raises
            self.on_fault(_NOT_HELD, error)

    async def give_back(self, dispatches: Collection[Dispatch]) -> None:
        """When the worker stops, requeue the calls that have not left, if the store answers in time."""
        begun = [dispatch for dispatch in dispatches if dispatch.job.state is JobState.SENDING]
        for dispatch in dispatches:
            dispatch.release()
        with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
            await self._put_back(_unsent([each for each in dispatches if each not in begun], _STOPPED))
            for dispatch in begun:
                reply = self._cut_short(PostProgress())
                await self._verdicts.settle(dispatch.job, replace(reply, is_known=dispatch.unsent is None))

    async def _post(self, dispatch: Dispatch, progress: PostProgress, closed: Sequence[Gate]) -> Reply:
        job = dispatch.job
        post = job.posts[-1]
        clock = self._store.clock
        left = timedelta(seconds=dispatch.asked_at + LEAVES_WITHIN - clock.monotonic())
        until = min(post.valid_until, clock.now() + left)
        try:
            leaves = dispatch.slot is None or await dispatch.slot.wait(until=until)
        except Exception as error:  # noqa: BLE001 - nothing has left, whatever the store raises
            _log.warning("a call got no send slot; it is not sent now", job=job.id, error=str(error))
            return self._not_sent(NotSentCause.STORE_AWAY, f"no send slot: {error}")
        if not leaves:
            return self._not_sent(
                NotSentCause.MISSED_DEPARTURE, "the call missed its send slot, and the next one is too far ahead"
            )
        if (late := self._why_not(dispatch)) is not None:
            return Reply(late, clock.now())
        now = clock.now()
        body = body_to(job.body, job.number) if job.place else job.body
        placement = Placement(body=body, client_request_id=post.client_request_id, valid_until=post.valid_until)
        left_at = clock.monotonic()
        # A gateway that does not report its progress counts as having sent the call.
        progress.may_have_left = True
        span = tracing.post_begun(job)
        call_lines.post_begun(job)
        try:
            verdict = await self._voice.place(placement, progress=progress, now=now)
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message)
            if not progress.may_have_left:
                verdict = Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.FAULT, message=message)
        except BaseException:
            tracing.post_ended(span, None)
            raise
        tracing.post_ended(span, verdict)
        call_lines.answered(job, verdict)
        self._on_verdict(verdict, left_at, job.batch_id)
        at = self._store.clock.now()
        return Reply(verdict, at, gate=closed[0]) if closed else self._judged(verdict, sent_at=now, at=at)

    def _judged(self, verdict: Verdict, *, sent_at: datetime, at: datetime) -> Reply:
        """The reply for a verdict that has just come. If the verdict has a hold, this worker is held from now on."""
        hold = hold_of(verdict, sent_at=sent_at, answered_at=at, clock_skew=self._policy.clock_skew)
        if hold is not None:
            return Reply(verdict, at, gate=self._holds.close(hold))
        if verdict.http_status is not None:
            self._holds.relax()
        return Reply(verdict, at)

    def _why_not(self, dispatch: Dispatch) -> Verdict | None:
        """Why a call that has its journal entry may not leave now, as a verdict; None if it may.

        Looked at before the gateway gets the call, and again just before its first byte.
        """
        clock = self._store.clock
        if self._holds.closed_since(dispatch.leased_at):
            return _not_sent(NotSentCause.HELD, f"held before it left: {self._holds.reason}")
        if clock.monotonic() - dispatch.asked_at >= LEAVES_WITHIN:
            return _not_sent(
                NotSentCause.MISSED_DEPARTURE, f"it could not leave within {LEAVES_WITHIN:g} s of its journal entry"
            )
        if dispatch.job.posts[-1].valid_until <= clock.now():
            return _not_sent(NotSentCause.TOO_LATE, "its submit window ended before the call left")
        return None

    def _not_sent(self, cause: NotSentCause, message: str) -> Reply:
        return Reply(_not_sent(cause, message), self._store.clock.now())

    def _cut_short(self, progress: PostProgress) -> Reply:
        if not progress.may_have_left:
            return self._not_sent(NotSentCause.STOPPED, "the worker was stopped before the call left")
        message = "the worker was stopped while the call was on its way"
        return Reply(Verdict(kind=VerdictKind.UNKNOWN, message=message), self._store.clock.now())

    async def _put_back(self, unsent: Sequence[Unsent]) -> None:
        try:
            await self._journal.put_back(unsent)
        except Exception as error:  # noqa: BLE001 - the ends of their leases bring the calls back
            self.on_fault(_NOT_PUT_BACK, error)
            jobs = _ids([each.job for each in unsent])
            _log.warning(
                "calls could not be put back in the queue; they are queued again when their leases end",
                jobs=jobs,
                error=str(error),
            )


def _not_sent(cause: NotSentCause, message: str) -> Verdict:
    return Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message)


def _unsent(dispatches: Collection[Dispatch], reason: str) -> list[Unsent]:
    return [Unsent(each.job, reason) for each in dispatches]


def _ids(jobs: Sequence[Job]) -> list[str]:
    return [job.id for job in jobs]


class Senders:
    """Sends prepared calls in tasks that are reused, and counts the calls in flight.

    `on_freed` is called when the worker may have room for another call.
    """

    def __init__(self, submitter: Submitter, *, on_freed: Callable[[], None]) -> None:
        self._submitter = submitter
        self._on_freed = on_freed
        self._flying = 0
        self._ready: deque[Dispatch] = deque()
        self._idle: list[anyio.Event] = []

    @property
    def flying(self) -> int:
        """The number of leased calls that wait for their slot or for the answer of 8x8."""
        return self._flying

    @property
    def in_flight(self) -> int:
        """The number of leased calls without a stored verdict."""
        return self._flying + self._submitter.settling

    def occupy(self, count: int) -> None:
        """Count calls that were leased."""
        self._flying += count

    def free(self, count: int) -> None:
        """Subtract calls that were leased but will not be sent."""
        self._flying -= count
        if count:
            self._on_freed()

    def send(self, dispatches: Iterable[Dispatch], group: TaskGroup) -> None:
        """Send calls that `occupy` counted, in tasks of this group.

        Calls that have not left when the group ends are put back.
        """
        for dispatch in dispatches:
            self._ready.append(dispatch)
            if self._idle:
                self._idle.pop().set()
            else:
                group.start_soon(self._send_calls)

    async def _send_calls(self) -> None:
        woken = anyio.Event()
        try:
            while True:
                while self._ready:
                    await self._dispatch(self._ready.popleft())
                woken = anyio.Event()
                self._idle.append(woken)
                await woken.wait()
        finally:
            if woken in self._idle:
                self._idle.remove(woken)
            left, self._ready = self._ready, deque()
            if left:
                await self._submitter.give_back(left)
                self.free(len(left))

    async def _dispatch(self, dispatch: Dispatch) -> None:
        try:
            await self._submitter.dispatch(dispatch)
        except Exception as error:  # noqa: BLE001 - a fault of one call must not end the others; the call ends in doubt
            self._submitter.on_fault(_NOT_SENT, error)
            _log.exception(
                "an unexpected error stopped the sending of a call, or the reading of its answer; when its lease ends, "
                "the call is queued again or in doubt",
                job=dispatch.job.id,
            )
        finally:
            self._flying -= 1
            self._on_freed()
