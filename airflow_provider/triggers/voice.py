"""The trigger that waits for calls, and sends those that are due if their task sends its calls itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider.calls.failures import FINAL
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import Stop
from airflow_provider.calls.waiting import Goal, Wait, WaitedCalls
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker import VoiceflowError

_stopping: set[asyncio.Task[None]] = set()
"""The stops that go on after their triggers have ended."""
FIRST_LOOK = 2.0
"""Seconds before the first look at the calls. An event without this pause could arrive before the task is deferred."""
LAG_MARGIN = 1.0
_KEPT = ("rows", "until", "times_out_at", "began", "imports")


@dataclass(kw_only=True, eq=False, repr=False)
class VoiceOutcomeTrigger(BaseTrigger):
    """A trigger that fires once when the wait for calls is over.

    If the task sends its calls (`sends`), a worker of the library sends them here too while any is due: its stores and
    its locks allow any number of copies, which may be killed, and run again. It has job ids and the id of a
    connection, but no secret. Its event has a `status`, and the `job_ids` or the `batch_id`. The status is "over" (the
    wait has ended), "timeout" (it is `times_out_at`, the end of the task's `execution_timeout`), "late" (it is `until`,
    the end of its wait) or "error" (`error` says why, and `is_final` whether a retry cannot help).

    `batch_id` names a batch to wait for, instead of `job_ids`. If the task is stopped, the unsent calls of the task
    instance `owner` are cancelled, at first those of its `imports`: other tasks may share the batch. `rows` are the
    counts of a campaign's rows; the task `began` its wait when it had enqueued them. The event brings these back,
    because `airflow dags test` keeps nothing else of a deferral.
    """

    voiceflow_conn_id: str = DEFAULT_CONNECTION
    job_ids: Sequence[str] = ()
    batch_id: str | None = None
    wait_for: str = "outcome"
    sends: bool = False
    doubt_timeout: float = 900.0
    poll_interval: float = 5.0
    owner: dict[str, Any] | None = None
    imports: Sequence[str] | None = None
    rows: dict[str, Any] | None = None
    until: str | None = None
    times_out_at: str | None = None
    began: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.job_ids = list(self.job_ids)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for a copy in another triggerer."""
        arguments = {each.name: getattr(self, each.name) for each in fields(self)}
        return "airflow_provider.triggers.voice.VoiceOutcomeTrigger", arguments

    def _calls(self) -> WaitedCalls:
        return WaitedCalls(
            job_ids=self.job_ids, batch_id=self.batch_id, goal=Goal(self.wait_for), sends=self.sends,
            doubt_timeout=timedelta(seconds=self.doubt_timeout), begins_later=True,
        )  # fmt: skip

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is an event, and yield it."""
        loop = asyncio.get_running_loop()
        safe_at = loop.time() + safe_after()
        await asyncio.sleep(FIRST_LOOK)
        hook = VoiceFlowHook(self.voiceflow_conn_id)
        ends = {"timeout": self.times_out_at, "late": self.until}
        ends_at = {name: datetime.fromisoformat(end) for name, end in ends.items() if end is not None}
        try:
            await hook.asettings()
            wait = Wait(hook=hook, calls=self._calls(), every=self.poll_interval, ends=ends_at)
            event = self._event(await wait.for_end())
        except VoiceflowError as error:
            event = self._event("error", error=str(error), is_final=isinstance(error, FINAL))
        await asyncio.sleep(safe_at - loop.time())
        yield event

    async def on_kill(self) -> None:
        """Cancel the unsent calls if a user stops the deferred task (Airflow 3.3)."""
        if self.owner is None:
            return
        stop = Stop(identity=TaskIdentity(**self.owner), calls=self._calls(), imports=self.imports or ())
        # Airflow cancels this about a second after it has called it.
        work = asyncio.create_task(stop.carry_out(VoiceFlowHook(self.voiceflow_conn_id).opened_queue()))
        _stopping.add(work)
        work.add_done_callback(_stopping.discard)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.tell_cut()
            raise

    def _event(self, status: str, **more: object) -> TriggerEvent:
        subject = {"batch_id": self.batch_id} if self.batch_id is not None else {"job_ids": self.job_ids}
        kept = {name: each for name in _KEPT if (each := getattr(self, name)) is not None}
        return TriggerEvent({"status": status, **subject, **kept, **more})


def safe_after() -> float:
    """Return the seconds for which a task must not be queued again after a deferral or a poke.

    The supervisor of a task may notice the end of the task's process only after the interval `[workers]
    min_heartbeat_interval` (5 s). If the task is queued again before that, the scheduler mistakes the end of the
    process for the end of the task, and fails the task. This was seen on 3.3.2, with an event after 3.6 s and with a
    poke after 1 s.
    """
    try:
        lag = float(conf.get("workers", "min_heartbeat_interval", fallback="0") or 0)
    except ValueError:
        lag = 5.0
    return max(FIRST_LOOK, lag + LAG_MARGIN) if lag else FIRST_LOOK
