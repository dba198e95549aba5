"""The sending of leased calls: their checks, their journal entries, their POSTs, and the tasks that do all this."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from msgspec import Struct

from voiceflow_worker.core import logs
from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.gates import SENT_WITHIN, Holds
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.outside import ConnectsAhead
from voiceflow_worker.core.ports.store import Result
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import Journal, Rejection, Requeue, classify_rejections
from voiceflow_worker.core.sending.pacer import Pacer
from voiceflow_worker.core.settling.verdicts import (
    SHUTDOWN_TIMEOUT,
    PendingVerdict,
    Verdicts,
    cancellations,
    hold_of,
)
from voiceflow_worker.errors import JournalFileError, StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import body_problem, body_to
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
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
_NO_CAPACITY = "the rate allows no further call yet"


class Dispatch(Struct, frozen=True):
    """One leased job on its way.

    `leased_at` and `asked_at`, the time at which the worker asked for the journal entry (the durable record "this POST
    is about to be sent"), are in monotonic seconds. A hold after `leased_at` stops the job. `reserved` is the
    connection that the gateway keeps for its POST. `slot` is the send slot that came with the journal entry, if the
    queue has a rate. `mark` notes that the first byte of the POST is sent now. `unsent` is the reason why a call with
    a journal entry is not sent, although it may be `sending` in the store.
    """

    job: Job
    leased_at: float
    asked_at: float = 0.0
    reserved: Reservation | None = None
    slot: SendSlot | None = None
    unsent: str | None = None
    mark: Callable[[], None] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether the call has its journal entry, or may have it."""
        return self.job.state is JobState.SENDING

    def release(self) -> None:
        """Release the connection, if no POST has used it."""
        if self.reserved is not None:
            self.reserved.release()


class Submitter:
    """Takes leased jobs through their checks, their journal entry and their POST, in steps that `SenderPool` takes.

    `on_verdict` is called as soon as a POST has its verdict, with the verdict, the monotonic time at which the POST
    began, and the batch of the call. From it, the worker learns that 8x8 cannot be reached. `on_unsent` is called
    with why journal entries could not be stored, and `on_progress` when they were, or the store said why they are not.
    """

    def __init__(
        self,
        store: Store,
        voice: Voice,
        *,
        policy: CallPolicy,
        lease: timedelta,
        pacer: Pacer,
        holds: Holds,
        verdicts: Verdicts,
        on_verdict: Callable[[Verdict, float, str | None], None],
        on_fault: Fault = lambda _part, _error: None,
        on_unsent: Fault = lambda _part, _error: None,
        on_progress: Callable[[], None] = lambda: None,
        guard: RollbackGuard | None = None,
    ) -> None:
        self._store = store
        self._voice = voice
        self._connect = voice.connect if isinstance(voice, ConnectsAhead) else None
        self._policy = policy
        self._pacer = pacer
        self._holds = holds
        self._guard = guard
        self._journal = Journal(store, policy, lease=lease, guard=guard, on_fault=on_unsent)
        self.on_progress = on_progress
        self._verdicts = verdicts
        self.on_fault: Fault = on_fault
        """Called with what has not happened, and the error because of which."""
        self._on_verdict = on_verdict
        self.unanswered: list[float] = []
        """When each POST was sent that has no answer yet, in monotonic seconds."""

    def limit_person(self, limit: PersonLimit | None) -> None:
        """Follow this limit per person from the next journal entry on."""
        self._policy = self._journal.policy = replace(self._policy, max_per_person=limit)

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Dispatch]:
        """The leased jobs that may go on to their journal entries, which check all else.

        A job whose calling window is closed is requeued. All jobs are requeued if the store was rolled back to an older
        state. A job whose lease has ended is left to the sweep; one that found no free line ends if a phone rang.
        """
        now = self._store.clock.now()
        # When its lease has ended, another worker may have the job.
        ours = [job for job in jobs if now < job.due_at]
        if self._guard is not None and not await self._guard.verify():
            await self._journal.requeue(
                [Requeue(job, f"held before it was sent: {self._holds.reason}") for job in ours]
            )
            return []
        closed = [job for job in ours if not job.may_ring(at=now)]
        if closed:
            await self._journal.requeue([Requeue.outside_window(job) for job in closed])
            ours = [job for job in ours if job not in closed]
        look = self._verdicts.settler.look_for_ringing
        return [Dispatch(job, leased_at) for job in ours if (await look(job)) is job]

    async def connected(self, dispatch: Dispatch, *, waits: bool) -> Dispatch | None:
        """The call with its connection; without `waits`, None if there is no kept one.

        Before the journal entry: a call that has its entry is sent, or requeued soon. If the gateway fails here, the
        POST will fail in the same way, and its verdict says why.
        """
        if self._connect is None or dispatch.reserved is not None:
            return dispatch
        try:
            reserved = await self._connect(waits=waits)
        except Exception as error:  # noqa: BLE001 - whatever a gateway raises
            _log.debug("the gateway could not get ready for a call", job=dispatch.job.id, error=str(error))
            return dispatch
        return None if reserved is None and not waits else replace(dispatch, reserved=reserved)

    async def begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Write the journal entries of calls together. Returns those that may be sent.

        When it is not known whether a journal entry was stored, its call is `unsent`: pass it to `send` all the same,
        because its job may be `sending` now. Calls for which no send slot is free in time come back as they are. A call
        that a condition keeps back ends, or goes back to the queue.
        """
        going: list[Dispatch] = []
        try:
            # A stop waits for this: it is short, and a cancellation would leave entries behind that nobody sends.
            with anyio.CancelScope(shield=True):
                going = await self._begin(dispatches)
        except Exception as error:  # noqa: BLE001 - nothing is sent, whatever was raised
            self.on_fault(Task.JOURNAL, error)
        finally:
            kept = {dispatch.job.id for dispatch in going if dispatch.unsent is None}
            for dispatch in dispatches:
                if dispatch.job.id not in kept:
                    dispatch.release()
        return going

    async def _begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        held = [each for each in dispatches if self._holds.closed_since(each.leased_at)]
        if held:
            await self.requeue(held, f"held before it was sent: {self._holds.reason}")
        waiting = {each.job.id: each for each in dispatches if each not in held}
        if not waiting:
            return []
        self._pacer.entries_requested()
        begun, refused = await self._journal.begin([each.job for each in waiting.values()], slot=self._pacer.slot())
        is_whole = all(each.unsent is None for each in begun)
        self._pacer.entries_answered(is_whole=is_whole)
        verified = [why.result is not Result.NOT_VERIFIED for _, why in refused]
        if self._guard is not None and not (is_whole and all(verified)):
            self._guard.look_again()
        if any(each.unsent is None for each in begun) or any(verified):
            self.on_progress()
        slots = (*(each.slot for each in begun), *(why.slot for _, why in refused))
        self._pacer.allotted((slot for slot in slots if slot is not None), is_begun=bool(begun))
        sending = [replace(waiting[each.job.id], **each._asdict()) for each in begun]
        early = [waiting[job.id] for job, why in refused if why.result is Result.NO_SLOT]
        back = [each for each in refused if each[1].result is not Result.NO_SLOT]
        try:
            if back:
                await self._settle_rejections(back)
        except Exception as error:  # noqa: BLE001 - the others are journalled, and sent all the same
            self._not_requeued([job for job, _ in refused], error)
        return sending + early

    async def _settle_rejections(self, refused: Sequence[Rejection]) -> None:
        """End the rejected jobs, or requeue them, each with the reason."""
        clock = self._store.clock
        ended, back = classify_rejections(
            refused, at=clock.now(), seed=clock.monotonic(), policy=self._policy, store_id=self._store.id
        )
        await self._journal.end(ended)
        await self._journal.requeue(back)

    async def send(self, dispatch: Dispatch) -> None:
        """POST one journalled call, and pass its verdict on (`Verdicts`).

        If this is cancelled, the job is requeued if no byte can have been sent, and is in doubt otherwise.
        """
        try:
            self._verdicts.add(dispatch.job, await self._pending_verdict(dispatch))
        finally:
            dispatch.release()

    async def _pending_verdict(self, dispatch: Dispatch) -> PendingVerdict:
        if dispatch.unsent is not None:
            reply = self._not_sent(NotSentCause.STORE_AWAY, dispatch.unsent)
            reply.is_known = False
            return reply
        closed: list[Gate] = []
        progress = PostProgress(
            on_hold=partial(self._close_early, closed),
            why_not=partial(self._leave, dispatch),
            reserved=dispatch.reserved,
        )
        try:
            await checkpoint_if_cancelled()
            return await self._post(dispatch, progress, closed)
        except cancellations():
            self._verdicts.add(dispatch.job, self._cut_short(progress))
            raise

    async def _close_early(self, closed: list[Gate], hold: QueueHold) -> None:
        """Hold the queue before the verdict is certain, which may take a second or more. The verdict holds it again."""
        closed.append(self._holds.close(hold))
        try:
            await self._holds.order(closed[0])
        except Exception as error:  # noqa: BLE001 - the answer is classified, whatever the store raises
            self.on_fault(Task.HOLD, error)

    async def requeue_unsent(self, dispatches: Collection[Dispatch]) -> None:
        """When the worker stops, requeue the calls that were not sent, if the store answers in time."""
        for dispatch in dispatches:
            dispatch.release()
            if dispatch.is_begun:
                reply = self._cut_short(PostProgress())
                reply.is_known = dispatch.unsent is None
                self._verdicts.add(dispatch.job, reply)
        with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
            await self.requeue([each for each in dispatches if not each.is_begun], _STOPPED)

    async def _post(self, dispatch: Dispatch, progress: PostProgress, closed: Sequence[Gate]) -> PendingVerdict:
        job = dispatch.job
        post = job.posts[-1]
        clock = self._store.clock
        if dispatch.slot is not None:
            left = dispatch.asked_at + SENT_WITHIN - clock.monotonic()
            if not await self._pacer.wait_for_slot(dispatch.slot, within=left):
                return self._not_sent(NotSentCause.MISSED_SLOT, "the call missed its send slot")
        if (late := self._why_not(dispatch)) is not None:
            return PendingVerdict(late, clock.now())
        if (problem := body_problem(job.body)) is not None:
            why = f"its body in the store is broken ({problem}): nobody was called; enqueue the call again"
            return self._not_sent(NotSentCause.BROKEN_BODY, why)
        now = clock.now()
        body = body_to(job.body, job.number) if job.place else job.body
        placement = Placement(
            body=body,
            client_request_id=post.client_request_id,
            valid_until=post.valid_until,
            client_batch_id=job.batch_id,
        )
        sent_at = clock.monotonic()
        # A gateway that does not report its progress counts as having sent the call.
        progress.may_have_been_sent = True
        if self._connect is None and (late := self._leave(dispatch)) is not None:
            return PendingVerdict(late, clock.now())
        self.unanswered.append(sent_at)
        try:
            verdict = await self._voice.place(placement, progress=progress, now=now)
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message)
            if not progress.may_have_been_sent:
                verdict = Verdict(kind=VerdictKind.NOT_SENT, cause=NotSentCause.FAULT, message=message)
        finally:
            self.unanswered.remove(sent_at)
        logs.answered(job, verdict)
        self._on_verdict(verdict, sent_at, job.batch_id)
        at = self._store.clock.now()
        if closed:
            return PendingVerdict(verdict, at, gate=closed[0])
        # If the verdict has a hold, this worker is held from now on.
        hold = hold_of(verdict, sent_at=now, answered_at=at, clock_skew=self._policy.clock_skew)
        if hold is not None:
            return PendingVerdict(verdict, at, gate=self._holds.close(hold))
        if verdict.http_status is not None:
            self._holds.relax()
        return PendingVerdict(verdict, at)

    def _why_not(self, dispatch: Dispatch) -> Verdict | None:
        """Why a call that has its journal entry may not be sent now, as a verdict; None if it may.

        Checked before the gateway gets the call, and again just before its first byte.
        """
        clock = self._store.clock
        if self._holds.closed_since(dispatch.leased_at):
            return _not_sent(NotSentCause.HELD, f"held before it was sent: {self._holds.reason}")
        if clock.monotonic() - dispatch.asked_at >= SENT_WITHIN:
            return _not_sent(
                NotSentCause.MISSED_SLOT, f"it could not be sent within {SENT_WITHIN:g} s of its journal entry"
            )
        if dispatch.job.posts[-1].valid_until <= clock.now():
            return _not_sent(NotSentCause.TOO_LATE, "its submit window ended before the call was sent")
        return None

    def _leave(self, dispatch: Dispatch) -> Verdict | None:
        """Note that the first byte of a call is sent now; or why it may not be."""
        if dispatch.mark is not None:
            try:
                dispatch.mark()
            except JournalFileError as error:
                return _not_sent(NotSentCause.STOPPED, f"its journal file could not be written: {error}")
        # After the mark, however long that took: this clock is read just before the byte.
        return self._why_not(dispatch)

    def _not_sent(self, cause: NotSentCause, message: str) -> PendingVerdict:
        return PendingVerdict(_not_sent(cause, message), self._store.clock.now())

    def _cut_short(self, progress: PostProgress) -> PendingVerdict:
        if not progress.may_have_been_sent:
            return self._not_sent(NotSentCause.STOPPED, "the worker was stopped before the call was sent")
        message = "the worker was stopped while the call was on its way"
        verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message, cause=NotSentCause.STOPPED)
        return PendingVerdict(verdict, self._store.clock.now())

    async def requeue(self, dispatches: Collection[Dispatch], reason: str) -> None:
        """Requeue calls without a journal entry."""
        for dispatch in dispatches:
            dispatch.release()
        jobs = [dispatch.job for dispatch in dispatches]
        try:
            await self._journal.requeue([Requeue(job, reason) for job in jobs])
        except Exception as error:  # noqa: BLE001 - the calls are requeued when their leases end
            self._not_requeued(jobs, error)

    def _not_requeued(self, jobs: Sequence[Job], error: Exception) -> None:
        self.on_fault(Task.REQUEUE, error)
        _log.warning(
            "calls could not be requeued; they are queued again when their leases end",
            jobs=[job.id for job in jobs],
            error=str(error),
            exc_info=None if isinstance(error, StoreError) else error,
        )


def _not_sent(cause: NotSentCause, message: str) -> Verdict:
    return Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message)


class SenderPool:
    """The tasks that send a worker's calls: one writes journal entries, in order; a POST has one of its own.

    `on_freed` is called when the worker can take another call, and `on_turn` when journal entries are asked for, whose
    commit other writes can share, or none is asked for soon.
    """

    def __init__(
        self, submitter: Submitter, pacer: Pacer, *, on_freed: Callable[[], None], on_turn: Callable[[], None]
    ) -> None:
        self._submitter = submitter
        self._pacer = pacer
        self._on_freed = on_freed
        self._on_turn = on_turn
        self._waiting: deque[Dispatch] = deque()
        self._came = anyio.Event()
        self._journalled: anyio.Event | None = None
        self._ready: deque[Dispatch] = deque()
        self._idle: list[anyio.Event] = []
        self.leased: int = 0
        """The number of calls that have no journal entry yet."""
        self.on_their_way: int = 0
        """The number of leased calls whose POST has no answer yet."""

    @property
    def asks_soon(self) -> bool:
        """Whether journal entries are asked for within a tenth of a second, under a rate."""
        return bool(self._waiting) and self._pacer.asks_soon

    def add_leased(self, count: int) -> None:
        """Count calls that were leased."""
        self.leased += count
        self.on_their_way += count

    def drop_leased(self, count: int) -> None:
        """Subtract calls that were leased but will not be sent."""
        self.leased -= count
        self.on_their_way -= count
        if count:
            self._on_freed()

    async def add(self, dispatches: Iterable[Dispatch], group: TaskGroup) -> None:
        """Take prepared calls that `add_leased` counted. Those without a connection of the gateway connect first."""
        for dispatch in dispatches:
            connected = await self._submitter.connected(dispatch, waits=False)
            if connected is None:
                group.start_soon(self._connect, dispatch)
            else:
                self._wait(connected)

    def _tell_journalled(self) -> None:
        """Wake whoever waits until calls have their journal entries."""
        if self._journalled is not None:
            self._journalled.set()
            self._journalled = None

    async def wait_until_journalled(self) -> None:
        """Wait until the calls that are ready have their journal entries."""
        while self._waiting:
            journalled = self._journalled = self._journalled or anyio.Event()
            await journalled.wait()

    async def run(self, group: TaskGroup) -> None:
        """Write the journal entries of calls when their send slots are near, and send the calls in tasks of this group.

        Calls that were not sent when the group ends are requeued.
        """
        try:
            while True:
                await self._came.wait()
                while self._waiting:
                    try:
                        await self._journal_next(group)
                    except Exception as error:  # noqa: BLE001 - a fault of ours must cut no POST
                        self._submitter.on_fault(Task.JOURNAL, error)
                        left, self._waiting = self._waiting, deque()
                        await self._submitter.requeue(left, "an unexpected error kept the call from being sent")
                        self.drop_leased(len(left))
                        self._on_turn()
                        self._tell_journalled()
                self._came = anyio.Event()
        finally:
            await self._requeue_unsent(self._waiting)

    async def _journal_next(self, group: TaskGroup) -> None:
        """Write the next journal entries, if their slots are near; else requeue the calls for other workers."""
        if self._pacer.is_far:
            self._submitter.on_progress()
            count, going = len(self._waiting), list[Dispatch]()
            await self._submitter.requeue(list(self._waiting), _NO_CAPACITY)
        else:
            await self._pacer.wait_until_near()
            self._on_turn()
            some = list(islice(self._waiting, self._pacer.entries_to_request()))
            count, going = len(some), await self._submitter.begin(some)
        for _ in range(count):
            self._waiting.popleft()
        begun = [each for each in going if each.is_begun]
        self._waiting.extendleft(each for each in reversed(going) if not each.is_begun)
        self.leased -= count - len(going) + len(begun)
        self.on_their_way -= count - len(going)
        self._on_freed()
        if len(begun) < count or not self.asks_soon:
            self._on_turn()
        for dispatch in begun:
            self._ready.append(dispatch)
            if self._idle:
                self._idle.pop().set()
            else:
                group.start_soon(self._send_calls)
        self._tell_journalled()

    def _wait(self, dispatch: Dispatch) -> None:
        if self._pacer.is_paced:
            self._pacer.preparation_latency.record(dispatch.leased_at)
        self._waiting.append(dispatch)
        self._came.set()

    async def _connect(self, dispatch: Dispatch) -> None:
        try:
            self._wait(await self._submitter.connected(dispatch, waits=True) or dispatch)
        except cancellations():
            await self._requeue_unsent([dispatch])
            raise

    async def _requeue_unsent(self, left: Collection[Dispatch]) -> None:
        if left:
            await self._submitter.requeue_unsent(left)
            waiting = sum(not each.is_begun for each in left)
            self.leased -= waiting
            self.on_their_way -= len(left)
            self._on_freed()

    async def _send_calls(self) -> None:
        woken = anyio.Event()
        try:
            while True:
                while self._ready:
                    await self._send(self._ready.popleft())
                woken = anyio.Event()
                self._idle.append(woken)
                await woken.wait()
        finally:
            if woken in self._idle:
                self._idle.remove(woken)
            left, self._ready = self._ready, deque()
            await self._requeue_unsent(left)

    async def _send(self, dispatch: Dispatch) -> None:
        try:
            await self._submitter.send(dispatch)
        except Exception as error:  # noqa: BLE001 - a fault of one call must not end the others; the call ends in doubt
            self._submitter.on_fault(Task.SEND, error)
            _log.exception(
                "an unexpected error stopped the sending of a call, or the reading of its answer; when its lease ends, "
                "the call is queued again or in doubt",
                job=dispatch.job.id,
            )
        finally:
            self.on_their_way -= 1
            self._on_freed()
