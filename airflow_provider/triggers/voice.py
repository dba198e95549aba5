"""The trigger that waits for calls. It sends none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from airflow.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider.calls.failures import FINAL
from airflow_provider.calls.keys import TaskHold
from airflow_provider.calls.waiting import Wait, WaitedCalls, WaitStatus
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker import VoiceflowError

_stopping: set[asyncio.Task[None]] = set()
"""The stops that go on after Airflow has cancelled `on_kill`."""
FIRST_LOOK = 2.0
"""Seconds before the first look: an event without this pause could arrive before the task is deferred."""


class VoiceOutcomeTrigger(BaseTrigger):
    """A trigger that fires once: when the wait for `calls` is over, or the task has something to do.

    It has ids and names, but no number and no secret. The `status` of its event is "over", "due" (a task that `sends`
    has a call to send), the name of one of the `ends` (times as ISO texts: "late", "timeout"), or "error". If the task
    is stopped, the trigger orders its `hold`.
    """

    def __init__(
        self,
        calls: WaitedCalls | Mapping[str, Any],
        ends: Mapping[str, str],
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        *,
        sends: bool = False,
        every: float = 5.0,
        hold: TaskHold | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.calls = WaitedCalls(**calls) if isinstance(calls, Mapping) else calls
        self.hold = TaskHold(**hold) if isinstance(hold, Mapping) else hold
        self.given: dict[str, Any] = {
            "ends": dict(ends),
            "voiceflow_conn_id": voiceflow_conn_id,
            "sends": sends,
            "every": every,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for a copy in another triggerer."""
        hold = None if self.hold is None else asdict(self.hold)
        return "airflow_provider.triggers.voice.VoiceOutcomeTrigger", {
            **self.given,
            "calls": asdict(self.calls),
            "hold": hold,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is an event, and yield it."""
        loop = asyncio.get_running_loop()
        safe_at = loop.time() + safe_after()
        await asyncio.sleep(FIRST_LOOK)
        hook, ends, every = self._hook, self.given["ends"], self.given["every"]
        try:
            await hook.asettings()
            wait = Wait(hook=hook, calls=self.calls, every=every, ends=ends, hold=self.hold)
            event: dict[str, Any] = {"status": await wait.until(self._word_of)}
        except VoiceflowError as error:
            event = {"status": "error", "error": str(error), "is_final": isinstance(error, FINAL)}
        await asyncio.sleep(safe_at - loop.time())
        # `airflow dags test` keeps nothing of a deferral but the event.
        calls = {"job_ids": [*self.calls.job_ids], "batch_id": self.calls.batch_id}
        yield TriggerEvent({**event, "calls": calls, "ends": ends})

    def _word_of(self, status: WaitStatus) -> str | None:
        return "over" if status.is_over else "due" if self.given["sends"] and status.has_work else None

    @property
    def _hook(self) -> VoiceFlowHook:
        return VoiceFlowHook(self.given["voiceflow_conn_id"])

    async def on_kill(self) -> None:
        """Hold the task's own batch if a user stops the deferred task (Airflow 3.3)."""
        # Airflow may cancel this before the order is stored.
        work = asyncio.create_task(self._stop())
        _stopping.add(work)
        work.add_done_callback(_stopping.discard)
        await asyncio.shield(work)

    async def _stop(self) -> None:
        if self.hold is not None:
            async with self._hook.opened_queue() as queue:
                await self.hold.order(queue)


def safe_after() -> float:
    """Return the seconds for which a task must not be queued again after a deferral or a poke.

    The supervisor of a task may notice the end of the task's process only after the interval `[workers]
    min_heartbeat_interval` (5 s), and the scheduler fails a task that is queued again before that. (Seen on 3.3.2, with
    an event after 3.6 s and a poke after 1 s.)
    """
    lag = conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0)
    return max(FIRST_LOOK, lag + 1.0) if lag else FIRST_LOOK
