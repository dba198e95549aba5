"""The search for rows whose number already has another call in the same batch."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass

from voiceflow_worker.campaigns.intake import Judged
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.ports import Query
from voiceflow_worker.core.ports.reading import count_states, find_pages
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.spellings import spellings
from voiceflow_worker.model.text.counting import count_of

PAGE = 1000
"""The number of calls that are read in one trip to the store."""
_NOT_CALLED = frozenset({JobState.CANCELLED, JobState.EXPIRED, JobState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledBefore:
    """Rows that would call a number again. `row` is the first of them, and `job` the earlier call to its number."""

    count: int
    batch_id: str
    row: int
    job: Job

    def finding(self, *, file: str | None, severity: Severity) -> Finding:
        """The finding about these rows. It names their `file`."""
        message = (
            f"{count_of(self.count, 'row')} would call a number that already has another call in the same batch, such "
            f"as {self.job.destination} in batch {self.batch_id} ({self.job.id}, {self.job.state.value}). "
            f"Cancel waiting calls that should be corrected; or give each row a unique_key; or {Remedy.CALL_AGAIN}"
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
    """A comparison of the rows of a file with the earlier calls in their batches.

    Rows with a unique key from the user are not compared: the store recognises their calls by the key. An earlier call
    with the unique key of a row does not count, because it is the call of this row, from an interrupted enqueue. Calls
    that ended without a ring do not count either. Rows with suppressed numbers are left out: they are not called.
    """

    def __init__(self, queue: CallQueue) -> None:
        self._queue = queue
        self._suppression = SuppressionList(queue.store)
        self._keys: set[str] = set()
        self._batches: dict[str, dict[str, list[int]] | None] = {}
        """The rows to compare, by batch and number. None for a batch without earlier calls: its rows need no check."""

    async def add(self, judged: Judged) -> None:
        """Add rows to compare. Raises StoreError."""
        # The batches of the rows that exist already count too: later rows must find their keys.
        for batch_id in {row.call.batch_id for row in judged.rows if row.call is not None} - self._batches.keys():
            if batch_id is not None:
                counts = await count_states(self._queue.store, self._queue.name, batch_id=batch_id)
                self._batches[batch_id] = {} if any(counts.values()) else None
        if any(rows is not None for rows in self._batches.values()):
            self._keys.update(key for row in judged.rows if row.call is not None and (key := row.call.unique_key))
            for row in judged.new:
                if row.has_made_key and row.call is not None:
                    rows = self._batches.get(row.call.batch_id or "")
                    if rows is not None:
                        rows.setdefault(row.call.destination, []).append(row.raw.number)

    async def find(self) -> CalledBefore | None:
        """The rows that would call numbers again; None if there are none. Raises StoreError."""
        count = 0
        first: tuple[int, str, Job] | None = None
        for batch_id, numbers in self._batches.items():
            called = await self._called(batch_id, numbers) if numbers else {}
            suppressed = await self._suppression.standing(called)
            for number, job in called.items():
                if number in suppressed or numbers is None:
                    continue
                rows = numbers[number]
                count += len(rows)
                if first is None or rows[0] < first[0]:
                    first = rows[0], batch_id, job
        if first is None:
            return None
        return CalledBefore(count=count, row=first[0], batch_id=first[1], job=first[2])

    async def _called(self, batch_id: str, numbers: Collection[str]) -> dict[str, Job]:
        """For each of these numbers that the batch has called, in any spelling, one of its earlier calls.

        Calls that ended without a ring do not count, nor do calls with the unique key of a row of this file.
        """
        found: dict[str, Job] = {}
        query = Query(queue=self._queue.name, batch_id=batch_id, limit=PAGE)
        async with aclosing(find_pages(self._queue.store, query)) as pages:
            async for job in (job async for page in pages for job in page):
                # After a call that ended without a ring, another call to its number is no repetition.
                is_silent = job.state in _NOT_CALLED and not any(post.may_have_rung for post in job.posts)
                if is_silent or job.unique_key in self._keys:
                    continue
                for number in spellings(job.destination):
                    if number in numbers:
                        found.setdefault(number, job)
        return found
