"""The trigger that waits for calls. It reads the store, which triggers share, and never sends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import Stop
from airflow_provider.calls.status import CompletionThreshold, Goal, WaitedCalls, WaitOptions
from airflow_provider.calls.waiting import WaitLog
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker import CallQueue, VoiceflowError, open_store
from voiceflow_worker.backends.registry import require_readable
from voiceflow_worker.errors import StoreUnavailableError

if TYPE_CHECKING:
    from voiceflow_worker import Store


@dataclass(slots=True)
class _Opened:
    """An open store. A task of its own opens and closes it, because the trigger that opens it first may end first."""

    opened: asyncio.Future[Store]
    last_left: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    keeper: asyncio.Task[None] | None = None


_open: dict[tuple[int, str], _Opened] = {}
"""The open stores by event loop and URL. Each is used only on its event loop."""


@asynccontextmanager
async def shared_store(url: str) -> AsyncGenerator[Store]:
    """Yield the store at `url`, opened once for all its users on this event loop. Raises the errors of `open_store`."""
    loop = asyncio.get_running_loop()
    place = (id(loop), url)
    entry = _open.get(place)
    if entry is None:
        entry = _open[place] = _Opened(loop.create_future())
        entry.keeper = asyncio.create_task(_keep(url, entry))
    entry.users += 1
    try:
        yield await asyncio.shield(entry.opened)
    finally:
        entry.users -= 1
        if entry.users == 0:
            del _open[place]  # the next user opens the store again
            entry.last_left.set()


@asynccontextmanager
async def shared_queue(hook: VoiceFlowHook) -> AsyncGenerator[CallQueue]:
    """Yield the queue of a connection, in the shared store."""
    settings = await hook.asettings()
    async with shared_store(settings.store) as store:
        await require_readable(store, settings)
        yield CallQueue(store, settings.queue, policy=settings.policy())


async def _keep(url: str, entry: _Opened) -> None:
    try:
        async with open_store(url) as store:
            entry.opened.set_result(store)
            await entry.last_left.wait()
    except Exception as error:  # noqa: BLE001 - raised again for each trigger that waits for the store
        if not entry.opened.done():
            entry.opened.set_exception(error)


log = logging.getLogger(__name__)

_stopping: set[asyncio.Task[None]] = set()
"""The stops that go on after their triggers have ended."""
FIRST_LOOK = 2.0
"""Seconds before the first look at the calls. An event without this pause could arrive before the task is deferred."""
LAG_MARGIN = 1.0
_KEPT = ("rows", "until", "times_out_at", "began")
PATIENCE_WITH_STORE = 300.0
"""The number of seconds for which the store may be unavailable before the task resumes with an error."""


@dataclass(kw_only=True, eq=False, repr=False)
class VoiceOutcomeTrigger(BaseTrigger):
    """A trigger that fires once when calls have ended, are in doubt for too long, are due, or are overdue.

    A waiting trigger only reads, so any number of copies may run, be killed, and run again. It has job ids and the id
    of a connection, but no secret. Its event has a `status`, and the `job_ids` or the `batch_id`. The status is "over"
    (the wait has ended), "look" (a call is due or overdue, or the log of 8x8 is to be read about a doubt), "timeout"
    (it is `times_out_at`, the end of the task's `execution_timeout`), "late" (it is `until`, the end of its wait) or
    "error" (the calls cannot be read; `error` says why).

    `sends` is True if the task sends its calls. The task is then resumed when calls become due. `enough` is
    `{"at_least": n}` or `{"ratio": r}`: the wait ends when that number or share of the calls has ended. `batch_id`
    names a batch to wait for, instead of `job_ids`. With `cancel_on_kill`, unsent calls are cancelled if the task is
    stopped, unless a later try than `try_id` has taken them over: of a batch, only those of the task instance `owner`,
    because other tasks may share the batch. `rows` are the counts of a campaign's rows; the task `began` its wait when
    it had enqueued them, and ends it at `until`. The event brings these back, because `airflow dags test` keeps nothing
    else of a deferral.
    """

    voiceflow_conn_id: str = DEFAULT_CONNECTION
    job_ids: Sequence[str] = ()
    batch_id: str | None = None
    wait_for: str = "outcome"
    sends: bool = False
    doubt_timeout: float = 900.0
    poll_interval: float = 5.0
    enough: dict[str, Any] | None = None
    cancel_on_kill: bool = False
    owner: dict[str, Any] | None = None
    try_id: str = ""
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the calls until there is an event, and yield it."""
        loop = asyncio.get_running_loop()
        safe_at = loop.time() + safe_after()
        await asyncio.sleep(FIRST_LOOK)
        away_since: float | None = None
        hook = VoiceFlowHook(self.voiceflow_conn_id)
        event: TriggerEvent | None = None
        while event is None:
            try:
                async with shared_queue(hook) as queue:
                    event = await self._watch(queue)
            except StoreUnavailableError as error:
                now = loop.time()
                away_since = now if away_since is None else away_since
                if now - away_since > PATIENCE_WITH_STORE:
                    event = self._event("error", error=str(error))
                else:
                    log.warning("the store is unavailable; the trigger tries again: %s", error)
                    await asyncio.sleep(self.poll_interval)
            except VoiceflowError as error:
                event = self._event("error", error=str(error))
        await asyncio.sleep(safe_at - loop.time())
        yield event

    async def on_kill(self) -> None:
        """Cancel the unsent calls if a user stops the deferred task (Airflow 3.3)."""
        if not self.cancel_on_kill:
            return
        owner = None if self.owner is None else TaskIdentity(**self.owner)
        stop = Stop(owner, self.try_id, job_ids=self.job_ids, batch_id=self.batch_id)
        # Airflow cancels this about a second after it has called it.
        work = asyncio.create_task(stop.carry_out(shared_queue(VoiceFlowHook(self.voiceflow_conn_id))))
        _stopping.add(work)
        work.add_done_callback(_stopping.discard)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.tell_cut()
            raise

    async def _watch(self, queue: CallQueue) -> TriggerEvent:
        from voiceflow_worker.core.settling.reconcile import log_lease  # not when DAGs are parsed

        options = WaitOptions(goal=Goal(self.wait_for), sends=self.sends, timeout=timedelta(seconds=self.doubt_timeout))
        waited = WaitedCalls(options, job_ids=self.job_ids, batch_id=self.batch_id)
        waiting = WaitLog(waited)
        while True:
            status = await waited.status(queue)
            if waited.is_over(status, CompletionThreshold(**(self.enough or {}))):
                return self._event("over")
            if self.times_out_at is not None and datetime.now(UTC) >= datetime.fromisoformat(self.times_out_at):
                return self._event("timeout")
            if self.until is not None and datetime.now(UTC) >= datetime.fromisoformat(self.until):
                return self._event("late")
            if (self.sends and status.due) or status.overdue:
                return self._event("look")
            # Unless a worker or a task has read the log of 8x8 for this queue in the last minutes.
            if self.sends and status.doubts_due and await log_lease(queue.store, queue.name).is_free():
                return self._event("look")
            await waiting.tell(queue, status)
            await asyncio.sleep(self.poll_interval)

    def _event(self, status: str, **more: str) -> TriggerEvent:
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
