"""Calls that were about to leave when a hold, a cancel or an opt-out was stored."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.reading import find_jobs, get_jobs
from voiceflow_worker.model.jobs.job import Job, JobState

LEAVES_WITHIN = 2.0
"""Seconds within which a call leaves after its worker has asked for its journal entry; otherwise it goes back. So two
seconds after a hold, a cancel or an opt-out was stored, no call leaves against it."""
_LOOK_EVERY = 0.1


async def until_left(
    store: Store, queues: Iterable[str], *, batch_id: str | None = None, numbers: Container[str] | None = None
) -> int:
    """Wait until each call that is `sending` now has left or gone back; returns how many may still ring.

    With `numbers`, only calls to or with one of these count. This takes at most `LEAVES_WITHIN` seconds. Calls with an
    older journal entry have left already. Raises StoreError.
    """
    sending: dict[str, Job] = {}
    for queue in queues:
        query = Query(queue=queue, states=frozenset({JobState.SENDING}), batch_id=batch_id, limit=None)
        for job in await find_jobs(store, query):
            if numbers is None or any(number in numbers for number in job.parties):
                sending[job.id] = job
    # A worker's clock may be ahead or behind, so that the wait has an end of its own too.
    waited_until = store.clock.monotonic() + LEAVES_WITHIN
    while _may_leave(sending.values(), at=store.clock.now()) and store.clock.monotonic() < waited_until:
        await store.clock.sleep(_LOOK_EVERY)
        current = await get_jobs(store, list(sending))
        sending = {job.id: job for job in current.values() if sending[job.id].revision == job.revision}
    return len(sending)


def _may_leave(sending: Iterable[Job], *, at: datetime) -> bool:
    return any(at < job.posts[-1].began_at + timedelta(seconds=LEAVES_WITHIN) for job in sending)
