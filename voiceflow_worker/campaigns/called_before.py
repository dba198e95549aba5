"""The search for rows that would call people again: of the same batch, or with the same words as another batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys
from voiceflow_worker.core.ports.reading import count_states, find_jobs, find_pages, get_jobs
from voiceflow_worker.core.ports.store import Order, Query
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.suppression import SuppressionList
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.wording import count_of, duration_in_words

PAGE = 1000
"""The number of calls that are read in one trip to the store."""
LOOKED_UP = 100
"""The rows of a file whose numbers are looked up in other batches. Each is a trip to the store."""
OTHER_BATCHES = timedelta(days=7)
"""How long a call of another batch counts, from its creation."""
_NOT_CALLED = frozenset({JobState.CANCELLED, JobState.EXPIRED, JobState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledBefore:
    """Rows that would call people again. `row` is the first of them, and `job` the earlier call to its number.

    `age` is the age of that call, if it belongs to another batch.
    """

    count: int
    row: int
    job: Job
    age: timedelta | None

    def finding(self, *, file: str | None, severity: Severity) -> Finding:
        """The finding about these rows. It names their `file`."""
        rows, job = count_of(self.count, "row"), self.job
        example = f"such as {job.destination} in batch {job.batch_id} ({job.id}, {job.state.value})"
        if self.age is None:
            message = (
                f"{rows} would call a number that already has another call in the same batch, {example}. Cancel "
                f"waiting calls that should be corrected; or give each row a unique_key; or {Remedy.CALL_AGAIN}"
            )
        else:
            ago = duration_in_words(self.age)
            message = (
                f"{rows} would say to a number what another batch says to it, {example}, enqueued {ago} ago. If this "
                f"is no mistake, {Remedy.CALL_AGAIN}; or give each row a unique_key. Try campaigns out in another store"
            )
        return Finding(
            file=file,
            row=self.row,
            column="destination",
            severity=severity,
            message=message,
            remedy=Remedy.CALL_AGAIN,
        )


class CallsBefore:
    """A comparison of the rows of a file with the earlier calls of the queue.

    A row repeats an earlier call to its number in the same batch, and a call with the same body that another batch made
    in the last days. Of a large file, some rows are looked up in other batches; the batches found are then compared
    with all rows.

    Rows with a unique key from the user are not compared: the store recognises their calls by the key. An earlier call
    with the unique key of a row does not count, because it is the call of this row, from an interrupted enqueue. Calls
    that ended without a ring do not count either. Rows with suppressed numbers are left out: they are not called.
    """

    def __init__(self, queue: CallQueue, seen: SeenKeys) -> None:
        self._queue = queue
        self._seen = seen
        """The unique keys of all rows that were read."""
        self._batches: dict[str, bool] = {}
        """The batches of the rows, and whether they had calls when their first row was read."""
        self._rows = 0
        self._step = 1
        self._sample: list[ReadRow] = []

    async def add(self, rows: Iterable[ReadRow]) -> None:
        """Add new rows to compare. Raises StoreError."""
        for row in rows:
            if row.call is None or not row.has_made_key:
                continue
            batch_id = row.call.batch_id
            if batch_id is not None and batch_id not in self._batches:
                counts = await count_states(self._queue.store, self._queue.name, batch_id=batch_id)
                self._batches[batch_id] = any(counts.values())
            if self._rows % self._step == 0:
                self._sample.append(row)
            if len(self._sample) == 2 * LOOKED_UP:
                self._sample, self._step = self._sample[::2], 2 * self._step
            self._rows += 1

    async def find(self, packs: Iterable[Sequence[ReadRow]]) -> list[CalledBefore]:
        """The rows that would call people again, of all new rows, in packs. Raises StoreError."""
        store = self._queue.store
        now = store.clock.now()
        here, elsewhere = await self._here(), await self._elsewhere(since=now - OTHER_BATCHES)
        counts: Counter[bool] = Counter()
        first: dict[bool, tuple[int, str]] = {}
        for pack in packs if here or elsewhere else ():
            repeating: list[tuple[ReadRow, str, bool]] = []
            for row in pack:
                if row.call is None or not row.has_made_key:
                    continue
                batch_id = row.call.batch_id
                own = here.get(batch_id, {}).get(telephone_of(row.call.destination))
                marks = (calls for other, calls in elsewhere.items() if other != batch_id)
                other = next((calls[mark] for calls in marks if (mark := _mark(row.digest)) in calls), None)
                if own is not None or other is not None:
                    repeating.append((row, own or other or "", own is not None))
            suppressed = await SuppressionList(store).standing(row.number or "" for row, _, _ in repeating)
            for row, job_id, is_here in repeating:
                if row.number not in suppressed:
                    counts[is_here] += 1
                    first.setdefault(is_here, (row.raw.number, job_id))
        jobs = await get_jobs(store, [job_id for _, job_id in first.values()])
        return [
            CalledBefore(count=counts[is_here], row=row, job=job, age=None if is_here else now - job.created_at)
            for is_here, (row, job_id) in first.items()
            if (job := jobs.get(job_id)) is not None
        ]

    async def _here(self) -> dict[str | None, dict[str, str]]:
        """The ids of the earlier calls of the rows' batches, by batch and telephone."""
        found: dict[str | None, dict[str, str]] = {}
        for batch_id in (batch_id for batch_id, has_calls in self._batches.items() if has_calls):
            called: dict[str, str] = {}
            found[batch_id] = called
            async with aclosing(self._calls_of(batch_id)) as jobs:
                async for job in jobs:
                    if job.unique_key is None or job.unique_key not in self._seen:
                        called.setdefault(telephone_of(job.destination), job.id)
        return found

    async def _elsewhere(self, *, since: datetime) -> dict[str | None, dict[bytes, str]]:
        """The ids of the calls of other batches, by batch and body. A body has its number in it."""
        found: dict[str | None, dict[bytes, str]] = {}
        for batch_id in await self._other_batches():
            async with aclosing(self._calls_of(batch_id)) as jobs:
                found[batch_id] = {_mark(job.body_digest): job.id async for job in jobs if job.created_at >= since}
        return found

    async def _other_batches(self) -> set[str]:
        """The batches that have calls with the bodies of the rows that are looked up."""
        store, found = self._queue.store, set[str]()
        for row in self._sample[:: max(1, len(self._sample) // LOOKED_UP)]:
            if row.call is None:
                continue
            query = Query(queue=self._queue.name, destination=row.call.destination, order=Order.NEWEST, limit=20)
            for job in await find_jobs(store, query):
                if job.body_digest == row.call.digest and job.batch_id not in {None, row.call.batch_id}:
                    found.add(str(job.batch_id))
        return found

    async def _calls_of(self, batch_id: str) -> AsyncGenerator[Job]:
        """The calls of a batch. Those that ended without a ring are left out: to call again is no repetition then."""
        query = Query(queue=self._queue.name, batch_id=batch_id, limit=PAGE)
        async with aclosing(find_pages(self._queue.store, query)) as pages:
            async for job in (job async for page in pages for job in page):
                if job.state not in _NOT_CALLED or any(post.may_have_rung for post in job.posts):
                    yield job


def _mark(digest: str) -> bytes:
    """The half of a digest of a body that is kept in memory."""
    return bytes.fromhex(digest[:32])
