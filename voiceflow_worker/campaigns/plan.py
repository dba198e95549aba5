"""The plan of a list that is given under a batch's name: which rows call people again, or change what is stored.

Rows with a key are found by it, wherever their call is (`RowEnqueuer.classify`). What is left of the rows and of the
calls of their batch is compared, unless a row and a call both have keys of a user: first what is equal is the same;
then a row and a call of one number belong together if each has only the other. Rows without such a key that have the
words of a call of another batch are told.

What it finds must still hold when the rows are stored. So enqueues of one queue exclude each other (`enqueue_lock`),
and each new call is stored under the condition that its enqueue still has the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from anyio.lowlevel import checkpoint

from voiceflow_worker.campaigns.called_before import (
    PAGE,
    WAITING,
    CalledBefore,
    Chunks,
    RepeatedCalls,
    Sample,
    calls_of,
    may_call,
)
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys, is_own_key
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.list_order import ListOrder, differing_end
from voiceflow_worker.campaigns.person_index import PersonIndex, StoredCall
from voiceflow_worker.campaigns.row_ends import MOST_NAMED, RowEnd, RowEnds
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.errors import IntakeError, SuppressedNumber
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.jobs.differences import (
    can_still_ring,
    is_cancelled_for_good,
    is_changeable,
    terms_of,
)
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind, person_in
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.queue import CallQueue

INTAKES = "intake"
"""Namespace of the locks of enqueues, by queue."""
LOCK_LENGTH = timedelta(seconds=15)
"""How long a lock lasts if it is not renewed. After a killed enqueue, the next one waits until then."""
TIMEOUT = timedelta(seconds=30)
"""How long an enqueue waits for the lock. Less than a minute, because a person may sit before it."""
LOOK_AGAIN = 0.1  # seconds


class LeftOutCall(NamedTuple):
    """What is kept of a call that can still ring, and whose row is left out."""

    id: str
    created_at: datetime
    name: str


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of the calls of the batch that no row has by its key.

    The ids in `stand` are those of calls that rows have. `left_out` rows are left out, and this call can still ring;
    `in_no_row` counts calls that can and whose number or key no row has: the first of them are `named`. `repeated` rows
    would say the same words to a number as a call of another batch. If the batch `is_new`, nothing can be missing.
    """

    stand: set[str] = field(default_factory=set[str])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    """The keys of their users that rows have and their calls, which were found by their numbers, have not, by these."""
    repeated: list[RepeatedCalls] = field(default_factory=list[RepeatedCalls])
    left_out: dict[int, LeftOutCall] = field(default_factory=dict[int, LeftOutCall])
    in_no_row: int = 0
    named: list[str] = field(default_factory=list[str])
    is_new: bool = True


