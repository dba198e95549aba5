"""The newest POSTs of a task, kept in Airflow's task state (since 3.3), which shows whether the store was rolled back.

A POST is written there when the store has it and before its first byte leaves. So if the store lacks one of these
POSTs, it was restored from an older copy, and would make calls again that have rung.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import to_thread

from airflow_provider.calls.task_record import KEPT_FOR
from airflow_provider.calls.waiting.polling import StopFlag
from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError
from voiceflow_worker.core.ports.reading import get_jobs

if TYPE_CHECKING:
    from voiceflow_worker import VoiceClient
    from voiceflow_worker.types import Verdict

KEY = "voiceflow_posts"
MOST_KEPT = 100
"""The number of POSTs that are kept. It is more than one, because POSTs do not leave in the order of their commits."""


class TaskStateAwayError(VoiceflowError):
    """Raised when Airflow's task state cannot be read or written. A retry can succeed."""


class SentPosts:
    """The newest POSTs that the tries of one task instance have sent, by their `clientRequestId`.

    Before Airflow 3.3, nothing is kept, and every store is accepted.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state: Any = context.get("task_state_store")
        self._ids: list[str] = []

    async def require_known(self, queue: CallQueue, *, retention: timedelta) -> None:
        """Read the POSTs of earlier tries. Raises InvalidInputError if the store lacks one of them.

        The store may have deleted a call when `retention` has passed since its POST. Raises TaskStateAwayError.
        """
        saved = await self._read()
        self._ids = list(saved.get("ids", ()))
        numbers: dict[str, int] = {}
        for request_id in self._ids:
            job_id, _, number = request_id.rpartition(".")
            numbers[job_id] = max(numbers.get(job_id, 0), int(number))
        jobs = await get_jobs(queue.store, numbers)
        forgotten = [job_id for job_id, job in jobs.items() if job.post_count < numbers[job_id]]
        if numbers and queue.store.clock.now() < datetime.fromisoformat(saved["at"]) + retention:
            forgotten += [job_id for job_id in numbers if job_id not in jobs]
        if forgotten:
            raise InvalidInputError(
                f"this task has sent call {forgotten[0]}, but the store {queue.store.url} does not know it. The store "
                "was emptied or restored from an older copy, or the connection now names another store. Nothing more "
                "was sent, because a person might be called a second time. Restore the newest copy of the store and "
                "clear this task, or start a new run of the DAG for the people whom nobody called"
            )

    def noted_by(self, voice: VoiceClient, queue: CallQueue, stop: StopFlag) -> VoiceClient | NotingVoice:
        """Return `voice` as a gateway that writes each POST into Airflow's task state before the POST leaves.

        If a POST cannot be written, it does not leave, and `stop` gets the error.
        """
        return voice if self._state is None else NotingVoice(self, voice, queue, stop)

    def add(self, request_id: str) -> None:
        """Add a POST that is about to leave. `write` writes it."""
        self._ids = [*self._ids, request_id][-MOST_KEPT:]

    async def write(self, *, at: datetime) -> None:
        """Write the newest POSTs, which leave at the time `at` or later. Raises TaskStateAwayError."""
        saved = {"ids": self._ids, "at": at.isoformat()}
        # On another thread: that of the event loop must not wait for Airflow, whose answer may need the loop.
        write = partial(self._state.set, KEY, saved, retention=KEPT_FOR)
        try:
            await to_thread.run_sync(write)
        except Exception as error:
            raise TaskStateAwayError(f"no calls are sent: Airflow's task state cannot be written ({error})") from error

    async def _read(self) -> Mapping[str, Any]:
        if self._state is None:
            return {}
        try:
            saved = await to_thread.run_sync(self._state.get, KEY)
        except Exception as error:
            raise TaskStateAwayError(f"no calls are sent: Airflow's task state cannot be read ({error})") from error
        return cast("Mapping[str, Any]", saved) if isinstance(saved, Mapping) else {}


class NotingVoice:
    """A gateway that writes each POST before it leaves. POSTs that come during a write are written by the next one."""

    def __init__(self, posts: SentPosts, voice: VoiceClient, queue: CallQueue, stop: StopFlag) -> None:
        self._posts = posts
        self._voice = voice
        self._clock = queue.store.clock
        self._stop = stop
        self._writing = anyio.Lock()
        self._unwritten: set[str] = set()

    async def connect(self, *, waits: bool = True) -> Any:
        """Get ready for one POST."""
        return await self._voice.connect(waits=waits)

    async def place(self, placement: Any, *, progress: Any, now: datetime) -> Verdict:  # noqa: ARG002
        """Write the POST, then send it."""
        progress.may_have_been_sent = False
        request_id = placement.client_request_id
        self._posts.add(request_id)
        self._unwritten.add(request_id)
        try:
            async with self._writing:
                if request_id in self._unwritten:
                    together = set(self._unwritten)
                    await self._posts.write(at=self._clock.now())
                    self._unwritten -= together
        except TaskStateAwayError as error:
            self._stop.failure = error
            raise
        return await self._voice.place(placement, progress=progress, now=self._clock.now())
