"""Waiting for changes: the store is polled each second, and notifications of the database wake its callers earlier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

import anyio
import psycopg
import structlog

from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.faults import translated
from voiceflow_worker.backends.postgres.survey import Connection
from voiceflow_worker.backends.running import Wakeups
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.ports.store import Clock
from voiceflow_worker.errors import VoiceflowError

_log = structlog.get_logger("voiceflow.postgres")

POLL_EVERY = 1.0
"""Seconds between two polls for changes."""
LISTEN_AGAIN_AFTER = 1.0
"""Seconds after a listening connection was lost."""
_MACHINE = SystemClock()
"""The clock for polls. A test may set the store's clock by hand, but other processes write in real time."""


class QueueChanges:
    """The change counts of queues.

    Writers NOTIFY the name of a queue on the channel of the store. From the first wait on, one connection listens, but
    not behind a pooler: it gives each statement another connection.
    """

    def __init__(self, database: Database, clock: Clock, count: Callable[[str, int], Awaitable[int]]) -> None:
        self.wakeups: Wakeups = Wakeups()
        self._database = database
        self._clock = clock
        self._count = count
        self._hears = False
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the change count differs from `seen`, but not longer than `until`. Return the change count."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        while True:
            change = self.wakeups.next(queue)  # first, so that no change after the read is missed
            count = await self._count(queue, seen)
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await change.wait(self._clock if self._hears else _MACHINE, within=min(left, POLL_EVERY))

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        """Listen until the store is closed. No error ends this but a pooler."""
        is_logged = False
        while True:
            connection: Connection | None = None
            try:
                ((channel,),) = await self._database.rows("SELECT voiceflow.channel()")
                connection = await self._database.connected()
                ((sender_pid,),) = await connection.rows("SELECT pg_backend_pid()")
                if sender_pid != connection.pgconn.backend_pid:
                    return  # a pooler: LISTEN would stay with a connection of others
                await connection.rows(f'LISTEN "{channel}"')
                is_logged, self._hears = False, True
                self.wakeups.wake_all()  # there may have been changes before
                async for notice in connection.notifies():
                    self.wakeups.wake(notice.payload)
            except (VoiceflowError, psycopg.Error, OSError) as error:
                if not is_logged:
                    _log.warning(
                        "the store cannot notify of changes, and is polled; this process keeps trying to listen",
                        error=str(translated(error, self._database.url)),
                    )
                is_logged = True
            except Exception:  # noqa: BLE001 - what goes on in the background ends no store
                _log.exception("the listener failed; it begins again")
            finally:
                self._hears = False
                if connection is not None:
                    await connection.close()
            await anyio.sleep(LISTEN_AGAIN_AFTER)
