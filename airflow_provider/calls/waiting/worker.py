"""The worker of a task that sends its own calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider.calls.sent_posts import NotingVoice, SentPosts
from airflow_provider.calls.waiting.polling import StopFlag
from voiceflow_worker import Worker, WorkerOptions
from voiceflow_worker.core.ports.reading import limits_of

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import CallQueue, Settings, VoiceClient


@asynccontextmanager
async def sending(
    hook: VoiceFlowHook,
    queue: CallQueue,
    *,
    batch_id: str | None,
    stop: StopFlag,
    sends: bool,
    posts: SentPosts | None = None,
) -> AsyncGenerator[None]:
    """Run a worker for one batch during the block, if the task sends its own calls (`sends`).

    At the end of the block, the worker finishes the calls in flight. If the worker fails, `stop` gets its error. The
    POSTs are noted in `posts` before they leave.
    """
    if not sends:
        yield
        return
    async with hook.get_client() as voice:
        gateway = voice if posts is None else posts.noted_by(voice, queue, stop)
        worker = await worker_for(queue, gateway, voice, hook.settings(), batch_id=batch_id)
        # Not a task group, which would wrap the errors of the block.
        running = asyncio.create_task(worker.run())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                stop.failure = error

        running.add_done_callback(ended)
        try:
            yield
        finally:
            worker.stop()
            while not running.done():
                # Even if the task is killed, calls in flight are finished within the grace period.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({running})
        if stop.failure is not None:
            raise stop.failure


async def worker_for(
    queue: CallQueue,
    gateway: VoiceClient | NotingVoice,
    voice: VoiceClient,
    settings: Settings,
    *,
    batch_id: str | None,
) -> Worker:
    """Return a worker for one batch, which sends by `gateway`.

    It sweeps the whole queue, and looks for calls in doubt in the log of 8x8.

    The connection may set a rate, a burst and a limit of open calls. What it does not set stays as it is in the queue,
    because a short task must not change the rate of permanent workers.
    """
    rate, options = (
        settings.rate,
        WorkerOptions(burst=settings.burst, max_active=settings.max_active, reserve=settings.reserve),
    )
    limits = await limits_of(queue.store, queue.name)
    if limits is not None and not limits.are_unreadable:
        if settings.place_of("rate") is None:
            rate = limits.rate
        if settings.place_of("burst") is None:
            options = replace(options, burst=limits.burst)
        if settings.place_of("max_active") is None:
            options = replace(options, max_active=limits.max_active, reserve=limits.reserve)
    return Worker(
        queue.store,
        gateway,
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
