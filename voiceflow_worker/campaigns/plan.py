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
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from anyio.lowlevel import checkpoint

from voiceflow_worker.campaigns.called_before import (
    WAITING,
    CalledBefore,
    Chunks,
    RepeatedCalls,
    Sample,
    calls_of,
    mark_of,
    may_call,
    without_key,
)
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys, is_own_key
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.core.idempotency import Orders
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, tell
from voiceflow_worker.model.jobs.differences import (
    can_still_ring,
    is_cancelled_for_good,
    is_changeable,
    may_become,
    terms_of,
)
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.queue import CallQueue

INTAKES = "intake"
"""Namespace of the locks of enqueues, by queue."""
LOCK_LENGTH = timedelta(seconds=15)
"""How long a lock lasts if it is not renewed. After a killed enqueue, the next one waits until then."""
TIMEOUT = timedelta(seconds=30)
"""How long an enqueue waits for the lock. Less than a minute, because a person may sit before it."""
LOOK_AGAIN = 0.1  # seconds
MOST_NAMED = 5
"""How many people or calls are named."""


class End(StrEnum):
    """What becomes of a row of a list that is imported again, or of a call that can still ring: one word for each."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"
    LEFT_OUT_WAITING = "left_out_waiting"
    IN_NO_ROW = "in_no_row"
    ON_THE_WAY = "on_the_way"
    OVER = "over"
    BY_PERSON = "cancelled_by_person"
    BAD = "bad"

    @classmethod
    def of_differing(cls, job: Job, batch_id: str | None) -> End:
        """The end of a row of this batch that differs from this call."""
        return cls.CHANGED if may_change(job, batch_id) else cls.OVER if job.state.is_final else cls.ON_THE_WAY


def may_change(job: Job, batch_id: str | None) -> bool:
    """Whether a row of this batch may change a call; of other batches, only one for which nobody was called."""
    return is_changeable(job) and (not job.attempt or job.batch_id == batch_id)


END_WORDS = {
    End.SAME: "the same", End.NEW: "new", End.CHANGED: "changed", End.LEFT_OUT_WAITING: "left out and waiting",
    End.IN_NO_ROW: "in no row", End.ON_THE_WAY: "on the way", End.OVER: "over",
    End.BY_PERSON: "cancelled by a person", End.BAD: "bad",
}  # fmt: skip
"""The words of people for each end, in the order in which they are shown."""


class _Stored(NamedTuple):
    """What is kept in memory of a stored call: the mark of its body, and all else that is compared, as `terms`."""

    id: str
    key: str | None
    mark: bytes
    terms: bytes
    waits: bool
    is_limited: bool
    """Whether its validity ends: a change may leave no time for it."""
    has_key: bool
    """Whether its key is one of a user."""


_Left: TypeAlias = dict[tuple[str, str], list[_Stored]]
"""Calls by batch and telephone."""


def differs(
    queue: CallQueue, row: ReadRow, stands: Job, *, replace: bool = False, keeps: bool = False
) -> tuple[Message, Severity] | None:
    """What is told of a row whose stored call differs from it, with the names of the fields; None if it is changed.

    It is an error while that call waits, unless it `keeps` that, and also if no time is left for the change.
    """
    is_changed = may_change(stands, row.call and row.call.batch_id)
    if replace and row.call is not None and may_become(stands, row.call):
        problems = queue.admitter.problems_of_change(row.call, stands)
        return (Message(problems[0].message), Severity.ERROR) if problems else None
    has_keys = is_own_key(stands.unique_key) and not row.has_made_key
    names = () if row.call is None else queue.admitter.differences(row.call, stands)
    said = {
        "call": stands.id, "batch": stands.batch_id or "-", "differs": " and ".join(names),
        "remedy": "give it another unique_key" if has_keys else Remedy.OTHER_BATCH,
    }  # fmt: skip
    if is_changed:
        return tell("differs_waiting", **said), Severity.WARNING if keeps else Severity.ERROR
    return tell("differs_over", state=stands.state.value, **said), Severity.WARNING


class WaitingCall(NamedTuple):
    """What is kept of a call that can still ring."""

    id: str
    batch_id: str | None
    keys: tuple[str, ...]
    numbers: tuple[str, ...]
    created_at: datetime
    name: str

    @classmethod
    def of(cls, job: Job) -> WaitingCall:
        """That of this job."""
        return cls(job.id, job.batch_id, job.keys, job.numbers, job.created_at, job.name)


class _Silent(NamedTuple):
    row: int
    is_left_out: bool
    has_key: bool


class SilentRows:
    """The rows that call nobody, by the numbers and keys of their people: left out, or bad, or behind a limit.

    A row and a call that both have keys of a user belong together by these alone. Of several rows with one number,
    those that are left out count.
    """

    def __init__(self) -> None:
        self._of_number: dict[int, list[_Silent]] = {}
        self._of_key: dict[str, _Silent] = {}
        self.batches: set[str] = set()

    @property
    def keys(self) -> Collection[str]:
        """The keys of their users."""
        return self._of_key.keys()

    def add(self, row: ReadRow, batch_id: str) -> None:
        """Add a row."""
        is_late = any(found.told.kind == "beyond_limit" for found in row.findings)
        said = _Silent(row.raw.number, row.is_left_out and not is_late, bool(row.own_key))
        self.batches.add(batch_id)
        for number in map(telephone_of, row.numbers):
            self._of_number.setdefault(hash((batch_id, number)), []).append(said)
        if row.own_key:
            self._of_key[row.own_key] = said

    def of(self, call: WaitingCall) -> tuple[int, bool] | None:
        """The row of a call's person, and whether that is left out; None if none has its key or one of its numbers."""
        if (own := next((self._of_key[key] for key in call.keys if key in self._of_key), None)) is not None:
            return own.row, own.is_left_out
        places = (hash((call.batch_id, telephone_of(number))) for number in call.numbers)
        has_key = any(map(is_own_key, call.keys))
        found = [each for place in places for each in self._of_number.get(place, ()) if not (each.has_key and has_key)]
        return min(((each.row, each.is_left_out) for each in found), key=lambda each: not each[1], default=None)


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of the rows that no key finds, by the numbers of rows, and of the calls of the batch.

    `same` rows have a stored call, whose key is here, and whose id is in `stand`; `pairs` change the call with this id,
    `later` ones when it is no longer on its way. Of the `told` nothing is done: here they are with the reason, the key
    of their stored call, if known, and how they end. `repeated` rows would say the same words to a number as a call of
    another batch. `left_out` rows are left out, and the call with this id can still ring; `in_no_row` calls can, and no
    row has their number or key: the first of them are `named`. `people` are the names of some whose calls change or
    end. If the batch `is_new`, nothing can be missing from it.
    """

    same: dict[int, str | None] = field(default_factory=dict[int, "str | None"])
    stand: set[str] = field(default_factory=set[str])
    pairs: dict[int, str] = field(default_factory=dict[int, str])
    replaced: set[str] = field(default_factory=set[str])
    told: dict[int, tuple[ReadRow, str | None, End]] = field(
        default_factory=dict[int, "tuple[ReadRow, str | None, End]"]
    )
    changed: int = 0
    by_person: int = 0
    later: set[int] = field(default_factory=set[int])
    repeated: list[RepeatedCalls] = field(default_factory=list[RepeatedCalls])
    left_out: dict[int, WaitingCall] = field(default_factory=dict[int, WaitingCall])
    in_no_row: int = 0
    waiting: int = 0
    people: list[str] = field(default_factory=list[str])
    named: list[str] = field(default_factory=list[str])
    is_new: bool = True

    def pair(self, row: int, stored: _Stored) -> None:
        """Let a row replace a stored call."""
        self.pairs[row] = stored.id
        self.replaced |= {stored.key} if stored.key else set()

    def has(self, row: ReadRow) -> bool:
        """Whether the row makes a new call."""
        return row.raw.number not in self.same and row.raw.number not in self.told


@dataclass(slots=True, kw_only=True)
class Planner:
    """A comparison of the rows of a list with the stored calls of the queue.

    A call with the unique key of a row is the call of this row. Calls that are the `orders`' own are found by their
    keys too. Calls that ended without a ring do not count, nor do trials. Rows with suppressed numbers are left out:
    they are not called. With `since`, only calls of the same batch count that were made since then: those of a cut
    start, whose rows now say something else. With `again`, no row is compared, but with the calls since then; how many
    would be called again is only counted, if it `shows`. If the queue `has_staged` calls, some rows have calls of their
    own.
    """

    queue: CallQueue
    seen: SeenKeys
    """The unique keys of all rows that were read."""
    orders: Orders | None
    before: CalledBefore
    since: datetime | None
    has_staged: bool
    again: bool
    again_cancelled: bool
    """Whether people are called whose calls were cancelled by a person."""
    shows: bool
    replace: bool
    keeps: bool
    file: str | None
    """The name of the file, for findings, as the `column` of its numbers is."""
    column: str
    silent: SilentRows = field(default_factory=SilentRows, init=False)
    people: Sample = field(default_factory=Sample, init=False)
    _batches: set[str] = field(default_factory=set[str], init=False)

    def add(self, rows: Sequence[ReadRow], known: Sequence[ReadRow]) -> None:
        """Add new rows to compare, and those whose calls are known."""
        for row in rows:
            if row.call is not None and row.call.batch_id is not None:
                self._batches.add(row.call.batch_id)
        for row in without_key(rows):
            self.before.sample.add(row)
        for row in (*rows, *known):
            if row.call is not None:
                self.people.add(row)

    async def find(self, chunks: Chunks, batches: Iterable[str]) -> Plan:
        """The plan of all new rows, in chunks, of a list with these batches. Raises StoreError."""
        plan = Plan()
        stands, gone, left = await self._calls_left(plan, {*batches, *self.silent.batches})
        if stands or gone:
            await self._match(plan, chunks, stands, gone)
        for call in left:
            if call.id not in plan.stand:
                self._note_left(plan, call)
        paired = await get_jobs(self.queue.store, [*plan.pairs.values()][:MOST_NAMED])
        plan.people = [*(each.name or each.destination for each in paired.values()), *plan.people]
        owners = await owners_of(self.queue.store, self.queue.name, self.silent.keys)
        for call in map(WaitingCall.of, filter(can_still_ring, owners.values())):
            if (said := self.silent.of(call)) is not None and said[1]:
                plan.left_out[said[0]] = call
        if self.since is None and (self.shows or not self.again):
            plan.repeated = await self.before.find(chunks, plan.has)
        return plan

    def _note_left(self, plan: Plan, call: WaitingCall) -> None:
        """Note a call that can still ring, and that no row to call has."""
        said = self.silent.of(call)
        if len(plan.people) < MOST_NAMED and (said is None or said[1]):
            plan.people.append(call.name or call.numbers[0])
        if said is None:
            plan.in_no_row += 1
            if len(plan.named) < MOST_NAMED:
                plan.named.append(f"{call.name or call.numbers[0]} ({call.id})")
        elif said[1]:
            plan.left_out.setdefault(said[0], call)

    async def _calls_left(self, plan: Plan, batches: Iterable[str]) -> tuple[_Left, _Left, list[WaitingCall]]:
        """The calls of these batches that are not in the list by their keys.

        With them, those that were cancelled by a person, and those that can still ring.
        """
        found: _Left = {}
        gone: _Left = {}
        left: list[WaitingCall] = []
        kinds: dict[bytes, bytes] = {}
        for batch_id in sorted(batches):
            states = await count_states(self.queue.store, self.queue.name, batch_id=batch_id)
            if not any(states.values()):
                continue
            plan.waiting += states.get(JobState.QUEUED, 0) + states.get(JobState.LEASED, 0)
            plan.is_new, is_compared = False, batch_id in self._batches
            among = None if is_compared else WAITING
            async with aclosing(calls_of(self.queue, batch_id, states=among, ended=True)) as jobs:
                async for job in jobs:
                    if self.is_in_list(job, plan):
                        continue
                    if can_still_ring(job):
                        left.append(WaitingCall.of(job))
                    is_gone = not may_call(job)
                    if is_gone and (self.again_cancelled or job.successor or not is_cancelled_for_good(job)):
                        continue
                    is_old = self.since is not None and job.created_at < self.since
                    is_own = self.orders is not None and self.orders.is_own(job)
                    if not is_compared or is_old or (self.again and self.since is None) or is_own:
                        continue
                    terms, key = terms_of(job), job.unique_key
                    terms = kinds.setdefault(terms, terms)
                    has_key = any(map(is_own_key, job.keys))
                    stored = _Stored(
                        job.id,
                        key,
                        mark_of(job.digest),
                        terms,
                        is_changeable(job),
                        job.valid_until is not None,
                        has_key,
                    )
                    for telephone in map(telephone_of, job.numbers):
                        (gone if is_gone else found).setdefault((batch_id, telephone), []).append(stored)
        return found, gone, left

    def is_in_list(self, job: Job, plan: Plan) -> bool:
        """Whether a call is that of a row to call."""
        return job.id in plan.stand or any(key in self.seen for key in job.keys)

    async def _match(self, plan: Plan, chunks: Chunks, stands: _Left, gone: _Left) -> None:
        """Find which of the calls that are left are those of rows; of rows without one, which were cancelled."""
        same, left = plan.stand, dict[int, list[_Stored]]()
        cancelled: dict[int, list[_Stored]] = {}
        for chunk in chunks():
            await checkpoint()  # whoever renews the lock, or sends calls in this process, has a turn
            for row in chunk:
                found = _of(row, stands)
                alike = [each for each in found if each.mark == mark_of(row.digest) and each.id not in same]
                terms = self.queue.admitter.terms_of(row.call) if alike and row.call is not None else None
                equal = next((each for each in alike if terms is None or each.terms == terms), None)
                if equal is not None:
                    same.add(equal.id)
                    plan.same[row.raw.number] = equal.key
                    continue
                if found:
                    left[row.raw.number] = found
                if ended := _of(row, gone):
                    cancelled[row.raw.number] = ended
        rows_of = Counter(each.id for some in left.values() for each in some)
        counted, others = set[str](), dict[int, tuple[_Stored, bool]]()
        for number, found in left.items():
            if not (rest := [each for each in found if each.id not in same]):
                continue
            cancelled.pop(number, None)
            counted |= {each.id for each in rest}
            is_pair = len(rest) == 1 and rows_of[rest[0].id] == 1
            if is_pair and rest[0].waits and not rest[0].is_limited and self.replace and not self.has_staged:
                plan.changed += 1
                plan.pair(number, rest[0])
            else:
                others[number] = rest[0], is_pair
        rows_of = Counter(each.id for some in cancelled.values() for each in some)
        for number, ended in cancelled.items():
            if all(rows_of[each.id] == 1 for each in ended):
                plan.same[number] = ended[-1].key
                plan.by_person += 1
            else:
                others[number] = ended[0], False
        for chunk in chunks() if others else ():
            await self._tell(plan, [(row, *others[row.raw.number]) for row in chunk if row.raw.number in others])
        same |= counted  # what is told of a row stands for it too, should it wait again

    async def _tell(self, plan: Plan, rows: Sequence[tuple[ReadRow, _Stored, bool]]) -> None:
        """Tell what stands in place of rows, each with a stored call, and whether these two are a pair.

        They are not if the row has a call by its key, which an import has staged that was cut.
        """
        store = self.queue.store
        jobs = await get_jobs(store, [stored.id for _, stored, _ in rows])
        keys = [row.call.unique_key or "" for row, *_ in rows if row.call is not None]
        owned = await owners_of(store, self.queue.name, keys) if self.has_staged else {}
        for row, stored, is_pair in rows:
            if (job := jobs.get(stored.id)) is None:
                continue
            own = owned.get((row.call and row.call.unique_key) or "")
            if is_pair and not (own is not None and may_call(own) and is_changeable(job)):
                told = differs(self.queue, row, job, replace=self.replace, keeps=self.keeps)
                key, end = stored.key, End.of_differing(job, job.batch_id)
                if told is not None and self.replace and end is End.CHANGED:
                    end = End.BAD
                plan.changed += end is End.CHANGED
            else:
                said = {"number": job.destination, "batch": job.batch_id, "call": job.id}
                told, key, end = (tell("ambiguous", **said), Severity.ERROR), None, End.BAD
            if told is None:
                plan.pair(row.raw.number, stored)
                plan.later |= {row.raw.number} if end is End.ON_THE_WAY else set[int]()
                continue
            message, severity = told
            found = Finding(file=self.file, row=row.raw.number, column=self.column, severity=severity, message=message)
            plan.told[row.raw.number] = row.without_call(found), key, end


def _of(row: ReadRow, stands: _Left) -> list[_Stored]:
    """The calls to a row's numbers that may be its own."""
    if row.call is None or row.call.batch_id is None:
        return []
    found = (each for one in row.call.numbers for each in stands.get((row.call.batch_id, telephone_of(one)), ()))
    return list({each.id: each for each in found if row.has_made_key or not each.has_key}.values())


@asynccontextmanager
async def enqueue_lock(queue: CallQueue, name: str, *, number: str | None = None) -> AsyncGenerator[LeaderLease]:
    """Wait for the lock of one enqueue on its queue, and have it until the end of the block.

    So two enqueues that begin at once do not both find nobody called. It is a lease, and a condition of each new call:
    a process that stands still for longer than `LOCK_LENGTH` stores nothing more beside its successor. Calls that are
    enqueued singly by a program, or under keys of the user, need no lock. With `number`, it is the lock among the calls
    to this number alone.

    Raises IntakeError, with the name of the enqueue that has it, if it is not free within `TIMEOUT`.
    """
    clock = queue.store.clock
    key = queue.name if number is None else f"{queue.name}/{telephone_of(number)}"
    # The name may be that of a batch that is refused for its letters later.
    note = f"{as_stored(name)}, since {clock.now().isoformat(timespec='seconds')}"
    lock = LeaderLease(queue.store, key, namespace=INTAKES, length=LOCK_LENGTH, note=note)
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
