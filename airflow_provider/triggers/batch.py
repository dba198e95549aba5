"""An event per finished batch, for `AssetWatcher`: a DAG can run when a campaign is over (Airflow 3)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.shared_store import shared_store
from voiceflow_worker import CallQueue, VoiceflowError

log = logging.getLogger(__name__)

CURSORS = "airflow-batch-cursor"
TOLD = "airflow-batch-told"
KEPT_FOR = timedelta(days=400)
"""As long as unique keys: a batch id is not used again before."""
PAGE = 1000


@dataclass(slots=True)
class _Pending:
    """Batches that are finished, and since when nothing moved in them (by a clock that never jumps)."""

    since: dict[str, float] = field(default_factory=dict[str, float])


class VoiceBatchTrigger(BaseEventTrigger):
    """Fires once for each batch of a queue that has finished: `{"batch_id", "queue", "total", "states"}`.

    It reads the store's own events behind a cursor that is kept in the store, under the name `watcher`, and marks there
    which batches were told: a triggerer that is started again goes on where the last one was. A new watcher begins
    with what finishes from then on. A batch counts as finished when all its calls have ended and nothing has moved for
    `quiet_for` seconds, so that a campaign that is still being handed in is not told too early. `batch_prefix` watches
    only batches whose id begins so.

    At least once: a triggerer that dies in the moment after it fired may fire for that batch again.
    """

    def __init__(
        self,
        *,
        watcher: str,
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        batch_prefix: str = "",
        poll_interval: float = 10.0,
        quiet_for: float = 30.0,
    ) -> None:
        super().__init__()
        self.watcher = watcher
        self.voiceflow_conn_id = voiceflow_conn_id
        self.batch_prefix = batch_prefix
        self.poll_interval = poll_interval
        self.quiet_for = quiet_for

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything needed to run it elsewhere; no secret."""
        return (
            "airflow_provider.triggers.voice.VoiceBatchTrigger",
            {
                "watcher": self.watcher,
                "voiceflow_conn_id": self.voiceflow_conn_id,
                "batch_prefix": self.batch_prefix,
                "poll_interval": self.poll_interval,
                "quiet_for": self.quiet_for,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for finished batches until it is cancelled; a store that is away is waited for."""
        hook = VoiceFlowHook(self.voiceflow_conn_id)
        while True:
            try:
                settings = await hook.asettings()
                async with shared_store(settings.store) as store:
                    async for event in self._watch(CallQueue(store, settings.queue, policy=settings.policy())):
                        yield event
            except VoiceflowError as error:
                log.warning("batches cannot be watched now; looking again: %s", error)
                await asyncio.sleep(self.poll_interval)

    async def _watch(self, queue: CallQueue) -> AsyncIterator[TriggerEvent]:
        position = await self._cursor(queue)
        pending = _Pending()
        while True:
            position = await self._read(queue, position, pending)
            for batch_id in self._quiet(pending):
                if await self._is_told(queue, batch_id):
                    continue
                told = await _standing(queue, batch_id)
                if told is None:  # somebody called again, or handed in more
                    continue
                yield TriggerEvent(told)
                # After a pause, in which Airflow stores the event: dying in between fires again, and loses nothing.
                await asyncio.sleep(min(self.poll_interval, 5.0))
                await self._mark(queue, batch_id)
            if not pending.since:
                await self._keep(queue, position)
            await asyncio.sleep(self.poll_interval)

    async def _read(self, queue: CallQueue, position: int, pending: _Pending) -> int:
        """Take note of what has happened behind `position`; gives the new position."""
        now = asyncio.get_running_loop().time()
        while True:
            events = await queue.store.jobs.events(queue.name, after=position, limit=PAGE)
            if not events:
                return position
            position = events[-1].sequence
            jobs = await queue.store.jobs.get(list({event.job_id for event in events}))
            for batch_id in {job.batch_id for job in jobs.values() if job.batch_id is not None}:
                if batch_id.startswith(self.batch_prefix):
                    pending.since.pop(batch_id, None)
                    if await _standing(queue, batch_id) is not None:
                        pending.since[batch_id] = now
            if len(events) < PAGE:
                return position

    def _quiet(self, pending: _Pending) -> list[str]:
        now = asyncio.get_running_loop().time()
        ripe = [batch_id for batch_id, since in pending.since.items() if now - since >= self.quiet_for]
        for batch_id in ripe:
            del pending.since[batch_id]
        return ripe

    async def _cursor(self, queue: CallQueue) -> int:
        place = f"{queue.name}/{self.watcher}"
        kept = await queue.store.records.get(CURSORS, [place], now=queue.store.clock.now())
        if place in kept:
            return int(kept[place])
        position = 0
        while events := await queue.store.jobs.events(queue.name, after=position, limit=PAGE):
            position = events[-1].sequence
        await self._keep(queue, position)
        return position

    async def _keep(self, queue: CallQueue, position: int) -> None:
        place, now = f"{queue.name}/{self.watcher}", queue.store.clock.now()
        await queue.store.records.put(CURSORS, {place: str(position)}, expires_at=None, now=now)

    async def _is_told(self, queue: CallQueue, batch_id: str) -> bool:
        place = self._told_place(queue, batch_id)
        return place in await queue.store.records.get(TOLD, [place], now=queue.store.clock.now())

    async def _mark(self, queue: CallQueue, batch_id: str) -> None:
        now = queue.store.clock.now()
        mark = {self._told_place(queue, batch_id): "1"}
        await queue.store.records.put(TOLD, mark, expires_at=now + KEPT_FOR, now=now)

    def _told_place(self, queue: CallQueue, batch_id: str) -> str:
        return json.dumps([queue.name, self.watcher, batch_id])


async def _standing(queue: CallQueue, batch_id: str) -> dict[str, Any] | None:
    """What is told of a finished batch; None while any of its calls has not ended."""
    counts = await queue.store.jobs.count(queue.name, batch_id=batch_id)
    states = {state.value: count for state, count in counts.items() if count}
    if not states or any(count and not state.is_final for state, count in counts.items()):
        return None
    return {"batch_id": batch_id, "queue": queue.name, "total": sum(states.values()), "states": states}
