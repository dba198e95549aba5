"""The search for rows that would call people again: of the same batch, or with the same words as another batch.

What it finds must still hold when the rows are stored. So enqueues of one queue exclude each other (`enqueue_lock`),
and each new call is stored under the condition that its enqueue still has the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import count_states, find_jobs, find_pages, get_jobs
from voiceflow_worker.core.idempotency import Orders
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import IntakeError
from voiceflow_worker.finding import Finding, Severity, tell
from voiceflow_worker.model.flows.callflow import digests_to
from voiceflow_worker.model.jobs.job import Job, JobState
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
_LOOK_AGAIN = 0.1  # seconds
TRIAL = "voiceflow-trial-"
"""The beginning of the unique key of a trial: a call to one's own telephone before a campaign is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedCalls:
    """Rows that would call people again. `row` is the first of them, and `job` the earlier call to its number.

    `age` is the age of that call, if it belongs to another batch. `staged` says that an import which was cut has staged
    it, so that nobody was called.
    """

    count: int
    row: int
    job: Job
    age: timedelta | None
    staged: bool = False

    def finding(self, *, file: str | None, column: str, severity: Severity) -> Finding:
        """The finding about these rows. It names their `file`, and the `column` of the numbers to call."""
        rows, job = count_of(self.count, "row"), self.job
        example = f"such as {job.destination} in batch {job.batch_id} ({job.id}, {job.state.value})"
        if self.staged:
            message = tell("call_staged", rows=rows, example=example)
        elif self.age is None:
            message = tell("called_in_batch", rows=rows, example=example)
        else:
            message = tell("called_elsewhere", rows=rows, example=example, ago=duration_in_words(self.age))
        return Finding(file=file, row=self.row, column=column, severity=severity, message=message)


