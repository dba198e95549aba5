"""The journal of POSTs about to be sent. An entry is durable before the first byte of its POST is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import anyio
import structlog
from msgspec import Struct

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.base.round_trips import results_before, retry_briefly
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, GATES, cancelled_from, gate_from
from voiceflow_worker.core.ports.outside import Entry
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Record,
    Result,
    Same,
    Slot,
    Write,
    WriteResult,
)
from voiceflow_worker.core.rollback import RollbackGuard
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import entry_of, number_digest
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy, spread

_log = structlog.get_logger("voiceflow.journal")

_NOT_VERIFIED = WriteResult(result=Result.NOT_VERIFIED)

_REFUSED = frozenset({Result.NOT_FREE, Result.NO_SLOT, Result.NOT_VERIFIED})


@dataclass(frozen=True, slots=True)
class Requeue:
    """A leased job that goes back to the queue, with a reason, its kind, and a wait."""

    job: Job
    reason: str
    kind: ReasonKind | None = None
    wait: timedelta = timedelta()

    @classmethod
    def outside_window(cls, job: Job) -> Requeue:
        """A job that waits until its calling window opens."""
        return cls(job, "waits for its calling window to open", ReasonKind.WINDOW)

    def requeued(self, *, at: datetime) -> Job:
        """The job in the queue."""
        due_at = at + self.wait if self.wait else None
        return lifecycle.release(self.job, at=at, due_at=due_at, reason=self.reason, kind=self.kind)


class Cancellation(NamedTuple):
    """A leased job that must not be sent any more, with the reason and its kind."""

    job: Job
    reason: str
    kind: ReasonKind | None = None


class Dispatch(Struct, eq=False):
    """One leased job on its way. The steps that it takes note here what they find.

    `leased_at` and `asked_at`, the time at which the worker asked for the journal entry (the durable record "this POST
    is about to be sent"), are in monotonic seconds. A hold after `leased_at` stops the job. `valid_until` is that of
    its POST, once this is ready. Once the call waits for its entry, `answered` is set when it has it, or cannot get it.
    `job` is `sending` once it has its journal entry, `slot` is the send slot that came with that, if the queue has a
    rate, and `entry` the line of the POST in the file of this worker. With `unsent`, it is not known whether the store
    has the entry, or which slot it got, for this reason: the POST must not be sent. `held` is why an order that came
    after the entry stops the call; `left_at`, in monotonic seconds, says that none can.
    """

    job: Job
    leased_at: float = 0.0
    asked_at: float = 0.0
    valid_until: datetime | None = None
    answered: anyio.Event | None = None
    slot: SendSlot | None = None
    unsent: str | None = None
    entry: Entry | None = None
    held: str | None = None
    left_at: float | None = None

    @property
    def is_begun(self) -> bool:
        """Whether the call has its journal entry, or may have it."""
        return self.job.state is JobState.SENDING

    @property
    def has_left(self) -> bool:
        """Whether the first byte of its POST may have been sent."""
        return self.left_at is not None


class Rejection(NamedTuple):
    """A leased job that got no journal entry, and the result that says why: NOT_FREE, NO_SLOT or NOT_VERIFIED."""

    dispatch: Dispatch
    why: WriteResult


class Journal:
    """Begins POSTs of leased jobs, and requeues jobs that will not be sent.

    With a `guard`, each POST is written to the store and to this worker's own file at the same time, with one number.
    The POST is sent when both writes are durable. `on_fault` is called with why entries could not be stored.
    """

    def __init__(
        self,
        store: Store,
        policy: CallPolicy,
        *,
        lease: timedelta,
        guard: RollbackGuard | None = None,
        on_fault: Fault = lambda _part, _error: None,
    ) -> None:
        self._store = store
        self.policy: CallPolicy = policy
        self._lease = lease
        self._guard = guard
        self._on_fault = on_fault

    async def begin(
        self, dispatches: Sequence[Dispatch], *, slot: Slot | None = None
    ) -> tuple[list[Dispatch], list[Rejection]]:
        """Journal the next POSTs of leased jobs, durably, in one write (`writes.journal_entry`); one caller at a time.

        With `slot`, each entry takes the next send slot. Returns the calls that are `sending`, and those for which
        nothing was stored because a condition failed, or no slot is free in time. For all other jobs, nothing may be
        sent: another writer changed the job first, the job's validity has passed (it ends), or its calling window has
        closed (it waits for the next opening). If it is not known whether an entry was stored, its call is `unsent`.
        """
        asked_at, now = self._store.clock.monotonic(), self._store.clock.now()
        entries = [self._entry(each, slot, now) for each in dispatches]
        answers: Sequence[WriteResult | Exception] = ()
        try:
            answers = await self._write(entries)
        except Exception as raised:  # noqa: BLE001 - nothing is sent, whatever it is: each job is settled as unsent
            answers = [raised] * len(entries)
        for error in {id(answer): answer for answer in answers if isinstance(answer, Exception)}.values():
            self._on_fault(Task.JOURNAL, error)
        begun, refused, gone = list[Dispatch](), list[Rejection](), list[str]()
        for place, (each, (new, write), answer) in enumerate(zip(dispatches, entries, answers, strict=True)):
            match answer:
                case WriteResult(result=Result.NOT_FREE | Result.NO_SLOT | Result.NOT_VERIFIED):
                    refused.append(Rejection(each, answer))
                    continue
                case WriteResult(result=Result.STALE):
                    gone.append(each.job.id)
                    continue
                case _ if not _will_be_sent(new):
                    continue  # if it was to end, or to wait, and nothing is known, it is requeued when its lease ends
                case WriteResult():
                    each.slot = answer.slot
                    each.entry = None if self._guard is None else self._guard.writer.entry_of(place)
                    if write.slot is not None and answer.slot is None:
                        each.unsent = "the answer of the store with its send slot was lost"
                case error:
                    each.unsent = f"its journal entry could not be stored: {error}"
            each.job, each.asked_at = new, asked_at
            begun.append(each)
        if gone:
            _log.info("calls are not sent, because another process has changed them", jobs=gone)
        return begun, refused

    def _entry(self, dispatch: Dispatch, slot: Slot | None, now: datetime) -> tuple[Job, Write]:
        """The journal entry of a leased job as it would be made now, or the move that ends or requeues it."""
        job = dispatch.job
        if job.is_expired(at=now):
            return writes.changed(job, lifecycle.expire(job, at=now, policy=self.policy), at=now)
        if not job.may_ring(at=now):
            return writes.changed(job, Requeue.outside_window(job).requeued(at=now), at=now)
        if slot is not None and job.valid_until is not None and job.valid_until < slot.until:
            slot = replace(slot, until=job.valid_until)
        return writes.journal_entry(
            job,
            at=now,
            lease_until=now + self._lease,
            policy=self.policy,
            store_id=self._store.id,
            slot=slot,
            valid_until=dispatch.valid_until,
        )

    async def requeue(self, unsent: Sequence[Requeue]) -> None:
        """Requeue leased jobs that were not journalled. They keep their place (`lifecycle.returned`).

        Workers that share a rate requeue what they have no slot for; otherwise the first rows of a file would be sent
        last.
        """
        now = self._store.clock.now()
        await self._move([(each.job, each.requeued(at=now)) for each in unsent])

    async def end(self, jobs: Sequence[Cancellation]) -> None:
        """End leased jobs that must not be sent any more."""
        cancel = partial(lifecycle.cancel, at=self._store.clock.now(), policy=self.policy)
        await self._move([(job, cancel(job, reason=reason, kind=kind)) for job, reason, kind in jobs])

    async def ordered_back(self, jobs: Sequence[Job]) -> list[WriteResult]:
        """What an order says against each of these calls that have their journal entries: NOT_FREE, with its record."""
        against = tuple(Write(conditions=writes.orders_against(job, store_id=self._store.id)) for job in jobs)
        return list(await self._store.write(BulkWrite(writes=against, durable=False), now=self._store.clock.now()))

    async def _write(self, entries: Sequence[tuple[Job, Write]]) -> Sequence[WriteResult | Exception]:
        """The answers of the store."""
        guard, bulk = self._guard, BulkWrite(writes=tuple(write for _, write in entries))
        lines = {place: [new] for place, (new, _) in enumerate(entries) if _will_be_sent(new)}
        if guard is None or not lines:
            return await self._answers(bulk)
        numbered = await guard.numbered(bulk, lines)
        if numbered is None:
            # The server was restarted while these calls waited: the guard's checks come first.
            return [_NOT_VERIFIED] * len(entries)
        written = guard.writer.append()  # at the same time as the commit
        try:
            answers = await self._answers(numbered)
        finally:
            await written
        guard.has_stored([place for place in lines if getattr(answers[place], "result", None) is Result.DONE])
        return answers

    async def _answers(self, bulk: BulkWrite) -> Sequence[WriteResult | Exception]:
        """The results of writes, also if the store failed after it had returned some of them."""
        try:
            return await self._store_bulk(bulk)
        except StoreError as error:
            return results_before(error, bulk)

    async def _store_bulk(self, bulk: BulkWrite) -> Sequence[WriteResult]:
        # Each try has the same writes. A store that has already written them, and whose answer was lost, says so. After
        # the last try the calls are given up: they go back to the queue as soon as the store can be written again.
        now = self._store.clock.now()
        write = partial(self._store.write, bulk, now=now)
        return await retry_briefly(write, clock=self._store.clock, what=f"journal entries: {len(bulk.writes)}")

    async def _move(self, moves: Sequence[tuple[Job, Job]]) -> None:
        if moves:
            now = self._store.clock.now()
            made = [writes.changed(old, new, at=now)[1] for old, new in moves]
            await self._store_bulk(BulkWrite(writes=tuple(made)))


def _will_be_sent(job: Job) -> bool:
    """Whether this is a journal entry: the job as `sending`, whose POST is about to be sent."""
    return job.state is JobState.SENDING


NUMBER_BUSY = timedelta(seconds=2)
"""The time that a job waits if its number is busy with another call."""
LONGEST_WAIT = timedelta(minutes=1)
"""The longest wait of a job behind other jobs that its worker has leased for the same busy number."""
STORE_CHECK_WAIT = timedelta(seconds=1)
"""The time that a job waits if the store must first be compared with the journal files."""


def classify_rejections(
    refused: Sequence[Rejection], *, at: datetime, seed: float, policy: CallPolicy, store_id: str
) -> tuple[list[Cancellation], list[Requeue]]:
    """The rejected jobs that end (suppressed, batch cancelled), and those that are requeued.

    Jobs with the same busy number come due one after the other, in the order of leasing. Without this, many calls that
    bridge to one line would all be leased and requeued every two seconds.
    """
    ended: list[Cancellation] = []
    back: list[Requeue] = []
    waiting: dict[str, timedelta] = {}
    for job, answer in ((each.dispatch.job, each.why) for each in refused):
        record = answer.record
        match answer.condition:
            case AtMost(namespace) if namespace == SUPPRESSED and record is not None:
                ended.append(Cancellation(job, _suppressed_words(job, record), ReasonKind.SUPPRESSED))
            case Same(namespace) if namespace == CANCELLED and record is not None:
                why = cancelled_from(record).reason or "its batch was cancelled"
                ended.append(Cancellation(job, why, ReasonKind.BY_PERSON))
            case Same(namespace) if namespace == GATES and record is not None:
                back.append(Requeue(job, f"held before it was sent: {gate_from(record).reason}"))
            case AtMost(namespace) if namespace == writes.PERSON and record is not None:
                until = record.ends_at or at + NUMBER_BUSY
                wait = max(until - at, timedelta())
                back.append(Requeue(job, _capped_words(policy), ReasonKind.MAX_PER_PERSON, wait))
            case AtMost() if record is not None:
                busy = record.group
                wait = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{busy}{seed}"))
                waiting[busy] = min(waiting.get(busy, timedelta()) + wait, LONGEST_WAIT)
                back.append(Requeue(job, _busy_words(job, busy, store_id), ReasonKind.NUMBER_BUSY, waiting[busy]))
            case _:
                why = "requeued: the store was restarted just before it was sent"
                back.append(Requeue(job, why, wait=STORE_CHECK_WAIT))
    return ended, back


def _suppressed_words(job: Job, record: Record) -> str:
    return entry_of(record).in_words_for(job)


def _capped_words(policy: CallPolicy) -> str:
    limit = policy.max_per_person
    return "" if limit is None else f"its number has had {limit.in_words()}, the most for one person"


def _busy_words(job: Job, group: str, store_id: str) -> str:
    digest = partial(number_digest, store_id=store_id)
    second = next((each for each in job.second_parties if group == digest(each)), None)
    if second is None or group == digest(job.number):
        return "its number is busy with another call"
    return (
        f"its second party {second} is busy with another call "
        "(if many calls may use a number at once, list it as shared)"
    )
