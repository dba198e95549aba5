"""The worker that sends a task's own calls, at the rate of its queue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voiceflow_worker import Worker, WorkerOptions

if TYPE_CHECKING:
    from voiceflow_worker import CallQueue, Settings, VoiceClient


async def worker_for(queue: CallQueue, voice: VoiceClient, settings: Settings, *, batch_id: str | None) -> Worker:
    """A worker for one batch of a queue. It sweeps the whole queue, and looks for calls in doubt in the log of 8x8.

    What the queue is set to (its rate, burst and most open calls) stays as it is, unless the connection says otherwise:
    a task that drops by must not set the pace of a worker that is there all day.
    """
    rate, options = settings.rate, WorkerOptions(burst=settings.burst, max_active=settings.max_active)
    standing = await queue.store.control.limits(queue.name)
    if standing is not None:
        if settings.place_of("rate") is None:
            rate = standing.rate
        if settings.place_of("burst") is None:
            options = replace(options, burst=standing.burst)
        if settings.place_of("max_active") is None:
            options = replace(options, max_active=standing.max_active)
    return Worker(
        queue.store,
        voice,
        queue=queue.name,
        rate=rate,
        concurrency=settings.concurrency,
        options=replace(
            options,
            lease=settings.lease,
            shutdown_grace=settings.shutdown_grace,
            batch_id=batch_id,
            policy=settings.policy(),
        ),
        call_log=voice,
    )
