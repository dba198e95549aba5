"""The trigger that fires for each finished batch. With an `AssetWatcher` it can run a DAG (Airflow 3)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from inspect import signature
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider.calls.task_record import KEPT_FOR
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.shared_store import shared_queue
from voiceflow_worker import CallQueue, VoiceflowError

log = logging.getLogger(__name__)

CURSORS = "airflow-batch-cursor"
REPORTED = "airflow-batch-told"
PAGE = 1000


class VoiceBatchTrigger(BaseEventTrigger):
    """A trigger that fires for each finished batch of a queue. Its event is `{"batch_id", "queue", "total", "states"}`.

    A batch is finished when all its calls have ended and nothing has changed for `quiet_for` seconds, so that a
    campaign is not reported while it is being enqueued. `batch_prefix` restricts the batch ids.

    The trigger reads the events of the store after a cursor. It keeps the cursor and the ids of reported batches in the
    store, under the name `watcher`. A restarted triggerer therefore continues where the last one stopped. A new watcher
    reports only batches that finish after its start. A batch is reported at least once, and again if the triggerer dies
    right after the report.
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
        """Return the class path and the arguments, without secrets, for a copy in another triggerer."""
        arguments = {name: getattr(self, name) for name in list(signature(type(self).__init__).parameters)[1:]}
        return "airflow_provider.triggers.voice.VoiceBatchTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each finished batch, until the trigger is cancelled. While the store fails, try again."""
        hook = VoiceFlowHook(self.voiceflow_conn_id)
        while True:
            try:
                async with shared_queue(hook) as queue:
                    async for event in self._watch(queue):
                        yield event
            except VoiceflowError as error:
                log.warning("the trigger cannot read finished batches now, and tries again: %s", error)
                await asyncio.sleep(self.poll_interval)

    async def _watch(self, queue: CallQueue) -> AsyncIterator[TriggerEvent]:
        position = await self._cursor(queue)
        pending: dict[str, float] = {}
        while True:
            position = await self._read(queue, position, pending)
            for batch_id in self._quiet(pending):
                if await self._is_reported(queue, batch_id):
                    continue
                report = await _finished(queue, batch_id)
                if report is None:  # calls were added or redialled
                    continue
                yield TriggerEvent(report)
                # During this pause Airflow stores the event. If the triggerer dies before the mark, it is repeated.
                await asyncio.sleep(min(self.poll_interval, 5.0))
                await self._mark(queue, batch_id)
            if not pending:
                await self._keep(queue, position)
            await asyncio.sleep(self.poll_interval)

    async def _read(self, queue: CallQueue, position: int, pending: dict[str, float]) -> int:
        """Read the events after `position`, and put finished batches into `pending`. Returns the new position."""
        now = asyncio.get_running_loop().time()
        while True:
            events = await queue.store.jobs.events(queue.name, after=position, limit=PAGE)
            if not events:
                return position
            position = events[-1].sequence
            jobs = await queue.store.jobs.get(list({event.job_id for event in events}))
            for batch_id in {job.batch_id for job in jobs.values() if job.batch_id is not None}:
                if batch_id.startswith(self.batch_prefix):
                    pending.pop(batch_id, None)
                    if await _finished(queue, batch_id) is not None:
                        pending[batch_id] = now
            if len(events) < PAGE:
                return position

    def _quiet(self, pending: dict[str, float]) -> list[str]:
        now = asyncio.get_running_loop().time()
        ripe = [batch_id for batch_id, since in pending.items() if now - since >= self.quiet_for]
        for batch_id in ripe:
            del pending[batch_id]
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

    async def _is_reported(self, queue: CallQueue, batch_id: str) -> bool:
        key = self._mark_key(queue, batch_id)
        return key in await queue.store.records.get(REPORTED, [key], now=queue.store.clock.now())

    async def _mark(self, queue: CallQueue, batch_id: str) -> None:
        now = queue.store.clock.now()
        mark = {self._mark_key(queue, batch_id): "1"}
        await queue.store.records.put(REPORTED, mark, expires_at=now + KEPT_FOR, now=now)

    def _mark_key(self, queue: CallQueue, batch_id: str) -> str:
        return json.dumps([queue.name, self.watcher, batch_id])


async def _finished(queue: CallQueue, batch_id: str) -> dict[str, Any] | None:
    """Return the event of a finished batch, or None if the batch has no calls or a call has not ended."""
    counts = await queue.store.jobs.count(queue.name, batch_id=batch_id)
    states = {state.value: count for state, count in counts.items() if count}
    if not states or any(count and not state.is_final for state, count in counts.items()):
        return None
    return {"batch_id": batch_id, "queue": queue.name, "total": sum(states.values()), "states": states}
