"""The sending of leased calls: their checks, their journal entries, their POSTs, and the tasks that do all this."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from voiceflow_worker.core import logs
from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.gates import SENT_WITHIN, Holds
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.outside import ProvesHolds
from voiceflow_worker.core.ports.store import Result
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import Dispatch, Journal, Rejection, Requeue, classify_rejections
from voiceflow_worker.core.sending.pacer import Pacer
from voiceflow_worker.core.settling.settle import PostAnswer
from voiceflow_worker.core.settling.verdicts import SHUTDOWN_TIMEOUT, Verdicts, cancellations, hold_of
from voiceflow_worker.errors import JournalFileError, StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import body_problem, body_to
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
from voiceflow_worker.model.reports.verdict import (
    Departure,
    NotSentCause,
    NotSentError,
    Verdict,
    VerdictKind,
)

_log = structlog.get_logger("voiceflow.submit")

_STOPPED = "its worker was stopped"
_NO_CAPACITY = "the rate allows no further call yet"
Enter = Callable[[Dispatch], Awaitable[None]]
"""A function that asks for the journal entry of a call, and returns when the store has answered."""


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
        self._holding = voice if isinstance(voice, ProvesHolds) else None
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

    @property
    def is_held_back(self) -> bool:
        """Whether no POST begins now, because it is not certain yet whether an answer holds the queue."""
        return self._holding is not None and self._holding.has_unproven_hold

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
        return going

    async def _begin(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        held = [each for each in dispatches if self._holds.closed_since(each.leased_at)]
        if held:
            await self.requeue(held, f"held before it was sent: {self._holds.reason}")
        waiting = [each for each in dispatches if each not in held]
        if not waiting:
            return []
        self._pacer.entries_requested()
        self._verdicts.store()  # they share the commit
        begun, refused = await self._journal.begin(waiting, slot=self._pacer.slot())
        is_whole = all(each.unsent is None for each in begun)
        self._pacer.entries_answered(is_whole=is_whole)
        verified = [each.why.result is not Result.NOT_VERIFIED for each in refused]
        if self._guard is not None and not (is_whole and all(verified)):
            self._guard.look_again()
        if any(each.unsent is None for each in begun) or any(verified):
            self.on_progress()
        slots = (*(each.slot for each in begun), *(each.why.slot for each in refused))
        self._pacer.allotted((slot for slot in slots if slot is not None), is_begun=bool(begun))
        early = [each.dispatch for each in refused if each.why.result is Result.NO_SLOT]
        back = [each for each in refused if each.why.result is not Result.NO_SLOT]
        try:
            if back:
                await self._settle_rejections(back)
        except Exception as error:  # noqa: BLE001 - the others are journalled, and sent all the same
            self._not_requeued([each.dispatch.job for each in refused], error)
        return begun + early

    async def _settle_rejections(self, refused: Sequence[Rejection]) -> None:
        """End the rejected jobs, or requeue them, each with the reason."""
        clock = self._store.clock
        ended, back = classify_rejections(
            refused, at=clock.now(), seed=clock.monotonic(), policy=self._policy, store_id=self._store.id
        )
        await self._journal.end(ended)
        await self._journal.requeue(back)

    async def follow_orders(self, dispatches: Iterable[Dispatch]) -> None:
        """Put back those of these calls, which wait for their slots, against which an order has come since.

        An order waits for what has left too, so verdicts are stored now.
        """
        self._verdicts.store()
        ahead = [each for each in dispatches if not (each.has_left or each.unsent or each.held)]
        answers = await self._journal.ordered_back([each.job for each in ahead]) if ahead else ()
        for each, answer in zip(ahead, answers, strict=True):
            if answer.result is Result.NOT_FREE and not each.has_left:
                each.held = "an order came before it was sent"
                self._verdicts.add(self._not_sent(each, NotSentCause.HELD, each.held))

    async def send(self, dispatch: Dispatch, enter: Enter | None = None) -> None:
        """POST one call, and pass its verdict on (`Verdicts`). `enter` asks for its journal entry, if it has none.

        If this is cancelled, the job is requeued if no byte can have been sent, and is in doubt otherwise.
        """
        try:
            await checkpoint_if_cancelled()
            began_at, verdict = self._store.clock.monotonic(), await self._verdict(dispatch, enter)
        except cancellations():
            await self._give_up(dispatch)
            raise
        if dispatch.unsent is not None:
            self._verdicts.add(self._not_sent(dispatch, NotSentCause.STORE_AWAY, dispatch.unsent))
        elif dispatch.held is None and (dispatch.is_begun or dispatch.answered is None):
            self._verdicts.add(self._answer(dispatch, verdict, dispatch.left_at or began_at))

    async def _give_up(self, dispatch: Dispatch) -> None:
        """Requeue a call that was cancelled, or put it in doubt."""
        if not dispatch.is_begun:
            await self.requeue_unsent([dispatch])
        elif dispatch.held is None:
            self._verdicts.add(self._cut_short(dispatch))

    async def requeue_unsent(self, dispatches: Collection[Dispatch]) -> None:
        """When the worker stops, requeue calls without a journal entry, if the store answers in time."""
        with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
            await self.requeue(dispatches, _STOPPED)

    async def _verdict(self, dispatch: Dispatch, enter: Enter | None) -> Verdict:
        """The verdict on the POST of a call."""
        job = dispatch.job
        if (problem := body_problem(job.body)) is not None:
            why = f"its body in the store is broken ({problem}): nobody was called; enqueue the call again"
            return _not_sent(NotSentCause.BROKEN_BODY, why)
        if dispatch.is_begun:
            number, dispatch.valid_until = job.post_count, job.posts[-1].valid_until
        else:
            now = self._store.clock.now()
            number = job.post_count + 1
            dispatch.valid_until = lifecycle.valid_until_of_post(job, at=now, policy=self._policy)
        placement = Placement(
            body=body_to(job.body, job.number) if job.place else job.body,
            client_request_id=job.request_id(number),
            valid_until=dispatch.valid_until,
            client_batch_id=job.batch_id,
        )
        try:
            return await self._voice.place(placement, before_first_byte=partial(self._commit, dispatch, enter))
        except NotSentError as error:
            return error.verdict
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            if dispatch.has_left:
                return Verdict(kind=VerdictKind.UNKNOWN, message=message)
            return _not_sent(NotSentCause.FAULT, message)
        finally:
            if dispatch.left_at is not None:
                self.unanswered.remove(dispatch.left_at)

    async def _commit(self, dispatch: Dispatch, enter: Enter | None) -> Departure:
        """Write the journal entry of a call whose connection stands, and wait for its slot.

        Then its first byte is sent. Raises NotSentError if the call may not be sent.
        """
        if enter is not None:
            await enter(dispatch)
        clock = self._store.clock
        if not dispatch.is_begun or dispatch.unsent is not None:
            raise NotSentError(_not_sent(NotSentCause.STORE_AWAY, dispatch.unsent or "it has no journal entry"))
        if dispatch.slot is not None:
            left = dispatch.asked_at + SENT_WITHIN - clock.monotonic()
            if not await self._pacer.wait_for_slot(dispatch.slot, within=left):
                raise NotSentError(_not_sent(NotSentCause.MISSED_SLOT, "the call missed its send slot"))
        if (why := self._leave(dispatch)) is not None:
            raise NotSentError(why)
        return Departure(clock.now(), dispatch.asked_at + SENT_WITHIN - clock.monotonic())

    def _answer(self, dispatch: Dispatch, verdict: Verdict, sent_at: float) -> PostAnswer:
        """The answer to the POST of a call, which was sent then (monotonic), and what it means for this worker."""
        clock, answer = self._store.clock, self._answered(dispatch, verdict)
        logs.answered(dispatch.job, answer.number, verdict)
        self._on_verdict(verdict, sent_at, dispatch.job.batch_id)
        sent = clock.now() - timedelta(seconds=clock.monotonic() - sent_at)
        # If the verdict has a hold, this worker is held from now on.
        if hold := hold_of(verdict, sent_at=sent, answered_at=answer.at, clock_skew=self._policy.clock_skew):
            answer.gate = self._holds.close(hold)
        elif verdict.http_status is not None:
            self._holds.relax()
        if dispatch.entry is not None:
            answer.keep_in(dispatch.entry)
        return answer

    def _why_not(self, dispatch: Dispatch, now: datetime, monotonic: float) -> Verdict | None:
        """Why a call that has its journal entry may not be sent now, as a verdict; None if it may."""
        if dispatch.held is not None:
            return _not_sent(NotSentCause.HELD, dispatch.held)
        if self._holds.closed_since(dispatch.leased_at):
            return _not_sent(NotSentCause.HELD, f"held before it was sent: {self._holds.reason}")
        if self.is_held_back:
            return _not_sent(NotSentCause.HELD, "not sent before it is certain whether an answer holds the queue")
        if monotonic - dispatch.asked_at >= SENT_WITHIN:
            return _not_sent(
                NotSentCause.MISSED_SLOT, f"it could not be sent within {SENT_WITHIN:g} s of its journal entry"
            )
        if dispatch.job.posts[-1].valid_until <= now:
            return _not_sent(NotSentCause.TOO_LATE, "its submit window ended before the call was sent")
        return None

    def _leave(self, dispatch: Dispatch) -> Verdict | None:
        """Note that the first byte of a call is sent now; or why it may not be."""
        if dispatch.entry is not None:
            try:
                dispatch.entry.mark()
            except JournalFileError as error:
                return _not_sent(NotSentCause.STOPPED, f"its journal file could not be written: {error}")
        # After the mark, however long that took: this clock is read just before the byte.
        now, monotonic = self._store.clock.now(), self._store.clock.monotonic()
        why = self._why_not(dispatch, now, monotonic)
        if why is None:
            dispatch.left_at = monotonic
            self.unanswered.append(monotonic)
        return why

    def _answered(self, dispatch: Dispatch, verdict: Verdict) -> PostAnswer:
        job, at = dispatch.job, self._store.clock.now()
        number = job.post_count + (not dispatch.is_begun)
        return PostAnswer(job, number, verdict, at, is_known=dispatch.unsent is None, has_entry=dispatch.is_begun)

    def _not_sent(self, dispatch: Dispatch, cause: NotSentCause, message: str) -> PostAnswer:
        return self._answered(dispatch, _not_sent(cause, message))

    def _cut_short(self, dispatch: Dispatch) -> PostAnswer:
        if not dispatch.has_left:
            return self._not_sent(dispatch, NotSentCause.STOPPED, "the worker was stopped before the call was sent")
        message = "the worker was stopped while the call was on its way"
        return self._answered(dispatch, Verdict(kind=VerdictKind.UNKNOWN, message=message, cause=NotSentCause.STOPPED))

    async def requeue(self, dispatches: Collection[Dispatch], reason: str) -> None:
        """Requeue calls without a journal entry."""
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
    """The calls of a worker that are on their way, each in a task of its own.

    A call that has its connection waits for its journal entry, which is asked for together with others (`begin`).
    `on_freed` is called when the worker can take another call, or journal entries can be asked for.
    """

    def __init__(self, submitter: Submitter, pacer: Pacer, *, on_freed: Callable[[], None]) -> None:
        self._submitter = submitter
        self._pacer = pacer
        self._on_freed = on_freed
        self._preparing = 0
        self._calls: set[Dispatch] = set()
        self._waiting: deque[Dispatch] = deque()
        self._is_closed = False
        self.begun: set[Dispatch] = set()
        """The calls that have their journal entries, and whose POST has no answer yet."""

    @property
    def leased(self) -> int:
        """The number of calls that have no journal entry yet."""
        return self.on_their_way - len(self.begun)

    @property
    def on_their_way(self) -> int:
        """The number of leased calls whose POST has no answer yet."""
        return self._preparing + len(self._calls)

    @property
    def is_waiting(self) -> bool:
        """Whether calls have their connections, and wait for their journal entries."""
        return bool(self._waiting)

    def add_leased(self, count: int) -> None:
        """Count calls that were leased."""
        self._preparing += count

    def drop_leased(self, count: int) -> None:
        """Subtract calls that were leased but will not be sent."""
        self._preparing -= count
        if count:
            self._on_freed()

    async def add(self, dispatches: Sequence[Dispatch], group: TaskGroup) -> None:
        """Connect for prepared calls that `add_leased` counted, and send them, in tasks of this group."""
        self._preparing -= len(dispatches)
        self._calls.update(dispatches)
        for dispatch in dispatches:
            group.start_soon(self._send, dispatch)
        with anyio.CancelScope(shield=True):
            await checkpoint()  # those for which a connection is kept wait for their entries now

    async def begin(self) -> None:
        """Ask for the journal entries of the next group. Calls whose slots are far are requeued for other workers."""
        try:
            if self._pacer.is_far:
                self._submitter.on_progress()
                count, going = len(self._waiting), list[Dispatch]()
                await self._submitter.requeue(list(self._waiting), _NO_CAPACITY)
            else:
                some = list(islice(self._waiting, self._pacer.entries_to_request()))
                count, going = len(some), await self._submitter.begin(some)
        except Exception as error:  # noqa: BLE001 - a fault of ours must cut no POST
            self._submitter.on_fault(Task.JOURNAL, error)
            count, going = len(self._waiting), []
            await self._submitter.requeue(self._waiting, "an unexpected error kept the call from being sent")
        asked = [self._waiting.popleft() for _ in range(count)]
        early = {each for each in going if not each.is_begun}
        self._waiting.extendleft(each for each in reversed(going) if each in early)
        self.begun.update(each for each in going if each.is_begun)
        self._end_waits(each for each in asked if each not in early)

    async def follow_orders(self) -> None:
        """Put back the calls that wait for their slots, and against which an order has come since."""
        await self._submitter.follow_orders(self.begun)

    async def close(self) -> None:
        """Requeue the calls that have no journal entry, and those that connect, once they have."""
        self._is_closed = True
        left, self._waiting = self._waiting, deque()
        if left:
            await self._submitter.requeue_unsent(left)
            self._end_waits(left)

    async def _enter(self, dispatch: Dispatch) -> None:
        """Wait for the journal entry of a call that has its connection, or cannot get one."""
        dispatch.answered = anyio.Event()
        if self._is_closed:
            await self._submitter.requeue_unsent([dispatch])
            return
        self._pacer.connected(dispatch.leased_at)
        self._waiting.append(dispatch)
        self._on_freed()
        await dispatch.answered.wait()

    def _end_waits(self, dispatches: Iterable[Dispatch]) -> None:
        """Let calls go on that have their journal entries. Those that have none are over."""
        for dispatch in dispatches:
            if dispatch.answered is not None:
                dispatch.answered.set()
            if not dispatch.is_begun:
                self._calls.discard(dispatch)
        self._on_freed()

    async def _send(self, dispatch: Dispatch) -> None:
        try:
            await self._submitter.send(dispatch, self._enter)
        except Exception as error:  # noqa: BLE001 - a fault of one call must not end the others; the call ends in doubt
            self._submitter.on_fault(Task.SEND, error)
            _log.exception(
                "an unexpected error stopped the sending of a call, or the reading of its answer; when its lease ends, "
                "the call is queued again or in doubt",
                job=dispatch.job.id,
            )
        finally:
            self.begun.discard(dispatch)
            self._calls.discard(dispatch)
            self._on_freed()
