"""The ends of batches: a batch has ended when none of its calls waits, is in progress, or is in doubt.

The end of a batch is an event in the outbox of its queue, behind those of its calls. A batch that gets calls again, by
a redial or by further rows, ends again, and so does one whose figures change; its ends are numbered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import get_jobs, totals_of
from voiceflow_worker.core.base.record_set import json_codec, text_records
from voiceflow_worker.core.outcomes.outbox import Consumer, wait_until_found
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Record, Result, Same, Write
from voiceflow_worker.core.writes import TOMBSTONES
from voiceflow_worker.errors import BatchTimeoutError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.wording import rfc3339

BATCH_ENDS = "batch-end"
"""Namespace of the last end of each batch, by queue and batch."""
KEPT = timedelta(days=400)
LONGEST_PAUSE = 2.0

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnd:
    """The `number`-th end of a batch, noticed `at` a time, and the newest `sequence` of its calls' ends."""

    number: int
    sequence: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """The end of a batch, delivered at least once. `totals` are the counters of the batch as they are now."""

    queue: str
    batch_id: str
    number: int
    at: datetime
    totals: Totals

    @property
    def id(self) -> str:
        """Idempotency key: `<queue>_<digest of the batch's name>_batch_<number>`, the same in every delivery."""
        digest = hashlib.blake2b(self.batch_id.encode("utf-8", "surrogatepass"), digest_size=7).hexdigest()
        return f"{self.queue.replace('.', '_')}_{digest}_batch_{self.number}"

    @property
    def type(self) -> str:
        """Event type."""
        return "batch.ended"

    def as_json(self) -> dict[str, object]:
        """Return the end as JSON. `data` has the fields that a report has of the batch's totals."""
        totals, states = self.totals, self.totals.states
        return {
            "id": self.id,
            "type": self.type,
            "timestamp": rfc3339(self.at),
            "queue": self.queue,
            "number": self.number,
            "data": {
                "batch_id": self.batch_id,
                "total": sum(states.values()),
                "states": {state.value: count for state, count in states.items()},
                "outcomes": totals.outcomes,
                "answered": totals.answered,
                "answers": totals.answers,
                "other_keys": totals.other_keys,
                "seconds": totals.seconds,
            },
        }


class BatchEnds:
    """Reads the ends of the batches of a queue, and stores those that nobody has stored yet, as events.

    A batch has ended if a call of it has ended since its last end (`_touched`, with the newest event of that), and none
    is open. However many processes read, an end is stored once: the record of the last end is read before a page, so
    its event is on that page or was read before; and the next end is stored only if the record is unchanged.
    """

    def __init__(self, store: Store, queue: str, consumer: Consumer) -> None:
        self._store = store
        self._queue = queue
        self._consumer = consumer
        self._touched: dict[str, int] = {}
        self.position: int = 0
        """How far the events of calls need not be read again."""

    async def page(self) -> list[Event]:
        """Return the next ends of batches, with their names as ids. Raises StoreError; then nothing counts as read."""
        begin, ends = self._consumer.position, list[Event]()
        try:
            for _ in range(2):  # what the first page touches is settled after the second
                ends += await self._read()
                if not self._touched or self._consumer.is_behind:
                    break
        except BaseException:
            self._consumer.position = begin
            raise
        return ends

    async def _read(self) -> list[Event]:
        begin, before = self._consumer.position, frozenset(self._touched)
        keys = {BATCH_ENDS: [(self._queue, batch) for batch in before]}
        found = (await self._store.records(keys, now=self._store.clock.now()))[BATCH_ENDS] if before else ()
        last = {record.member: record for record in found}
        page = await self._consumer.page()
        batch_of, ends = await self._batches(page), list[Event]()
        for event in page:
            if event.kind is EventKind.BATCH_ENDED:
                ends.append(replace(event, job_id=event.job_id.partition(".")[2]))
                self._touched.pop(ends[-1].job_id, None)
            elif event.kind is EventKind.ENDED and (batch := batch_of.get(event.job_id)):
                self._touched[batch] = event.sequence
        if not self._consumer.is_behind:
            known = sorted(before & self._touched.keys())
            counted = await self._store.totals(self._queue, batches=known) if known else ()
            for batch, totals in zip(known, counted, strict=True):
                if not totals.has_open_calls:
                    await self._end(batch, last.get(batch))
                del self._touched[batch]
            self.position = begin if self._touched else self._consumer.position
        return ends

    async def _batches(self, page: Sequence[Event]) -> dict[str, str]:
        """Return the batches of the calls that ended in a page, of deleted ones too, by the ids of the calls.

        Raises StoreVersionError for a call of a newer version, so that a consumer of that version goes on here.
        """
        ended = dict.fromkeys(event.job_id for event in page if event.kind is EventKind.ENDED)
        found = await get_jobs(self._store, ended)
        deleted = await text_records(self._store, TOMBSTONES).get(ended.keys() - found.keys())
        return {job.id: job.batch_id or "" for job in found.values()} | {
            each: name or "" for each, name in deleted.items()
        }

    async def _end(self, batch: str, record: Record | None) -> None:
        number, at = 1, self._store.clock.now()
        with suppress(ValueError):  # of a newer version: the count begins again
            before = None if record is None else json_codec(BatchEnd).value(record.value)
            if before is not None:
                number = before.number + 1
        event = Event(
            job_id=f"{self._queue}.{batch}", kind=EventKind.BATCH_ENDED, at=at, state=JobState.COMPLETED,
            revision=f"{number}", post=number,
        )  # fmt: skip
        text = json_codec(BatchEnd).text(BatchEnd(number=number, sequence=self._touched[batch], at=at))
        write = Write(
            conditions=(Same(BATCH_ENDS, self._queue, None if record is None else record.value, batch),),
            puts=(Put(BATCH_ENDS, self._queue, text, at + KEPT, member=batch),),
            events=(event,),
        )
        (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=at)
        if answer.result is Result.DONE:
            _log.info("a batch has ended", queue=self._queue, batch=batch, number=number)


async def batch_outcome(store: Store, queue: str, event: Event) -> BatchOutcome:
    """Return the end of a batch that an event reports. Raises StoreError."""
    totals = await totals_of(store, queue, event.job_id)
    return BatchOutcome(queue=queue, batch_id=event.job_id, number=event.post, at=event.at, totals=totals)


async def is_open(store: Store, queue: str, batch_id: str) -> bool:
    """Return whether the batch has not ended, or has calls again. Raises StoreError."""
    return (await totals_of(store, queue, batch_id)).has_open_calls


async def wait_for_batch(store: Store, queue: str, batch_id: str, *, timeout: timedelta | None) -> None:  # noqa: ASYNC109 - raises an error of its own
    """Wait until a batch has ended. Raises as `CallQueue.wait_for_batch` does."""

    async def look() -> bool | None:
        await BatchNames(store, queue).require(batch_id)
        return None if await is_open(store, queue, batch_id) else True

    def late(waited: timedelta) -> Exception:
        return BatchTimeoutError(batch_id, waited=waited)

    await wait_until_found(store, look, timeout=timeout, late=late, longest_pause=LONGEST_PAUSE)
