"""The check of totals: a count of all jobs of a queue, compared with its counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import anyio

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.leader_lease import LeaderLease
from voiceflow_worker.core.ports.reading import find_pages
from voiceflow_worker.model.jobs.totals import STATE, tally_of

_AT_ONCE = 500
_TRIES = 3
"""The most times that a queue is counted, if its calls change during a count or counters are wrong."""
TURNS = "recount"
LAST_WORD = 5
"""The time limit, in seconds, for giving back the lease when a recount ends, even if it was cancelled."""
TURN = timedelta(minutes=10)
"""The length of the lease that lets only one process correct the counters of a queue. A million calls take a minute."""

Amounts = Mapping[str | None, Mapping[str, int]]
"""Amounts by batch, and by field of `Totals.live`. The amounts of the whole queue are under None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """The result of a count. `wrong` has the amounts to add to the counters; an amount below 0 is to be subtracted.

    `moving` are the batches (None for the queue) with totals that changed during the count: nothing is known about
    them. `mended` means that the counters were corrected, and `is_elsewhere` that another process is correcting them.
    """

    jobs: int
    wrong: Amounts
    moving: frozenset[str | None]
    mended: bool = False
    is_elsewhere: bool = False

    def in_words(self) -> list[str]:
        """One line for each counter that is wrong."""
        return [
            f"{'the queue' if batch is None else f'batch {batch}'}: counter {field} is {abs(amount)} too "
            f"{'low' if amount > 0 else 'high'}"
            for batch, fields in sorted(self.wrong.items(), key=lambda each: each[0] or "")
            for field, amount in sorted(fields.items())
        ]


@dataclass(frozen=True, slots=True)
class _Count:
    """One count of all jobs. If a batch has the same version in two counts, no job of the batch changed in between.

    A version is a sum over the revisions of the batch's jobs. Every change gives a job a new revision.
    """

    result: Recount
    versions: Mapping[str | None, int]


async def recount(store: Store, queue: str, *, mend: bool) -> Recount:
    """Count all jobs of a queue, and compare the result with the counters. With `mend`, correct wrong counters.

    Only one process at a time corrects the counters of a queue, because two would correct the same mistake twice.
    """
    found = await _settled(store, queue)
    if not (mend and found.wrong):
        return found
    turn = LeaderLease(store, queue, namespace=TURNS, length=TURN)
    if not await turn.take():
        return replace(found, is_elsewhere=True)
    try:
        return await _mended(store, queue, found, turn)
    finally:
        with anyio.move_on_after(LAST_WORD, shield=True):
            await turn.give_back()


async def _mended(store: Store, queue: str, found: Recount, turn: LeaderLease) -> Recount:
    # First the counts of single jobs, such as those that an older version moved; then the rest.
    async for page in find_pages(store.jobs, Query(queue=queue, limit=_AT_ONCE)):
        await store.jobs.recount(page)
    left = await _settled(store, queue)
    is_known = None not in left.moving  # a store adds up the queue from its batches, so each of them must be known
    if is_known and (turn.is_over or not await turn.take()):
        return replace(found, is_elsewhere=True)  # this process stood still, and another one may have corrected them
    if is_known:
        await store.jobs.adjust(queue, left.wrong)
    return replace(found, moving=left.moving, mended=is_known)


async def _settled(store: Store, queue: str) -> Recount:
    """Count until every wrong amount is confirmed, a few times at most.

    A count can be wrong although the counters are the same before and after it, for example if a call is leased,
    counted, and queued again. So each wrong amount must be confirmed by a second count that finds the same jobs
    unchanged.
    """
    count = await _compared(store, queue)
    found = count.result
    for _ in range(_TRIES - 1):
        if not (count.result.wrong or count.result.moving):
            break
        again = await _compared(store, queue)
        found, count = _confirmed(count, again), again
        if not found.moving:
            return found
    return found if count.result.wrong or count.result.moving else count.result


def _confirmed(count: _Count, again: _Count) -> Recount:
    """The result of `count`, without the amounts of batches that changed between it and the second count (`again`)."""
    seems = count.result
    wrong = {
        batch: amounts for batch, amounts in seems.wrong.items() if count.versions[batch] == again.versions.get(batch)
    }
    return replace(seems, wrong=wrong, moving=seems.moving | (seems.wrong.keys() - wrong.keys()))


async def _compared(store: Store, queue: str) -> _Count:
    before: dict[str | None, Mapping[str, int]] = {None: (await store.jobs.totals(queue)).live}
    counts: dict[str | None, Counter[str]] = {None: Counter()}
    versions: Counter[str | None] = Counter()
    jobs = 0
    async for page in find_pages(store.jobs, Query(queue=queue, limit=_AT_ONCE)):
        jobs += len(page)
        for job in page:
            tally = {STATE + job.state: 1, **tally_of(job)}
            if job.batch_id not in counts:
                counts[job.batch_id] = Counter()
                before[job.batch_id] = (await store.jobs.totals(queue, batch_id=job.batch_id)).live
            for batch in {None, job.batch_id}:
                counts[batch].update(tally)
                versions[batch] += hash((job.id, job.revision))
    wrong: dict[str | None, Mapping[str, int]] = {}
    moving: set[str | None] = set()
    for batch, counted in counts.items():
        after = (await store.jobs.totals(queue, batch_id=batch)).live
        if after != before[batch]:
            moving.add(batch)
        elif differs := {
            field: counted[field] - after.get(field, 0)
            for field in {*counted, *after}
            if counted[field] != after.get(field, 0)
        }:
            wrong[batch] = differs
    return _Count(Recount(jobs=jobs, wrong=wrong, moving=frozenset(moving)), versions)
