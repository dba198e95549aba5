"""Concurrent trips to the store. The first error is raised by itself, not in an ExceptionGroup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from voiceflow_worker.errors import VoiceflowError


async def gather(*trips: Callable[[], Awaitable[object]]) -> None:
    """Run all trips at the same time and wait for all of them.

    If some fail with errors of this library, the first of these is raised after all have ended.
    """
    failed: list[VoiceflowError] = []

    async def run(trip: Callable[[], Awaitable[object]]) -> None:
        try:
            await trip()
        except VoiceflowError as error:
            failed.append(error)

    if not trips:
        return
    first, *others = trips
    async with anyio.create_task_group() as group:
        for trip in others:
            group.start_soon(run, trip)
        await run(first)  # a task less
    if failed:
        raise failed[0]
