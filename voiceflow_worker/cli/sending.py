"""Workers made from the settings, with their store and their client for 8x8."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from voiceflow_worker.backends.journal_choice import journal_files
from voiceflow_worker.backends.sqlite.file.same_files import Identities
from voiceflow_worker.cli.garbage_collection import collect_less
from voiceflow_worker.cli.opening import opened_queue
from voiceflow_worker.cli.voice import voice_client
from voiceflow_worker.core.options import WorkerOptions
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.worker import Worker
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings


@asynccontextmanager
async def opened_worker(settings: Settings, *, files: Identities | None = None) -> AsyncGenerator[Worker]:
    """Open the store and the client for 8x8, and yield a worker that uses both.

    Raises SettingsError if the API key or the sub-account is missing, and StoreError. With `files`, a store in other
    files is refused (StoreReplacedError).
    """
    voice = voice_client(settings)
    async with opened_queue(settings, makes=True, files=files) as calls, voice:
        worker = worker_of(settings, calls.store, voice)
        collect_less()
        yield worker


def worker_of(settings: Settings, store: Store, voice: VoiceClient, *, batch_id: str | None = None) -> Worker:
    """A worker with these settings, for all batches or for one. The worker searches 8x8's log for calls in doubt."""
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
        call_log=voice,
        witness=journal_files(settings),
        voices=voice,
    )
