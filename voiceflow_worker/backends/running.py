"""What holds for the stores of servers while they are open: their errors, and their work in the background."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import structlog

from voiceflow_worker.errors import SettingsError, StoreUnavailableError, VoiceflowError

_log = structlog.get_logger("voiceflow.store")


class Home:
    """The process and the event loop in which a store was opened: its connections and locks belong to them."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._pid = os.getpid()
        self._loop = _running_loop()

    @property
    def is_here(self) -> bool:
        """Whether this process has opened the store, and not the one that it was forked from."""
        return os.getpid() == self._pid

    def require(self) -> None:
        """Raise StoreUnavailableError in a process that was forked since, and on another event loop."""
        if not self.is_here:
            raise StoreUnavailableError(
                f"the store {self._shown} was opened before this process was forked, and a fork inherits neither its "
                "locks nor its connections. Open the store in the process that uses it.",
                passes=False,
            )
        if _running_loop() is not self._loop:
            raise StoreUnavailableError(
                f"the store {self._shown} was opened on another event loop. Open the store on the one that uses it.",
                passes=False,
            )


def _running_loop() -> object:
    """The event loop of this thread; None on trio, or where none runs."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


AGAIN_AFTER = 1.0
"""Seconds until work in the background begins again that has failed."""
unanswered: set[object] = set()
"""The connections of this process, of all its stores, whose server has not answered in time, and may answer yet."""


def met_running(error: VoiceflowError) -> VoiceflowError:
    """The error for what the check of a new connection has found while the store is open.

    A setting of the server that would have kept the store from opening is then a fault of the store like any other:
    its callers wait for StoreError, and keep what they know.
    """
    if not isinstance(error, SettingsError):
        return error
    changed = StoreUnavailableError(f"{error}. This was changed while the store was in use", passes=False)
    changed.__cause__ = error
    return changed


async def kept(work: Callable[[], Awaitable[object]]) -> None:
    """Do work in the background that never ends, and begin it again after whatever it raises."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - what goes on in the background ends neither the store nor its callers
            _log.exception("work of a store in the background failed; it begins again")
        await anyio.sleep(AGAIN_AFTER)
