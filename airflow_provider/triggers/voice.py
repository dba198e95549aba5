"""The trigger that waits for calls. It sends none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from airflow.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent
from anyio import to_thread

from airflow_provider.calls.tasks import TaskHold
from airflow_provider.calls.waiting import WaitedCalls, WaitStatus, wait_until
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook


class VoiceOutcomeTrigger(BaseTrigger):
    """A trigger that fires once: when the wait for `calls` is over, or a task that `sends` has a call to send.

    It has ids and names, but no number and no secret. Its event names the calls. If the task is stopped, it orders the
    `hold` of the task.
    """

    def __init__(
        self,
        calls: WaitedCalls | Mapping[str, Any],
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        *,
        sends: bool = False,
        every: float = 5.0,
        hold: TaskHold | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.calls = WaitedCalls(**calls) if isinstance(calls, Mapping) else calls
        self.hook = VoiceFlowHook(voiceflow_conn_id)
        self.sends = sends
        self.every = every
        self.hold = TaskHold(**hold) if isinstance(hold, Mapping) else hold

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for a copy in another triggerer."""
        return "airflow_provider.triggers.voice.VoiceOutcomeTrigger", {
            "calls": asdict(self.calls),
            "voiceflow_conn_id": self.hook.voiceflow_conn_id,
            "sends": self.sends,
            "every": self.every,
            "hold": None if self.hold is None else asdict(self.hold),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is an event, and yield it. Raises SettingsError and StoreError."""
        await asyncio.sleep(safe_after())
        await to_thread.run_sync(self.hook.settings)

        def is_done(status: WaitStatus) -> bool:
            return status.is_over or (self.sends and status.has_work)

        await wait_until(is_done, self.calls, self.hook, every=self.every, hold=self.hold)
        # `airflow dags test` keeps nothing of a deferral but the event.
        yield TriggerEvent(asdict(self.calls))

    async def on_kill(self) -> None:
        """Hold the task's own batch if a user stops the deferred task (Airflow 3.3)."""
        if self.hold is not None:
            await self.hold.order(await self.hook.get_queue())


def safe_after() -> float:
    """Return the seconds for which a task must not be queued again after a deferral or a poke.

    The supervisor of a task may notice the end of the task's process only after the interval `[workers]
    min_heartbeat_interval` (5 s), and the scheduler fails a task that is queued again before that. (Seen on 3.3.2, with
    an event after 3.6 s and a poke after 1 s.)
    """
    return max(2.0, conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0) + 1.0)