@dataclass(slots=True, kw_only=True)
class Planner:
    """A comparison of the rows of a list with the stored calls of the queue, by the `index` of their people.

    A call with the unique key of a row is the call of this row. Calls that ended without a ring do not count, nor do
    trials. Rows with suppressed numbers are left out: they are not called. With `again`, no row is compared, but with
    the calls of a cut start, whose rows now say something else; how many would be called again is only counted, if the
    order `shows`. If the queue `has_staged` calls, some rows have calls of their own.
    """

    order: ListOrder
    queue: CallQueue
    seen: SeenKeys
    """The unique keys of all rows that were read."""
    index: PersonIndex
    has_staged: bool
    before: CalledBefore = field(init=False)
    people: Sample = field(default_factory=Sample, init=False)
    _since: datetime | None = field(init=False)
    """From when on calls of the same batch count: not even `again` calls those again whom this campaign itself may have
    called, before it was cut."""
    _batches: set[str] = field(default_factory=set[str], init=False)

    def __post_init__(self) -> None:
        options = self.order.options
        self.before = CalledBefore(queue=self.queue, pattern=options.batch_pattern)
        self._since = self.order.since if self._again else None

    @property
    def _again(self) -> bool:
        return self.order.again is True

    def add(self, ends: Iterable[RowEnd]) -> None:
        """Add rows, to compare those that make calls."""
        for end in ends:
            if (row := end.row) is None or row.call is None:
                continue
            self.people.add(row)
            if end.makes_call:
                self._batches |= {row.call.batch_id} if row.call.batch_id else set()
                if row.has_made_key:
                    self.before.sample.add(row)

    async def find(self, chunks: Chunks, batches: Iterable[str], ends: RowEnds) -> Plan:
        """The plan of a list with these batches, and the ends of its rows, which come in chunks. Raises StoreError."""
        plan = Plan()
        left = await self._calls_left(plan, {*batches, *self.index.silent_batches}, ends)
        changed = await self._match(plan, chunks, ends) if self.index.has_stored else []
        paired = await get_jobs(self.queue.store, changed[:MOST_NAMED])
        ends.name(*(each.name or each.destination for each in paired.values()))
        left = [each for each in left if each not in plan.stand]
        for start in range(0, len(left), PAGE):
            found = await get_jobs(self.queue.store, left[start : start + PAGE])
            for job in filter(can_still_ring, found.values()):  # it may have moved since
                self._note_left(plan, job, ends)
        owners = await owners_of(self.queue.store, self.queue.name, self.index.silent_keys)
        for job in filter(can_still_ring, owners.values()):
            if (said := self.index.silent_row(job)) is not None and said.is_left_out:
                plan.left_out[said.row] = LeftOutCall(job.id, job.created_at, job.name)
        ends.counts[End.IN_NO_ROW], ends.counts[End.LEFT_OUT_WAITING] = plan.in_no_row, len(plan.left_out)
        if self._since is None and (self.order.shows or not self._again):
            plan.repeated = await self.before.find(chunks, ends.makes_call)
        return plan

    def _note_left(self, plan: Plan, job: Job, ends: RowEnds) -> None:
        """Note a call that can still ring, and that no row to call has."""
        said, name = self.index.silent_row(job), job.name or job.destination
        if said is None or said.is_left_out:
            ends.name(name)
        if said is None:
            plan.in_no_row += 1
            if len(plan.named) < MOST_NAMED:
                plan.named.append(f"{name} ({job.id})")
        elif said.is_left_out:
            plan.left_out.setdefault(said.row, LeftOutCall(job.id, job.created_at, job.name))

    async def _calls_left(self, plan: Plan, batches: Iterable[str], ends: RowEnds) -> list[str]:
        """The ids of the calls of these batches that can still ring and are not in the list by their keys.

        The index gets those that are compared with rows, and those that were cancelled by a person.
        """
        left: list[str] = []
        kinds: dict[bytes, bytes] = {}
        marks = self.seen.marks()
        for batch_id in sorted(batches):
            states = await count_states(self.queue.store, self.queue.name, batch_id=batch_id)
            if not any(states.values()):
                continue
            ends.waiting += states.get(JobState.QUEUED, 0) + states.get(JobState.LEASED, 0)
            plan.is_new, is_compared = False, batch_id in self._batches and (not self._again or self._since is not None)
            among = None if batch_id in self._batches else WAITING
            async with aclosing(calls_of(self.queue, batch_id, states=among, ended=True)) as jobs:
                async for job in jobs:
                    if self.is_in_list(job, plan):
                        continue
                    if can_still_ring(job):
                        left.append(job.id)
                    if is_compared and self._is_compared(job):
                        mark = int(
                            job.digest.partition(".")[0], 16
                        )  # a call that was made under a key of its own has a mark
                        terms = terms_of(job) if mark in marks else b""
                        stored = StoredCall(
                            job.id, job.unique_key, mark, kinds.setdefault(terms, terms),
                            is_changeable(job), job.valid_until is not None, any(map(is_own_key, job.keys)),
                            job.state if job.state.is_final else None, may_call(job), is_cancelled_for_good(job),
                            job.reason_kind is ReasonKind.SUPPRESSED,
                        )  # fmt: skip
                        self.index.store(stored, batch_id, job.numbers)
        return left

    def _is_compared(self, job: Job) -> bool:
        """Whether a call of a row's batch may be that of the row, by its numbers."""
        is_again = self._again or job.state in self.order.states or job.successor is not None
        if not may_call(job) and (is_again or job.reason_kind is ReasonKind.REMOVED):
            return False
        return self._since is None or job.created_at >= self._since

    def is_in_list(self, job: Job, plan: Plan) -> bool:
        """Whether a call is that of a row to call."""
        return job.id in plan.stand or any(key in self.seen for key in job.keys)

    async def _match(self, plan: Plan, chunks: Chunks, ends: RowEnds) -> list[str]:
        """Find which of the calls that are left are those of rows; of rows without one, which have ended.

        Returns the ids of those that change.
        """
        same, changed = plan.stand, list[str]()
        left, over, keys = dict[int, list[StoredCall]](), dict[int, list[StoredCall]](), dict[int, str]()
        for chunk in chunks():
            await checkpoint()  # whoever renews the lock, or sends calls in this process, has a turn
            for row in chunk:
                stored = self.index.stored_of(row)
                found = [each for each in stored if each.may_call]
                mark = int(row.digest, 16)
                alike = [each for each in found if each.mark == mark and each.id not in same]
                terms = self.queue.admitter.terms_of(row.call) if alike and row.call is not None else None
                equal = next((each for each in alike if terms is None or each.terms == terms), None)
                if equal is not None:
                    same.add(equal.id)
                    ends.move(RowEnd(row.raw.number, End.SAME, equal.key))
                    plan.keys |= {} if row.has_made_key else {equal.id: _key_of(row)}
                    continue
                if found:
                    left[row.raw.number] = found
                if ended := [each for each in stored if not each.may_call]:
                    over[row.raw.number] = ended
                if stored and not row.has_made_key:
                    keys[row.raw.number] = _key_of(row)
        rows_of = Counter(each.id for some in left.values() for each in some)
        counted, others = set[str](), dict[int, tuple[StoredCall, bool]]()
        for number, found in left.items():
            if not (rest := [each for each in found if each.id not in same]):
                continue
            counted |= {each.id for each in rest}
            if all(each.ended is not None for each in rest):
                over[number] = [*over.get(number, ()), *rest]
                continue
            over.pop(number, None)
            is_pair = len(rest) == 1 and rows_of[rest[0].id] == 1
            if is_pair and rest[0].waits and not rest[0].is_limited and self.order.replace and not self.has_staged:
                changed.append(rest[0].id)
                ends.move(RowEnd(number, End.CHANGED, rest[0].key, rest[0].id))
            else:
                others[number] = rest[0], is_pair
        others |= _moved_over(over, ends, keys, plan)
        for chunk in chunks() if others else ():
            await self._tell([(row, *others[row.raw.number]) for row in chunk if row.raw.number in others], ends)
        same |= counted  # what is told of a row stands for it too, should it wait again
        return changed

    async def _tell(self, rows: Sequence[tuple[ReadRow, StoredCall, bool]], ends: RowEnds) -> None:
        """Tell what stands in place of rows, each with a stored call, and whether these two are a pair.

        They are not if the row has a call by its key, which an import has staged that was cut.
        """
        store = self.queue.store
        jobs = await get_jobs(store, [stored.id for _, stored, _ in rows])
        owned = await owners_of(store, self.queue.name, [_key_of(row) for row, *_ in rows]) if self.has_staged else {}
        asked = [
            (row.raw.number, row.call) for row, stored, is_pair in rows if stored.is_suppressed and is_pair and row.call
        ]
        found: Mapping[int, SuppressedNumber] = {}
        if asked:
            found = await self.queue.admitter.listed([call for _, call in asked])
        listed = {number: found.get(place) for place, (number, _) in enumerate(asked)}
        for row, stored, is_pair in rows:
            if (job := jobs.get(stored.id)) is None:
                continue
            if row.raw.number in listed:
                number = listed[row.raw.number]
                over = RowEnd(row.raw.number, End.OVER, stored.key, ended=stored.ended)
                ends.move(over if number is None else RowEnd.of(self.order.suppressed(row, number), End.SUPPRESSED))
                continue
            own = owned.get(_key_of(row))
            if is_pair and not (own is not None and may_call(own) and is_changeable(job)):
                told = self.order.differs(row, job)
                key, kind = stored.key, differing_end(job, row)
                if told is None:
                    ends.move(RowEnd(row.raw.number, kind, key, stored.id))
                    continue
                kind = End.BAD if self.order.replace and kind is End.CHANGED else kind
            else:
                why = (
                    f"several rows or calls of batch {job.batch_id} have the number {job.destination}, such as call "
                    f"{job.id}, and nothing says which is which: nothing is done for them. Cancel the calls that are "
                    "wrong and give the list again, or call these people again (`again`)."
                )
                told, key, kind = (why, Severity.ERROR), None, End.BAD
            finding = Finding(kind="differs", column=self.order.column, severity=told[1], message=told[0])
            ends.name(person_in((row.call and row.call.data) or {}))
            ends.move(RowEnd.of(self.order.silenced(row, finding), kind, key=key))


