"""Trips to the store that are made again until they succeed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import structlog

from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError

STORE_AWAY = timedelta(seconds=1)

_log = structlog.get_logger("voiceflow.outcomes")

T = TypeVar("T")


async def retry_until_available(trip: Callable[[], Awaitable[T]], *, clock: Clock, what: str) -> T:
    """Make a trip until the store can be used, a second apart; the first failure is told, saying `what` waits."""
    told = False
    while True:
        try:
            return await trip()
        except (StoreUnavailableError, StoreReadOnlyError) as error:
            if not told:
                _log.warning("the store cannot be used; trying again", what=what, error=str(error))
            told = True
            await clock.sleep(STORE_AWAY.total_seconds())
