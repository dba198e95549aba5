"""The readiness check of /readyz, and the receiver's presence, which workers look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TypeAlias

import anyio
import structlog

from voiceflow_worker.core.heartbeats import EVERY, SAMPLED_EVERY, Heartbeats, RateHistory
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.outside import SystemClock
from voiceflow_worker.core.ports.parts import Parts
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.ports.store import Put, Step, Unit
from voiceflow_worker.errors import StoreError

Probe: TypeAlias = Callable[[], Awaitable[object]]
"""A function that succeeds only if the store can store summaries. Otherwise it raises StoreError."""

WITHIN = timedelta(seconds=1)
FRESH = 1.0
"""Seconds for which a result is reused. /readyz needs no secret, so frequent requests must not load the store."""

_NAMESPACE = "readiness"
_KEPT_FOR = timedelta(minutes=5)


def store_probe(store: Store) -> Probe:
    """A probe that does what summaries need: it writes a record, and searches for calls, as is done after an opt-out.

    A read alone would succeed even if the disk is full or the store is read-only. The search has a second purpose: the
    first search in SQLite opens a connection, and later there may be no free file descriptor for it.
    """
    name = new_worker_id()

    async def probe() -> None:
        now = store.clock.now()
        mark = Unit(puts=(Put(_NAMESPACE, name, "", now + _KEPT_FOR),))
        await store.write(Step(units=(mark,)), now=now)
        await find_jobs(store, OfNumber(queue=name, number=name, limit=1))

    return probe


class Readiness:
    """The readiness of a store. Requests at the same time share one probe."""

    def __init__(self, probe: Probe | None, *, within: timedelta = WITHIN) -> None:
        self._probe = probe
        self._within = within
        self._asking = anyio.Lock()
        self._until = float("-inf")
        self._why: str | None = None

    async def why_not(self) -> str | None:
        """The reason why events cannot be stored now, as a clause; None if they can be stored."""
        if self._probe is None or anyio.current_time() < self._until:
            return self._why
        seconds = self._within.total_seconds()
        why: str | None = f"the store did not answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            async with self._asking:
                if anyio.current_time() < self._until:
                    return self._why  # another request has probed meanwhile
                try:
                    await self._probe()
                    why = None
                except StoreError as error:
                    why = f"the store cannot be used: {error}"
        self._why, self._until = why, anyio.current_time() + FRESH
        return why


_log = structlog.get_logger("voiceflow.webhooks")


@asynccontextmanager
async def present(heartbeats: Heartbeats, *, name: str, every: timedelta = EVERY) -> AsyncGenerator[None]:
    """Send heartbeats of the receiver `name`, now and at every interval, until the block ends.

    `webhook_app` does this in its lifespan. But a server runs only the lifespan of the outermost app: an app that
    mounts `webhook_app` must use this context manager in its own lifespan.
    """
    parts, part = Parts(SystemClock()), "a heartbeat of the receiver could not be stored"

    async def beat() -> None:
        await heartbeats.receiver(name)

    async def keep_beating() -> None:
        await anyio.sleep(every.total_seconds())
        await parts.repeat(part, beat, every=every.total_seconds())

    try:
        await beat()
    except Exception as error:  # noqa: BLE001 - the next beat may be stored
        parts.failed(part, error)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_beating)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                try:
                    await heartbeats.receiver_left(name)
                except Exception as error:  # noqa: BLE001 - nothing depends on it
                    _log.warning("the heartbeat of this receiver was not deleted; it expires soon", error=str(error))


@asynccontextmanager
async def sampled(rates: RateHistory) -> AsyncGenerator[None]:
    """Store a sample of the rates at every interval, until the block ends."""
    part = "a sample of the rates was not stored, and the rate curve has a gap"
    sample = partial(Parts(SystemClock()).repeat, part, rates.sample, every=SAMPLED_EVERY.total_seconds())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sample)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
