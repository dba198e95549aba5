"""Several trips to the store at once, with the first error as itself and not in a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from voiceflow_worker.errors import VoiceflowError


async def gather(*trips: Callable[[], Awaitable[object]]) -> None:
    """Run all trips at the same time and wait for all of them.

    When some fail with errors of this library, the first of those is raised once all have ended: callers name the error
    they expect and need not know how many trips there were.
    """
    failed: list[VoiceflowError] = []

    async def run(trip: Callable[[], Awaitable[object]]) -> None:
        try:
            await trip()
        except VoiceflowError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for trip in trips:
            group.start_soon(run, trip)
    if failed:
        raise failed[0]
