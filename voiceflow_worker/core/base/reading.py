"""The usual reads of a store: jobs by their ids and in pages, gates, limits, calls that are due."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.core.ports.controls import (
    CANCELLED,
    GATES,
    HOLDS,
    LIMITS,
    Limits,
    cancelled_from,
    gate_from,
    gate_member,
    hold_from,
    hold_group,
    limits_from,
)
from voiceflow_worker.core.ports.reads import ById, Due, Paged, Read, Waiting
from voiceflow_worker.core.ports.store import Key, Record, Store
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.printable import checked_text, unstorable_in

_GATES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ReadJobs:
    """Jobs by their ids, and the errors of jobs that could not be read. Unknown ids are left out."""

    jobs: Mapping[str, Job]
    unreadable: Mapping[str, StoreVersionError]


async def find_jobs(store: Store, read: Read) -> Sequence[Job]:
    """Return the jobs of a read, now."""
    return await store.jobs(read, now=store.clock.now())


async def due_count(store: Store, queue: str, *, by: datetime | None = None, batch_id: str | None = None) -> int:
    """Return the number of queued jobs of a queue, or of a batch of it; with `by`, of those due then."""
    if batch_id is None:
        return await store.count(Due(queue=queue, state=JobState.QUEUED, by=by))
    return await store.count(Waiting(queue=queue, batch=batch_id, by=by))


async def get_jobs(store: Store, job_ids: Iterable[str]) -> dict[str, Job]:
    """Return the jobs with these ids, of any queues; unknown ids are left out.

    Raises `StoreVersionError` if a newer version wrote one.
    """
    # Ids come from outside too. One that no store can keep is of no job.
    ids = tuple(job_id for job_id in dict.fromkeys(job_ids) if unstorable_in(job_id) is None)
    return {job.id: job for job in await find_jobs(store, ById(ids))} if ids else {}


async def read_each(store: Store, job_ids: Sequence[str]) -> ReadJobs:
    """Read the jobs with these ids in one round trip. If a newer version wrote some, each is read in its own."""
    if not job_ids:
        return ReadJobs({}, {})
    try:
        return ReadJobs(await get_jobs(store, job_ids), {})
    except StoreVersionError as error:
        if len(job_ids) == 1:
            return ReadJobs({}, {job_ids[0]: error})
    found: dict[str, Job] = {}
    unreadable: dict[str, StoreVersionError] = {}
    for job_id in job_ids:
        try:
            found.update(await get_jobs(store, [job_id]))
        except StoreVersionError as error:
            unreadable[job_id] = error
    return ReadJobs(found, unreadable)


async def find_pages(store: Store, read: Paged) -> AsyncGenerator[Sequence[Job]]:
    """All jobs of a read, page by page. The `limit` of the read is the size of a page."""
    while page := await find_jobs(store, read):
        yield page
        read = replace(read, after=page[-1].id)


async def totals_of(store: Store, queue: str, batch_id: str | None = None) -> Totals:
    """Return the counters of a queue, or of one batch of it."""
    checked_text("batch_id", batch_id or "")
    return (await store.totals(queue, batches=[batch_id]))[0]


async def count_states(store: Store, queue: str, *, batch_id: str | None = None) -> dict[JobState, int]:
    """Return the number of jobs of a queue, or of one batch of it, in each state; every state is present."""
    return (await totals_of(store, queue, batch_id)).states


async def gates_of(store: Store, queue: str) -> list[Gate]:
    """Return the gates that are not open, and the holds, of a queue and its batches."""
    of_batches = map(gate_from, await gates_of_batches(store, queue))
    return [
        *(await gates_at(store, queue, [None])).values(),
        *await holds_of(store, queue),
        *(gate for gate in of_batches if gate.state is not GateState.OPEN),
    ]


async def gates_at(store: Store, queue: str, batch_ids: Iterable[str | None]) -> dict[str | None, Gate]:
    """Return the gates that are not open, of these batches, by batch; None is the gate of the queue.

    A cancelled batch is among them also when none of its calls is open.
    """
    members = {gate_member(batch_id): batch_id for batch_id in batch_ids}
    if not members:
        return {}
    wanted: dict[str, list[str | Key]] = {
        GATES: [(queue, member) for member in members],
        CANCELLED: [(queue, batch_id) for batch_id in members.values() if batch_id is not None],
        HOLDS: [hold_group(queue, batch_id) for batch_id in members.values() if batch_id is not None],
    }
    found = await store.records(wanted, now=store.clock.now())
    gates = {members[record.member]: gate_from(record) for record in found[GATES]}
    for hold in map(hold_from, found[HOLDS]):
        if hold.name not in gates or gates[hold.name].state is GateState.OPEN:
            gates[hold.name] = hold
    gates |= {record.member: cancelled_from(record) for record in found[CANCELLED]}
    return {batch_id: gate for batch_id, gate in gates.items() if gate.state is not GateState.OPEN}


async def gates_of_batches(store: Store, queue: str) -> list[Record]:
    """Return the stored gates of all batches of a queue, opened ones too, as records."""
    return [record for record in await _all_of(store, GATES, queue) if record.member]


async def holds_of(store: Store, queue: str, batch_ids: Iterable[str] | None = None) -> list[Gate]:
    """Return the holds of imports and tasks: of a queue, or of these batches of it."""
    if batch_ids is None:
        found: Sequence[Record] = await _all_of(store, HOLDS)
    else:
        groups = [hold_group(queue, batch_id) for batch_id in batch_ids]
        found = (await store.records({HOLDS: groups}, now=store.clock.now()))[HOLDS] if groups else ()
    return [hold for hold in map(hold_from, found) if hold.queue == queue]


async def _all_of(store: Store, namespace: str, group: str | None = None) -> list[Record]:
    from voiceflow_worker.core.base.record_set import record_pages  # loads the log, which help needs not

    pages = record_pages(store, namespace, group=group, limit=_GATES_AT_ONCE)
    return [record async for page in pages for record in page]


async def limits_of(store: Store, queue: str) -> Limits | None:
    """Return the limits of a queue; None if they were never set."""
    found = (await store.records({LIMITS: [queue]}, now=store.clock.now()))[LIMITS]
    return limits_from(found[0]) if found else None
