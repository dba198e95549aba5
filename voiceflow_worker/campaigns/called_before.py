"""Who was called before, with the same words: calls of other batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from voiceflow_worker.campaigns.calls.options import is_of_pattern
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.core.base.reading import find_jobs, find_pages, get_jobs
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.callflow import digests_to
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words
from voiceflow_worker.queue import CallQueue

PAGE = 1000
"""The number of calls that are read in one trip to the store."""
LOOKED_UP = 100
"""The rows of a file whose numbers are looked up in other batches. Each is a trip to the store."""
OTHER_BATCHES = timedelta(days=7)
"""How long a call of another batch counts, from its creation."""
TRIAL = "voiceflow-trial-"
"""The beginning of the unique key of a trial: a call to one's own telephone before a campaign is started."""
Chunks = Callable[[], Iterable[Sequence[ReadRow]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedCalls:
    """Rows that would call people again. The first is `row`, and `job` of this `age` the call to its number."""

    count: int
    row: int
    job: Job
    age: timedelta

    def finding(self, *, file: str | None, column: str, severity: Severity) -> Finding:
        """The finding about these rows. It names their `file`, and the `column` of the numbers to call."""
        rows, job = count_of(self.count, "row"), self.job
        example = f"such as {job.destination} in batch {job.batch_id} ({job.id}, {job.state.value})"
        message = (
            f"{rows} would say the same text to a number as another batch, {example}, enqueued "
            f"{duration_in_words(self.age)} ago. If this is no mistake, call these people again (`again`), or give "
            "each row a unique_key. To try a campaign out, use another store (VOICEFLOW_STORE)."
        )
        return Finding(file=file, row=self.row, column=column, severity=severity, message=message)


@dataclass(slots=True, kw_only=True)
class Sample:
    """Some of the rows that are added, at even distances, however many there are."""

    rows: list[ReadRow] = field(default_factory=list[ReadRow])
    _count: int = 0
    _step: int = 1

    def add(self, row: ReadRow) -> None:
        """Add a row."""
        if self._count % self._step == 0:
            self.rows.append(row)
        if len(self.rows) == 2 * LOOKED_UP:
            self.rows, self._step = self.rows[::2], 2 * self._step
        self._count += 1

    def looked_up(self) -> Sequence[ReadRow]:
        """The rows whose numbers are looked up."""
        return self.rows[:: max(1, len(self.rows) // LOOKED_UP)]


@dataclass(slots=True, kw_only=True)
class CalledBefore:
    """The search for calls of other batches that say what rows say.

    Of a large file, some rows are looked up in other batches; the batches found are then compared with all rows.
    Batches whose names are of the `pattern` with `{date}` do not count.
    """

    queue: CallQueue
    pattern: str | None
    sample: Sample = field(default_factory=Sample, init=False)

    async def find(self, chunks: Chunks, makes_call: Callable[[ReadRow], bool]) -> list[RepeatedCalls]:
        """The rows that would say the same words to a number as another batch; of those only that make a call."""
        store = self.queue.store
        now = store.clock.now()
        elsewhere = await self._elsewhere(since=now - OTHER_BATCHES)
        count, first = 0, None
        for chunk in chunks() if elsewhere else ():
            repeating: list[tuple[ReadRow, str, Sequence[str]]] = []
            for row in filter(makes_call, without_key(chunk)):
                if (call := row.call) is None:
                    continue
                others = [calls for other, calls in elsewhere.items() if other != call.batch_id]
                marks = marks_of(call.body, row.digest, call.numbers) if others else []
                other = next((calls[mark] for calls in others for mark in marks if mark in calls), None)
                if other is not None:
                    repeating.append((row, other, call.numbers))
            listed = await SuppressionList(store).entries_of(number for *_, each in repeating for number in each)
            for row, job_id, numbers in repeating:
                if listed.keys().isdisjoint(numbers):
                    count += 1
                    first = first or (row.raw.number, job_id)
        job = None if first is None else (await get_jobs(store, [first[1]])).get(first[1])
        if first is None or job is None:
            return []
        return [RepeatedCalls(count=count, row=first[0], job=job, age=now - job.created_at)]

    async def _elsewhere(self, *, since: datetime) -> dict[str | None, dict[bytes, str]]:
        """The ids of the calls of other batches, by batch and body. A body has its number in it."""
        found: dict[str | None, dict[bytes, str]] = {}
        for batch_id in await self._other_batches():
            async with aclosing(calls_of(self.queue, batch_id)) as jobs:
                found[batch_id] = {
                    mark: job.id
                    async for job in jobs
                    if job.created_at >= since
                    for mark in marks_of(job.body, job.digest, job.numbers)
                }
        return found

    async def _other_batches(self) -> set[str]:
        """The batches that have calls with the bodies of the rows that are looked up."""
        store, found = self.queue.store, set[str]()
        for row in self.sample.looked_up():
            if row.call is None:
                continue
            marks = set(marks_of(row.call.body, row.call.digest, row.call.numbers))
            for number in row.call.numbers:
                last = OfNumber(queue=self.queue.name, number=number, newest=True, limit=20)
                for job in await find_jobs(store, last):
                    is_said = not marks.isdisjoint(marks_of(job.body, job.digest, job.numbers))
                    is_other = job.batch_id != row.call.batch_id and not is_of_pattern(job.batch_id, self.pattern)
                    if is_said and job.batch_id is not None and is_other:
                        found.add(str(job.batch_id))
        return found


def without_key(rows: Iterable[ReadRow]) -> Iterable[ReadRow]:
    """The rows that have no key of their user."""
    return (row for row in rows if row.call is not None and row.has_made_key)


async def calls_of(
    queue: CallQueue, batch_id: str, *, states: frozenset[JobState] | None = None, ended: bool = False
) -> AsyncGenerator[Job]:
    """The calls of a batch, or those in these `states`, one by one: see `pages_of`."""
    async with aclosing(pages_of(queue, batch_id, states=states, ended=ended)) as pages:
        async for page in pages:
            for job in page:
                yield job


WAITING = frozenset({JobState.QUEUED, JobState.LEASED})


async def pages_of(
    queue: CallQueue, batch_id: str, *, states: frozenset[JobState] | None = None, ended: bool = False
) -> AsyncGenerator[list[Job]]:
    """The calls of a batch, or those in these `states`, that ring or may have rung, or also those that have `ended`.

    Those of trials are left out.
    """
    every = Listing(queue=queue.name, batch=batch_id, states=states, limit=PAGE)
    async with aclosing(find_pages(queue.store, every)) as pages:
        async for page in pages:
            yield [job for job in page if may_call(job) or (ended and not _is_trial(job))]


def may_call(job: Job) -> bool:
    """Whether a call may ring or have rung for a campaign, and not for a trial."""
    return job.may_call and not _is_trial(job)


def _is_trial(job: Job) -> bool:
    return job.unique_key is not None and job.unique_key.startswith(TRIAL)


def marks_of(body: str, digest: str, numbers: Sequence[str]) -> list[bytes]:
    """What a call says to each number of its person, as marks that are alike for calls to one of them alone."""
    if len(numbers) == 1:
        return [mark_of(digest)]
    return [mark_of(each) for each in digests_to(body, numbers)]


def mark_of(digest: str) -> bytes:
    """The half of a digest of a body that is kept in memory."""
    return bytes.fromhex(digest[:32])
