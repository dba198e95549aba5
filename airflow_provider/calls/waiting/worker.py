"""The worker of a task that sends its own calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from airflow_provider.calls.sent_posts import SentPosts
from airflow_provider.calls.waiting.polling import StopFlag

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import CallQueue


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

    The connection may set a rate, a burst and a limit of open calls; what it does not set stays as it is in the queue.
    At the end of the block, the worker finishes the calls in flight. If the worker fails, `stop` gets its error. The
    POSTs are noted in `posts` before they leave.
    """
    if not sends:
        yield
        return
    from voiceflow_worker.service.worker import with_limits_of_queue, worker_of  # not when DAGs are parsed

    settings = hook.settings()
    own = {name for name in ("rate", "burst", "max_active") if settings.place_of(name) is not None}
    own |= {"reserve"} if "max_active" in own else set()
    async with hook.get_client() as voice:
        worker = worker_of(
            await with_limits_of_queue(settings, queue.store, but=own),
            queue.store,
            voice,
            batch_id=batch_id,
            sends_by=None if posts is None else posts.noted_by(voice, queue, stop),
            keeps_journal=False,  # Airflow's task state has the POSTs
        )
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
