"""The trigger that waits for calls: it looks into the store and never sends anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider.calls.enough import Enough
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.standing import Goal, Standing, Terms, standing_of
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.shared_store import shared_store
from voiceflow_worker import CallQueue, Job, JobNotFoundError, StoreUnavailableError, VoiceflowError

log = logging.getLogger(__name__)

FIRST_LOOK = 2.0
"""Seconds before the first look: an event that comes at once can overtake the deferral of its own task."""
LAG_MARGIN = 1.0
PATIENCE_WITH_STORE = 300.0
"""Seconds for which a store may be away before the task is woken to fail or to be retried."""


class VoiceOutcomeTrigger(BaseTrigger):
    """Fires once when the calls of a task need it: they are over, in doubt for too long, due to be sent, or overdue.

    Any number of copies may run, be killed and run again: a trigger only reads. It carries job ids and the id of a
    connection, and no secret. The event: `{"status": "over" | "look", "job_ids": […]}`, with `"error"` when the store
    cannot be asked.

    `sends`: it is the task who sends, so calls that fall due wake it. `enough` (`{"at_least": n}` or `{"ratio": r}`)
    ends the wait when so many calls are over. `batch_id` waits for all calls of a batch instead of `job_ids`; `owner`
    is the task instance whose calls of it are taken back when the task is stopped: others may share the batch.
    """

    def __init__(
        self,
        *,
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        job_ids: Sequence[str] = (),
        batch_id: str | None = None,
        wait_for: str = "outcome",
        sends: bool = False,
        doubt_patience: float = 900.0,
        poll_interval: float = 5.0,
        enough: dict[str, Any] | None = None,
        cancel_on_kill: bool = False,
        owner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.voiceflow_conn_id = voiceflow_conn_id
        self.job_ids = list(job_ids)
        self.batch_id = batch_id
        self.wait_for = wait_for
        self.sends = sends
        self.doubt_patience = doubt_patience
        self.poll_interval = poll_interval
        self.enough = enough
        self.cancel_on_kill = cancel_on_kill
        self.owner = owner

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything needed to run it elsewhere."""
        return (
            "airflow_provider.triggers.voice.VoiceOutcomeTrigger",
            {
                "voiceflow_conn_id": self.voiceflow_conn_id,
                "job_ids": self.job_ids,
                "batch_id": self.batch_id,
                "wait_for": self.wait_for,
                "sends": self.sends,
                "doubt_patience": self.doubt_patience,
                "poll_interval": self.poll_interval,
                "enough": self.enough,
                "cancel_on_kill": self.cancel_on_kill,
                "owner": self.owner,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to tell, then tell it once."""
        loop = asyncio.get_running_loop()
        safe_at = loop.time() + safe_after()
        await asyncio.sleep(FIRST_LOOK)
        away_since: float | None = None
        hook = VoiceFlowHook(self.voiceflow_conn_id)
        event: TriggerEvent | None = None
        while event is None:
            try:
                settings = await hook.asettings()
                async with shared_store(settings.store) as store:
                    event = await self._watch(CallQueue(store, settings.queue, policy=settings.policy()))
            except StoreUnavailableError as error:
                now = loop.time()
                away_since = now if away_since is None else away_since
                if now - away_since > PATIENCE_WITH_STORE:
                    event = self._event("error", error=str(error))
                else:
                    log.warning("the store is away; looking again: %s", error)
                    await asyncio.sleep(self.poll_interval)
            except VoiceflowError as error:
                event = self._event("error", error=str(error))
        await asyncio.sleep(safe_at - loop.time())
        yield event

    async def on_kill(self) -> None:
        """Take back what has not been sent: a user stopped the deferred task (Airflow 3.3)."""
        if not self.cancel_on_kill:
            return
        from airflow_provider.calls.errand import take_back
        from airflow_provider.calls.taken_back import take_back_calls

        settings = await VoiceFlowHook(self.voiceflow_conn_id).asettings()
        async with shared_store(settings.store) as store:
            queue = CallQueue(store, settings.queue, policy=settings.policy())
            if self.batch_id is not None:
                cancelled = await take_back_calls(queue, [self.batch_id], self._identity())
            else:
                cancelled = await take_back(queue, self.job_ids)
        log.info("the task was stopped: %s calls that had not been sent were taken back", cancelled)

    def _identity(self) -> TaskIdentity | None:
        return TaskIdentity(**self.owner) if self.owner is not None else None

    async def _watch(self, queue: CallQueue) -> TriggerEvent:
        if self.batch_id is not None:
            return await self._watch_batch(queue, self.batch_id)
        terms = Terms(goal=Goal(self.wait_for), sends=self.sends, patience=timedelta(seconds=self.doubt_patience))
        enough = Enough.of(self.enough)
        while True:
            found = await queue.store.jobs.get(self.job_ids)
            for job_id in self.job_ids:
                if job_id not in found:
                    raise JobNotFoundError(job_id)
            status = self._status(list(found.values()), terms, enough, queue)
            if status is not None:
                return self._event(status)
            await asyncio.sleep(self.poll_interval)

    def _status(self, jobs: Sequence[Job], terms: Terms, enough: Enough, queue: CallQueue) -> str | None:
        now = queue.store.clock.now()
        standings = [standing_of(job, terms, now=now) for job in jobs]
        ended = sum(1 for standing in standings if standing in {Standing.OVER, Standing.DOUBTFUL})
        if enough.is_reached(ended, len(jobs)):
            return "over"
        return "look" if {Standing.UNSENT, Standing.OVERDUE} & set(standings) else None

    async def _watch_batch(self, queue: CallQueue, batch_id: str) -> TriggerEvent:
        from airflow_provider.calls.batch import batch_standing

        enough = Enough.of(self.enough)
        while True:
            standing = await batch_standing(
                queue, batch_id, goal=Goal(self.wait_for), patience=timedelta(seconds=self.doubt_patience)
            )
            if enough.is_reached(standing.ended, standing.total) and standing.total:
                return self._event("over")
            if (self.sends and standing.due) or standing.overdue:
                return self._event("look")
            await asyncio.sleep(self.poll_interval)

    def _event(self, status: str, **more: str) -> TriggerEvent:
        subject = {"batch_id": self.batch_id} if self.batch_id is not None else {"job_ids": self.job_ids}
        return TriggerEvent({"status": status, **subject, **more})


def safe_after() -> float:
    """How many seconds after its deferral, or a look that is to be repeated, a task may be queued again.

    The supervisor of an Airflow 3 task may notice its end only `[workers] min_heartbeat_interval` (5 s) later. If the
    task is queued again by then, the scheduler takes the end of that run for the end of the task, and fails it:
    seen on 3.3.2 with an event after 3.6 s, and with a look after 1 s.
    """
    try:
        lag = float(conf.get("workers", "min_heartbeat_interval", fallback="0") or 0)
    except ValueError:
        lag = 5.0
    return max(FIRST_LOOK, lag + LAG_MARGIN) if lag else FIRST_LOOK
