"""SIGINT and SIGTERM as events."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

STOPPING = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def signals_to(heard: Callable[[int], None]) -> AsyncGenerator[None]:
    """While the block lasts, call `heard` for each SIGINT or SIGTERM, with how many there have been."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(*STOPPING) as signals:
                listening.set()
                count = 0
                async for _ in signals:
                    count += 1
                    heard(count)

        # A process that has reported that it is ready can be stopped.
        listening = anyio.Event()
        group.start_soon(listen)
        await listening.wait()
        try:
            yield
        finally:
            group.cancel_scope.cancel()
