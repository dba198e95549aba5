"""Servers that fail over while something is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread

from tests.support.postgres import PostgresServer
from tests.support.redis_server import (
    DURABLE,
    RedisServer,
    as_file,
)
from tests.support.voices import ScriptedVoice
from tests.support.workers import in_state, worker_with_files
from voiceflow_worker import JobState
from voiceflow_worker.core.ports import Store


async def sends(store: Store, voice: ScriptedVoice, folder: Path, placed: int) -> None:
    """A worker of another machine begins, sends all that waits, and ends; its files are gone."""
    async with anyio.create_task_group() as group:
        worker = worker_with_files(store, voice, folder)
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, placed)
        worker.stop()


def redis_in(folder: Path) -> RedisServer:
    return RedisServer(folder, *as_file(folder), *DURABLE)


Begin = Callable[[Callable[[], PostgresServer]], Awaitable[PostgresServer]]


@asynccontextmanager
async def ended_servers() -> AsyncGenerator[Begin]:
    """Starts servers, which end with this block."""
    with ExitStack() as ends:

        async def begin(start: Callable[[], PostgresServer]) -> PostgresServer:
            server = await to_thread.run_sync(start)
            ends.callback(server.close)
            return server

        yield begin
