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
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from anyio.lowlevel import checkpoint

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys, is_own_key
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.reading import count_states, find_jobs, find_pages, get_jobs
from voiceflow_worker.core.idempotency import Orders
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.settling.changes import ROUNDS, Changes
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, tell
from voiceflow_worker.model.flows.callflow import digests_to
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.differences import terms_of, waits
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.text.wording import count_of, duration_in_words
from voiceflow_worker.queue import CallQueue

PAGE = 1000
"""The number of calls that are read in one trip to the store."""
LOOKED_UP = 100
"""The rows of a file whose numbers are looked up in other batches. Each is a trip to the store."""
OTHER_BATCHES = timedelta(days=7)
"""How long a call of another batch counts, from its creation."""
INTAKES = "intake"
"""Namespace of the locks of enqueues, by queue."""
LOCK_LENGTH = timedelta(seconds=15)
"""How long a lock lasts if it is not renewed. After a killed enqueue, the next one waits until then."""
TIMEOUT = timedelta(seconds=30)
"""How long an enqueue waits for the lock. Less than a minute, because a person may sit before it."""
LOOK_AGAIN = 0.1  # seconds
TRIAL = "voiceflow-trial-"
"""The beginning of the unique key of a trial: a call to one's own telephone before a campaign is started."""


class _Stored(NamedTuple):
    """What is kept in memory of a stored call: the mark of its body, and all else that is compared, as `terms`."""

    id: str
    key: str | None
    mark: bytes
    terms: bytes
    waits: bool
    has_key: bool
    """Whether its key is one of a user."""


