"""SIGINT and SIGTERM as events."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

STOPPING = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def signals_to(heard: Callable[[int], None]) -> AsyncGenerator[None]:
    """Call `heard` for each SIGINT or SIGTERM while the block lasts, with the number of signals so far."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(*STOPPING) as signals:
                listening.set()
                count = 0
                async for _ in signals:
                    count += 1
                    heard(count)

        # Inside the block, a process reports that it is ready. Signals must be handled from then on.
        listening = anyio.Event()
        group.start_soon(listen)
        await listening.wait()
        try:
            yield
        finally:
            group.cancel_scope.cancel()
