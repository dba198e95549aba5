"""Opening a store that is locked or not there yet: it is tried again while waiting may help."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreUnavailableError

PAUSE = 0.25
"""Seconds between two tries."""
_LOOK = 1.0
"""Seconds that one try to write may take before the store counts as locked."""


class StoreWait:
    """The patience of one start: `limit` in all, counted from now. `tell` is called once, when the wait begins."""

    def __init__(self, limit: timedelta, tell: Callable[[str], object]) -> None:
        self._limit = limit
        self._until = time.monotonic() + limit.total_seconds()
        self._tell = tell
        self._has_begun = False

    @property
    def left(self) -> float:
        """The seconds left; less than 0 when it is over."""
        return self._until - time.monotonic()

    def goes_on(self, error: StoreUnavailableError) -> bool:
        """Whether to try again after a pause: the error may pass, and there is time left."""
        if not error.passes or self.left <= 0:
            return False
        if not self._has_begun:
            self._has_begun = True
            self._tell(f"{error}; trying again for up to {self._limit.total_seconds():g} s")
        return True


@asynccontextmanager
async def opened_in_time(url: str, *, wait: StoreWait, writes: bool, **options: Any) -> AsyncGenerator[Store]:
    """Open a store. It is tried again while the store is locked or not there yet and `wait` lasts.

    With `writes` the store must also be writable: a file that another process has locked can be opened and read.
    `options` are the backend's own. Raises the last error of opening.
    """
    async with AsyncExitStack() as opened:
        while True:
            async with AsyncExitStack() as attempt:
                try:
                    store = await attempt.enter_async_context(open_store(url, **options))
                    if writes:
                        await _require_writable(store, wait)
                except StoreUnavailableError as error:
                    if not wait.goes_on(error):
                        raise
                else:
                    opened.push_async_exit(attempt.pop_all())
                    yield store
                    return
            await anyio.sleep(PAUSE)


async def _require_writable(store: Store, wait: StoreWait) -> None:
    """Make an empty durable write. Raises `StoreUnavailableError` if it takes too long."""
    # A Redis may be slow to confirm a write. A file that is not locked is written in milliseconds.
    limit = max(_LOOK, 0 if store.url.startswith(("sqlite:", "file:")) else wait.left)
    with anyio.move_on_after(limit):
        await store.records.delete("probe", {"": None})
        return
    raise StoreUnavailableError(
        f"the store {store.url} is locked: another process is writing it, or is frozen while writing (lsof shows it)"
    )
