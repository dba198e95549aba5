"""What holds for the stores of servers while they are open: their errors, and their work in the background."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog

from voiceflow_worker.errors import SettingsError, StoreUnavailableError, VoiceflowError

_log = structlog.get_logger("voiceflow.store")

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
