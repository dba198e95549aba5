"""Notes of a running worker about the reasons for which queued calls wait."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio

from voiceflow_worker.cli.output import Output
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import StoreError

EVERY = 30.0
"""Seconds between two looks."""


@asynccontextmanager
async def waiting_lines(calls: CallQueue, output: Output, *, every: float = EVERY) -> AsyncGenerator[None]:
    """Say on stderr what queued calls wait for, each time that it has changed, for as long as the block lasts."""
    async with anyio.create_task_group() as group:
        group.start_soon(_say, calls, output, every)
        yield
        group.cancel_scope.cancel()


async def _say(calls: CallQueue, output: Output, every: float) -> None:
    last = ""
    while True:
        with suppress(StoreError):  # the worker itself says that its store is away
            words = (await calls.status()).waiting.in_words()
            if words and words != last:
                output.note(f"waiting: {words}")
            last = words
        await anyio.sleep(every)
