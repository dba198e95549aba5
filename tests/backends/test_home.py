"""A store belongs to the process and the event loop that opened it: elsewhere it is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from threading import Thread

import pytest

from tests.support.workers import enqueued
from voiceflow_worker import open_store
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreUnavailableError


def _told(store: Store) -> str:
    """What an event loop of its own hears of the store."""
    try:
        asyncio.run(asyncio.wait_for(count_states(store, "default"), 5))
    except StoreUnavailableError as error:
        return str(error)
    return "an answer"


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_a_store_is_refused_in_a_fork_and_on_another_event_loop(fresh_url: Callable[[str], str], kind: str) -> None:
    async def opened() -> None:
        async with open_store(fresh_url(kind), advises=False) as store:
            await enqueued(store, 1)
            heard: list[str] = []
            thread = Thread(target=lambda: heard.append(_told(store)))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert "another event loop" in heard[0]
            reads, writes = os.pipe()
            if (child := os.fork()) == 0:
                asyncio.events._set_running_loop(None)
                os.write(writes, _told(store).encode())
                os._exit(0)
            await asyncio.to_thread(os.waitpid, child, 0)
            assert "before this process was forked" in os.read(reads, 4096).decode()
            os.close(reads)
            os.close(writes)
            assert sum((await count_states(store, "default")).values()) == 1

    asyncio.run(opened())
