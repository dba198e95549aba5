"""The sending of leased calls: each in one coroutine, from the connection to the stored verdict."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import anyio
import structlog
from anyio.lowlevel import checkpoint_if_cancelled

from voiceflow_worker.core import logs
from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.gates import SENT_WITHIN, Holds
from voiceflow_worker.core.ports import Placement, Store, Voice
from voiceflow_worker.core.ports.outside import Connects, ProvesHolds
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.sending.journal import Dispatch, JournalWriter, outside_window, requeued
from voiceflow_worker.core.sending.pacer import ASKS_AGAIN, Pacer
from voiceflow_worker.core.settling.settle import PostAnswer
from voiceflow_worker.core.settling.verdicts import SHUTDOWN_TIMEOUT, VerdictWriter, cancellations, hold_of
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.callflow import body_problem, body_to
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit
from voiceflow_worker.model.reports.verdict import Departure, NotSentCause, NotSentError, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.submit")

LOOK_AGAIN = 0.05
"""Seconds between two looks whether it is certain by now that an answer holds the queue."""

_STOPPED = "its worker was stopped"
_NO_CAPACITY = "the rate allows no further call yet"
_NOT_CLEAR = "it waits until 8x8 answers other calls clearly"


class NotEnteredError(Exception):
    """Raised if a call gets no journal entry. `instead` is what becomes of its job."""

    def __init__(self, instead: Job) -> None:
        super().__init__(instead.reason)
        self.instead = instead


class CallSender:
    """Sends leased calls: `prepare` looks at them together, then `send` takes each to its stored verdict.

    `run` writes the journal entries for which calls have lined up, while calls are sent. `on_verdict` is called as soon
    as a POST has its verdict, with the verdict, the monotonic time at which the POST began, and the batch of the call.
    `on_fault` is called with what has not happened, and the error because of which. `on_freed` is called when the
    worker may be able to take another call. At most `most_unanswered()` calls have no answer.
    """

    def __init__(
        self,
        store: Store,
        voice: Voice,
        *,
        policy: CallPolicy,
        journal: JournalWriter,
        pacer: Pacer,
        holds: Holds,
        verdicts: VerdictWriter,
        on_verdict: Callable[[Verdict, float, str | None], None],
        on_fault: Fault = lambda _part, _error: None,
        on_freed: Callable[[], None] = lambda: None,
        most_unanswered: Callable[[], int] = lambda: sys.maxsize,
        guard: RollbackGuard | None = None,
    ) -> None:
        self._clock = store.clock
        self._voice = voice
        self._holding = voice if isinstance(voice, ProvesHolds) else None
        self._policy = policy
        self._journal = journal
        self._pacer = pacer
        self._holds = holds
        self._verdicts = verdicts
        self._on_verdict = on_verdict
        self._on_fault = on_fault
        self._on_freed = on_freed
        self._most_unanswered = most_unanswered
        self._guard = guard
        self._is_stopped = False
        self._line = deque[Dispatch]()
        self._has_come = anyio.Event()
        self._nap: anyio.CancelScope | None = None
        self.leased: int = 0
        """The number of calls that have no journal entry yet."""
        self.on_their_way: int = 0
        """The number of leased calls whose POST has no answer yet."""

    def limit_person(self, limit: PersonLimit | None) -> None:
        """Follow this limit per person from the next journal entry on."""
        self._policy = self._journal.policy = replace(self._policy, max_per_person=limit)

    def follow(self, rate: float | None) -> bool:
        """Use this rate from now on. Returns False if it is the same as before."""
        if self._nap is not None:
            self._nap.cancel()
        return self._pacer.follow(rate)

    def stop(self) -> None:
        """Let no call begin any more: those without a journal entry go back."""
        self._is_stopped = True
        self._send_back(_STOPPED)

    async def prepare(self, jobs: Sequence[Job], *, leased_at: float) -> list[Dispatch]:
        """Return the leased jobs that may go on to their connections; their journal entries check all else.

        A job whose calling window is closed is requeued. All jobs are requeued if the store was rolled back to an older
        state. A job whose lease has ended is left to the sweep; one that found no free line ends if a phone rang. If
        each call needs a connection of its own, what a read shows (suppressed, held, busy) is read before.
        """
        now = self._clock.now()
        # When its lease has ended, another worker may have the job.
        ours = [job for job in jobs if now < job.due_at]
        if self._guard is not None and not await self._guard.verify():
            why = f"held before it was sent: {self._holds.reason}"
            await self._journal.move(*[(job, requeued(job, why, at=now)) for job in ours])
            return []
        closed = [job for job in ours if not job.may_ring(at=now)]
        if closed:
            await self._journal.move(*[(job, outside_window(job, at=now)) for job in closed])
            ours = [job for job in ours if job not in closed]
        look = self._verdicts.settler.look_for_ringing
        ready = [Dispatch(job, leased_at) for job in ours if (await look(job)) is job]
        if ready and isinstance(self._voice, Connects) and self._voice.connects_each_time:
            # Whom nobody may call now costs no connection. The entry has all conditions again.
            back = await self._journal.kept_back(ready)
            await self._journal.move(*back)
            gone = {job.id for job, _ in back}
            ready = [each for each in ready if each.job.id not in gone]
        return ready

    async def send(self, dispatch: Dispatch) -> None:
        """POST one call, and store its verdict. A call that may not be sent goes back, or ends.

        If this is cancelled, the job is requeued if no byte can have been sent, and is in doubt otherwise.
        """
        is_leased = not dispatch.is_begun
        self.leased += is_leased
        self.on_their_way += 1
        began_at, verdict = self._clock.monotonic(), None
        try:
            verdict = await self._post(dispatch)
        except NotEnteredError as error:
            if error.instead is not dispatch.job:
                await self._give_back(dispatch.job, error.instead)
        except cancellations():
            await self._give_up(dispatch)
            raise
        finally:
            self.on_their_way -= 1
            self.leased -= is_leased and not dispatch.has_answer
            self._on_freed()
        if verdict is not None:
            await self._verdicts.store(self._answer(dispatch, verdict, dispatch.left_at or began_at))

    # --- The line for journal entries ---------------------------------------------------------------------------------

    async def enter(self, dispatch: Dispatch) -> None:
        """Line up for the journal entry of a call that has its connection, and wait for it.

        Raises NotEnteredError if it gets none. With `Dispatch.unsent`, it may have one, and must not be sent.
        """
        self._pacer.connected(dispatch.leased_at)
        if self._is_stopped:
            raise NotEnteredError(requeued(dispatch.job, _STOPPED, at=self._clock.now()))
        dispatch.answered = anyio.Event()
        self._line.append(dispatch)
        self._has_come.set()
        try:
            await dispatch.answered.wait()
        except cancellations():
            if dispatch in self._line:
                self._line.remove(dispatch)
            else:  # what is on its way to the store is awaited
                with anyio.CancelScope(shield=True):
                    await dispatch.answered.wait()
            raise
        if isinstance(dispatch.instead, Exception):
            raise dispatch.instead
        if dispatch.instead is not None:
            raise NotEnteredError(dispatch.instead)

    async def run(self) -> None:
        """Write the journal entries of calls in their turns, one bulk after the other, until this is cancelled.

        What lines up while a bulk is on its way goes in the next one.
        """
        try:
            while True:
                if not self._line:
                    self._has_come = anyio.Event()
                    await self._has_come.wait()
                wait = self._pacer.until_entry()
                if self._is_held_back:
                    await self._clock.sleep(LOOK_AGAIN)
                elif wait > self._pacer.connect_lead + ASKS_AGAIN:
                    self._send_back(_NO_CAPACITY)
                elif wait > 0:
                    with anyio.CancelScope() as self._nap:
                        await self._clock.sleep(wait)
                else:
                    count = min(self._pacer.entries_now(), len(self._line))
                    with anyio.CancelScope(shield=True):
                        await self._enter([self._line.popleft() for _ in range(count)])
        finally:
            self.stop()  # nobody answers calls that line up from now on

    async def _enter(self, asking: list[Dispatch]) -> None:
        """Write the entries of these calls, or let them go back."""
        now, ready = self._clock.now(), list[Dispatch]()
        begun = self.on_their_way - self.leased
        for each in asking:
            if self._holds.closed_since(each.leased_at):
                self._reply(each, requeued(each.job, f"held before it was sent: {self._holds.reason}", at=now))
            elif begun + len(ready) >= self._most_unanswered():
                self._reply(each, requeued(each.job, _NOT_CLEAR, at=now))
            else:
                ready.append(each)
        if not ready:
            return
        asked_at = self._clock.monotonic()
        try:
            answers = await self._journal.enter(ready)
        except Exception as error:  # noqa: BLE001 - nothing was sent: each call goes back
            for each in ready:
                self._reply(each, error)
            return
        found, refused = None, 0
        for each, answer in reversed(list(zip(ready, answers, strict=True))):
            if isinstance(answer, SendSlot):
                found = found or answer
                if answer.next_at - self._clock.now() <= timedelta(seconds=ASKS_AGAIN) and not self._is_stopped:
                    self._line.appendleft(each)
                else:
                    self._reply(each, requeued(each.job, _NO_CAPACITY, at=self._clock.now()))
                continue
            found, refused = found or each.slot, refused + (answer is not None)
            self._reply(each, answer)
        self._pacer.answered(asked_at, found)
        if refused < len(answers):
            self._pacer.tries = 1
        else:  # it has taken no slot: else the calls behind thousands of such would wait
            self._pacer.tries += refused
        self._on_freed()

    def _send_back(self, reason: str) -> None:
        """Let all calls that wait for their entries go back."""
        while self._line:
            each = self._line.popleft()
            self._reply(each, requeued(each.job, reason, at=self._clock.now()))

    def _reply(self, dispatch: Dispatch, instead: Job | Exception | None) -> None:
        dispatch.instead, dispatch.has_answer = instead, True
        self.leased -= 1
        if dispatch.answered is not None:
            dispatch.answered.set()

    # --- One POST -----------------------------------------------------------------------------------------------------

    async def _post(self, dispatch: Dispatch) -> Verdict:
        """Return the verdict on the POST of a call. Raises NotEnteredError if the call gets no journal entry."""
        job = dispatch.job
        if (problem := body_problem(job.body)) is not None:
            why = f"its body in the store is broken ({problem}): nobody was called; enqueue the call again"
            return _not_sent(NotSentCause.BROKEN_BODY, why)
        if dispatch.is_begun:
            number, dispatch.valid_until = job.post_count, job.posts[-1].valid_until
        else:
            number = job.post_count + 1
            dispatch.valid_until = lifecycle.valid_until_of_post(job, at=self._clock.now(), policy=self._policy)
        placement = Placement(
            body=body_to(job.body, job.number) if job.place else job.body,
            client_request_id=job.request_id(number),
            valid_until=dispatch.valid_until,
            client_batch_id=job.batch_id,
        )
        try:
            return await self._voice.place(placement, before_first_byte=partial(self._commit, dispatch))
        except NotSentError as error:
            return error.verdict
        except NotEnteredError:
            raise
        except Exception as error:  # noqa: BLE001 - the call may have been placed, whatever the gateway raises
            _log.exception("the gateway failed", job=job.id)
            message = f"the gateway failed: {type(error).__name__}: {error}"
            if dispatch.left_at is not None:
                return Verdict(kind=VerdictKind.UNKNOWN, message=message)
            return _not_sent(NotSentCause.FAULT, message)

    async def _commit(self, dispatch: Dispatch) -> Departure:
        """Get the journal entry of a call, and wait for its slot. Then its first byte is sent.

        Raises NotSentError if the call may not be sent, and NotEnteredError.
        """
        if not dispatch.is_begun:
            await self.enter(dispatch)
        await checkpoint_if_cancelled()  # the entry was awaited all the same
        if dispatch.unsent is not None:
            raise NotSentError(_not_sent(NotSentCause.STORE_AWAY, dispatch.unsent))
        if dispatch.slot is not None:
            left = dispatch.asked_at + SENT_WITHIN - self._clock.monotonic()
            if not await self._pacer.wait_for_slot(dispatch.slot, within=left):
                raise NotSentError(_not_sent(NotSentCause.MISSED_SLOT, "the call missed its send slot"))
        # Nothing is awaited from here to the first byte.
        now, monotonic = self._clock.now(), self._clock.monotonic()
        cause, why = NotSentCause.HELD, ""
        if self._holds.closed_since(dispatch.leased_at):
            why = f"held before it was sent: {self._holds.reason}"
        elif self._is_held_back:
            why = "not sent before it is certain whether an answer holds the queue"
        elif monotonic - dispatch.asked_at >= SENT_WITHIN:
            cause, why = NotSentCause.MISSED_SLOT, f"not sent within {SENT_WITHIN:g} s of its journal entry"
        elif dispatch.job.posts[-1].valid_until <= now:
            cause, why = NotSentCause.TOO_LATE, "its submit window ended before the call was sent"
        if why:
            raise NotSentError(_not_sent(cause, why))
        dispatch.left_at = monotonic
        return Departure(now, dispatch.asked_at + SENT_WITHIN - monotonic)

    @property
    def _is_held_back(self) -> bool:
        """True if no POST begins now, because it is not certain yet whether an answer holds the queue."""
        return self._holding is not None and self._holding.has_unproven_hold

    def _answer(self, dispatch: Dispatch, verdict: Verdict, sent_at: float) -> PostAnswer:
        """Return the answer to the POST of a call, which was sent at this monotonic time, and follow what it means."""
        answer = self._answered(dispatch, verdict)
        if dispatch.unsent is not None:
            return answer
        logs.answered(dispatch.job, answer.number, verdict)
        self._on_verdict(verdict, sent_at, dispatch.job.batch_id)
        sent = answer.at - timedelta(seconds=self._clock.monotonic() - sent_at)
        # If the verdict has a hold, this worker is held from now on.
        if hold := hold_of(verdict, sent_at=sent, answered_at=answer.at, clock_skew=self._policy.clock_skew):
            answer.gate = self._holds.close(hold)
        elif verdict.http_status is not None:
            self._holds.relax()
        return answer

    def _answered(self, dispatch: Dispatch, verdict: Verdict) -> PostAnswer:
        job, at = dispatch.job, self._clock.now()
        number = job.post_count + (not dispatch.is_begun)
        return PostAnswer(job, number, verdict, at, is_known=dispatch.unsent is None, has_entry=dispatch.is_begun)

    async def _give_up(self, dispatch: Dispatch) -> None:
        """Requeue a call that was cancelled, or store that nothing was sent, or put it in doubt."""
        if not dispatch.is_begun:
            with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
                await self._give_back(dispatch.job, requeued(dispatch.job, _STOPPED, at=self._clock.now()))
            return
        verdict = _not_sent(NotSentCause.STOPPED, "the worker was stopped before the call was sent")
        if dispatch.left_at is not None:
            message = "the worker was stopped while the call was on its way"
            verdict = Verdict(kind=VerdictKind.UNKNOWN, message=message, cause=NotSentCause.STOPPED)
        await self._verdicts.store(self._answered(dispatch, verdict))

    async def _give_back(self, job: Job, new: Job) -> None:
        """Store what becomes of a leased call that has no journal entry."""
        try:
            await self._journal.move((job, new))
        except Exception as error:  # noqa: BLE001 - the call is requeued when its lease ends
            self._on_fault(Task.REQUEUE, error)
            _log.warning(
                "a call could not be requeued; it is queued again when its lease ends",
                job=job.id,
                error=str(error),
                exc_info=None if isinstance(error, StoreError) else error,
            )


def _not_sent(cause: NotSentCause, message: str) -> Verdict:
    return Verdict(kind=VerdictKind.NOT_SENT, cause=cause, message=message)