class EarlierCalls:
    """A comparison of the rows of a file with the earlier calls of the queue.

    A row repeats an earlier call to its number in the same batch, and a call with the same body that another batch made
    in the last days. Of a large file, some rows are looked up in other batches; the batches found are then compared
    with all rows.

    Rows with a unique key from the user are not compared: the store recognises their calls by the key. An earlier call
    with the unique key of a row does not count, because it is the call of this row, from an interrupted enqueue, nor do
    calls that are `orders`' own. Calls that ended without a ring do not count either, nor do trials. Rows with
    suppressed numbers are left out: they are not called. Batches of the same `schedule_batches` count as none. The
    calls of the batch `same_people_batch` count as those of the row's own batch. With `since`, only calls of the same
    batch count that were made since then: those of a cut start, whose rows now say something else. `unfinished` are the
    tokens of the imports that have not ended.
    """

    def __init__(
        self,
        queue: CallQueue,
        seen: SeenKeys,
        *,
        orders: Orders | None = None,
        schedule_batches: Collection[str] | None = None,
        same_people_batch: str | None = None,
        since: datetime | None = None,
        unfinished: Collection[str | None] = (),
    ) -> None:
        self._queue = queue
        self._same_people = same_people_batch
        self._unfinished = unfinished
        self._schedule_batches = schedule_batches or ()
        self._since = since
        self._orders = orders
        self._seen = seen
        """The unique keys of all rows that were read."""
        self._batches: set[str] = set()
        self._rows = 0
        self._step = 1
        self._sample: list[ReadRow] = []

    def add(self, rows: Iterable[ReadRow]) -> None:
        """Add new rows to compare."""
        for row in rows:
            if row.call is None or not row.has_made_key:
                continue
            if row.call.batch_id is not None:
                self._batches.add(row.call.batch_id)
            if self._rows % self._step == 0:
                self._sample.append(row)
            if len(self._sample) == 2 * LOOKED_UP:
                self._sample, self._step = self._sample[::2], 2 * self._step
            self._rows += 1

    async def find(self, chunks: Iterable[Sequence[ReadRow]]) -> list[RepeatedCalls]:
        """The rows that would call people again, of all new rows, in chunks. Raises StoreError."""
        store = self._queue.store
        now = store.clock.now()
        here = await self._here()
        elsewhere = await self._elsewhere(since=now - OTHER_BATCHES) if self._since is None else {}
        counts: Counter[bool] = Counter()
        first: dict[bool, tuple[int, str]] = {}
        for chunk in chunks if here or elsewhere else ():
            repeating: list[tuple[ReadRow, str, bool]] = []
            for row in chunk:
                if row.call is None or not row.has_made_key:
                    continue
                batch_id = row.call.batch_id
                called = [here.get(each, {}) for each in (batch_id, self._same_people)]
                telephones = map(telephone_of, row.call.numbers)
                own = next((each[one] for one in telephones for each in called if one in each), None)
                others = [calls for other, calls in elsewhere.items() if other != batch_id]
                marks = _marks(row.call.body, row.digest, row.call.numbers) if others else []
                other = next((calls[mark] for calls in others for mark in marks if mark in calls), None)
                if own is not None or other is not None:
                    repeating.append((row, own or other or "", own is not None))
            people = [
                (row, job_id, is_here, row.call.numbers if row.call else ()) for row, job_id, is_here in repeating
            ]
            suppressed = await SuppressionList(store).entries_of(number for *_, numbers in people for number in numbers)
            for row, job_id, is_here, numbers in people:
                if suppressed.keys().isdisjoint(numbers):
                    counts[is_here] += 1
                    first.setdefault(is_here, (row.raw.number, job_id))
        jobs = await get_jobs(store, [job_id for _, job_id in first.values()])
        return [
            RepeatedCalls(
                count=counts[is_here],
                row=row,
                job=job,
                age=None if is_here else now - job.created_at,
                staged=is_here and job.state is JobState.QUEUED and job.worker_id in self._unfinished,
            )
            for is_here, (row, job_id) in first.items()
            if (job := jobs.get(job_id)) is not None
        ]

    async def _here(self) -> dict[str | None, dict[str, str]]:
        """The ids of the earlier calls of the rows' batches, by batch and telephone."""
        found: dict[str | None, dict[str, str]] = {}
        for batch_id in sorted({*self._batches, *filter(None, [self._same_people])}):
            if not any((await count_states(self._queue.store, self._queue.name, batch_id=batch_id)).values()):
                continue
            called: dict[str, str] = {}
            found[batch_id] = called
            async with aclosing(self._calls_of(batch_id)) as jobs:
                async for job in jobs:
                    if self._since is not None and job.created_at < self._since:
                        continue
                    if job.unique_key is None or job.unique_key not in self._seen:
                        for number in job.numbers:
                            called.setdefault(telephone_of(number), job.id)
        return found

    async def _elsewhere(self, *, since: datetime) -> dict[str | None, dict[bytes, str]]:
        """The ids of the calls of other batches, by batch and body. A body has its number in it."""
        found: dict[str | None, dict[bytes, str]] = {}
        for batch_id in await self._other_batches():
            async with aclosing(self._calls_of(batch_id)) as jobs:
                found[batch_id] = {
                    mark: job.id
                    async for job in jobs
                    if job.created_at >= since
                    for mark in _marks(job.body, job.body_digest, job.numbers)
                }
        return found

    async def _other_batches(self) -> set[str]:
        """The batches that have calls with the bodies of the rows that are looked up."""
        store, found = self._queue.store, set[str]()
        for row in self._sample[:: max(1, len(self._sample) // LOOKED_UP)]:
            if row.call is None:
                continue
            marks = set(_marks(row.call.body, row.call.digest, row.call.numbers))
            for number in row.call.numbers:
                last = OfNumber(queue=self._queue.name, number=number, newest=True, limit=20)
                for job in await find_jobs(store, last):
                    is_said = not marks.isdisjoint(_marks(job.body, job.body_digest, job.numbers))
                    if is_said and job.batch_id not in {None, row.call.batch_id, *self._schedule_batches}:
                        found.add(str(job.batch_id))
        return found

    async def _calls_of(self, batch_id: str) -> AsyncGenerator[Job]:
        """The calls of a batch. Those that ended without a ring are left out: to call again is no repetition then."""
        every = Listing(queue=self._queue.name, batch=batch_id, limit=PAGE)
        async with aclosing(find_pages(self._queue.store, every)) as pages:
            async for page in pages:
                for job in page:
                    is_own = self._orders is not None and self._orders.is_own(job)
                    if _may_call(job) and not is_own:
                        yield job


async def said_before(queue: CallQueue, *, destination: str, digest: str, counts: Callable[[Job], bool]) -> Job | None:
    """The newest call of the last days to this number with this body that `counts`; None without one."""
    since = queue.store.clock.now() - OTHER_BATCHES
    last = OfNumber(queue=queue.name, number=destination, newest=True, limit=PAGE)
    for job in await find_jobs(queue.store, last):
        is_said = _mark(digest) in _marks(job.body, job.body_digest, job.numbers)
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
        await clock.sleep(_LOOK_AGAIN)
    async with lock.kept():
        yield lock
