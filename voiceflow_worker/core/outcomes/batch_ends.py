"""The ends of batches: a batch has ended when none of its calls waits, is in progress, or is in doubt.

A batch that gets calls again, by a redial or by further rows, ends again. The ends of a batch are numbered, and an end
is delivered under the same id each time. Nothing watches batches: whoever reads the outcomes of calls checks the batch
of each, because a batch ends with the outcome of one of its calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import count_states, read_each, totals_of
from voiceflow_worker.core.base.record_set import json_codec, text_records
from voiceflow_worker.core.outcomes.outbox import WAIT_LOOKS_EVERY, last_sequence
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Record, Result, Same, Write
from voiceflow_worker.core.writes import TOMBSTONES
from voiceflow_worker.errors import BatchTimeoutError, InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.wording import rfc3339

BATCH_ENDS = "batch-end"
"""Namespace of the last end of each batch, by queue and batch."""
KEPT = timedelta(days=400)
LOOKS_AT_MOST_EVERY = 2.0

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnd:
    """The `number`-th end of a batch, noticed `at` a time. Events up to `sequence` belong to it or to earlier ends."""

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
        """The idempotency key: `<queue>_<digest of the batch's name>_batch_<number>`, the same in every delivery."""
        return f"{self.queue.replace('.', '_')}_{_digest(self.batch_id)}_batch_{self.number}"

    @property
    def type(self) -> str:
        """The event type."""
        return "batch.ended"

    def as_json(self) -> dict[str, object]:
        """The end as JSON. `data` has the fields that a report has of the batch's totals."""
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
                "cost": {currency: float(price) for currency, price in totals.cost.items()},
            },
        }


async def ended_batches(store: Store, queue: str, events: Sequence[Event]) -> list[Event]:
    """The ends of batches with which these events of calls ended, each as an event of the batch. Raises StoreError.

    The event has the name of the batch in place of a job's id, the number of the end as its `post`, and a sequence of
    its own below 0. Events that are read again give the same ends.
    """
    last: dict[str, int] = {}
    ended = [event for event in events if event.kind is EventKind.ENDED]
    found = await read_each(store, list(dict.fromkeys(event.job_id for event in ended)))
    batches = {job.id: job.batch_id for job in found.jobs.values()}
    gone = {event.job_id for event in ended} - batches.keys() - found.unreadable.keys()
    batches |= await text_records(store, TOMBSTONES).get(sorted(gone))
    for event in ended:
        if batch_id := batches.get(event.job_id):
            last[batch_id] = max(last.get(batch_id, 0), event.sequence)
    ends: list[Event] = []
    for batch_id, sequence in last.items():
        end = await _end_after(store, queue, batch_id, sequence)
        if end is not None:
            ends.append(_as_event(queue, batch_id, end))
    return ends


async def _end_after(store: Store, queue: str, batch_id: str, sequence: int) -> BatchEnd | None:
    """The end to which the event of a call with this sequence belongs; None while a call of the batch is open."""
    while True:
        records = (await store.records({BATCH_ENDS: [(queue, batch_id)]}, now=store.clock.now()))[BATCH_ENDS]
        current = records[0] if records else None
        before = None if current is None else _read(current)
        if before is not None and before.sequence >= sequence:
            return before
        if await is_open(store, queue, batch_id):
            return None
        sequence = await last_sequence(store, queue)
        if await is_open(store, queue, batch_id):
            return None
        if await last_sequence(store, queue) != sequence:
            continue  # an event between the two may be of this end, or of the next one
        end = BatchEnd(number=1 if before is None else before.number + 1, sequence=sequence, at=store.clock.now())
        text = json_codec(BatchEnd).text(end)
        write = Write(
            conditions=(Same(BATCH_ENDS, queue, None if current is None else current.value, batch_id),),
            puts=(Put(BATCH_ENDS, queue, text, end.at + KEPT, member=batch_id),),
        )
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=end.at)
        if answer.result is Result.DONE:
            _log.info("a batch has ended", queue=queue, batch=batch_id, number=end.number)
            return end


async def batch_outcome(store: Store, queue: str, event: Event) -> BatchOutcome:
    """The end of a batch that an event reports. Raises StoreError."""
    totals = await totals_of(store, queue, event.job_id)
    return BatchOutcome(queue=queue, batch_id=event.job_id, number=event.post, at=event.at, totals=totals)


async def is_open(store: Store, queue: str, batch_id: str) -> bool:
    """Whether a call of the batch waits, is in progress, or is in doubt. Raises StoreError."""
    states = await count_states(store, queue, batch_id=batch_id)
    return any(count for state, count in states.items() if state not in FINAL_STATES)


async def wait_for_batch(store: Store, queue: str, batch_id: str, *, timeout: timedelta | None) -> None:  # noqa: ASYNC109 - raises an error of its own
    """Wait until a batch has ended. Raises as `CallQueue.wait_for_batch` does."""
    clock = store.clock
    began = clock.monotonic()
    while True:
        pause = min(max(WAIT_LOOKS_EVERY, (clock.monotonic() - began) / 20), LOOKS_AT_MOST_EVERY)
        try:
            if (unknown := await BatchNames(store, queue).why_unknown(batch_id)) is not None:
                raise InvalidInputError(unknown)
            if not await is_open(store, queue, batch_id):
                return
        except StoreUnavailableError as error:
            _log.debug("the store is unavailable; still waiting for a batch", batch=batch_id, error=str(error))
        if timeout is not None:
            left = began + timeout.total_seconds() - clock.monotonic()
            if left <= 0:
                raise BatchTimeoutError(batch_id, waited=timeout)
            pause = min(pause, left)
        await clock.sleep(max(pause, 0.001))


def _read(record: Record) -> BatchEnd | None:
    try:
        end: BatchEnd = json_codec(BatchEnd).value(record.value)
    except ValueError:
        return None  # of a newer version: the next end begins the count anew
    return end


def _as_event(queue: str, batch_id: str, end: BatchEnd) -> Event:
    number = int(_digest(f"{queue} {batch_id} {end.number}"), 16)
    return Event(
        job_id=batch_id,
        kind=EventKind.BATCH_ENDED,
        at=end.at,
        state=JobState.COMPLETED,
        revision=str(end.number),
        post=end.number,
        sequence=-1 - number,
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).hexdigest()