def _key_of(row: ReadRow) -> str:
    return (row.call and row.call.unique_key) or ""


def _moved_over(
    over: Mapping[int, Sequence[StoredCall]], ends: RowEnds, keys: Mapping[int, str], plan: Plan
) -> Mapping[int, tuple[StoredCall, bool]]:
    """Give rows whose calls have ended their words, and plan their keys.

    Returns those of which more is to be told, by their numbers: each with a call, and whether nobody has to say whose.
    """
    others: dict[int, tuple[StoredCall, bool]] = {}
    rows_of = Counter(each.id for some in over.values() for each in some)
    for number, ended in over.items():
        last = ended[-1]
        if number in keys and len(ended) == 1 and rows_of[last.id] == 1:
            plan.keys[last.id] = keys[number]
        has_calls = max(rows_of[each.id] for each in ended) <= len(ended)  # whichever of them is that of this row
        if last.may_call or last.is_suppressed or not has_calls:
            others[number] = last, has_calls
        else:
            ends.move(RowEnd(number, End.BY_PERSON if last.by_person else End.OVER, last.key, ended=last.ended))
    return others


@asynccontextmanager
async def enqueue_lock(queue: CallQueue, name: str) -> AsyncGenerator[LeaderLease]:
    """Wait for the lock of one enqueue on its queue, and have it until the end of the block.

    So two enqueues that begin at once do not both find nobody called. It is a lease, and a condition of each new call:
    a process that stands still for longer than `LOCK_LENGTH` stores nothing more beside its successor. Calls that are
    enqueued singly by a program, or under keys of the user, need no lock.

    Raises IntakeError, with the name of the enqueue that has it, if it is not free within `TIMEOUT`.
    """
    clock = queue.store.clock
    # The name may be that of a batch that is refused for its letters later.
    note = f"{as_stored(name)}, since {clock.now().isoformat(timespec='seconds')}"
    lock = LeaderLease(queue.store, queue.name, namespace=INTAKES, length=LOCK_LENGTH, note=note)
    gives_up = clock.monotonic() + TIMEOUT.total_seconds()
    while not await lock.take():
        if clock.monotonic() >= gives_up:
            raise IntakeError(
                f"another enqueue in queue {queue.name} is in progress: {lock.holder}. Nothing was enqueued: two at "
                "once could call the same people twice. Try again when it has ended"
            )
        await clock.sleep(LOOK_AGAIN)
    async with lock.kept():
        yield lock
