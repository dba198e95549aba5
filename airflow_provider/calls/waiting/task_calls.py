"""The calls of a task: sending, waiting, and a sweep when a call is overdue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider.calls.sent_posts import SentPosts
from airflow_provider.calls.waiting.polling import (
    StopFlag,
    WaitedTooLongError,
    WaitLog,
    poll,
    require_open,
    sweep,
    swept,
)
from airflow_provider.calls.waiting.status import Goal, WaitedCalls, WaitStatus
from airflow_provider.calls.waiting.worker import sending
from voiceflow_worker import CallQueue
from voiceflow_worker.errors import CallLogError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

SENT_WITHIN = timedelta(hours=1)
"""The longest time for which a task sends calls before it defers. It sends the remaining calls when it resumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCalls:
    """The calls of one task, in the queue of its connection.

    `every` is the longest pause between two checks of the calls, in seconds. `limit` is the longest wait for the calls
    to end. Call `hook.settings()` first, because reading the connection may block the event loop.
    """

    hook: VoiceFlowHook
    calls: WaitedCalls
    every: float
    limit: timedelta | None
    stop: StopFlag
    posts: SentPosts

    async def send(self) -> WaitStatus:
        """Send due calls, if this task sends calls. Return the status of all calls.

        After `SENT_WITHIN`, the rest is left for the time when the task resumes. A task that does not wait for its
        calls sends all of them; it raises WaitedTooLongError after `limit`.
        """
        options = self.calls.options
        is_last = options.goal is Goal.NOTHING
        async with self.hook.opened_queue() as queue:
            status, is_late = await self._status(queue), False
            while options.sends and status.unsent and not is_late:  # a call that did not leave returns to the queue
                limit = self.limit if is_last else SENT_WITHIN
                try:
                    await self._poll(queue, status, lambda status: not status.unsent, every=1.0, limit=limit)
                except WaitedTooLongError:
                    if is_last:
                        raise
                    is_late = True
                status = await self._status(queue)
            if options.sends and is_last and status.waiting:
                log.warning(
                    "%s: calls that are due later: %s. This task does not wait for them (wait_for=None), so a "
                    "`voiceflow worker` has to send them",
                    self.calls,
                    status.waiting,
                )
            return status

    async def send_and_wait(self) -> WaitStatus:
        """Wait until all calls have ended. If this task sends its calls, it sends them meanwhile.

        Raises WaitedTooLongError after `limit`.
        """
        async with self.hook.opened_queue() as queue:
            status = await self._status(queue)
            if status.has_ended:
                return status
            await self._poll(queue, status, lambda status: status.has_ended, every=self.every, limit=self.limit)
            return await self._status(queue)

    async def look(self) -> WaitStatus:
        """Return the present status of the calls. If a call is overdue, sweep first.

        If this task sends its calls, nobody else may look for their doubts, so it reads the log of 8x8 when they are
        due.
        """
        async with self.hook.opened_queue() as queue:
            if self.calls.options.sends and (await self.calls.status(queue)).doubts_due:
                await self._look_up(queue)
            return await swept(queue, self.calls, policy=self.hook.settings().policy())

    async def _look_up(self, queue: CallQueue) -> None:
        """Look for calls in doubt in the log of 8x8, unless a worker or another task has just done so."""
        from voiceflow_worker.core.settling.reconcile import Reconciler

        try:
            async with self.hook.get_client() as voice:
                found = await Reconciler(
                    queue.store, voice, queue=queue.name, policy=self.hook.settings().policy()
                ).due()
        except CallLogError as error:
            log.warning("the log of 8x8 was not read: %s", error)
            return
        if found.looked_at:
            log.info(
                "calls in doubt, and in the log of 8x8: %s were placed, %s were not, %s stay in doubt",
                found.placed,
                found.not_placed,
                found.open,
            )

    async def _status(self, queue: CallQueue) -> WaitStatus:
        """Return the status of all calls. Raises TaskStoppedError if the task was stopped: its calls were cancelled."""
        status = await self.calls.status(queue)
        self.stop.check()
        return status

    async def _poll(
        self,
        queue: CallQueue,
        status: WaitStatus,
        is_reached: Callable[[WaitStatus], bool],
        *,
        every: float,
        limit: timedelta | None,
    ) -> WaitStatus:
        sends = self.calls.options.sends
        batch_id = status.jobs[0].batch_id if status.jobs else self.calls.batch_id

        waiting = WaitLog(self.calls)

        async def keep_going(status: WaitStatus) -> None:
            await waiting.tell(queue, status)
            if sends and status.unsent:
                await require_open(queue, batches={batch_id})
            if not sends and status.overdue:
                await sweep(queue, policy=self.hook.settings().policy())

        if sends:
            await self.posts.require_known(queue, retention=self.hook.settings().retention)
        async with sending(self.hook, queue, batch_id=batch_id, stop=self.stop, sends=sends, posts=self.posts):
            return await poll(
                queue,
                partial(self.calls.status, queue),
                is_reached,
                subject=str(self.calls),
                every=every,
                limit=limit,
                stop=self.stop,
                otherwise=keep_going,
            )
