"""What is kept of a task beside its calls: the store that has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from anyio import to_thread

from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError
from voiceflow_worker.errors import JobNotFoundError

KEPT_FOR = timedelta(days=400)
"""The lifetime of a record, which is the same as the lifetime of a unique key."""
KEY = "voiceflow_calls"


class TaskStateAwayError(VoiceflowError):
    """Raised when Airflow's task state cannot be read or written. A retry can succeed."""


class TaskState:
    """Airflow's task state of one task instance (since 3.3): which store has its calls, and one of them or their batch.

    The store prevents second calls, so a try that meets another store, or one that was emptied, makes none. (What a
    store that was rolled back has forgotten of POSTs is found by the journal files of workers.)
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state: Any = context.get("task_state_store")

    async def require_known(self, queue: CallQueue, *, retention: timedelta) -> None:
        """Raise InvalidInputError if the store is not the one that had the calls of this task; TaskStateAwayError.

        The store may have deleted a call when `retention` has passed.
        """
        saved: Mapping[str, str] = {} if self._state is None else await self._asked("read", self._state.get, KEY) or {}
        if not saved:
            return
        is_recent = queue.store.clock.now() < datetime.fromisoformat(saved["at"]) + retention
        if saved["store_id"] == queue.store.id and not (is_recent and not await _has(queue, saved)):
            return
        raise InvalidInputError(
            f"this task has enqueued {saved.get('job_id') or saved['batch_id']} in the store {saved['store']}, but the "
            f"store {queue.store.url} does not know it. The store was emptied or restored from an older copy, or the "
            "connection now names another store. Nothing more was sent, because a person might be called a second "
            "time. Restore the newest copy of the store and clear this task. If your 8x8 account shows that nobody was "
            "called, start a new run of the DAG instead"
        )

    async def keep(self, queue: CallQueue, names: Mapping[str, str]) -> None:
        """Keep the store, and `names`: `{"job_id"}` or `{"batch_id"}`. Raises TaskStateAwayError."""
        if self._state is not None:
            at = queue.store.clock.now().isoformat()
            saved = {**names, "store": queue.store.url, "store_id": queue.store.id, "at": at}
            await self._asked("written", partial(self._state.set, retention=KEPT_FOR), KEY, saved)

    async def _asked(self, done: str, ask: Callable[..., Any], *given: object) -> Any:
        try:
            # On another thread: that of the event loop must not wait for Airflow, whose answer may need the loop.
            return await to_thread.run_sync(ask, *given)
        except Exception as error:
            raise TaskStateAwayError(f"no calls are sent: Airflow's task state cannot be {done} ({error})") from error


async def _has(queue: CallQueue, names: Mapping[str, str]) -> bool:
    if "batch_id" in names:
        return bool(await queue.find(batch_id=names["batch_id"], limit=1))
    try:
        return bool(await queue.get(names["job_id"]))
    except JobNotFoundError:
        return False
