"""A worker as the settings say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.worker import Worker, WorkerOptions
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.copying import replace
from voiceflow_worker.settings import Settings


async def with_limits_of_queue(settings: Settings, store: Store, *, but: Collection[str] = ()) -> Settings:
    """The settings, with the limits of their queue in place of their own, `but` for some.

    A worker that sends for a command or a task, and then ends, so leaves the limits as they are. Raises StoreError.
    """
    limits = await limits_of(store, settings.queue)
    if limits is None or limits.are_unreadable:
        return settings
    own: Settings = replace(settings, **{name: each for name, each in asdict(limits).items() if name not in but})
    return own


def worker_of(
    settings: Settings,
    store: Store,
    voice: VoiceClient,
    *,
    batch_id: str | None = None,
) -> Worker:
    """Return a worker with these settings, for all batches or for one."""
    return Worker(
        store,
        voice,
        queue=settings.queue,
        rate=settings.rate,
        concurrency=settings.concurrency,
        options=WorkerOptions(
            burst=settings.burst,
            max_active=settings.max_active,
            lease=settings.lease,
            shutdown_grace=settings.shutdown_grace,
            batch_id=batch_id,
            policy=settings.policy(),
        ),
    )