_Left: TypeAlias = dict[tuple[str, str], list[_Stored]]
"""Calls by batch and telephone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedCalls:
    """Rows that would call people again. `row` is the first of them, and `job` the earlier call to its number.

    `age` is the age of that call; None for one of a batch whose people count as those of this one.
    """

    count: int
    row: int
    job: Job
    age: timedelta | None

    def finding(self, *, file: str | None, column: str, severity: Severity) -> Finding:
        """The finding about these rows. It names their `file`, and the `column` of the numbers to call."""
        rows, job = count_of(self.count, "row"), self.job
        example = f"such as {job.destination} in batch {job.batch_id} ({job.id}, {job.state.value})"
        ago = "" if self.age is None else duration_in_words(self.age)
        message = tell("called_elsewhere", rows=rows, example=example, ago=ago)
        return Finding(file=file, row=self.row, column=column, severity=severity, message=message)


def differs(queue: CallQueue, row: ReadRow, stands: Job, *, replace: bool = False) -> tuple[Message, Severity] | None:
    """What is told of a row whose stored call differs from it, with the names of the fields; None if it is replaced.

    It is an error while that call waits. One that is in progress or over is not touched.
    """
    if replace and waits(stands):
        return None
    has_keys = is_own_key(stands.unique_key) and not row.has_made_key
    names = () if row.call is None else queue.admitter.differences(row.call, stands)
    said = {
        "call": stands.id, "batch": stands.batch_id or "-", "differs": " and ".join(names),
        "remedy": "give it another unique_key" if has_keys else Remedy.OTHER_BATCH,
    }  # fmt: skip
    if waits(stands):
        return tell("differs_waiting", **said), Severity.ERROR
    return tell("differs_over", state=stands.state.value, **said), Severity.WARNING


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of the rows that no key finds, by the numbers of rows, and of the calls of the batch.

    `same` rows have a stored call, whose key is here, and whose id is in `stand`; `pairs` replace the call with this
    id, and of the `told` nothing is done: here they are with the reason, and the key of their stored call, if known.
    `repeated` rows would say the same words to a number as a call of another batch. `missing` calls wait, and are no
    longer in the list.
    """

    same: dict[int, str | None] = field(default_factory=dict[int, "str | None"])
    stand: set[str] = field(default_factory=set[str])
    pairs: dict[int, str] = field(default_factory=dict[int, str])
    replaced: set[str] = field(default_factory=set[str])
    told: dict[int, tuple[ReadRow, str | None]] = field(default_factory=dict[int, "tuple[ReadRow, str | None]"])
    changed: int = 0
    repeated: list[RepeatedCalls] = field(default_factory=list[RepeatedCalls])
    missing: int = 0

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

    Of a large file, some rows are looked up in other batches; the batches found are then compared with all rows.

    A call with the unique key of a row is the call of this row. Calls that are `orders`' own are found by their keys
    too. Calls that ended without a ring do not count, nor do trials. Rows with suppressed numbers are left out: they
    are not called. Batches of the same `schedule_batches` count as none. The people of the batch `same_people_batch`
    count as called. With `since`, only calls of the same batch count that were made since then: those of a cut start,
    whose rows now say something else. With `again`, no row is compared, but with the calls since then; how many would
    be called again is only counted, if it `shows`. If the queue `has_staged` calls, some rows have calls of their own.
    """

    queue: CallQueue
    seen: SeenKeys
    """The unique keys of all rows that were read."""
    orders: Orders | None
    schedule_batches: Collection[str] | None
    same_people_batch: str | None
    since: datetime | None
    has_staged: bool
    again: bool
    shows: bool
    replace: bool
    file: str | None
    """The name of the file, for findings, as the `column` of its numbers is."""
    column: str
    _batches: set[str] = field(default_factory=set[str], init=False)
    _rows: int = field(default=0, init=False)
    _step: int = field(default=1, init=False)
    _sample: list[ReadRow] = field(default_factory=list[ReadRow], init=False)

    def add(self, rows: Sequence[ReadRow]) -> None:
        """Add new rows to compare."""
        for row in rows:
            if row.call is not None and row.call.batch_id is not None:
                self._batches.add(row.call.batch_id)
        for row in _without_key(rows):
            if self._rows % self._step == 0:
                self._sample.append(row)
            if len(self._sample) == 2 * LOOKED_UP:
                self._sample, self._step = self._sample[::2], 2 * self._step
            self._rows += 1

    async def find(self, chunks: Callable[[], Iterable[Sequence[ReadRow]]], batches: Iterable[str]) -> Plan:
        """The plan of all new rows, in chunks, of a list with these batches. Raises StoreError."""
        plan = Plan()
        stands = await self._calls_left(plan, batches)
        if stands:
            await self._match(plan, chunks, stands)
        if self.since is None and (self.shows or not self.again):
            plan.repeated = await self._repeated(plan, chunks)
        return plan

    async def _calls_left(self, plan: Plan, batches: Iterable[str]) -> _Left:
        """The calls of these batches that are not in the list by their keys."""
        found: _Left = {}
        kinds: dict[bytes, bytes] = {}
        for batch_id in sorted(batches):
            if not any((await count_states(self.queue.store, self.queue.name, batch_id=batch_id)).values()):
                continue
            is_compared = batch_id in self._batches
            async with aclosing(self._calls_of(batch_id, waiting=not is_compared)) as jobs:
                async for job in jobs:
                    if self._is_in_list(job, plan):
                        continue
                    plan.missing += waits(job)
                    is_old = self.since is not None and job.created_at < self.since
                    if not is_compared or is_old or (self.again and self.since is None) or self._is_own(job):
                        continue
                    terms, key = terms_of(job), job.unique_key
                    terms = kinds.setdefault(terms, terms)
                    left = _Stored(job.id, key, _mark(job.digest), terms, waits(job), any(map(is_own_key, job.keys)))
                    for telephone in map(telephone_of, job.numbers):
                        found.setdefault((batch_id, telephone), []).append(left)
        return found

    async def remove_missing(self, store: Store, plan: Plan, batches: Iterable[str]) -> int:
        """Cancel the calls of these batches that wait and are not in the list; returns their number. Raises StoreError.

        One that moves meanwhile is looked at again: it is in progress then, or is cancelled.
        """
        policy, removed = self.queue.policy, 0
        at, changes = store.clock.now(), Changes(store, policy)

        def cancel(job: Job) -> Job:
            return lifecycle.cancel(
                job, at=at, reason="it is no longer in the list", policy=policy, kind=ReasonKind.REMOVED
            )

        for batch_id in sorted(batches):
            for _ in range(ROUNDS):
                found = 0
                async with aclosing(self._pages_of(batch_id, waiting=True)) as pages:
                    async for page in pages:
                        gone = [each for each in page if waits(each) and not self._is_in_list(each, plan)]
                        found += len(gone)
                        removed += await changes.change_all(gone, cancel)
                if not found:
                    break
        return removed

    def _is_in_list(self, job: Job, plan: Plan) -> bool:
        return job.id in plan.stand or any(key in self.seen for key in job.keys)

    async def _match(self, plan: Plan, chunks: Callable[[], Iterable[Sequence[ReadRow]]], stands: _Left) -> None:
        """Find which of the calls that are left are those of rows."""
        same, left = plan.stand, dict[int, list[_Stored]]()
        for chunk in chunks():
            await checkpoint()  # whoever renews the lock, or sends calls in this process, has a turn
            for row in chunk:
                found = _of(row, stands)
                alike = [each for each in found if each.mark == _mark(row.digest) and each.id not in same]
                terms = self.queue.admitter.terms_of(row.call) if alike and row.call is not None else None
                equal = next((each for each in alike if terms is None or each.terms == terms), None)
                if equal is not None:
                    same.add(equal.id)
                    plan.same[row.raw.number] = equal.key
                    plan.missing -= equal.waits
                elif found:
                    left[row.raw.number] = found
        rows_of = Counter(each.id for some in left.values() for each in some)
        counted, others = set[str](), dict[int, tuple[_Stored, bool]]()
        for number, found in left.items():
            if not (rest := [each for each in found if each.id not in same]):
                continue
            plan.missing -= sum(each.waits for each in rest if each.id not in counted)
            counted |= {each.id for each in rest}
            is_pair = len(rest) == 1 and rows_of[rest[0].id] == 1
            if is_pair and rest[0].waits and self.replace and not self.has_staged:
                plan.changed += 1
                plan.pair(number, rest[0])
            else:
                others[number] = rest[0], is_pair
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
            if is_pair and not (own is not None and _may_call(own) and waits(job)):
                plan.changed += waits(job)
                told = differs(self.queue, row, job, replace=self.replace)
                key = stored.key
            else:
                said = {"number": job.destination, "batch": job.batch_id, "call": job.id}
                told, key = (tell("ambiguous", **said), Severity.ERROR), None
            if told is None:
                plan.pair(row.raw.number, stored)
                continue
            message, severity = told
            found = Finding(file=self.file, row=row.raw.number, column=self.column, severity=severity, message=message)
            plan.told[row.raw.number] = row._replace(call=None, findings=(*row.findings, found)), key

    async def _repeated(self, plan: Plan, chunks: Callable[[], Iterable[Sequence[ReadRow]]]) -> list[RepeatedCalls]:
        """The rows that would say the same words to a number as another batch."""
        store, batch = self.queue.store, self.same_people_batch
        now = store.clock.now()
        people: dict[str, str] = {}
        if batch is not None:
            async with aclosing(self._calls_of(batch)) as jobs:
                people = {telephone_of(number): job.id async for job in jobs for number in job.numbers}
        elsewhere = await self._elsewhere(since=now - OTHER_BATCHES)
        counts: Counter[bool] = Counter()
        first: dict[bool, tuple[int, str]] = {}
        for chunk in chunks() if people or elsewhere else ():
            repeating: list[tuple[ReadRow, str, bool, Sequence[str]]] = []
            for row in filter(plan.has, _without_key(chunk)):
                if (call := row.call) is None:
                    continue
                own = next((people[one] for one in map(telephone_of, call.numbers) if one in people), None)
                others = [calls for other, calls in elsewhere.items() if other != call.batch_id]
                marks = _marks(call.body, row.digest, call.numbers) if others else []
                other = next((calls[mark] for calls in others for mark in marks if mark in calls), None)
                if own is not None or other is not None:
                    repeating.append((row, own or other or "", own is not None, call.numbers))
            listed = await SuppressionList(store).entries_of(number for *_, each in repeating for number in each)
            for row, job_id, is_own, numbers in repeating:
                if listed.keys().isdisjoint(numbers):
                    counts[is_own] += 1
                    first.setdefault(is_own, (row.raw.number, job_id))
        found = await get_jobs(store, [job_id for _, job_id in first.values()])
        return [
            RepeatedCalls(count=counts[is_own], row=row, job=job, age=None if is_own else now - job.created_at)
            for is_own, (row, job_id) in first.items()
            if (job := found.get(job_id)) is not None
        ]

    async def _elsewhere(self, *, since: datetime) -> dict[str | None, dict[bytes, str]]:
        """The ids of the calls of other batches, by batch and body. A body has its number in it."""
        found: dict[str | None, dict[bytes, str]] = {}
        for batch_id in await self._other_batches():
            async with aclosing(self._calls_of(batch_id)) as jobs:
                found[batch_id] = {
                    mark: job.id
                    async for job in jobs
                    if job.created_at >= since and not self._is_own(job)
                    for mark in _marks(job.body, job.digest, job.numbers)
                }
        return found

    async def _other_batches(self) -> set[str]:
        """The batches that have calls with the bodies of the rows that are looked up."""
        store, found = self.queue.store, set[str]()
        for row in self._sample[:: max(1, len(self._sample) // LOOKED_UP)]:
            if row.call is None:
                continue
            marks = set(_marks(row.call.body, row.call.digest, row.call.numbers))
            for number in row.call.numbers:
                last = OfNumber(queue=self.queue.name, number=number, newest=True, limit=20)
                for job in await find_jobs(store, last):
                    is_said = not marks.isdisjoint(_marks(job.body, job.digest, job.numbers))
                    if is_said and job.batch_id not in {None, row.call.batch_id, *(self.schedule_batches or ())}:
                        found.add(str(job.batch_id))
        return found

    async def _calls_of(self, batch_id: str, *, waiting: bool = False) -> AsyncGenerator[Job]:
        async with aclosing(self._pages_of(batch_id, waiting=waiting)) as pages:
            async for page in pages:
                for job in page:
                    yield job

    async def _pages_of(self, batch_id: str, *, waiting: bool = False) -> AsyncGenerator[list[Job]]:
        """The calls of a batch, or the `waiting` ones, that ring or may have rung; those of trials are left out."""
        states = frozenset({JobState.QUEUED, JobState.LEASED}) if waiting else None
        every = Listing(queue=self.queue.name, batch=batch_id, states=states, limit=PAGE)
        async with aclosing(find_pages(self.queue.store, every)) as pages:
            async for page in pages:
                yield [job for job in page if _may_call(job)]

    def _is_own(self, job: Job) -> bool:
        return self.orders is not None and self.orders.is_own(job)


def _without_key(rows: Iterable[ReadRow]) -> Iterable[ReadRow]:
    """The rows that have no key of their user."""
    return (row for row in rows if row.call is not None and row.has_made_key)


def _of(row: ReadRow, stands: _Left) -> list[_Stored]:
    """The calls to a row's numbers that may be its own."""
    if row.call is None or row.call.batch_id is None:
        return []
    found = (each for one in row.call.numbers for each in stands.get((row.call.batch_id, telephone_of(one)), ()))
    return list({each.id: each for each in found if row.has_made_key or not each.has_key}.values())


async def said_before(queue: CallQueue, *, destination: str, digest: str, counts: Callable[[Job], bool]) -> Job | None:
    """The newest call of the last days to this number with this body that `counts`; None without one."""
    since = queue.store.clock.now() - OTHER_BATCHES
    last = OfNumber(queue=queue.name, number=destination, newest=True, limit=PAGE)
    for job in await find_jobs(queue.store, last):
        is_said = _mark(digest) in _marks(job.body, job.digest, job.numbers)
        if job.created_at >= since and is_said and _may_call(job) and counts(job):
            return job
    return None


def _may_call(job: Job) -> bool:
    """Whether a call may ring or have rung for a campaign, and not for a trial."""
    if job.unique_key is not None and job.unique_key.startswith(TRIAL):
        return False
    return job.may_call


def _marks(body: str, digest: str, numbers: Sequence[str]) -> list[bytes]:
    """What a call says to each number of its person, as marks that are alike for calls to one of them alone."""
    if len(numbers) == 1:
        return [_mark(digest)]
    return [_mark(each) for each in digests_to(body, numbers)]


def _mark(digest: str) -> bytes:
    """The half of a digest of a body that is kept in memory."""
    return bytes.fromhex(digest[:32])


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
