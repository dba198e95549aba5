"""One open store for all triggers of a triggerer that use the same URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voiceflow_worker import CallQueue, open_store

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook
    from voiceflow_worker import Store


@dataclass(slots=True)
class _Opened:
    """An open store. A task of its own opens and closes it, because the trigger that opens it first may end first."""

    opened: asyncio.Future[Store]
    last_left: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    keeper: asyncio.Task[None] | None = None


_open: dict[tuple[int, str], _Opened] = {}
"""The open stores by event loop and URL. Each is used only on its event loop."""


@asynccontextmanager
async def shared_store(url: str) -> AsyncGenerator[Store]:
    """Yield the store at `url`, opened once for all its users on this event loop. Raises the errors of `open_store`."""
    loop = asyncio.get_running_loop()
    place = (id(loop), url)
    entry = _open.get(place)
    if entry is None:
        entry = _open[place] = _Opened(loop.create_future())
        entry.keeper = asyncio.create_task(_keep(url, place, entry))
    entry.users += 1
    try:
        yield await asyncio.shield(entry.opened)
    finally:
        entry.users -= 1
        if entry.users == 0:
            # The next user opens the store again.
            if _open.get(place) is entry:
                del _open[place]
            entry.last_left.set()


@asynccontextmanager
async def shared_queue(hook: VoiceFlowHook) -> AsyncGenerator[CallQueue]:
    """Yield the queue of a connection, in the shared store."""
    settings = await hook.asettings()
    async with shared_store(settings.store) as store:
        yield CallQueue(store, settings.queue, policy=settings.policy())


async def _keep(url: str, place: tuple[int, str], entry: _Opened) -> None:
    try:
        async with open_store(url) as store:
            entry.opened.set_result(store)
            await entry.last_left.wait()
    except Exception as error:  # noqa: BLE001 - raised again for each trigger that waits for the store
        if _open.get(place) is entry:
            del _open[place]
        if not entry.opened.done():
            entry.opened.set_exception(error)
