"""The journal of POSTs about to be sent. An entry is durable before the first byte of its POST is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog
from msgspec import Struct

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.background import Fault, Task
from voiceflow_worker.core.base.round_trips import Batcher, results_before, retry_briefly
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import CANCELLED, GATES, HOLDS, cancelled_from, gate_from
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Result, Same, Slot, Write, WriteResult
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

NUMBER_BUSY = timedelta(seconds=2)
"""The time that a job waits if its number is busy with another call."""
LONGEST_WAIT = timedelta(minutes=1)
"""The longest wait of a job behind other jobs of one bulk write that want the same busy number."""
STORE_CHECK_WAIT = timedelta(seconds=1)
"""The time that a job waits if the store must first be compared with the journal files."""

_CLOSED_WINDOW = "waits for its calling window to open"
_NOT_VERIFIED = WriteResult(result=Result.NOT_VERIFIED)


class Dispatch(Struct, eq=False):
    """One leased job on its way.

    `leased_at` and `asked_at`, the time at which the store was asked for its journal entry (the durable record "this
    POST is about to be sent"), are in monotonic seconds. A hold after `leased_at` stops the job. `valid_until` is that
    of its POST, once this is ready. `job` is `sending` once it has its entry, and `slot` is the send slot that came
    with that, if the queue has a rate. With `unsent`, it is not known whether the store has the entry, or which slot it
    got, for this reason: the POST must not be sent. `left_at` is the monotonic time of its first byte.

    While it waits for its entry, `answered` is set when it `has_answer`. `instead` is what becomes of a job that gets
    no entry, or the error because of which it gets none.
    """

    job: Job
    leased_at: float = 0.0
    asked_at: float = 0.0
    valid_until: datetime | None = None
    slot: SendSlot | None = None
    unsent: str | None = None
    left_at: float | None = None
    answered: anyio.Event | None = None
    instead: Job | Exception | None = None
    has_answer: bool = False

    @property
    def is_begun(self) -> bool:
        """True if the call has its journal entry, or may have it."""
        return self.job.state is JobState.SENDING


Answer = Job | SendSlot | None
"""What comes of a journal entry that was asked for: None if it was stored, or may have been (`Dispatch.unsent`); the
job as it ends or goes back instead; or the time of the next slot, if none was free in time."""


class JournalWriter:
    """Writes the journal entries of leased jobs, and requeues jobs that are not sent.

    With a `guard`, each entry has the next number of this worker, and each entry that the store has is a line in its
    own file. `on_fault` is called with why entries were not stored, and `on_progress` when the store has answered.
    """

    def __init__(
        self,
        store: Store,
        policy: CallPolicy,
        *,
        lease: timedelta,
        slot: Callable[[], Slot | None] = lambda: None,
        guard: RollbackGuard | None = None,
        on_fault: Fault = lambda _part, _error: None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self.policy: CallPolicy = policy
        self._lease = lease
        self._slot = slot
        self._guard = guard
        self._on_fault = on_fault
        self._on_progress = on_progress
        self._is_unsure = False
        self._moves: Batcher[tuple[Job, Job], None] = Batcher(self._move_all)

    async def kept_back(self, dispatches: Sequence[Dispatch]) -> list[tuple[Job, Job]]:
        """Return the jobs to which a condition of the entry says no already, each with what becomes of it.

        Nothing is stored, and the entry has all conditions again. Raises `StoreError`.
        """
        now, waits = self._clock.now(), dict[str, timedelta]()
        entries = [self._entry(each, None, now)[1] for each in dispatches]
        looks = tuple(Write(conditions=entry.conditions) for entry in entries)
        answers = await self._store.write(BulkWrite(writes=looks, durable=False), now=now)
        found = [
            (each.job, self._instead(each.job, answer, waits, now))
            for each, answer in zip(dispatches, answers, strict=True)
            if answer.result is Result.NOT_FREE
        ]
        return [(job, new) for job, new in found if isinstance(new, Job)]

    async def move(self, *moves: tuple[Job, Job]) -> None:
        """Store what becomes of leased jobs that have no journal entry. Raises the first error."""
        for answer in await self._moves.submit_all(moves) if moves else ():
            if isinstance(answer, BaseException):
                raise answer

    async def _move_all(self, moves: Sequence[tuple[Job, Job]]) -> list[None]:
        now = self._clock.now()
        await self._store_bulk(BulkWrite(writes=tuple(writes.changed(*move, at=now)[1] for move in moves)))
        return [None] * len(moves)

    async def enter(self, dispatches: Sequence[Dispatch]) -> list[Answer]:
        """Journal the next POSTs of leased jobs in one write, each under all its conditions (`writes.journal_entry`).

        Only one such write may be on its way.
        """
        asked_at, now, slot = self._clock.monotonic(), self._clock.now(), self._slot()
        answers = list[Answer]()
        entries = dict[int, tuple[Job, Write]]()
        for place, each in enumerate(dispatches):
            each.asked_at = asked_at
            if each.job.is_expired(at=now):
                answers.append(lifecycle.expire(each.job, at=now, policy=self.policy))
            elif not each.job.may_ring(at=now):
                answers.append(outside_window(each.job, at=now))
            else:
                answers.append(None)
                entries[place] = self._entry(each, slot, now)
        results = await self._results(list(entries.values())) if entries else ()
        waits = dict[str, timedelta]()
        for (place, (begun, _)), result in zip(entries.items(), results, strict=True):
            each = dispatches[place]
            if not isinstance(result, WriteResult):
                each.job, each.unsent = begun, f"its journal entry could not be stored: {result}"
            elif result.result is not Result.DONE:
                answers[place] = self._instead(each.job, result, waits, now)
            else:
                each.job, each.slot = begun, result.slot
                if slot is not None and result.slot is None:
                    each.unsent = "the answer of the store with its send slot was lost"
        return answers

    def _entry(self, dispatch: Dispatch, slot: Slot | None, now: datetime) -> tuple[Job, Write]:
        """Return the journal entry of a leased job as it would be made now."""
        job = dispatch.job
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

    async def _results(self, entries: Sequence[tuple[Job, Write]]) -> Sequence[WriteResult | Exception]:
        """Return the answer of the store to each entry, or why it is not known."""
        results: Sequence[WriteResult | Exception] = ()
        try:
            results = await self._write(entries)
        except Exception as raised:  # noqa: BLE001 - nothing is sent, whatever it is: each job is settled as unsent
            results = [raised] * len(entries)
        failed = {id(result): result for result in results if isinstance(result, Exception)}
        for error in failed.values():
            self._on_fault(Task.JOURNAL, error)
        answered = [result for result in results if isinstance(result, WriteResult)]
        self._is_unsure = bool(failed)
        is_verified = all(result.result is not Result.NOT_VERIFIED for result in answered)
        if self._guard is not None and (failed or not is_verified):
            self._guard.look_again()
        if answered and is_verified:
            self._on_progress()
        return results

    async def _write(self, entries: Sequence[tuple[Job, Write]]) -> Sequence[WriteResult | Exception]:
        """Return the answers of the store. An entry that it has is also a line in the file of this worker then."""
        guard, bulk = self._guard, BulkWrite(writes=tuple(write for _, write in entries))
        if guard is None:
            return await self._answers(bulk)
        # After an answer that was lost, the number that the store has is read first.
        is_known = not self._is_unsure or await guard.poll()
        lines = {place: [new] for place, (new, _) in enumerate(entries)}
        numbered = await guard.numbered(bulk, lines) if is_known else None
        if numbered is None:
            # The server was restarted while these calls waited: the guard's checks come first.
            return [_NOT_VERIFIED] * len(entries)
        answers = await self._answers(numbered)
        stored = [place for place in lines if getattr(answers[place], "result", None) is Result.DONE]
        if stored:
            guard.has_stored(stored)
            await guard.writer.append(stored)  # after the store's yes: a line proves that the store had its number
        return answers

    async def _answers(self, bulk: BulkWrite) -> Sequence[WriteResult | Exception]:
        """Return the results of writes, also if the store failed after it had returned some of them."""
        try:
            return await self._store_bulk(bulk)
        except StoreError as error:
            return results_before(error, bulk)

    async def _store_bulk(self, bulk: BulkWrite) -> Sequence[WriteResult]:
        # Each try has the same writes. A store that has already written them, and whose answer was lost, says so. After
        # the last try the calls are given up: they go back to the queue as soon as the store can be written again.
        now = self._clock.now()
        write = partial(self._store.write, bulk, now=now)
        return await retry_briefly(write, clock=self._clock, what=f"journal entries: {len(bulk.writes)}")

    def _instead(self, job: Job, answer: WriteResult, waits: dict[str, timedelta], now: datetime) -> Answer:
        """Return what comes of an entry that was not stored: the job ends (suppressed, batch cancelled), or goes back.

        Jobs with the same busy number come due one after the other, in the order of asking (`waits`). Without this,
        many calls that bridge to one line would all be leased and requeued every two seconds.
        """
        if answer.result is Result.NO_SLOT:
            return answer.slot
        if answer.result is Result.STALE:
            _log.info("a call is not sent, because another process has changed it", job=job.id)
            return job
        record = answer.record
        match answer.condition:
            case AtMost(namespace) if namespace == SUPPRESSED and record is not None:
                reason, kind = entry_of(record).in_words_for(job), ReasonKind.SUPPRESSED
                return lifecycle.cancel(job, at=now, policy=self.policy, reason=reason, kind=kind)
            case Same(namespace) if namespace == CANCELLED and record is not None:
                reason, kind = cancelled_from(record).reason or "its batch was cancelled", ReasonKind.BY_PERSON
                return lifecycle.cancel(job, at=now, policy=self.policy, reason=reason, kind=kind)
            case Same(namespace) | AtMost(namespace) if namespace in {GATES, HOLDS} and record is not None:
                return requeued(job, f"held before it was sent: {gate_from(record).reason}", at=now)
            case AtMost(namespace) if namespace == writes.PERSON and record is not None:
                limit, until = self.policy.max_per_person, record.ends_at or now + NUMBER_BUSY
                why = "" if limit is None else f"its number has had {limit.in_words()}, the most for one person"
                return requeued(job, why, at=now, kind=ReasonKind.MAX_PER_PERSON, wait=max(until - now, timedelta()))
            case AtMost() if record is not None:
                busy = record.group
                wait = NUMBER_BUSY * (0.75 + 0.5 * spread(f"{busy}{self._clock.monotonic()}"))
                waits[busy] = min(waits.get(busy, timedelta()) + wait, LONGEST_WAIT)
                why = _busy_words(job, busy, self._store.id)
                return requeued(job, why, at=now, kind=ReasonKind.NUMBER_BUSY, wait=waits[busy])
            case _:
                why = "requeued: the store was restarted just before it was sent"
                return requeued(job, why, at=now, wait=STORE_CHECK_WAIT)


def requeued(
    job: Job, reason: str, *, at: datetime, kind: ReasonKind | None = None, wait: timedelta = timedelta()
) -> Job:
    """Return a leased job that was not sent, back in the queue, with a reason, its kind, and a wait.

    Without a wait, it keeps its place (`lifecycle.returned`). Workers that share a rate requeue what they have no slot
    for; otherwise the first rows of a file would be sent last.
    """
    return lifecycle.release(job, at=at, due_at=at + wait if wait else None, reason=reason, kind=kind)


def outside_window(job: Job, *, at: datetime) -> Job:
    """Return a leased job that waits in the queue until its calling window opens."""
    return requeued(job, _CLOSED_WINDOW, at=at, kind=ReasonKind.WINDOW)


def _busy_words(job: Job, group: str, store_id: str) -> str:
    digest = partial(number_digest, store_id=store_id)
    second = next((each for each in job.second_parties if group == digest(each)), None)
    if second is None or group == digest(job.number):
        return "its number is busy with another call"
    return (
        f"its second party {second} is busy with another call "
        "(if many calls may use a number at once, list it as shared)"
    )
